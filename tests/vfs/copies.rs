//! Copies: what is acknowledged is on a quorum, whatever the peers do; what is missing is made again;
//! and nobody ever reads wrong bytes.

use std::path::PathBuf;
use std::time::Duration;

use bucketfs::env::Disk;
use bucketfs::error::Error;
use bucketfs::meta::NodeState;
use bucketfs::types::{BucketName, ByteRange, ChunkId, ObjectKey};
use bucketfs::vfs::{ObjectHeaders, OpenFlags};

use super::cluster::{CHUNK, Cluster, PATIENCE, WHO};
use super::store::runtime;

pub fn bytes(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251 + seed * 7) as u8).collect()
}

/// Several chunks and a bit.
pub fn data(seed: usize) -> Vec<u8> {
    bytes(seed, 3 * CHUNK as usize + 1234)
}

pub fn path(id: ChunkId) -> PathBuf {
    let (session, counter) = (id.session.0, id.counter);
    format!("/chunks/{session:016x}/{:013x}/{counter:016x}", counter / 4096).into()
}

/// Nothing fails: all nodes come to have everything, and each reads its own.
#[test]
fn three_nodes_have_everything() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        for number in 0..3 {
            cluster.write(number, &format!("f{number}"), &data(number)).await.unwrap();
        }
        for (id, record) in cluster.chunks() {
            assert!(record.stored_on.len() >= 2, "{id}");
            let holders = cluster.holders(id);
            assert!(record.stored_on.iter().all(|node| holders.contains(node)), "{id}");
        }
        cluster.settle().await;
        cluster.assert_whole();
        for number in 0..3 {
            for file in 0..3 {
                let read = cluster.read(number, &format!("f{file}")).await.unwrap();
                assert!(read == data(file));
            }
            assert_eq!(cluster.nodes[number].copies.counts().read_elsewhere, 0);
        }
    });
}

/// A minority fails, in each way there is: writers do not notice, and what it missed is made when it
/// is back.
#[test]
fn one_of_three_may_fail() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        let third = cluster.nodes[2].id;
        cluster.set_down(2, true);
        cluster.write(0, "down", &data(1)).await.unwrap();
        cluster.set_down(2, false);
        cluster.peers.down_after(third, 1);
        cluster.write(0, "broke off", &data(2)).await.unwrap();
        cluster.set_down(2, false);
        cluster.peers.set_lying(third, true);
        cluster.write(1, "lies", &data(3)).await.unwrap();
        cluster.peers.set_lying(third, false);
        cluster.peers.set_silent(third, true);
        let silent = data(4);
        let write = cluster.write(1, "silent", &silent);
        tokio::time::timeout(PATIENCE / 2, write).await.expect("it waited").unwrap();
        assert!(cluster.has_errands());
        cluster.peers.set_silent(third, false);
        cluster.nodes[2].disk.set_capacity(0);
        cluster.write(1, "full", &data(5)).await.unwrap();
        cluster.nodes[2].disk.set_capacity(1 << 40);
        // What was on its way to the silent one is given up by then.
        tokio::time::sleep(PATIENCE).await;
        cluster.settle().await;
        cluster.assert_whole();
        for (seed, name) in (1..).zip(["down", "broke off", "lies", "silent", "full"]) {
            assert!(cluster.read(2, name).await.unwrap() == data(seed), "{name}");
        }
    });
}

/// Without a quorum a close fails, in time, and the old bytes are there; with one again it goes on.
#[test]
fn without_a_quorum_nothing_is_acknowledged() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        for number in [1, 2] {
            cluster.set_down(number, true);
        }
        let new = data(2);
        let write = cluster.write(0, "f", &new);
        let failed = tokio::time::timeout(PATIENCE + Duration::from_secs(1), write).await;
        assert!(matches!(failed.expect("it hung"), Err(Error::NoQuorum(_))));
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        cluster.set_down(1, false);
        cluster.write(0, "f", &data(3)).await.unwrap();
        cluster.set_down(2, false);
        cluster.settle().await;
        cluster.assert_whole();
        assert!(cluster.read(2, "f").await.unwrap() == data(3));
        assert_eq!(cluster.nodes[0].vfs.report().unwrap().buffered_bytes, 0);
    });
}

/// A quorum that is back within the timeout is no error at all.
#[test]
fn a_short_loss_of_the_quorum_is_waited_out() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        for number in [1, 2] {
            cluster.set_down(number, true);
        }
        let new = data(1);
        let (_, written) = tokio::join!(
            async {
                tokio::time::sleep(PATIENCE / 3).await;
                cluster.set_down(2, false);
            },
            cluster.write(0, "f", &new),
        );
        written.unwrap();
    });
}

/// A node whose file is gone, or bad, reads from another, past one that lies, and mends its own.
#[test]
fn bad_copies_are_read_elsewhere_and_mended() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        cluster.nodes[0].chunks.delete(ids[0]).unwrap();
        cluster.nodes[0].disk.flip_bit(&path(ids[1]), 77).unwrap();
        cluster.peers.set_lying(cluster.nodes[1].id, true);
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        assert!(cluster.nodes[0].copies.counts().read_elsewhere >= 2);
        cluster.peers.set_lying(cluster.nodes[1].id, false);
        // The missing one is found by an inventory, the bad one was noticed.
        cluster.nodes[0].copies.suspect(ids[0]);
        cluster.nodes[0].repair.round().await.unwrap();
        assert!(cluster.has_errands(), "a copy that is none counted as one");
        cluster.settle().await;
        cluster.assert_whole();
        let counts = cluster.nodes[0].copies.counts();
        assert_eq!(counts.mended, 2);
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        assert_eq!(cluster.nodes[0].copies.counts().read_elsewhere, counts.read_elsewhere);
    });
}

/// A file that the disk cannot read is made again like a bad one; one that cannot be set aside
/// neither is forgotten nor holds up what else there is to do.
#[test]
fn unreadable_copies_are_mended_and_hold_up_nothing() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        let node = &cluster.nodes[0];
        for id in [ids[0], ids[1]] {
            node.disk.unreadable(&path(id), 4096..4608).unwrap();
        }
        let in_the_way = PathBuf::from(format!("/chunks/renewing/{}", ids[0]));
        node.disk.create_dir_all(&in_the_way).unwrap();
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        let listed: Vec<_> = node.chunks.damaged().into_iter().map(|(id, _)| id).collect();
        assert_eq!(listed, [ids[0], ids[1]]);
        node.chunks.delete(ids[2]).unwrap();
        node.copies.suspect(ids[2]);
        node.repair.round().await.unwrap();
        assert_eq!(node.copies.counts().mended, 2);
        cluster.settle().await;
        for id in [ids[1], ids[2]] {
            node.chunks.verify(id).unwrap();
        }
        node.disk.remove_dir(&in_the_way).unwrap();
        node.repair.round().await.unwrap();
        assert_eq!(node.copies.counts().mended, 3);
        cluster.settle().await;
        cluster.assert_whole();
        let elsewhere = node.copies.counts().read_elsewhere;
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
        assert_eq!(node.copies.counts().read_elsewhere, elsewhere);
        assert!(node.chunks.damaged().is_empty());
    });
}

/// A copy that lands after its chunk was freed, while an open file holds the session's mark below it,
/// goes with the next round: it would lie about until the next inventory.
#[test]
fn a_copy_that_lands_too_late_goes_at_once() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        let (vfs, third) = (cluster.vfs(0), &cluster.nodes[2]);
        let flags = OpenFlags(libc::O_RDWR);
        let (_, open) = vfs.create(&WHO, cluster.bucket, b"open", 0o644, flags).await.unwrap();
        vfs.write(&WHO, open.handle, 0, &data(1)).await.unwrap();
        let reach = async |count| {
            while cluster.files(2) != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
                for node in &cluster.nodes {
                    node.repair.round().await.unwrap();
                    node.vfs.upkeep_round().await.unwrap();
                }
            }
        };
        let within = Duration::from_secs(20);
        tokio::time::timeout(within, reach(3)).await.expect("the open file's chunks are not there");
        cluster.peers.set_held(third.id, true);
        cluster.write(0, "f", &bytes(2, CHUNK as usize)).await.unwrap();
        vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        for node in &cluster.nodes {
            node.vfs.upkeep_round().await.unwrap();
        }
        assert_eq!((cluster.files(0), cluster.files(2)), (3, 3));
        cluster.peers.set_held(third.id, false);
        let landed = async {
            while cluster.files(2) != 4 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(within, landed).await.expect("the late copy did not land");
        tokio::time::timeout(within, reach(3)).await.expect("the late copy stays");
        vfs.flush(open.handle).await.unwrap();
        vfs.release(open.handle).await;
        cluster.settle().await;
        cluster.assert_whole();
        assert!(cluster.read(2, "open").await.unwrap() == data(1));
    });
}

/// One that failed and is well again takes the place of one that fails now.
#[test]
fn who_failed_lately_is_asked_when_others_fail() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.set_down(2, true);
        cluster.write(0, "one", &data(1)).await.unwrap();
        cluster.set_down(2, false);
        cluster.set_down(1, true);
        cluster.write(0, "other", &data(2)).await.unwrap();
        cluster.set_down(1, false);
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// When no good copy is left anywhere, that is an error: never zeros, never old bytes.
#[test]
fn without_a_good_copy_there_is_an_error() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let id = *cluster.chunks().keys().nth(1).unwrap();
        for node in &cluster.nodes {
            node.disk.flip_bit(&path(id), 5000).unwrap();
        }
        for number in 0..3 {
            assert!(matches!(cluster.read(number, "f").await, Err(Error::Damaged(_))));
        }
        // All copies are bad, as a scrub finds: none is thrown away, for something of each can be read.
        for _ in 0..4 {
            for node in &cluster.nodes {
                node.copies.suspect(id);
                let _ = node.repair.round().await;
            }
        }
        assert!(matches!(cluster.read(0, "f").await, Err(Error::Damaged(_))));
        let record = &cluster.chunks()[&id];
        assert_eq!(record.stored_on.len(), 3, "{record:?}");
        assert!(cluster.nodes.iter().all(|node| node.chunks.info(id).is_ok()));
    });
}

/// Those who have the bytes are away: the reader is told so, and reads them when they are back.
#[test]
fn a_reader_waits_for_who_has_the_bytes() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        for id in cluster.chunks().into_keys() {
            cluster.nodes[2].chunks.delete(id).unwrap();
        }
        cluster.set_down(0, true);
        cluster.set_down(1, true);
        let read = tokio::time::timeout(2 * PATIENCE, cluster.read(2, "f")).await;
        assert!(matches!(read.expect("it hung"), Err(Error::Unreachable(_))));
        let (_, read) = tokio::join!(
            async {
                tokio::time::sleep(PATIENCE / 3).await;
                cluster.set_down(1, false);
            },
            cluster.read(2, "f"),
        );
        assert!(read.unwrap() == data(1));
    });
}

/// One node becomes three while a file is being written: what was sealed for one is sent to the
/// others before it is acknowledged; what was there before follows.
#[test]
fn the_cluster_grows_between_seal_and_commit() {
    runtime().block_on(async {
        let cluster = Cluster::strangers(3).await;
        cluster.write(0, "old", &data(1)).await.unwrap();
        let vfs = cluster.vfs(0);
        let flags = OpenFlags(libc::O_RDWR);
        let (attr, opened) = vfs.create(&WHO, cluster.bucket, b"new", 0o644, flags).await.unwrap();
        vfs.write(&WHO, opened.handle, 0, &data(2)).await.unwrap();
        while cluster.files(0) < 4 + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let old: Vec<_> = cluster.chunks().into_keys().collect();
        for number in 0..3 {
            cluster.set_node(number, NodeState::Active).await;
        }
        vfs.flush(opened.handle).await.unwrap();
        vfs.release(opened.handle).await;
        let chunks = cluster.chunks();
        let new: Vec<_> = chunks.iter().filter(|(id, _)| !old.contains(id)).collect();
        assert_eq!(new.len(), 4);
        for (id, record) in new {
            assert!(record.stored_on.len() >= 2, "{id}: {record:?}");
            assert!(cluster.holders(*id).len() >= 2);
        }
        assert_eq!(vfs.info(attr.ino).unwrap().version, 1);
        assert!(cluster.read(1, "old").await.unwrap() == data(1));
        cluster.settle().await;
        cluster.assert_whole();
        assert_eq!(cluster.nodes[1].copies.counts().read_elsewhere, 4);
    });
}

/// As above, with the others away: not acknowledged, in time.
#[test]
fn a_cluster_that_grew_wants_its_quorum() {
    runtime().block_on(async {
        let cluster = Cluster::strangers(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.set_down(1, true);
        cluster.set_down(2, true);
        for number in 0..3 {
            cluster.set_node(number, NodeState::Active).await;
        }
        let failed = cluster.write(0, "f", &data(2)).await;
        assert!(matches!(failed, Err(Error::NoQuorum(_))));
        assert!(cluster.read(0, "f").await.unwrap() == data(1));
    });
}

pub async fn put(cluster: &Cluster, number: usize, name: &str, data: &[u8]) -> Result<(), Error> {
    let (bucket, key) = (BucketName::new("bucket").unwrap(), ObjectKey::new(name).unwrap());
    let vfs = cluster.vfs(number);
    let mut writer = vfs.upload(&bucket, &[]);
    writer.write(data).await?;
    let uploaded = writer.finish().await?;
    let (headers, always) = (ObjectHeaders::default(), bucketfs::vfs::Condition::Always);
    vfs.put_object(&WHO, (&bucket, &key), uploaded, &headers, always).await.map(|_| ())
}

/// Uploads: staged for one node, taken by three; and copies by reference of what has one copy only.
#[test]
fn uploads_and_copies_have_their_quorum_too() {
    runtime().block_on(async {
        let cluster = Cluster::strangers(3).await;
        let (bucket, vfs) = (BucketName::new("bucket").unwrap(), cluster.vfs(0));
        put(&cluster, 0, "source", &data(1)).await.unwrap();
        let mut writer = vfs.upload(&bucket, &[]);
        writer.write(&data(2)).await.unwrap();
        let uploaded = writer.finish().await.unwrap();
        for number in 0..3 {
            cluster.set_node(number, NodeState::Active).await;
        }
        let (headers, always) = (ObjectHeaders::default(), || bucketfs::vfs::Condition::Always);
        let (first, second) = (ObjectKey::new("put").unwrap(), ObjectKey::new("copy").unwrap());
        vfs.put_object(&WHO, (&bucket, &first), uploaded, &headers, always()).await.unwrap();
        let source = ObjectKey::new("source").unwrap();
        let reader = vfs.open_object(&WHO, &bucket, &source).await.unwrap();
        vfs.copy_object(&WHO, &reader, (&bucket, &second), None, always()).await.unwrap();
        for (id, record) in cluster.chunks() {
            assert!(record.stored_on.len() >= 2, "{id}: {record:?}");
        }
        cluster.settle().await;
        cluster.assert_whole();
        cluster.vfs(2).barrier().await.unwrap();
        let reader = cluster.vfs(2).open_object(&WHO, &bucket, &first).await.unwrap();
        let read = reader.read_whole(ByteRange::between(0, reader.info.size)).await.unwrap();
        assert!(read == data(2));
        cluster.set_down(1, true);
        cluster.set_down(2, true);
        assert!(matches!(put(&cluster, 0, "no", &data(3)).await, Err(Error::NoQuorum(_))));
    });
}

/// A node that drains hands its copies on, and keeps each until the others have it.
#[test]
fn a_node_drains() {
    runtime().block_on(async {
        let cluster = Cluster::new(4).await;
        for file in 0..4 {
            cluster.write(file, &format!("f{file}"), &data(file)).await.unwrap();
        }
        cluster.settle().await;
        cluster.assert_whole();
        assert!(cluster.files(3) > 0);
        cluster.set_down(1, true);
        cluster.set_node(3, NodeState::Draining).await;
        for _ in 0..4 {
            for number in [0, 2, 3] {
                let _ = cluster.nodes[number].repair.round().await;
            }
        }
        for file in 0..4 {
            assert!(cluster.read(0, &format!("f{file}")).await.unwrap() == data(file));
        }
        cluster.set_down(1, false);
        cluster.settle().await;
        cluster.assert_whole();
        assert_eq!(cluster.files(3), 0);
        cluster.set_node(3, NodeState::Gone).await;
        cluster.settle().await;
        // Its own writes go to the others.
        cluster.write(3, "from outside", &data(9)).await.unwrap();
        assert_eq!(cluster.files(3), 0);
        assert!(cluster.read(3, "from outside").await.unwrap() == data(9));
        cluster.settle().await;
        cluster.assert_whole();
    });
}

/// A disk that was lost comes back as another node, and is filled.
#[test]
fn a_lost_disk_is_made_up_for() {
    runtime().block_on(async {
        let cluster = Cluster::new(4).await;
        cluster.set_node(3, NodeState::Draining).await;
        cluster.settle().await;
        for file in 0..3 {
            cluster.write(file, &format!("f{file}"), &data(file)).await.unwrap();
        }
        cluster.settle().await;
        cluster.set_down(2, true);
        cluster.set_node(2, NodeState::Gone).await;
        cluster.set_node(3, NodeState::Active).await;
        for _ in 0..10 {
            for number in [0, 1, 3] {
                cluster.nodes[number].repair.round().await.unwrap();
            }
        }
        assert!(!cluster.has_errands());
        for (id, record) in cluster.chunks() {
            assert_eq!(record.stored_on.len(), 3, "{id}");
            assert!(cluster.nodes[3].chunks.verify(id).is_ok());
        }
        for file in 0..3 {
            assert!(cluster.read(3, &format!("f{file}")).await.unwrap() == data(file));
        }
    });
}

/// Files that vanished and files nobody knows are found without anybody reading them.
#[test]
fn an_inventory_finds_what_is_missing_and_what_is_left_over() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        cluster.write(0, "f", &data(1)).await.unwrap();
        cluster.settle().await;
        let ids: Vec<_> = cluster.chunks().into_keys().collect();
        cluster.write(0, "gone", &data(2)).await.unwrap();
        cluster.settle().await;
        let gone = cluster.chunks().into_keys().find(|id| !ids.contains(id)).unwrap();
        let stray = cluster.nodes[0].chunks.load(gone).unwrap();
        cluster.vfs(0).unlink(&WHO, cluster.bucket, b"gone").await.unwrap();
        // Later changes bring the mark along that lets the chunk be forgotten.
        for file in ["g", "h"] {
            cluster.write(0, file, b"small").await.unwrap();
            cluster.settle().await;
        }
        assert_eq!((cluster.chunks().len(), cluster.files(1)), (4, 4));
        // The node was away when it was freed.
        cluster.nodes[1].chunks.keep(&stray).unwrap();
        cluster.nodes[1].chunks.delete(ids[2]).unwrap();
        let fresh = bucketfs::replication::Repair::new(
            std::sync::Arc::clone(&cluster.nodes[1].copies),
            std::sync::Arc::clone(&cluster.replica),
        );
        fresh.round().await.unwrap();
        assert!(cluster.has_errands());
        cluster.settle().await;
        cluster.assert_whole();
        assert_eq!(cluster.nodes[1].copies.counts().mended, 1);
        assert_eq!(cluster.files(1), 4);
    });
}
