//! Several nodes' chunk stores around one log: what is about copies, without the network in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bucketfs::chunk::ChunkStore;
use bucketfs::env::{Clock, Disk, SimDisk, SystemClock};
use bucketfs::error::{Error, Result};
use bucketfs::meta::{
    ChunkRecord, EngineKind, KvRead, Mutation, NodeRecord, NodeState, Outcome, Survey, codec, keys,
};
use bucketfs::replication::{
    Birth, ChunkServer, Copies, LogOptions, Options, Repair, Replica, SimPeers, Wait, Wanting,
};
use bucketfs::types::{BucketName, ChunkId, Ino, NodeId};
use bucketfs::vfs::{Access, Caller, ChangeHub, OpenFlags, Settings, Vfs};

pub const CHUNK: u64 = 64 << 10;
pub const WHO: Caller = Caller { uid: 1, gid: 2, umask: 0o022, origin: 0, access: Access::Trusted };
/// How long writers and readers wait for peers here.
pub const PATIENCE: Duration = Duration::from_millis(900);

/// One node: its disk with its chunks, and its view of the data.
pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub chunks: Arc<ChunkStore>,
    pub copies: Arc<Copies>,
    pub vfs: Arc<Vfs>,
    pub repair: Arc<Repair>,
}

pub struct Cluster {
    pub replica: Arc<Replica>,
    pub peers: SimPeers,
    pub nodes: Vec<Node>,
    pub bucket: Ino,
}

fn options() -> Options {
    Options {
        engine: EngineKind::Memory,
        log: LogOptions { segment_bytes: 4 << 20, direct: false },
        lock: false,
        ..Options::new("/store")
    }
}

impl Cluster {
    /// `count` stores, none of which the log knows of as a node.
    pub async fn strangers(count: usize) -> Self {
        Self::strangers_with(count, CHUNK).await
    }

    async fn strangers_with(count: usize, chunk_size: u64) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let birth = Birth { chunk_size, ..Birth::default() };
        Replica::init(options(), birth, Arc::clone(&disk), Arc::clone(&clock)).await.unwrap();
        let hub = ChangeHub::new();
        let publish = Arc::clone(&hub);
        let listener = Box::new(move |changes: &[_], origin| publish.publish(changes, origin));
        let replica = Replica::open(options(), disk, Arc::clone(&clock), &|_| {}, listener).await;
        let (replica, peers) = (replica.unwrap(), SimPeers::default());
        let mut nodes = Vec::new();
        for number in 0..count as u64 {
            let id = if number == 0 { replica.node() } else { number };
            nodes.push(Node::start(id, SimDisk::new(), &replica, &peers, &hub, &clock));
        }
        let name = BucketName::new("bucket").unwrap();
        let bucket = nodes[0].vfs.create_bucket(&WHO, &name).await.unwrap().ino;
        Self { replica, peers, nodes, bucket }
    }

    pub async fn new(count: usize) -> Self {
        Self::with_chunks(count, CHUNK).await
    }

    pub async fn with_chunks(count: usize, chunk_size: u64) -> Self {
        let cluster = Self::strangers_with(count, chunk_size).await;
        for number in 0..count {
            cluster.set_node(number, NodeState::Active).await;
        }
        cluster.settle().await;
        cluster
    }

    pub fn vfs(&self, number: usize) -> &Arc<Vfs> {
        &self.nodes[number].vfs
    }

    pub async fn propose(&self, mutation: Mutation) -> Outcome {
        self.replica.propose(mutation, Wait::Applied, 0).await.unwrap()
    }

    pub async fn set_node(&self, number: usize, state: NodeState) {
        let zone = format!("zone {number}");
        let record = NodeRecord { address: "here".into(), zone, weight: 1, state };
        self.propose(Mutation::SetNode { node: self.nodes[number].id, record }).await;
    }

    pub fn set_down(&self, number: usize, is_down: bool) {
        self.peers.set_down(self.nodes[number].id, is_down);
    }

    /// Rounds of upkeep and repair on all nodes until nothing is wanting any more.
    pub async fn settle(&self) {
        for _ in 0..40 {
            for node in &self.nodes {
                node.vfs.upkeep_round().await.unwrap();
                let _ = node.repair.round().await;
            }
            if self.wanting() == Wanting::default() {
                return;
            }
            // Copies on their way land on other threads.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("copies are wanting for ever: {:?}", self.wanting());
    }

    pub fn wanting(&self) -> Wanting {
        Wanting::of(self.replica.table(), self.nodes[0].id).unwrap()
    }

    /// A file of so many chunks, written by a node.
    pub async fn write_many(&self, number: usize, name: &str, chunks: u64) {
        let vfs = self.vfs(number);
        let flags = OpenFlags(libc::O_RDWR);
        let created = vfs.create(&WHO, self.bucket, name.as_bytes(), 0o644, flags).await;
        let handle = created.unwrap().1.handle;
        // What is inline at first becomes a chunk behind the first slot.
        for chunk in 1..=chunks {
            vfs.write(&WHO, handle, chunk * CHUNK, &[chunk as u8; 100]).await.unwrap();
            vfs.flush(handle).await.unwrap();
        }
        vfs.release(handle).await;
    }

    pub async fn write(&self, number: usize, name: &str, data: &[u8]) -> Result<()> {
        let vfs = self.vfs(number);
        let flags = OpenFlags(libc::O_RDWR | libc::O_TRUNC);
        let created = vfs.create(&WHO, self.bucket, name.as_bytes(), 0o644, flags).await;
        let handle = match created {
            Ok((_, opened)) => opened.handle,
            // As the kernel, which then looks the name up again.
            Err(Error::Stale) => {
                let ino = vfs.lookup(self.bucket, name.as_bytes())?.ino;
                vfs.open(&WHO, ino, flags).await?.handle
            }
            Err(error) => return Err(error),
        };
        let written = vfs.write(&WHO, handle, 0, data).await;
        let closed = vfs.flush(handle).await;
        vfs.release(handle).await;
        written.and(closed)
    }

    pub async fn read(&self, number: usize, name: &str) -> Result<Vec<u8>> {
        let vfs = self.vfs(number);
        let attr = vfs.lookup(self.bucket, name.as_bytes())?;
        let handle = vfs.open(&WHO, attr.ino, OpenFlags(libc::O_RDONLY)).await?.handle;
        let read = vfs.read(handle, 0, attr.size as u32).await;
        vfs.release(handle).await;
        read
    }

    /// All chunks that are recorded.
    pub fn chunks(&self) -> BTreeMap<ChunkId, ChunkRecord> {
        self.replica.table().view().chunks(None, 100_000).unwrap().into_iter().collect()
    }

    /// Which nodes have a good file of a chunk.
    pub fn holders(&self, id: ChunkId) -> Vec<NodeId> {
        let has = |node: &&Node| node.chunks.verify(id).is_ok();
        let mut holders: Vec<_> = self.nodes.iter().filter(has).map(|node| node.id).collect();
        holders.sort_unstable();
        holders
    }

    /// Every recorded chunk is on the nodes that it is recorded on, and on all its places.
    pub fn assert_whole(&self) {
        let placement = self.replica.table().view().placement().unwrap();
        assert_eq!(placement.survey, Survey::Done);
        for (id, record) in self.chunks() {
            let holders = self.holders(id);
            assert_eq!(holders, record.stored_on, "{id}: {record:?}");
            if record.references > 0 {
                let mut places = placement.places(id);
                places.sort_unstable();
                assert_eq!(holders, places, "{id}");
            }
        }
        let found = bucketfs::meta::check(&self.replica.table().view()).unwrap();
        assert!(found.is_empty(), "{found:#?}");
    }

    pub fn files(&self, number: usize) -> usize {
        let mut files = 0;
        let mut count = |_, _| {
            files += 1;
            Ok(true)
        };
        self.nodes[number].chunks.visit(&mut count).unwrap();
        files
    }

    /// The errands in the table, for those who look closer.
    pub fn has_errands(&self) -> bool {
        let (from, to) = keys::family(keys::ERRAND);
        let mut any = false;
        let visit = &mut |_: &[u8], value: &[u8]| {
            codec::decode::<bucketfs::meta::Errand>(value)?;
            any = true;
            Ok(false)
        };
        self.replica.table().view().scan(&from, &to, visit).unwrap();
        any
    }
}

impl Node {
    fn start(
        id: NodeId,
        disk: SimDisk,
        replica: &Arc<Replica>,
        peers: &SimPeers,
        hub: &Arc<ChangeHub>,
        clock: &Arc<dyn Clock>,
    ) -> Self {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let chunks = Arc::new(ChunkStore::open(shared, Path::new("/chunks"), 1 << 20).unwrap());
        let table = Arc::clone(replica.table());
        peers.join(id, ChunkServer::new(Arc::clone(&chunks), Arc::clone(&table)));
        let way = Arc::new(peers.clone());
        let clock = Arc::clone(clock);
        let copies = Copies::new(id, Arc::clone(&chunks), way, table, Arc::clone(&clock), PATIENCE);
        let settings =
            Settings { write_buffer: 1 << 20, max_object_size: 1 << 40, quorum_required: true };
        let (replica, hub) = (Arc::clone(replica), Arc::clone(hub));
        let repair = Repair::new(Arc::clone(&copies), Arc::clone(&replica));
        let vfs = Vfs::start(replica, Arc::clone(&copies), clock, hub, settings).unwrap();
        Self { id, disk, chunks, copies, vfs, repair }
    }
}
