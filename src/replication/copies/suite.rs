//! What every [`ChunkPeers`] must do, as a suite that each implementation runs: node 2 serves an
//! empty store, node 3 is nobody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::peers::ChunkPeers;
use super::remote::RemoteChunks;
use super::server::{ChunkServer, Range};
use super::sim::SimPeers;
use crate::chunk::{ChunkExtent, ChunkHeader, ChunkStore, SealedChunk};
use crate::env::{AlignedBuf, SimDisk, blocking};
use crate::error::Error;
use crate::meta::Table;
use crate::replication::peers::{
    Answer, Credentials, Handler, Kind, PROTOCOL, PeerSettings, Peers, Sender,
};
use crate::replication::tests::wires::Wires;
use crate::types::{ChunkId, ContentId, Ino, SessionId};

pub fn id(counter: u64) -> ChunkId {
    ChunkId { session: SessionId(1), counter }
}

pub fn sealed(counter: u64, len: usize) -> SealedChunk {
    let header = ChunkHeader {
        id: id(counter),
        content: ContentId { session: SessionId(1), counter: 1 },
        bucket: Ino(2),
        extents: vec![ChunkExtent { file_offset: 0, len: len as u32 }],
    };
    let bytes: Vec<u8> = (0..len).map(|at| (at as u64 * 7 + counter) as u8).collect();
    SealedChunk::new(&header, Arc::new(AlignedBuf::from(bytes.as_slice()))).unwrap()
}

pub fn store(disk: &SimDisk) -> Arc<ChunkStore> {
    Arc::new(ChunkStore::open(Arc::new(disk.clone()), Path::new("/chunks"), 1 << 20).unwrap())
}

/// The contract. `power_cut` gives the store of node 2 as its machine would find it.
pub async fn run(peers: &dyn ChunkPeers, power_cut: &dyn Fn() -> Arc<ChunkStore>) {
    let (small, large) = (sealed(1, 10), sealed(2, 300_000));
    peers.send(2, small.clone()).await.unwrap();
    peers.send(2, large.clone()).await.unwrap();
    peers.send(2, large.clone()).await.expect("sending again is fine");
    assert_eq!(power_cut().verify(id(2)).unwrap(), *large.info(), "sent was not on disk");
    let other = sealed(3, 10).data().clone();
    let header = ChunkHeader { id: id(1), ..sealed(3, 10).info().header.clone() };
    let clash = SealedChunk::new(&header, other).unwrap();
    assert!(matches!(peers.send(2, clash).await, Err(Error::InvalidArgument(_))));

    let read = peers.read(2, id(2), 70_000, 100_000).await.unwrap();
    assert_eq!(read, large.data()[70_000..170_000]);
    assert!(matches!(peers.read(2, id(9), 0, 1).await, Err(Error::NotFound)));
    assert!(peers.read(2, id(1), 5, 6).await.is_err(), "bytes beyond the end");
    assert!(peers.read(2, id(1), 0, Range::MAX + 1).await.is_err());

    let fetched = peers.fetch(2, id(2)).await.unwrap();
    assert_eq!((fetched.info(), &fetched.data()[..]), (large.info(), &large.data()[..]));
    assert!(matches!(peers.fetch(2, id(9)).await, Err(Error::NotFound)));
    assert_eq!(peers.which(2, vec![id(1), id(2), id(9)]).await.unwrap(), [id(1), id(2)]);

    assert!(matches!(peers.send(3, small).await, Err(Error::Unreachable(_))));
    assert!(matches!(peers.read(3, id(1), 0, 1).await, Err(Error::Unreachable(_))));
    assert!(matches!(peers.fetch(3, id(1)).await, Err(Error::Unreachable(_))));
    assert!(matches!(peers.which(3, vec![id(1)]).await, Err(Error::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_in_one_process_keep_the_contract() {
    let disk = SimDisk::new();
    let peers = SimPeers::default();
    let table = Arc::new(Table::memory().unwrap());
    peers.join(2, ChunkServer::new(store(&disk), Arc::clone(&table)));
    let cut = || {
        // The disk itself goes on: what is looked at is a copy of what a cut would leave.
        let (before, after) = (disk.kill(), disk.crash(1));
        peers.join(2, ChunkServer::new(store(&before), Arc::clone(&table)));
        store(&after)
    };
    run(&peers, &cut).await;
}

/// Answers about one chunk store after the other.
struct Serving(Mutex<Arc<ChunkServer>>);

impl Handler for Serving {
    fn handle(self: Arc<Self>, _: Sender, kind: Kind, body: Bytes) -> Answer {
        let server = Arc::clone(&self.0.lock());
        Box::pin(async move {
            let answered = blocking(move || server.answer(kind, &body)).await;
            answered.unwrap_or(Err(Error::ShuttingDown))
        })
    }
}

/// The peers of the product: their messages and answers through memory, and through TLS and HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn peers_over_the_transport_keep_the_contract() {
    let listen = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let https = Peers::Https(PeerSettings { listen, address: None, protocol: PROTOCOL });
    let credentials = Credentials::generate("aa").unwrap();
    for peers in [Wires::new().peers(), https] {
        let (disk, table) = (SimDisk::new(), Arc::new(Table::memory().unwrap()));
        let server = |disk: &SimDisk| Arc::new(ChunkServer::new(store(disk), Arc::clone(&table)));
        let serving = Arc::new(Serving(Mutex::new(server(&disk))));
        let asking = peers.plug("aa", 1, &credentials).await.unwrap();
        let asked = peers.plug("aa", 2, &credentials).await.unwrap();
        let _answers = (asked.begin)(Arc::clone(&serving) as Arc<dyn Handler>);
        asking.transport.learn(2, &asked.address);
        let cut = || {
            let (before, after) = (disk.kill(), disk.crash(1));
            *serving.0.lock() = server(&before);
            store(&after)
        };
        let within = Duration::from_secs(20);
        run(&RemoteChunks::new(asking.transport, within), &cut).await;
    }
}

/// A peer that changes a bit is found out whichever way the bytes go, and nothing bad is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_lie_is_found_out() {
    let peers = SimPeers::default();
    let (disk, table) = (SimDisk::new(), Arc::new(Table::memory().unwrap()));
    peers.join(2, ChunkServer::new(store(&disk), table));
    peers.send(2, sealed(1, 5000)).await.unwrap();
    peers.set_lying(2, true);
    assert!(matches!(peers.send(2, sealed(2, 5000)).await, Err(Error::Damaged(_))));
    assert!(matches!(peers.read(2, id(1), 0, 10).await, Err(Error::Damaged(_))));
    assert!(matches!(peers.fetch(2, id(1)).await, Err(Error::Damaged(_))));
    assert!(matches!(store(&disk).info(id(2)), Err(Error::NotFound)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_down_in_the_middle() {
    let peers = SimPeers::default();
    let (disk, table) = (SimDisk::new(), Arc::new(Table::memory().unwrap()));
    peers.join(2, ChunkServer::new(store(&disk), table));
    peers.down_after(2, 1);
    peers.send(2, sealed(1, 10)).await.unwrap();
    assert!(matches!(peers.send(2, sealed(2, 10)).await, Err(Error::Unreachable(_))));
    assert!(store(&disk).info(id(2)).is_ok(), "it got there, and nobody knows");
    assert!(matches!(peers.which(2, vec![id(1)]).await, Err(Error::Unreachable(_))));
    peers.set_down(2, false);
    assert_eq!(peers.which(2, vec![id(1), id(2)]).await.unwrap(), [id(1), id(2)]);
}
