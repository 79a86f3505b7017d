//! Reads and writes past nodes that take requests and never answer.

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
