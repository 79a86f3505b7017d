//! Reads and writes past nodes that take requests and never answer; reads of more than one answer holds.

use std::sync::Arc;
use std::time::Duration;

use bucketfs::chunk::{ChunkExtent, ChunkHeader, ChunkStore, SealedChunk};
use bucketfs::env::{AlignedBuf, Clock, SimDisk, SystemClock};
use bucketfs::meta::Table;
use bucketfs::replication::{ChunkServer, Copies, SimPeers};
use bucketfs::types::{ChunkId, ContentId, Ino, SessionId};

use super::cluster::{Cluster, PATIENCE};
use super::copies::{bytes, data};
use super::store::runtime;

/// A node answers and its disk does not: reads go on with the next one that has the bytes.
#[test]
fn a_reader_waits_a_moment_for_a_disk_that_hangs() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        for id in cluster.chunks().into_keys() {
            cluster.nodes[0].chunks.delete(id).unwrap();
        }
        for silent in [1, 2] {
            cluster.peers.set_silent(cluster.nodes[silent].id, true);
            // Of several chunks the first one only waits: who is silent is asked last from then on.
            let read = tokio::time::timeout(PATIENCE, cluster.read(0, "f")).await;
            assert!(read.expect("it waited").unwrap() == data(1), "{silent}");
            cluster.peers.set_silent(cluster.nodes[silent].id, false);
        }
    });
}

/// The same for writers: one that failed lately, and is well again, is asked in its place.
#[test]
fn a_writer_waits_a_moment_for_a_disk_that_hangs() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.set_down(2, true);
        cluster.write(0, "one", &data(1)).await.unwrap();
        cluster.set_down(2, false);
        cluster.peers.set_silent(cluster.nodes[1].id, true);
        let written = cluster.write(0, "other", &bytes(2, 60_000)).await;
        written.expect("the third node was not asked");
        cluster.peers.set_silent(cluster.nodes[1].id, false);
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// Reads of a large chunk come in several answers, which are bounded.
#[test]
fn more_bytes_than_one_answer_holds_are_read_from_another_node() {
    runtime().block_on(async {
        let store = || {
            let disk = Arc::new(SimDisk::new());
            Arc::new(ChunkStore::open(disk, "/chunks".as_ref(), 1 << 20).unwrap())
        };
        let (own, other) = (store(), store());
        let (table, peers) = (Arc::new(Table::memory().unwrap()), SimPeers::default());
        let id = ChunkId { session: SessionId(1), counter: 1 };
        let written = bytes(1, 20 << 20);
        let header = ChunkHeader {
            id,
            content: ContentId { session: SessionId(1), counter: 1 },
            bucket: Ino(2),
            extents: vec![ChunkExtent { file_offset: 0, len: written.len() as u32 }],
        };
        let chunk = SealedChunk::new(&header, Arc::new(AlignedBuf::from(&written[..]))).unwrap();
        other.keep(&chunk).unwrap();
        peers.join(2, ChunkServer::new(other, Arc::clone(&table)));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let copies = Copies::new(1, own, Arc::new(peers), table, clock, Duration::from_secs(20));
        let mut read = Vec::new();
        let len = written.len() as u32 - 5;
        let reading = copies.read(id, 5, len, &[2], &mut read);
        tokio::time::timeout(Duration::from_secs(10), reading).await.expect("it hangs").unwrap();
        assert!(read == written[5..]);
    });
}
