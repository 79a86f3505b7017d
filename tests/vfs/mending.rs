//! Repair: bad files are mended with what is left of them anywhere; much that cannot be done holds up
//! nothing that can.

use bucketfs::vfs::OpenFlags;

use super::cluster::{Cluster, WHO};
use super::copies::{bytes, data, path};
use super::store::runtime;

const BLOCK: usize = 64 << 10;

async fn read_at(cluster: &Cluster, number: usize, at: usize) -> Vec<u8> {
    let vfs = cluster.vfs(number);
    let ino = vfs.lookup(cluster.bucket, b"f").unwrap().ino;
    let handle = vfs.open(&WHO, ino, OpenFlags(libc::O_RDONLY)).await.unwrap().handle;
    let read = vfs.read(handle, at as u64, BLOCK as u32).await;
    vfs.release(handle).await;
    read.unwrap()
}

/// Two nodes, each with another bad block of the same chunk: all bytes are there. The first that saw
/// its bad block threw its file away, and with it the only good copy of the other's.
#[test]
fn two_bad_files_make_a_good_one() {
    runtime().block_on(async {
        let cluster = Cluster::with_chunks(2, 4 * BLOCK as u64).await;
        let written = bytes(1, 4 * BLOCK);
        cluster.write(0, "f", &written).await.unwrap();
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        assert_eq!(ids.len(), 1);
        cluster.nodes[0].disk.flip_bit(&path(ids[0]), 77).unwrap();
        cluster.nodes[1].disk.flip_bit(&path(ids[0]), (3 * BLOCK + 77) * 8).unwrap();
        for round in 0..4 {
            for number in 0..2 {
                for at in (0..4).map(|block| block * BLOCK) {
                    let read = read_at(&cluster, number, at).await;
                    assert!(read == written[at..at + BLOCK], "round {round}, {number} at {at}");
                }
            }
            for node in &cluster.nodes {
                node.repair.round().await.unwrap();
            }
        }
        cluster.assert_whole();
        assert!(cluster.nodes.iter().all(|node| node.copies.counts().mended == 1));
        assert!(cluster.nodes.iter().all(|node| node.chunks.damaged().is_empty()));
        assert!(cluster.read(1, "f").await.unwrap() == written);
    });
}

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
