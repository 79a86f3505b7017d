//! Snapshots are made, the log is cut, and what comes back from them is what was there.

use std::sync::Arc;

use super::cluster::Cluster;
use super::*;
use crate::meta::SetAttr;
use crate::replication::snapshotter::spacing;

/// Snapshots after little log.
fn frequent(engine: Options) -> Options {
    Options {
        log: LogOptions { segment_bytes: 32 << 10, direct: false },
        snapshot_log_bytes: 64 << 10,
        ..engine
    }
}

/// Files that come, change and go, so that records of all kinds do.
async fn churn(replica: &Replica, parent: Ino, from: u64, to: u64, wait: Wait) -> Result<()> {
    for number in from..to {
        let name = format!("file-{number:05}-{}", "x".repeat(100));
        let made = replica.propose(make(parent, &name, FileKind::Regular), wait, 0).await?;
        let Outcome::Node { ino, .. } = made else { panic!("{made:?}") };
        let attributes = SetAttr {
            ino,
            mode: Some(Mode::new(number as u32 & 0o777)),
            uid: None,
            gid: None,
            atime: None,
            mtime: None,
            strip_privilege: false,
            at: Timestamp::default(),
        };
        replica.propose(Mutation::SetAttr(attributes), wait, 0).await?;
        if number % 3 == 0 {
            let name = FileName::new(name.as_bytes()).unwrap();
            let at = Timestamp::default();
            let unlink = Mutation::Unlink { parent, name, held: false, at };
            replica.propose(unlink, wait, 0).await?;
        }
    }
    Ok(())
}

/// Waits until two snapshots are there and the log was cut.
async fn wait_until_cut(replica: &Replica, parent: Ino) {
    let mut number = 1_000_000;
    while replica.log.ends().purged.is_none() {
        churn(replica, parent, number, number + 10, Wait::Applied).await.unwrap();
        number += 10;
    }
}

/// A snapshot of gigabytes was written with each 256 MiB of log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_larger_the_table_the_more_log_between_snapshots() {
    let (_disk, replica) = simulated(&memory()).await;
    let machine = &replica.machine;
    assert_eq!(spacing(7, machine).unwrap(), 7, "there is none");
    let parent = make_bucket(&replica, "bucket", Wait::Applied).await;
    churn(&replica, parent, 0, 100, Wait::Applied).await.unwrap();
    machine.take_snapshot(&replica.log, &|| true).unwrap();
    let bytes = machine.newest_snapshot().unwrap().unwrap().1.bytes;
    assert!(bytes > 10_000);
    assert_eq!(spacing(7, machine).unwrap(), bytes / 4);
    assert_eq!(spacing(bytes, machine).unwrap(), bytes);
    replica.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot_and_log_make_the_same_table_again() {
    let options = frequent(memory());
    let (disk, replica) = simulated(&options).await;
    let parent = make_bucket(&replica, "bucket", Wait::Applied).await;
    wait_until_cut(&replica, parent).await;
    churn(&replica, parent, 0, 50, Wait::Applied).await.unwrap();
    let status = replica.status();
    assert_eq!(status.snapshots.len(), 2, "{status:?}");
    assert!(status.log_bytes < 1 << 20, "{status:?}");
    replica.sync().await.unwrap();
    let before = records(&replica);
    drop(replica);

    for (stop, disk) in [("kill", disk.kill()), ("power cut", disk.crash(3))] {
        let boot_id = stop.to_string();
        let replica = reopen(&Options { boot_id, ..options.clone() }, &disk).await.unwrap();
        let (mut after, mut before) = (records(&replica), before.clone());
        // What opening changes by itself: sessions, positions, counters.
        for records in [&mut before, &mut after] {
            records.retain(|(key, _)| !b"SAsnr".contains(&key[0]));
        }
        assert_eq!(after.len(), before.len(), "{stop}");
        assert!(after == before, "{stop}");
        make_bucket(&replica, "after", Wait::Durable).await;
    }
}

/// A node that proposes nothing itself makes snapshots, too, and lets go of its log.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_only_follows_cuts_its_log() {
    let cluster = Cluster::of_with(3, frequent(memory()), clock()).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let replica = cluster.nodes[leader].replica();
    let parent = make_bucket(replica, "bucket", Wait::Durable).await;
    churn(replica, parent, 0, 1_500, Wait::Applied).await.unwrap();
    for node in &cluster.nodes {
        let log = &node.replica().log;
        let is_cut = async {
            while log.ends().purged.is_none() || log.bytes() > 384 << 10 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let cut = tokio::time::timeout(Duration::from_secs(20), is_cut).await;
        assert!(cut.is_ok(), "node {}: {:?}, {} bytes", node.id, log.ends(), log.bytes());
    }
}

/// A snapshot that rots is not believed: the older one and more log give the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_snapshot_is_passed_over() {
    let options = frequent(memory());
    let (disk, replica) = simulated(&options).await;
    let parent = make_bucket(&replica, "bucket", Wait::Applied).await;
    wait_until_cut(&replica, parent).await;
    let names = replica.table().view().children(parent, None, usize::MAX).unwrap();
    replica.close().await.unwrap();
    let found = replica.machine.snapshots.list().unwrap();
    drop(replica);
    assert_eq!(found.len(), 2);
    disk.flip_bit(&found[0].path, 5000).unwrap();

    let replica = reopen(&options, &disk).await.unwrap();
    assert_eq!(replica.table().view().children(parent, None, usize::MAX).unwrap(), names);
    drop(replica);
    disk.flip_bit(&found[1].path, 5000).unwrap();
    let error = reopen(&options, &disk).await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("no snapshot is whole"), "{error}");
    disk.flip_bit(&found[0].path, 5000).unwrap();
    reopen(&options, &disk).await.unwrap();
}

/// The power goes at every sync while snapshots are made and the log is cut: what was acknowledged
/// as durable is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sync_of_snapshots_and_cuts_is_a_point_to_stop() {
    let options = frequent(memory());
    let (mut stop, mut cuts) = (0, 0);
    loop {
        let (disk, replica) = simulated(&options).await;
        let parent = make_bucket(&replica, "bucket", Wait::Durable).await;
        // Without syncs of their own, the work's are those of snapshots, cuts and segments.
        churn(&replica, parent, 0, 100, Wait::Applied).await.unwrap();
        replica.sync().await.unwrap();
        let promised = replica.table().view().children(parent, None, usize::MAX).unwrap();
        disk.stop_after_syncs(stop);
        let work = churn(&replica, parent, 100, 500, Wait::Applied).await;
        let done = work.is_ok() && replica.sync().await.is_ok();
        let everything = replica.table().view().children(parent, None, usize::MAX).unwrap();
        cuts += u32::from(replica.log.ends().purged.is_some());
        let disk = disk.crash(stop);
        drop(replica);

        let boot_id = format!("after {stop}");
        let reopened = reopen(&Options { boot_id, ..options.clone() }, &disk).await;
        let replica = reopened.unwrap_or_else(|error| panic!("sync {stop}: {error}"));
        let found = replica.table().view().children(parent, None, usize::MAX).unwrap();
        let kept = if done { &everything } else { &promised };
        let lost = kept.iter().filter(|entry| !found.contains(entry)).count();
        assert_eq!(lost, 0, "sync {stop}: {lost} of {} are gone", kept.len());
        make_bucket(&replica, "after", Wait::Durable).await;
        if done {
            break;
        }
        stop += 1;
    }
    assert!(stop > 10 && cuts > 0, "{stop} sync points, {cuts} with the log cut");
}

/// A disk without room for a snapshot costs the snapshot, not the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_a_snapshot_only() {
    let options = frequent(memory());
    let (disk, replica) = simulated(&options).await;
    let parent = make_bucket(&replica, "bucket", Wait::Applied).await;
    replica.log.settle();
    disk.set_capacity(110 << 10);
    let mut number = 0;
    while churn(&replica, parent, number, number + 10, Wait::Applied).await.is_ok() {
        number += 10;
    }
    let full = replica.propose(bucket("full"), Wait::Applied, 0).await;
    disk.set_capacity(1 << 30);
    assert!(!matches!(full, Err(crate::error::Error::DiskFailed(_))), "{full:?}");
    while replica.propose(bucket("room"), Wait::Durable, 0).await.is_err() {}
    wait_until_cut(&replica, parent).await;
    let replica: Arc<Replica> = replica;
    assert_eq!(replica.status().disk_failed, None);
}

/// It would take the room that the log needs: writers were refused while it was tried, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_without_room_is_not_begun() {
    let (disk, replica) = simulated(&memory()).await;
    let parent = make_bucket(&replica, "bucket", Wait::Applied).await;
    churn(&replica, parent, 0, 500, Wait::Applied).await.unwrap();
    replica.sync().await.unwrap();
    let take = || replica.machine.take_snapshot(&replica.log, &|| true);
    take().unwrap();
    replica.log.settle();
    let space = disk.space(&replica.dir.root).unwrap();
    // The next one is as large, and would leave nothing.
    disk.set_capacity(space.total - space.available + replica.status().snapshots[0].bytes);
    let calls = disk.calls();
    assert!(matches!(take(), Err(crate::error::Error::NoSpace)));
    assert!(disk.calls() - calls < 10, "{} calls", disk.calls() - calls);
    disk.set_capacity(1 << 40);
    take().unwrap();
}
