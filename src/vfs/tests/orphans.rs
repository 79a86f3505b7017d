//! A file that one node removes while another has it open: it stays, whole, until the last close
//! anywhere, and not a moment longer.

use std::collections::BTreeMap;
use std::time::Duration;

use super::cluster::{Cluster, RDONLY, RDWR, WHO, run};
use crate::error::{Error, Result};
use crate::types::{BucketName, ByteRange, Ino, ObjectKey};
use crate::vfs::{Caller, Condition, ObjectHeaders, RenameMode};

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ seed).collect()
}

/// > A file removed on one node stays for those who have it open on others, and nothing of it is
/// > left after the last close
#[test]
fn a_file_removed_on_one_node_stays_for_those_who_have_it_open() {
    run(async {
        let cluster = Cluster::new(3).await;
        let [a, b, _] = &cluster.nodes[..] else { panic!() };
        let data = bytes(1, 200_000);
        let ino = a.create(cluster.bucket, "f", &data).await;
        cluster.level().await;
        let reader = b.open(ino, RDWR).await.unwrap();
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.upkeep().await;
        assert!(cluster.chunk_files() > 0);
        assert_eq!(b.read_all(reader).await.unwrap(), data);
        assert_eq!(b.vfs.getattr(ino).unwrap().nlink, 0);
        b.vfs.write(&WHO, reader, 0, b"still mine").await.unwrap();
        b.vfs.fsync(reader).await.unwrap();
        assert_eq!(b.vfs.read(reader, 0, 10).await.unwrap(), b"still mine");
        // Who has it not open cannot open it any more; who has may open it again, once no kernel can
        // mean what has taken its place.
        assert!(matches!(a.open(ino, RDONLY).await, Err(Error::Stale)));
        assert!(matches!(b.open(ino, RDONLY).await, Err(Error::Stale)));
        b.clock.advance(Duration::from_secs(10));
        let again = b.open(ino, RDONLY).await.unwrap();
        b.close(reader).await.unwrap();
        assert_eq!(b.read_all(again).await.unwrap().len(), data.len());
        b.close(again).await.unwrap();
        assert!(matches!(b.open(ino, RDONLY).await, Err(Error::Stale)));
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0);
    });
}

/// `umount -f` on a node that goes on serving: the kernel closes nothing any more. What was removed stayed
/// until a restart, and what was written waited in memory for as long.
#[test]
fn what_an_ended_mount_had_open_is_closed() {
    run(async {
        let cluster = Cluster::new(1).await;
        let vfs = cluster.vfs(0);
        let mut inos = Vec::new();
        for name in [&b"removed"[..], b"written"] {
            let made = vfs.create(&WHO, cluster.bucket, name, 0o644, RDWR).await.unwrap();
            vfs.remember(WHO.origin, &made.0, vfs.moves());
            vfs.write(&WHO, made.1.handle, 0, name).await.unwrap();
            inos.push(made.0.ino);
        }
        let listing = vfs.opendir(WHO.origin, cluster.bucket).unwrap();
        vfs.unlink(&WHO, cluster.bucket, b"removed").await.unwrap();
        let other = Caller { origin: 2, ..WHO };
        let kept = vfs.open(&other, inos[1], RDONLY).await.unwrap().handle;
        vfs.forget_mount(WHO.origin);
        vfs.upkeep_round().await.unwrap();
        assert!(matches!(vfs.getattr(inos[0]), Err(Error::Stale)), "it is gone");
        assert!(vfs.readdir(listing, 0, &mut |_| true).is_err());
        assert_eq!(vfs.read(kept, 0, 100).await.unwrap(), b"written", "another mount's");
        vfs.release(kept).await;
        assert!(vfs.nodes.all().is_empty(), "nothing waits to be saved");
        // A file without a name that this kernel asked about when it ended.
        let made = vfs.create(&WHO, cluster.bucket, b"closed", 0o644, RDWR).await.unwrap();
        vfs.remember(WHO.origin, &made.0, vfs.moves());
        vfs.release(made.1.handle).await;
        vfs.unlink(&WHO, cluster.bucket, b"closed").await.unwrap();
        assert_eq!(vfs.tombstones.lock().len(), 1);
        vfs.forget_mount(WHO.origin);
        assert!(vfs.tombstones.lock().is_empty());
    });
}

/// Nobody has it open: every node says so by itself, and the space is free.
#[test]
fn a_file_that_nobody_uses_is_let_go_by_all() {
    run(async {
        let cluster = Cluster::new(3).await;
        let [a, b, c] = &cluster.nodes[..] else { panic!() };
        a.create(cluster.bucket, "f", &bytes(1, 100_000)).await;
        b.create(cluster.bucket, "g", &bytes(2, 100_000)).await;
        cluster.level().await;
        c.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        let (from, to) = ((cluster.bucket, &b"g"[..]), (cluster.bucket, &b"f"[..]));
        a.vfs.rename(&WHO, from, to, RenameMode::Replace).await.unwrap();
        c.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0);
    });
}

/// Renamed over, and removed while the close of the last handle is under way on another node.
#[test]
fn the_last_close_lets_go_at_once() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"old").await;
        a.create(cluster.bucket, "new", b"new").await;
        cluster.level().await;
        let reader = b.open(ino, RDONLY).await.unwrap();
        let (from, to) = ((cluster.bucket, &b"new"[..]), (cluster.bucket, &b"f"[..]));
        a.vfs.rename(&WHO, from, to, RenameMode::Replace).await.unwrap();
        cluster.upkeep().await;
        assert_eq!(b.read_all(reader).await.unwrap(), b"old");
        assert_eq!(b.read_whole(cluster.bucket, "f").await.unwrap(), b"new");
        b.close(reader).await.unwrap();
        cluster.level().await;
        assert!(matches!(a.vfs.getattr(ino), Err(Error::Stale)), "no round of upkeep was needed");
        cluster.assert_clean().await;
    });
}

/// > An open by a name that stands for another file by now is sent to look again
///
/// A name that stands for another file since just now: a kernel that has not heard of it yet is sent
/// to look again, even where the old file is open. Its own removals it knows of.
#[test]
fn an_open_by_an_old_name_is_sent_to_look_again() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        for round in 0..20 {
            let old = a.create(cluster.bucket, "f", b"old").await;
            let new = a.create(cluster.bucket, "new", b"new").await;
            cluster.level().await;
            let reader = b.open(old, RDONLY).await.unwrap();
            let (from, to) = ((cluster.bucket, &b"new"[..]), (cluster.bucket, &b"f"[..]));
            let by = if round % 2 == 0 { a } else { b };
            by.vfs.rename(&WHO, from, to, RenameMode::Replace).await.unwrap();
            let again = b.open(old, RDONLY).await;
            assert_eq!(again.is_err(), round % 2 == 0, "round {round}");
            if let Ok(again) = again {
                b.close(again).await.unwrap();
            }
            assert_eq!(b.lookup(cluster.bucket, "f").await.unwrap().ino, new);
            b.close(reader).await.unwrap();
            b.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        }
        cluster.assert_clean().await;
    });
}

/// > A GET goes on with the object it began with, whatever is PUT meanwhile; after a change in
/// > place it breaks off
///
/// A GET goes on with what it began with, whatever is PUT through another node.
#[test]
fn an_object_replaced_on_one_node_is_read_to_its_end_on_another() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let (bucket, key) = (BucketName::new("bucket").unwrap(), ObjectKey::new("d/k").unwrap());
        let put = async |data: &[u8]| {
            let mut writer = a.vfs.upload(&bucket, &[]);
            writer.write(data).await.unwrap();
            let uploaded = writer.finish().await.unwrap();
            let headers = ObjectHeaders::default();
            let at = (&bucket, &key);
            a.vfs.put_object(&WHO, at, uploaded, &headers, Condition::Always).await.unwrap();
        };
        let (old, new) = (bytes(1, 300_000), bytes(2, 250_000));
        put(&old).await;
        b.vfs.barrier().await.unwrap();
        let reader = b.vfs.open_object(&WHO, &bucket, &key).await.unwrap();
        let read = async |reader: &crate::vfs::ObjectReader, start, end| {
            reader.read(ByteRange::between(start, end)).await.unwrap().concat()
        };
        assert_eq!(read(&reader, 0, 1000).await, old[..1000]);
        put(&new).await;
        cluster.upkeep().await;
        assert_eq!(read(&reader, 1000, 300_000).await, old[1000..]);
        b.vfs.barrier().await.unwrap();
        let next = b.vfs.open_object(&WHO, &bucket, &key).await.unwrap();
        assert_eq!(read(&next, 0, 250_000).await, new);
        let before = cluster.chunk_files();
        b.drop_reader(reader).await;
        cluster.upkeep().await;
        assert_eq!((before, cluster.chunk_files()), (9, 4));
        b.drop_reader(next).await;
        cluster.assert_clean().await;
    });
}

/// A node that is gone holds nothing: whoever ends its session frees what it had open.
#[test]
fn the_end_of_a_session_lets_go_for_it() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", &bytes(1, 100_000)).await;
        cluster.level().await;
        let reader = b.open(ino, RDONLY).await.unwrap();
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        b.member.cut(true);
        a.vfs.upkeep_round().await.unwrap();
        a.replica.end_session_of(b.replica.node()).await.unwrap();
        assert!(matches!(a.vfs.getattr(ino), Err(Error::Stale)));
        for _ in 0..3 {
            a.vfs.upkeep_round().await.unwrap();
        }
        assert_eq!(cluster.chunk_files(), 0);
        // Gone is gone: an error, never other bytes.
        b.member.cut(false);
        cluster.level().await;
        assert!(b.vfs.read(reader, 0, 10).await.is_err());
        b.close(reader).await.unwrap();
    });
}

/// What a name stood for while it was opened.
fn content(of: u64) -> Vec<u8> {
    bytes(of as u8, 70_000 + of as usize)
}

/// Many names, opened, removed and replaced on all nodes at once: whoever has a file open reads its
/// own bytes to the end, and in the end nothing is left.
#[test]
fn opens_race_with_removals() {
    run(async {
        let cluster = std::sync::Arc::new(Cluster::new(3).await);
        let mut tasks = Vec::new();
        for worker in 0..9u64 {
            let cluster = std::sync::Arc::clone(&cluster);
            tasks.push(tokio::spawn(async move {
                for round in 0..40 {
                    let seed = worker * 1000 + round;
                    race(&cluster, (worker % 3) as usize, seed).await.unwrap();
                }
            }));
        }
        for node in &cluster.nodes {
            tokio::spawn(std::sync::Arc::clone(&node.vfs).run_upkeep());
        }
        for task in tasks {
            task.await.unwrap();
        }
        for name in ["x", "y"] {
            let gone = cluster.vfs(0).unlink(&WHO, cluster.bucket, name.as_bytes()).await;
            assert!(matches!(gone, Ok(()) | Err(Error::NotFound)));
        }
        for _ in 0..200 {
            cluster.upkeep().await;
            if cluster.chunk_files() == 0 {
                return cluster.assert_clean().await;
            }
        }
        panic!("{} chunk files are left", cluster.chunk_files());
    });
}

/// One step: makes a file and puts it in place of a shared name, or opens what is there.
async fn race(cluster: &Cluster, at: usize, seed: u64) -> Result<()> {
    let (node, dir) = (&cluster.nodes[at], cluster.bucket);
    let shared = if seed.is_multiple_of(2) { "x" } else { "y" };
    match seed % 7 {
        0..3 => {
            let own = format!("own-{seed}");
            node.create(dir, &own, &content(seed)).await;
            let to = (dir, shared.as_bytes());
            node.vfs.rename(&WHO, (dir, own.as_bytes()), to, RenameMode::Replace).await
        }
        3 => match node.vfs.unlink(&WHO, dir, shared.as_bytes()).await {
            Err(Error::NotFound) => Ok(()),
            result => result,
        },
        _ => read_what_is_there(cluster, at, shared).await,
    }
}

async fn read_what_is_there(cluster: &Cluster, at: usize, name: &str) -> Result<()> {
    let node = &cluster.nodes[at];
    let ino = match node.vfs.lookup(cluster.bucket, name.as_bytes()) {
        Ok(attr) => attr.ino,
        Err(Error::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    };
    let handle = match node.open(ino, RDONLY).await {
        Ok(handle) => handle,
        // As the kernel does: it would look the name up again.
        Err(Error::Stale) => return Ok(()),
        Err(error) => return Err(error),
    };
    let first = node.vfs.read(handle, 0, 1).await?;
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let whole = node.read_all(handle).await?;
    let of = (whole.len() - 70_000) as u64;
    assert!(whole == content(of) && first[0] == whole[0], "bytes of another file");
    node.close(handle).await
}

/// On one node nothing is paid for others: no entry of the log but the removal itself.
#[test]
fn alone_a_removal_is_one_entry() {
    run(async {
        let cluster = Cluster::new(1).await;
        let [a] = &cluster.nodes[..] else { panic!() };
        let mut inos: BTreeMap<&str, Ino> = BTreeMap::new();
        for name in ["f", "g"] {
            inos.insert(name, a.create(cluster.bucket, name, b"x").await);
        }
        let applied = || a.replica.status().applied.unwrap();
        let before = applied();
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        a.vfs.upkeep_round().await.unwrap();
        assert_eq!(applied(), before + 1);
        let handle = a.open(inos["g"], RDONLY).await.unwrap();
        a.vfs.unlink(&WHO, cluster.bucket, b"g").await.unwrap();
        a.vfs.upkeep_round().await.unwrap();
        assert_eq!(applied(), before + 2);
        a.close(handle).await.unwrap();
        assert_eq!(applied(), before + 3);
        cluster.assert_clean().await;
    });
}
