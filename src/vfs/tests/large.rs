//! Files that are written in more pieces than one commit, one record or the buffer takes.

use std::time::Duration;

use super::cluster::{CHUNK_SIZE, Cluster, Node, RDONLY, RDWR, WHO, run};
use crate::vfs::AttrChange;

/// The write buffer of the nodes, in bytes.
const BUFFER: u64 = 4 << 20;

async fn cluster(nodes: u64) -> Cluster {
    if nodes == 1 { Cluster::alone().await } else { Cluster::new(nodes).await }
}

/// A new file, with the handle that made it.
async fn made(node: &Node, cluster: &Cluster, name: &str) -> (crate::types::Ino, u64) {
    let made = node.vfs.create(&WHO, cluster.bucket, name.as_bytes(), 0o644, RDWR).await.unwrap();
    (made.0.ino, made.1.handle)
}

/// A file was given its size before its bytes, as a copy of it may be; so much is written that it is
/// staged. The bytes that were never written are still part of it.
#[test]
fn a_staged_file_keeps_the_size_it_was_given() {
    for nodes in [1, 2] {
        run(async {
            let cluster = cluster(nodes).await;
            let a = &cluster.nodes[0];
            let (ino, handle) = made(a, &cluster, "f").await;
            let change = AttrChange { size: Some(600 * CHUNK_SIZE), ..AttrChange::default() };
            a.vfs.setattr(&WHO, ino, change).await.unwrap();
            let slot = vec![7; CHUNK_SIZE as usize];
            for number in 0..530 {
                a.vfs.write(&WHO, handle, number * CHUNK_SIZE, &slot).await.unwrap();
            }
            a.close(handle).await.unwrap();
            assert_eq!(a.vfs.getattr(ino).unwrap().size, 600 * CHUNK_SIZE, "{nodes} nodes");
            let reader = a.open(ino, RDONLY).await.unwrap();
            for (number, byte) in [(0, 7), (529, 7), (530, 0), (599, 0)] {
                let size = CHUNK_SIZE as u32;
                let seen = a.vfs.read(reader, number * CHUNK_SIZE, size).await.unwrap();
                assert!(seen == vec![byte; CHUNK_SIZE as usize], "slot {number}");
            }
            a.close(reader).await.unwrap();
            cluster.assert_clean().await;
        });
    }
}

/// A few bytes of metadata become a manifest in the first of several commits, whose writes do not
/// cover them: those that do were sealed last.
#[test]
fn a_small_file_is_rewritten_by_more_than_one_commit() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let ino = a.create(cluster.bucket, "f", b"0123456789").await;
        let handle = a.open(ino, RDWR).await.unwrap();
        let mut model = vec![0; 4199 * 1024 + 8];
        for number in 1..4200 {
            model[number * 1024..number * 1024 + 8].fill(7);
            a.vfs.write(&WHO, handle, number as u64 * 1024, &[7; 8]).await.unwrap();
        }
        a.vfs.seal_idle(Duration::ZERO);
        model[..10].fill(9);
        a.vfs.write(&WHO, handle, 0, &[9; 10]).await.unwrap();
        a.vfs.fsync(handle).await.unwrap();
        a.close(handle).await.unwrap();
        assert!(a.read_whole(cluster.bucket, "f").await.unwrap() == model);
        cluster.assert_clean().await;
    });
}

/// Writes `runs` bytes with holes between them into each of the first `slots` slots.
async fn scatter(node: &Node, handle: u64, slots: u64, runs: u64, model: &mut Vec<u8>) {
    for slot in 0..slots {
        for run in 0..runs {
            let at = slot * CHUNK_SIZE + run * (CHUNK_SIZE / runs) + 1;
            node.vfs.write(&WHO, handle, at, b"x").await.unwrap();
            model.resize(model.len().max(at as usize + 1), 0);
            model[at as usize] = b'x';
        }
    }
}

/// A new file of small records in no order: more pieces than a slot can have, in more layers than
/// wait for a commit. They cannot be staged, and need not be.
#[test]
fn a_new_file_of_crumbs_is_kept() {
    for nodes in [1, 2] {
        run(async {
            let cluster = cluster(nodes).await;
            let a = &cluster.nodes[0];
            let (_, handle) = made(a, &cluster, "f").await;
            let mut model = Vec::new();
            scatter(a, handle, 30, 1100, &mut model).await;
            a.vfs.seal_idle(Duration::ZERO);
            a.vfs.write(&WHO, handle, 0, b"y").await.unwrap();
            model[0] = b'y';
            a.close(handle).await.unwrap();
            let last = &cluster.nodes[nodes as usize - 1];
            assert!(last.read_whole(cluster.bucket, "f").await.unwrap() == model);
            cluster.assert_clean().await;
        });
    }
}

/// Crumbs over what is staged already: it is taken first, and what another node writes meanwhile to
/// the same slots is not written over by what was a hole here.
#[test]
fn crumbs_over_a_staged_file_are_kept() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let (ino, handle) = made(a, &cluster, "f").await;
        let mut model = vec![7; 530 * CHUNK_SIZE as usize];
        let slot = vec![7; CHUNK_SIZE as usize];
        for number in 0..530 {
            a.vfs.write(&WHO, handle, number * CHUNK_SIZE, &slot).await.unwrap();
        }
        assert!(a.vfs.nodes.get(ino).unwrap().state().dirty.staged.is_some());
        scatter(a, handle, 2, 1100, &mut model).await;
        a.vfs.write(&WHO, handle, 600 * CHUNK_SIZE, b"x").await.unwrap();
        let other = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, other, 590 * CHUNK_SIZE, b"z").await.unwrap();
        b.close(other).await.unwrap();
        a.close(handle).await.unwrap();
        model.resize(600 * CHUNK_SIZE as usize + 1, 0);
        (model[590 * CHUNK_SIZE as usize], model[600 * CHUNK_SIZE as usize]) = (b'z', b'x');
        assert!(b.read_whole(cluster.bucket, "f").await.unwrap() == model);
        cluster.assert_clean().await;
    });
}

/// A slot is cut into too many pieces and then written from end to end, before one commit: what the
/// pieces come to on the way counts, too.
#[test]
fn crumbs_under_a_whole_slot_are_kept() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let (_, handle) = made(a, &cluster, "f").await;
        scatter(a, handle, 20, 1100, &mut Vec::new()).await;
        a.vfs.seal_idle(Duration::ZERO);
        let whole = vec![7; 20 * CHUNK_SIZE as usize];
        a.vfs.write(&WHO, handle, 0, &whole).await.unwrap();
        a.close(handle).await.unwrap();
        assert!(b.read_whole(cluster.bucket, "f").await.unwrap() == whole);
        cluster.assert_clean().await;
    });
}

/// Many slots come to have too many pieces with one commit. They are written whole, a few at a time:
/// the buffer keeps its bound, and whoever reads meanwhile does not wait for them.
#[test]
fn crowded_slots_do_not_outgrow_the_buffer() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let (ino, handle) = made(a, &cluster, "f").await;
        let slots = 100;
        let mut model = vec![7; slots * CHUNK_SIZE as usize];
        for slot in 0..slots as u64 {
            let whole = &model[..CHUNK_SIZE as usize];
            a.vfs.write(&WHO, handle, slot * CHUNK_SIZE, whole).await.unwrap();
        }
        scatter(a, handle, slots as u64, 128, &mut model).await;
        a.vfs.fsync(handle).await.unwrap();
        let pieces = a.vfs.info(ino).unwrap().pieces.len();
        assert!(pieces > slots * 256, "{pieces} pieces");
        for slot in 0..slots {
            let at = slot * CHUNK_SIZE as usize;
            a.vfs.write(&WHO, handle, at as u64, b"y").await.unwrap();
            model[at] = b'y';
        }
        let node = a.vfs.nodes.get(ino).unwrap();
        a.vfs.seal_all(&node, &mut node.state().dirty);
        let used = a.vfs.sealer.budget.used();
        assert!(used < BUFFER, "{used} bytes wait after sealing {slots}");
        let vfs = std::sync::Arc::clone(&a.vfs);
        let saved = tokio::spawn(async move { vfs.fsync(handle).await });
        let mut most = 0;
        while !saved.is_finished() {
            most = most.max(a.vfs.sealer.budget.used());
            tokio::task::yield_now().await;
        }
        saved.await.unwrap().unwrap();
        assert!(most < BUFFER, "{most} bytes waited during the commit");
        a.close(handle).await.unwrap();
        assert!(a.read_whole(cluster.bucket, "f").await.unwrap() == model);
        assert!(a.vfs.info(ino).unwrap().pieces.len() < 2 * slots);
        cluster.assert_clean().await;
    });
}
