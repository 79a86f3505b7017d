//! Repair: bad files are mended with what is left of them anywhere; much that cannot be done holds up
//! nothing that can.

use std::sync::Arc;
use std::time::Duration;

use bucketfs::env::{Clock, SimClock};
use bucketfs::meta::{Errand, NodeState};
use bucketfs::replication::{Copies, Repair};
use bucketfs::vfs::OpenFlags;

use super::cluster::{Cluster, PATIENCE, WHO};
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

impl Cluster {
    fn errands(&self, number: usize, wanted: Errand) -> usize {
        let (view, node) = (self.replica.table().view(), self.nodes[number].id);
        let errands = view.errands(node, None, usize::MAX).unwrap();
        errands.into_iter().filter(|(_, errand)| *errand == wanted).count()
    }

    /// A repair of a node that was just started.
    fn fresh(&self, number: usize) -> Arc<Repair> {
        Repair::new(Arc::clone(&self.nodes[number].copies), Arc::clone(&self.replica))
    }
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

/// A directory of chunks is lost: one look at all files finds every missing one, however many.
#[test]
fn one_inventory_finds_all_that_is_missing() {
    runtime().block_on(async {
        let cluster = Cluster::new(2).await;
        cluster.write_many(0, "f", 2000).await;
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        assert!(ids.len() >= 2000, "{}", ids.len());
        for id in &ids {
            cluster.nodes[1].chunks.delete(*id).unwrap();
        }
        cluster.fresh(1).round().await.unwrap();
        assert_eq!(cluster.nodes[1].copies.counts().mended, ids.len() as u64);
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// More chunks than a page has were on a node that is lost with them: what others have is made all the
/// same.
#[test]
fn what_nobody_has_does_not_keep_the_rest_from_being_made() {
    runtime().block_on(async {
        let cluster = Cluster::strangers(4).await;
        cluster.write_many(1, "lost", 300).await;
        cluster.set_down(1, true);
        cluster.set_node(1, NodeState::Gone).await;
        for number in [0, 2, 3] {
            cluster.set_node(number, NodeState::Active).await;
        }
        for number in [0, 2, 3, 0, 2, 3] {
            let _ = cluster.nodes[number].repair.round().await;
        }
        let lost: Vec<_> = cluster.chunks().into_keys().collect();
        assert_eq!(cluster.errands(2, Errand::Make), lost.len());
        cluster.set_down(2, true);
        cluster.write_many(0, "there", 10).await;
        cluster.set_down(2, false);
        assert!(cluster.errands(2, Errand::Make) >= lost.len() + 10);
        for _ in 0..3 {
            let _ = cluster.nodes[2].repair.round().await;
        }
        assert_eq!(cluster.errands(2, Errand::Make), lost.len());
    });
}

/// A full disk takes no more copies. It still tells of those it has.
#[test]
fn a_full_node_tells_what_it_has() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.set_down(2, true);
        cluster.write(0, "missing", &data(1)).await.unwrap();
        let missing = cluster.chunks();
        cluster.write(0, "there", &data(2)).await.unwrap();
        cluster.set_down(2, false);
        let node = &cluster.nodes[2];
        let there = cluster.chunks().into_keys().filter(|id| !missing.contains_key(id));
        let there: Vec<_> = there.collect();
        for id in &there {
            node.chunks.keep(&cluster.nodes[0].chunks.load(*id).unwrap()).unwrap();
        }
        node.disk.set_capacity(0);
        for _ in 0..3 {
            let _ = node.repair.round().await;
        }
        let chunks = cluster.chunks();
        assert!(there.iter().all(|id| chunks[id].stored_on.contains(&node.id)));
        assert_eq!(cluster.errands(2, Errand::Make), missing.len());
        node.disk.set_capacity(1 << 40);
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// What has come is not forgotten, and not given up, before the log has heard of it.
#[test]
fn a_node_tells_later_what_it_could_not_tell() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.set_down(2, true);
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.set_down(2, false);
        let (node, ids) = (&cluster.nodes[2], cluster.chunks().into_keys());
        let ids: Vec<_> = ids.collect();
        for id in &ids {
            node.chunks.accept(&cluster.nodes[0].chunks.load(*id).unwrap()).unwrap();
        }
        cluster.replica.close().await.unwrap();
        assert!(node.repair.round().await.is_err());
        assert!(ids.iter().all(|id| !node.chunks.discard(*id).unwrap()));
        assert_eq!(node.chunks.take_arrivals(), ids);
    });
}

/// A full disk gets room by what it may give up.
#[test]
fn a_full_node_gives_up_what_it_may() {
    runtime().block_on(async {
        let cluster = Cluster::new(5).await;
        cluster.set_node(4, NodeState::Draining).await;
        cluster.settle().await;
        cluster.write_many(0, "f", 200).await;
        cluster.settle().await;
        let others = [0, 1, 3, 4];
        let rounds = async || {
            for number in others.into_iter().cycle().take(12) {
                cluster.nodes[number].repair.round().await.unwrap();
            }
        };
        cluster.set_node(4, NodeState::Active).await;
        rounds().await;
        assert!(cluster.errands(2, Errand::Drop) > 0);
        cluster.nodes[2].disk.set_capacity(0);
        cluster.set_node(3, NodeState::Draining).await;
        rounds().await;
        assert!(cluster.errands(2, Errand::Drop) > 0 && cluster.errands(2, Errand::Make) > 0);
        let files = cluster.files(2);
        for _ in 0..3 {
            let _ = cluster.nodes[2].repair.round().await;
        }
        assert_eq!(cluster.errands(2, Errand::Drop), 0);
        assert!(cluster.files(2) < files && cluster.errands(2, Errand::Make) > 0);
        cluster.nodes[2].disk.set_capacity(1 << 40);
        cluster.settle().await;
        cluster.assert_whole();
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

/// The first look at all files was lost for six hours when the disk failed in the middle of it.
#[test]
fn an_inventory_that_fails_is_taken_up_again() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let node = &cluster.nodes[1];
        node.chunks.delete(*cluster.chunks().keys().next().unwrap()).unwrap();
        let fresh = cluster.fresh(1);
        node.disk.fail_call(1);
        assert!(fresh.round().await.is_err());
        assert!(!cluster.has_errands());
        fresh.round().await.unwrap();
        assert!(cluster.has_errands());
    });
}

/// A node has become a place, and not all chunks are noted so yet: a file that was one too many before
/// is none any more.
#[test]
fn a_file_that_has_just_come_to_belong_is_kept() {
    runtime().block_on(async {
        let cluster = Cluster::new(4).await;
        cluster.set_node(3, NodeState::Draining).await;
        cluster.write_many(0, "f", 20).await;
        cluster.settle().await;
        cluster.assert_whole();
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        let node = &cluster.nodes[3];
        for id in &ids {
            node.chunks.keep(&cluster.nodes[0].chunks.load(*id).unwrap()).unwrap();
        }
        cluster.set_node(3, NodeState::Active).await;
        let placement = cluster.replica.table().view().placement().unwrap();
        cluster.fresh(3).round().await.unwrap();
        for id in ids {
            let is_place = placement.places(id).contains(&node.id);
            assert_eq!(node.chunks.info(id).is_ok(), is_place, "{id}");
        }
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// Copies are made for hours when a node is new; what else there is to do does not wait for the last.
#[test]
fn a_round_ends_when_its_time_is_over() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.set_down(2, true);
        cluster.write_many(0, "f", 300).await;
        cluster.set_down(2, false);
        let (node, clock) = (&cluster.nodes[2], Arc::new(SimClock::new(1)));
        let way = Arc::new(cluster.peers.clone());
        let (chunks, table) = (Arc::clone(&node.chunks), Arc::clone(cluster.replica.table()));
        let ticking = Arc::clone(&clock) as Arc<dyn Clock>;
        let copies = Copies::new(node.id, chunks, way, table, ticking, PATIENCE);
        let repair = Repair::new(Arc::clone(&copies), Arc::clone(&cluster.replica));
        let all = cluster.errands(2, Errand::Make) as u64;
        assert!(all >= 300);
        cluster.nodes[..2].iter().for_each(|node| cluster.peers.set_held(node.id, true));
        let calls = cluster.peers.calls();
        let round = async {
            let _ = repair.round().await;
        };
        let pass = async {
            while cluster.peers.calls() < calls + 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            clock.advance(Duration::from_secs(60));
            cluster.nodes[..2].iter().for_each(|node| cluster.peers.set_held(node.id, false));
        };
        tokio::join!(round, pass);
        assert_eq!(copies.counts().made, 4, "those that were under way");
        repair.round().await.unwrap();
        repair.round().await.unwrap();
        repair.round().await.unwrap();
        assert_eq!(copies.counts().made, all);
    });
}
