//! O_APPEND on several nodes at once: no record is overwritten, torn or doubled, whoever commits
//! first and however large they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::cluster::{Chance, Cluster, Node, RDWR, WHO, run};
use crate::error::Error;
use crate::meta::Change;
use crate::types::Ino;
use crate::vfs::{AttrChange, OpenFlags, RenameMode};

const APPEND: OpenFlags = OpenFlags(libc::O_RDWR | libc::O_APPEND);

async fn append(node: &Node, handle: u64, data: &[u8]) {
    // The kernel says where it believes the end to be: it may know nothing.
    node.vfs.write(&WHO, handle, 0, data).await.unwrap();
}

#[test]
fn two_appenders_lose_nothing() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"start,").await;
        cluster.level().await;
        let (left, right) =
            (a.open(ino, APPEND).await.unwrap(), b.open(ino, APPEND).await.unwrap());
        append(a, left, b"left,").await;
        append(b, right, b"right,").await;
        assert_eq!(a.read_all(left).await.unwrap(), b"start,left,");
        assert_eq!(b.read_all(right).await.unwrap(), b"start,right,");
        b.vfs.fsync(right).await.unwrap();
        cluster.level().await;
        // What is not committed yet moves along, and is still one's own.
        assert_eq!(a.read_all(left).await.unwrap(), b"start,right,left,");
        assert_eq!(a.vfs.getattr(ino).unwrap().size, 17);
        append(a, left, b"more,").await;
        append(b, right, b"last").await;
        a.close(left).await.unwrap();
        b.close(right).await.unwrap();
        let seen = b.read_whole(cluster.bucket, "f").await.unwrap();
        assert_eq!(seen, b"start,right,left,more,last");
        cluster.assert_clean().await;
    });
}

/// Bytes of a record: who, which, how many follow, and a pattern.
fn record(node: usize, number: u32, len: usize) -> Vec<u8> {
    let mut bytes = vec![node as u8];
    bytes.extend(number.to_be_bytes());
    bytes.extend((len as u32).to_be_bytes());
    bytes.extend((0..len).map(|at| (at as u8).wrapping_mul(7) ^ number as u8 ^ node as u8));
    bytes
}

/// Reads records one after the other; every byte must belong to one.
fn records(bytes: &[u8]) -> BTreeMap<(usize, u32), usize> {
    let (mut found, mut rest) = (BTreeMap::new(), bytes);
    while !rest.is_empty() {
        let node = usize::from(rest[0]);
        let number = u32::from_be_bytes(rest[1..5].try_into().unwrap());
        let len = u32::from_be_bytes(rest[5..9].try_into().unwrap()) as usize;
        let whole = record(node, number, len);
        let at = bytes.len() - rest.len();
        let last = found.iter().next_back();
        assert!(
            rest.starts_with(&whole),
            "record {number} of node {node}, at {at} of {}, is torn; {} are whole, {last:?} the last",
            bytes.len(),
            found.len()
        );
        assert!(found.insert((node, number), len).is_none(), "record {number} is there twice");
        rest = &rest[whole.len()..];
    }
    found
}

fn length(chance: &mut Chance) -> usize {
    match chance.below(10) {
        0..7 => chance.below(60) as usize,
        7 | 8 => chance.below(6000) as usize,
        _ => chance.below(150_000) as usize,
    }
}

/// > O_APPEND: each write is there once and in one piece, up to the 1 MiB that the kernel sends at
/// > a time
///
/// Three nodes with two handles each; whatever is committed when, each record is there once.
#[test]
fn random_appenders_write_a_log() {
    for seed in 0..4u64 {
        println!("seed {seed}");
        run(async {
            let cluster = Cluster::new(3).await;
            let ino = cluster.nodes[0].create(cluster.bucket, "log", b"").await;
            cluster.level().await;
            let cluster = Arc::new(cluster);
            let written = Arc::new(Mutex::new(BTreeMap::new()));
            let mut tasks = Vec::new();
            for worker in 0..6 {
                let (cluster, written) = (Arc::clone(&cluster), Arc::clone(&written));
                tasks.push(tokio::spawn(async move {
                    let wrote = appender(&cluster, ino, worker, seed).await;
                    written.lock().extend(wrote);
                }));
            }
            for node in &cluster.nodes {
                tokio::spawn(Arc::clone(&node.vfs).run_upkeep());
            }
            for task in tasks {
                task.await.unwrap();
            }
            for node in &cluster.nodes {
                let bytes = node.read_whole(cluster.bucket, "log").await.unwrap();
                assert_eq!(records(&bytes), *written.lock());
            }
            cluster.assert_clean().await;
        });
    }
}

async fn appender(
    cluster: &Cluster,
    ino: Ino,
    worker: usize,
    seed: u64,
) -> BTreeMap<(usize, u32), usize> {
    let mut chance = Chance(seed * 100 + worker as u64);
    let node = &cluster.nodes[worker % 3];
    let mut wrote = BTreeMap::new();
    let mut handle = node.open(ino, APPEND).await.unwrap();
    for number in 0..15 {
        let len = length(&mut chance);
        append(node, handle, &record(worker, number, len)).await;
        wrote.insert((worker, number), len);
        match chance.below(6) {
            0 => node.vfs.fsync(handle).await.unwrap(),
            1 => {
                node.close(handle).await.unwrap();
                handle = node.open(ino, APPEND).await.unwrap();
            }
            2 => {
                // One's own records are seen whole, at whatever moment.
                // Read at once: what has no place yet may move between two reads.
                let seen = records(&node.vfs.read(handle, 0, 16 << 20).await.unwrap());
                assert!(wrote.keys().all(|key| seen.contains_key(key)), "own records are missing");
            }
            _ => tokio::task::yield_now().await,
        }
    }
    node.close(handle).await.unwrap();
    wrote
}

/// Other handles of one node write at offsets: each of both kinds has its effect.
#[test]
fn appends_and_plain_writes_take_turns() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", &[b'.'; 10]).await;
        cluster.level().await;
        let (plain, end) = (a.open(ino, RDWR).await.unwrap(), a.open(ino, APPEND).await.unwrap());
        let other = b.open(ino, APPEND).await.unwrap();
        append(b, other, b"B").await;
        a.vfs.write(&WHO, plain, 2, b"x").await.unwrap();
        append(a, end, b"A").await;
        a.vfs.write(&WHO, plain, 0, b"y").await.unwrap();
        append(a, end, b"C").await;
        b.vfs.fsync(other).await.unwrap();
        a.close(end).await.unwrap();
        a.close(plain).await.unwrap();
        b.close(other).await.unwrap();
        assert_eq!(b.read_whole(cluster.bucket, "f").await.unwrap(), b"y.x.......ABC");
        cluster.assert_clean().await;
    });
}

/// Where a kernel shows pages that lie elsewhere by now, it is told, the writer's own too.
#[test]
fn kernels_hear_that_appended_bytes_came_to_lie_elsewhere() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"0123").await;
        cluster.level().await;
        a.vfs.remember(WHO.origin, &a.vfs.getattr(ino).unwrap(), a.vfs.moves());
        let left = a.open(ino, APPEND).await.unwrap();
        let right = b.open(ino, APPEND).await.unwrap();
        a.vfs.write(&WHO, left, 4, b"left").await.unwrap();
        append(b, right, b"right").await;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&heard);
        a.vfs
            .hub
            .subscribe(Box::new(move |change, origin| sink.lock().push((change.clone(), origin))));
        b.close(right).await.unwrap();
        // Nothing looks at the file between the other's commit and ours.
        a.close(left).await.unwrap();
        assert!(heard.lock().contains(&(Change::Data(ino), 0)), "{:?}", heard.lock());
        let opened = a.vfs.open(&WHO, ino, RDWR).await.unwrap();
        assert!(!opened.keep_cache, "pages of the old place must go");
        a.close(opened.handle).await.unwrap();
        assert!(a.vfs.open(&WHO, ino, RDWR).await.unwrap().keep_cache);
    });
}

/// A log that two nodes write and one of them rotates.
#[test]
fn a_log_is_rotated_while_it_is_written() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "log", b"").await;
        cluster.level().await;
        let (left, right) =
            (a.open(ino, APPEND).await.unwrap(), b.open(ino, APPEND).await.unwrap());
        for number in 0..40 {
            append(a, left, &record(0, number, 3000)).await;
            append(b, right, &record(1, number, 3000)).await;
            if number == 20 {
                let (from, to) = ((cluster.bucket, &b"log"[..]), (cluster.bucket, &b"log.1"[..]));
                a.vfs.rename(&WHO, from, to, RenameMode::NoReplace).await.unwrap();
            }
            if number % 7 == 3 {
                b.vfs.fsync(right).await.unwrap();
            }
        }
        a.close(left).await.unwrap();
        b.close(right).await.unwrap();
        let bytes = a.read_whole(cluster.bucket, "log.1").await.unwrap();
        assert_eq!(records(&bytes).len(), 80);
        cluster.assert_clean().await;
    });
}

/// Many small durable appends of two nodes: the slot at the end gets crowded, and nobody fails.
#[test]
fn a_crowded_end_is_thinned_out() {
    run(async {
        let cluster = Cluster::new(2).await;
        let ino = cluster.nodes[0].create(cluster.bucket, "log", &record(9, 0, 20_000)).await;
        cluster.level().await;
        let mut handles = Vec::new();
        for node in &cluster.nodes {
            handles.push(node.open(ino, APPEND).await.unwrap());
        }
        for number in 0..1200 {
            let at = number as usize % 2;
            append(&cluster.nodes[at], handles[at], &record(at, number, 20)).await;
            cluster.nodes[at].vfs.fsync(handles[at]).await.unwrap();
        }
        for (node, handle) in cluster.nodes.iter().zip(handles) {
            node.close(handle).await.unwrap();
        }
        let bytes = cluster.nodes[1].read_whole(cluster.bucket, "log").await.unwrap();
        assert_eq!(records(&bytes).len(), 1201);
        cluster.assert_clean().await;
    });
}

/// An append that the file has no room for is refused, and nothing waits for its commit.
#[test]
fn an_append_beyond_the_largest_size_leaves_nothing_behind() {
    run(async {
        let cluster = Cluster::new(2).await;
        let a = &cluster.nodes[0];
        let ino = a.create(cluster.bucket, "f", b"start").await;
        let largest = AttrChange { size: Some(1 << 40), ..AttrChange::default() };
        a.vfs.setattr(&WHO, ino, largest).await.unwrap();
        let appender = a.open(ino, APPEND).await.unwrap();
        let writer = a.open(ino, RDWR).await.unwrap();
        let refused = a.vfs.write(&WHO, appender, 0, b"more").await;
        assert!(matches!(refused, Err(Error::FileTooLarge)));
        a.vfs.write(&WHO, writer, 0, b"START").await.unwrap();
        assert_eq!(a.vfs.read(writer, 0, 5).await.unwrap(), b"START");
        a.close(writer).await.unwrap();
        a.close(appender).await.unwrap();
        cluster.assert_clean().await;
    });
}
