//! Repair: bad files are mended with what is left of them anywhere; much that cannot be done holds up
//! nothing that can.

use super::cluster::Cluster;
use super::copies::{data, path};
use super::store::runtime;

/// A file that is found missing or bad when it is read, here or by a peer, is mended without a scrub.
#[test]
fn files_that_are_missed_when_they_are_read_are_made_again() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        for id in &ids {
            cluster.nodes[0].chunks.delete(*id).unwrap();
        }
        // The one that is asked first.
        let asked = cluster.nodes[1..].iter().min_by_key(|node| node.id).unwrap();
        asked.chunks.delete(ids[0]).unwrap();
        asked.disk.flip_bit(&path(ids[1]), 77).unwrap();
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        cluster.settle().await;
        cluster.assert_whole();
        assert_eq!(cluster.nodes[0].copies.counts().mended, ids.len() as u64);
        assert_eq!(asked.copies.counts().mended, 2);
    });
}
