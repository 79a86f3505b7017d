//! Writers on several nodes: both keep what they wrote, cuts and writes have one order, and no
//! kernel is left with what is old.

use std::sync::Arc;

use parking_lot::Mutex;

use super::cluster::{CHUNK_SIZE, Chance, Cluster, RDONLY, RDWR, WHO, run};
use crate::error::Error;
use crate::meta::Change;
use crate::types::Ino;
use crate::vfs::{AttrChange, Caller, OpenFlags, RenameMode};

const TRUNC: OpenFlags = OpenFlags(libc::O_RDWR | libc::O_TRUNC);

fn size(to: u64) -> AttrChange {
    AttrChange { size: Some(to), ..AttrChange::default() }
}

/// > Writes to different ranges of one file are all kept, whoever commits first
///
/// Blocks of a file, each node's its own, written small and large, saved at any moment: from inline
/// bytes to many chunks nobody's are lost.
#[test]
fn disjoint_writers_both_keep_theirs() {
    for seed in 0..8 {
        println!("seed {seed}");
        run(async {
            let cluster = Cluster::new(2).await;
            let ino = cluster.nodes[0].create(cluster.bucket, "f", b"").await;
            cluster.level().await;
            let mut chance = Chance(seed);
            let mut model: Vec<u8> = Vec::new();
            let mut handles = Vec::new();
            for node in &cluster.nodes {
                handles.push(node.open(ino, RDWR).await.unwrap());
            }
            for step in 0..60 {
                let at = chance.below(2) as usize;
                let block = [10, 500, 7_000, 40_000][(step / 15) as usize];
                let offset = (chance.below(5) * 2 + at as u64) * block;
                let data = vec![step as u8 + 1; 1 + chance.below(block) as usize];
                let end = offset as usize + data.len();
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].copy_from_slice(&data);
                let node = &cluster.nodes[at];
                node.vfs.write(&WHO, handles[at], offset, &data).await.unwrap();
                match chance.below(4) {
                    0 => node.vfs.fsync(handles[at]).await.unwrap(),
                    1 => node.vfs.upkeep_round().await.unwrap(),
                    _ => {}
                }
                // The blocks of another size overlap those before.
                if step % 15 == 14 {
                    for (node, handle) in cluster.nodes.iter().zip(&handles) {
                        node.vfs.fsync(*handle).await.unwrap();
                    }
                    let seen = cluster.nodes[at].read_whole(cluster.bucket, "f").await.unwrap();
                    assert!(seen == model, "step {step}");
                }
            }
            for (node, handle) in cluster.nodes.iter().zip(handles) {
                node.close(handle).await.unwrap();
                assert!(node.read_whole(cluster.bucket, "f").await.unwrap() == model);
            }
            cluster.assert_clean().await;
        });
    }
}

/// > truncate takes what is committed; a commit after it puts its bytes where they belong
///
/// A cut and a write of two nodes: the write comes after, and what the cut took stays away.
#[test]
fn a_cut_takes_what_is_committed_and_a_later_write_stands() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", &[1; 150_000]).await;
        cluster.level().await;
        let writer = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, writer, 100_000, &[2; 10]).await.unwrap();
        a.vfs.setattr(&WHO, ino, size(50_000)).await.unwrap();
        cluster.level().await;
        assert_eq!(b.vfs.getattr(ino).unwrap().size, 100_010, "its own bytes are still to come");
        b.close(writer).await.unwrap();
        let seen = a.read_whole(cluster.bucket, "f").await.unwrap();
        assert_eq!(seen.len(), 100_010);
        assert!(seen[..50_000] == [1; 50_000] && seen[50_000..100_000] == [0; 50_000]);
        assert_eq!(seen[100_000..], [2; 10]);
        // Grown by one, cut by the other, small enough to be inline.
        a.vfs.setattr(&WHO, ino, size(0)).await.unwrap();
        let writer = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, writer, 5, b"b").await.unwrap();
        a.vfs.setattr(&WHO, ino, size(3)).await.unwrap();
        b.close(writer).await.unwrap();
        assert_eq!(a.read_whole(cluster.bucket, "f").await.unwrap(), b"\0\0\0\0\0b");
        cluster.assert_clean().await;
    });
}

/// > O_TRUNC takes its place with the first commit of its handle
///
/// O_TRUNC takes its place with the commit of its handle; a write before it is gone, one after it
/// stays, and never is there a mixture within one commit.
#[test]
fn emptying_and_writing_have_one_order() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        for (first, expected) in [(0, &b"AAA\0\0\0BBB"[..]), (1, &b"AAA"[..])] {
            let ino = a.create(cluster.bucket, "f", &[b'.'; 20]).await;
            cluster.level().await;
            let writer = b.open(ino, RDWR).await.unwrap();
            b.vfs.write(&WHO, writer, 6, b"BBB").await.unwrap();
            let emptier = a.open(ino, TRUNC).await.unwrap();
            a.vfs.write(&WHO, emptier, 0, b"AAA").await.unwrap();
            if first == 0 {
                a.close(emptier).await.unwrap();
                b.close(writer).await.unwrap();
            } else {
                b.close(writer).await.unwrap();
                a.close(emptier).await.unwrap();
            }
            assert_eq!(b.read_whole(cluster.bucket, "f").await.unwrap(), expected);
            b.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        }
        cluster.assert_clean().await;
    });
}

/// > … also of small files that grow
///
/// Both nodes find a small file and make it large: the bytes it had are nobody's, and must not
/// come back over what the other wrote meanwhile.
#[test]
fn a_small_file_grows_on_two_nodes() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", &[b'.'; 1000]).await;
        cluster.level().await;
        let (left, right) = (a.open(ino, RDWR).await.unwrap(), b.open(ino, RDWR).await.unwrap());
        a.vfs.write(&WHO, left, 20_000, &[1; 10_000]).await.unwrap();
        b.vfs.write(&WHO, right, 10, b"small").await.unwrap();
        b.vfs.write(&WHO, right, 50_000, &[2; 10_000]).await.unwrap();
        let (one, two) = tokio::join!(a.vfs.fsync(left), b.vfs.fsync(right));
        one.unwrap();
        two.unwrap();
        a.close(left).await.unwrap();
        b.close(right).await.unwrap();
        let seen = b.read_whole(cluster.bucket, "f").await.unwrap();
        assert_eq!(&seen[..20], b"..........small.....");
        assert!(seen[15..1000].iter().all(|&byte| byte == b'.'));
        assert!(seen[20_000..30_000] == [1; 10_000] && seen[50_000..] == [2; 10_000]);
        cluster.assert_clean().await;
    });
}

/// > … however many pieces there are
///
/// Hundreds of small pieces of one slot, each other one of another node.
#[test]
fn crowded_writers_both_keep_theirs() {
    run(async {
        let cluster = Cluster::new(2).await;
        for (name, before) in [("inline", 1000), ("large", 100_000)] {
            let ino = cluster.nodes[0].create(cluster.bucket, name, &vec![b'.'; before]).await;
            cluster.level().await;
            let mut model = vec![b'.'; before];
            let mut handles = Vec::new();
            for (at, node) in cluster.nodes.iter().enumerate() {
                let handle = node.open(ino, RDWR).await.unwrap();
                for number in 0..900 {
                    let offset = number * 60 + at * 30;
                    let data = [b'a' + at as u8; 20];
                    node.vfs.write(&WHO, handle, offset as u64, &data).await.unwrap();
                    model.resize(model.len().max(offset + 20), 0);
                    model[offset..offset + 20].copy_from_slice(&data);
                }
                handles.push(handle);
            }
            let [a, b] = &cluster.nodes[..] else { panic!() };
            let (one, two) = tokio::join!(a.vfs.fsync(handles[0]), b.vfs.fsync(handles[1]));
            one.unwrap();
            two.unwrap();
            a.close(handles[0]).await.unwrap();
            b.close(handles[1]).await.unwrap();
            assert!(b.read_whole(cluster.bucket, name).await.unwrap() == model, "{name}");
        }
        cluster.assert_clean().await;
    });
}

/// A slot that is written whole because it has too many pieces is read from whoever has it.
#[test]
fn a_crowded_slot_is_read_from_other_nodes() {
    run(async {
        let cluster = Cluster::apart(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let mut model = vec![b'.'; 60_000];
        let ino = a.create(cluster.bucket, "f", &model).await;
        cluster.level().await;
        let handle = b.open(ino, RDWR).await.unwrap();
        for offset in (0..60_000).step_by(100) {
            b.vfs.write(&WHO, handle, offset as u64, b"other").await.unwrap();
            model[offset..offset + 5].copy_from_slice(b"other");
        }
        b.close(handle).await.unwrap();
        cluster.level().await;
        assert!(a.read_whole(cluster.bucket, "f").await.unwrap() == model);
    });
}

/// > … and of files too large for one commit
///
/// So much of a new file is written that it is staged; another node writes to it, too.
#[test]
fn a_staged_file_is_laid_over_what_others_wrote() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let made = a.vfs.create(&WHO, cluster.bucket, b"f", 0o644, RDWR).await.unwrap();
        let (ino, handle) = (made.0.ino, made.1.handle);
        let slots = 530;
        let piece = vec![b'a'; CHUNK_SIZE as usize - 10];
        for slot in 0..slots {
            // Full slots are sealed; the first bytes of each are left to the other.
            a.vfs.write(&WHO, handle, slot * CHUNK_SIZE + 10, &piece).await.unwrap();
        }
        let other = b.open(ino, RDWR).await.unwrap();
        for slot in [0, 7, slots - 1, slots + 3] {
            b.vfs.write(&WHO, other, slot * CHUNK_SIZE, &[b'b'; 10]).await.unwrap();
        }
        b.close(other).await.unwrap();
        a.close(handle).await.unwrap();
        let attr = b.lookup(cluster.bucket, "f").await.unwrap();
        assert_eq!(attr.size, (slots + 3) * CHUNK_SIZE + 10);
        let reader = b.open(ino, RDONLY).await.unwrap();
        for slot in 0..slots + 4 {
            let seen = b.vfs.read(reader, slot * CHUNK_SIZE, CHUNK_SIZE as u32).await.unwrap();
            let head = if [0, 7, slots - 1, slots + 3].contains(&slot) { b'b' } else { 0 };
            assert!(seen[..10] == [head; 10], "slot {slot}");
            assert!(slot >= slots || seen[10..] == piece[..], "slot {slot}");
        }
        b.close(reader).await.unwrap();
        b.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0);
    });
}

/// A kernel that looks a new file up while its bytes arrive is told its size of before, and does not know it yet
/// when that is called old: the open says so.
#[test]
fn an_open_tells_what_the_kernel_was_shown_before() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"one").await;
        cluster.level().await;
        b.vfs.remember(WHO.origin, &b.vfs.getattr(ino).unwrap(), b.vfs.moves());
        let outdated = async || {
            let opened = b.vfs.open(&WHO, ino, RDONLY).await.unwrap();
            b.close(opened.handle).await.unwrap();
            opened.outdated
        };
        assert!(!outdated().await);
        let writer = a.open(ino, RDWR).await.unwrap();
        a.vfs.write(&WHO, writer, 0, b"longer").await.unwrap();
        a.close(writer).await.unwrap();
        assert!(outdated().await);
        assert!(!outdated().await, "nothing has changed since it was told");
        let writer = a.open(ino, RDWR).await.unwrap();
        a.vfs.write(&WHO, writer, 0, b"another").await.unwrap();
        a.close(writer).await.unwrap();
        b.vfs.barrier().await.unwrap();
        b.vfs.remember(WHO.origin, &b.vfs.getattr(ino).unwrap(), b.vfs.moves());
        assert!(!outdated().await, "the new ones were shown");
    });
}

/// > An open on any node includes every commit (close, fsync, PUT) acknowledged anywhere before it
/// > began; the kernel's pages are kept exactly when they are of that version
///
/// An open on another node includes every commit that was acknowledged, and its kernel keeps pages
/// exactly when they are of that version.
#[test]
fn an_open_after_another_nodes_commit_never_shows_old_pages() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"one").await;
        cluster.level().await;
        b.vfs.remember(WHO.origin, &b.vfs.getattr(ino).unwrap(), b.vfs.moves());
        let keeps = async || {
            let opened = b.vfs.open(&WHO, ino, RDONLY).await.unwrap();
            let bytes = b.read_all(opened.handle).await.unwrap();
            b.close(opened.handle).await.unwrap();
            (opened.keep_cache, bytes)
        };
        assert_eq!(keeps().await, (false, b"one".to_vec()));
        assert_eq!(keeps().await, (true, b"one".to_vec()));
        for round in 0..20u8 {
            let writer = a.open(ino, RDWR).await.unwrap();
            a.vfs.write(&WHO, writer, 0, &[round; 3]).await.unwrap();
            a.close(writer).await.unwrap();
            assert_eq!(keeps().await, (false, vec![round; 3]));
            assert_eq!(keeps().await, (true, vec![round; 3]));
        }
        // Both write: the pages this kernel has are its own and lack the other's.
        let (left, right) = (a.open(ino, RDWR).await.unwrap(), b.open(ino, RDWR).await.unwrap());
        b.vfs.write(&WHO, right, 0, b"b").await.unwrap();
        a.vfs.write(&WHO, left, 2, b"a").await.unwrap();
        a.close(left).await.unwrap();
        b.close(right).await.unwrap();
        assert!(!keeps().await.0, "a commit came between");
        // Alone it wrote everything that is new: its pages are good.
        let right = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, right, 0, b"c").await.unwrap();
        b.close(right).await.unwrap();
        assert!(keeps().await.0);
    });
}

/// > Names, attributes and bytes that change on one node are told to the kernels of all others;
/// > until they hear of it, stat and names that went away or became another file's may lag by the
/// > TTL (1 s; `-o ttl=0` asks each time)
///
/// Names, attributes and bytes that change on one node are told to the kernels of all others; what
/// a mount did itself is not told to it.
#[test]
fn every_change_is_told_to_the_other_nodes_kernels() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let heard: Vec<_> = cluster
            .nodes
            .iter()
            .map(|node| {
                let heard = Arc::new(Mutex::new(Vec::new()));
                let sink = Arc::clone(&heard);
                node.vfs.hub.subscribe(Box::new(move |change, from| {
                    // As a mount's invalidator does for its own number.
                    if from != WHO.origin {
                        sink.lock().push(change.clone());
                    }
                }));
                heard
            })
            .collect();
        let entry = |name: &str| Change::Entry {
            parent: cluster.bucket,
            name: crate::types::FileName::new(name.as_bytes()).unwrap(),
        };
        let told = |changes: &[Change]| {
            let all = heard[1].lock().drain(..).collect::<Vec<_>>();
            assert!(changes.iter().all(|change| all.contains(change)), "{changes:?} in {all:?}");
            assert!(heard[0].lock().drain(..).next().is_none(), "its own changes are told to it");
        };
        let ino = a.create(cluster.bucket, "f", b"x").await;
        cluster.level().await;
        told(&[entry("f"), Change::Data(ino), Change::Attributes(cluster.bucket)]);
        a.vfs
            .setattr(&WHO, ino, AttrChange { mode: Some(0o600), ..AttrChange::default() })
            .await
            .unwrap();
        a.vfs.link(&WHO, ino, cluster.bucket, b"g").await.unwrap();
        cluster.level().await;
        told(&[Change::Attributes(ino), entry("g")]);
        let (from, to) = ((cluster.bucket, &b"g"[..]), (cluster.bucket, &b"h"[..]));
        a.vfs.rename(&WHO, from, to, RenameMode::Replace).await.unwrap();
        cluster.level().await;
        told(&[entry("g"), entry("h")]);
        a.vfs.unlink(&WHO, cluster.bucket, b"h").await.unwrap();
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.level().await;
        told(&[entry("h"), entry("f"), Change::Attributes(ino)]);
        assert!(matches!(b.lookup(cluster.bucket, "f").await, Err(Error::NotFound)));
        assert!(matches!(b.open(ino, RDONLY).await, Err(Error::Stale)), "the kernel looks again");
        let by_path = b.vfs.setattr(&WHO, ino, size(0)).await;
        assert!(matches!(by_path, Err(Error::Stale)));
    });
}

/// > A handle that is open follows the file: its next read shows what is committed
///
/// A reader with an open handle sees a commit of another node at its next read, sizes included.
#[test]
fn an_open_handle_follows_the_file() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", &[1; 100_000]).await;
        cluster.level().await;
        let reader = b.open(ino, RDONLY).await.unwrap();
        let rewrite = async |data: &[u8]| {
            let writer = a.open(ino, TRUNC).await.unwrap();
            a.vfs.write(&WHO, writer, 0, data).await.unwrap();
            a.close(writer).await.unwrap();
            cluster.upkeep().await;
        };
        for (byte, len) in [(2, 200_000), (3, 10), (4, 70_000)] {
            rewrite(&vec![byte; len]).await;
            assert_eq!(b.vfs.getattr(ino).unwrap().size, len as u64);
            assert!(b.read_all(reader).await.unwrap() == vec![byte; len]);
        }
        b.close(reader).await.unwrap();
    });
}

/// > O_EXCL: of two nodes that create one name, one wins
///
/// Creating with O_EXCL on two nodes: one wins.
#[test]
fn one_of_two_exclusive_creations_wins() {
    one_of_two_creations_wins(OpenFlags(libc::O_RDWR | libc::O_EXCL), |loser| {
        matches!(loser, Error::AlreadyExists)
    });
}

/// Without O_EXCL whoever was slower wants the file that is there now: it was told that it exists.
#[test]
fn the_loser_of_two_creations_is_to_open_the_other_ones() {
    one_of_two_creations_wins(RDWR, |loser| matches!(loser, Error::Stale));
}

fn one_of_two_creations_wins(flags: OpenFlags, is_expected: fn(&Error) -> bool) {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        for number in 0..20 {
            let name = format!("f{number}");
            let make = async |vfs: &crate::vfs::Vfs| -> Result<Ino, Error> {
                let who = Caller { origin: 1, ..WHO };
                let made = vfs.create(&who, cluster.bucket, name.as_bytes(), 0o644, flags).await?;
                vfs.release(made.1.handle).await;
                Ok(made.0.ino)
            };
            let (one, two) = tokio::join!(make(&a.vfs), make(&b.vfs));
            assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
            let loser = if one.is_ok() { two } else { one };
            assert!(is_expected(&loser.unwrap_err()));
        }
        cluster.assert_clean().await;
    });
}
