//! Locks between nodes: they exclude, they show what was written under them, and nobody keeps one
//! who is gone.

use std::sync::Arc;

use super::cluster::{Cluster, Node, RDWR, WHO, run};
use super::sessions::give_up;
use crate::error::Error;
use crate::meta::LockOwner;
use crate::vfs::{AttrChange, Caller, FileLock, LockKind, Locked};

fn lock(owner: u64, first: u64, last: u64, kind: LockKind) -> FileLock {
    FileLock { owner, first, last, kind, pid: 42 }
}

fn whole(owner: u64, kind: LockKind) -> FileLock {
    lock(owner, 0, u64::MAX, kind)
}

async fn try_lock(node: &Node, handle: u64, wanted: FileLock) -> Locked {
    node.vfs.set_lock(&WHO, handle, wanted, None).await.unwrap()
}

async fn wait_lock(node: &Node, handle: u64, wanted: FileLock) -> Locked {
    node.vfs.set_lock(&WHO, handle, wanted, Some(&|| false)).await.unwrap()
}

/// A file, and a handle of it on each node.
async fn opened(cluster: &Cluster) -> Vec<u64> {
    let ino = cluster.nodes[0].create(cluster.bucket, "f", b"0").await;
    cluster.level().await;
    let mut handles = Vec::new();
    for node in &cluster.nodes {
        handles.push(node.open(ino, RDWR).await.unwrap());
    }
    handles
}

/// > fcntl(2) (also F_OFD_SETLK) and flock(2) locks exclude between all nodes
#[test]
fn nodes_exclude_each_other() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        let (exclusive, shared) = (LockKind::Exclusive, LockKind::Shared);
        assert_eq!(try_lock(a, handles[0], lock(1, 0, 9, exclusive)).await, Locked::Granted);
        assert_eq!(try_lock(b, handles[1], lock(1, 5, 5, shared)).await, Locked::Taken);
        assert_eq!(try_lock(b, handles[1], lock(1, 10, 19, shared)).await, Locked::Granted);
        let found = b.vfs.get_lock(&WHO, handles[1], lock(1, 0, 99, shared)).await.unwrap();
        let expected = FileLock { owner: 0, first: 0, last: 9, kind: exclusive, pid: 0 };
        assert_eq!(found, Some(expected));
        let own = a.vfs.get_lock(&WHO, handles[0], lock(2, 0, 5, shared)).await.unwrap();
        assert_eq!(own.unwrap().pid, 42, "a process of this node is named");
        let free = a.vfs.get_lock(&WHO, handles[0], lock(1, 0, 5, shared)).await.unwrap();
        assert_eq!(free, None, "nobody is in its own way");
        // A close gives up what the process has, here of one owner.
        a.vfs.drop_locks(&WHO, handles[0], 1).await;
        assert_eq!(try_lock(b, handles[1], lock(1, 0, 9, exclusive)).await, Locked::Granted);
        assert_eq!(try_lock(a, handles[0], lock(1, 0, 0, shared)).await, Locked::Taken);
        // A mount that is gone unlocks nothing by itself.
        b.vfs.forget_mount(WHO.origin);
        b.vfs.upkeep_round().await.unwrap();
        assert_eq!(try_lock(a, handles[0], whole(1, exclusive)).await, Locked::Granted);
        let other_mount = Caller { origin: 2, ..WHO };
        let same = a.vfs.set_lock(&other_mount, handles[0], whole(1, shared), None).await.unwrap();
        assert_eq!(same, Locked::Taken, "the same number of another kernel is another owner");
    });
}

/// > What was written under a lock is seen under the next
///
/// A counter in a file, raised by all nodes under a lock: none is lost, without any close.
#[test]
fn what_is_written_under_a_lock_is_seen_by_the_next() {
    run(async {
        let cluster = Arc::new(Cluster::new(3).await);
        let handles = Arc::new(opened(&cluster).await);
        let mut tasks = Vec::new();
        for worker in 0..6u64 {
            let (cluster, handles) = (Arc::clone(&cluster), Arc::clone(&handles));
            tasks.push(tokio::spawn(async move {
                let at = worker as usize % 3;
                let (node, handle) = (&cluster.nodes[at], handles[at]);
                for _ in 0..10 {
                    let wanted = whole(worker, LockKind::Exclusive);
                    assert_eq!(wait_lock(node, handle, wanted).await, Locked::Granted);
                    let bytes = node.read_all(handle).await.unwrap();
                    let count: u64 = std::str::from_utf8(&bytes).unwrap().parse().unwrap();
                    tokio::task::yield_now().await;
                    let next = (count + 1).to_string();
                    node.vfs.write(&WHO, handle, 0, next.as_bytes()).await.unwrap();
                    try_lock(node, handle, whole(worker, LockKind::Unlock)).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(cluster.nodes[2].read_whole(cluster.bucket, "f").await.unwrap(), b"60");
    });
}

#[test]
fn a_waiter_that_is_gone_stops_waiting() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        try_lock(a, handles[0], whole(1, LockKind::Exclusive)).await;
        let wanted = whole(1, LockKind::Shared);
        let given_up = b.vfs.set_lock(&WHO, handles[1], wanted, Some(&|| true)).await.unwrap();
        assert_eq!(given_up, Locked::GivenUp);
    });
}

/// > A node that lost its session lost its locks: writes of files that were locked, through handles
/// > of that time, fail with EIO, until their process closes or unlocks all of the file
///
/// The lock of a node that was given up is another's by now: what still comes of those who relied
/// on it must not reach the file.
#[test]
fn a_lost_lock_stops_the_writes_that_relied_on_it() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        let wanted = whole(1, LockKind::Exclusive);
        assert_eq!(try_lock(b, handles[1], wanted).await, Locked::Granted);
        let before = b.replica.session();
        b.member.cut(true);
        assert_eq!(try_lock(a, handles[0], wanted).await, Locked::Taken);
        a.replica.end_session_of(b.replica.node()).await.unwrap();
        assert_eq!(try_lock(a, handles[0], wanted).await, Locked::Granted);
        b.member.cut(false);
        cluster.level().await;
        while b.replica.session() == before {
            tokio::task::yield_now().await;
        }
        let late = b.vfs.write(&WHO, handles[1], 0, b"late").await;
        assert!(matches!(late, Err(Error::NoQuorum(_))), "{late:?}");
        b.vfs.drop_locks(&WHO, handles[1], 1).await;
        b.vfs.write(&WHO, handles[1], 0, b"free").await.unwrap();
        assert_eq!(try_lock(b, handles[1], wanted).await, Locked::Taken);
        assert_eq!(try_lock(a, handles[0], whole(1, LockKind::Unlock)).await, Locked::Granted);
        assert_eq!(try_lock(b, handles[1], wanted).await, Locked::Granted);
    });
}

/// Who lost a lock and locked something else since, or tried to, could write again as if it had both.
#[test]
fn another_lock_does_not_hide_that_one_was_lost() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        let ino = b.vfs.handles.file(handles[1]).unwrap().node.ino;
        let exclusive = |first, last| lock(1, first, last, LockKind::Exclusive);
        assert_eq!(try_lock(b, handles[1], exclusive(0, 9)).await, Locked::Granted);
        give_up(&cluster, 1).await;
        assert_eq!(try_lock(a, handles[0], exclusive(0, 9)).await, Locked::Granted);
        assert_eq!(try_lock(b, handles[1], exclusive(20, 29)).await, Locked::Granted);
        let target = (handles[1], 0);
        let cut = AttrChange { size: Some(0), handle: Some(handles[1]), ..AttrChange::default() };
        for late in [
            b.vfs.write(&WHO, handles[1], 0, b"late").await,
            b.vfs.fallocate(&WHO, handles[1], 0, 9, 0).await,
            b.vfs.copy_file_range(&WHO, (handles[1], 0), target, 1).await.map(|_| ()),
            b.vfs.setattr(&WHO, ino, cut).await.map(|_| ()),
        ] {
            assert!(matches!(late, Err(Error::NoQuorum(_))), "{late:?}");
        }
        // It starts anew when it has given up all it believes to have.
        assert_eq!(try_lock(b, handles[1], whole(1, LockKind::Unlock)).await, Locked::Granted);
        assert_eq!(try_lock(b, handles[1], exclusive(20, 29)).await, Locked::Granted);
        b.vfs.write(&WHO, handles[1], 20, b"free").await.unwrap();
    });
}

/// A close could not give its lock up during an outage. Who has the owner's number since and locked anew lost that
/// lock to the next round of upkeep.
#[test]
fn what_a_close_left_over_takes_no_later_lock_along() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        let ino = b.vfs.handles.file(handles[1]).unwrap().node.ino;
        let wanted = whole(1, LockKind::Exclusive);
        assert_eq!(
            try_lock(b, handles[1], lock(1, 0, 9, LockKind::Exclusive)).await,
            Locked::Granted
        );
        let owner = LockOwner { mount: WHO.origin, number: 1 };
        b.vfs.locks.left_over.lock().insert((ino, owner));
        let later = lock(1, 20, 29, LockKind::Exclusive);
        assert_eq!(try_lock(b, handles[1], later).await, Locked::Granted);
        b.vfs.upkeep_round().await.unwrap();
        assert_eq!(try_lock(a, handles[0], wanted).await, Locked::Taken);
        // What the close was to give up is free.
        let before = lock(1, 0, 9, LockKind::Exclusive);
        assert_eq!(try_lock(a, handles[0], before).await, Locked::Granted);
    });
}

/// The kernel gives the number of a closed file to the next one before it tells of the close.
#[test]
fn a_late_release_takes_nothing_from_who_has_the_number_now() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let handles = opened(&cluster).await;
        let ino = a.vfs.handles.file(handles[0]).unwrap().node.ino;
        let mut old = handles[0];
        for round in 0..40 {
            let new = a.open(ino, RDWR).await.unwrap();
            assert_eq!(try_lock(a, old, whole(7, LockKind::Exclusive)).await, Locked::Granted);
            assert_eq!(try_lock(a, old, whole(7, LockKind::Unlock)).await, Locked::Granted);
            let lock = whole(7, LockKind::Exclusive);
            let (_, locked) = match round % 2 {
                0 => tokio::join!(a.vfs.release(old), try_lock(a, new, lock)),
                _ => {
                    let (locked, ()) = tokio::join!(try_lock(a, new, lock), a.vfs.release(old));
                    ((), locked)
                }
            };
            assert_eq!(locked, Locked::Granted);
            let other = whole(8, LockKind::Exclusive);
            assert_eq!(try_lock(b, handles[1], other).await, Locked::Taken, "round {round}");
            assert_eq!(try_lock(a, new, whole(7, LockKind::Unlock)).await, Locked::Granted);
            assert_eq!(try_lock(b, handles[1], other).await, Locked::Granted, "round {round}");
            let free = whole(8, LockKind::Unlock);
            assert_eq!(try_lock(b, handles[1], free).await, Locked::Granted);
            old = new;
        }
    });
}
