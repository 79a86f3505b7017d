//! A member that was away for so long that only a snapshot helps: it gets one, whatever stops it
//! while it takes that over.

use std::sync::Arc;

use super::cluster::{Cluster, large_directory};
use super::*;
use crate::env::DiskFile;
use crate::meta::{Table, codec};
use crate::replication::log::Log;
use crate::replication::snapshot::Snapshots;
use crate::replication::start::Starter;
use crate::replication::types::{AppliedState, Entry, LogId};

/// A cluster whose log begins behind what one of its nodes, which is down, has.
struct Away {
    cluster: Cluster,
    leader: usize,
    away: usize,
}

impl Away {
    async fn new() -> Self {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let away = (leader + 1) % 3;
        cluster.nodes[away].kill();
        let replica = Arc::clone(cluster.nodes[leader].replica());
        for number in 0..100 {
            make_bucket(&replica, &format!("bucket-{number:03}"), Wait::Applied).await;
        }
        let parent = make_bucket(&replica, "large", Wait::Applied).await;
        for number in 0..10 {
            replica.propose(large_directory(parent, number), Wait::Applied, 0).await.unwrap();
        }
        // Twice, for the log is cut behind the older one.
        for name in ["one", "two"] {
            replica.machine.take_snapshot(&replica.log, &|| true).unwrap();
            make_bucket(&replica, name, Wait::Durable).await;
        }
        cluster.purge(&replica).await;
        Self { cluster, leader, away }
    }

    fn leader(&self) -> &Replica {
        self.cluster.nodes[self.leader].replica()
    }

    /// Starts the node on its disk; it has everything soon.
    async fn comes_back(&mut self) {
        self.cluster.nodes[self.away].start().await;
        let returned = self.cluster.nodes[self.away].replica();
        returned.barrier().await.unwrap();
        assert_eq!(records(returned).len(), records(self.leader()).len());
        make_bucket(returned, "after", Wait::Durable).await;
        assert_eq!(returned.status().disk_failed, None);
    }

    /// Starts the node on a copy of its disk and lets go of it at `end`, or when it serves. Says
    /// whether it served.
    async fn begins(&self, disk: &SimDisk, end: impl Future<Output = ()>) -> bool {
        let (options, on) = (self.cluster.nodes[self.away].options.clone(), disk.clone());
        let mut opening = tokio::spawn(async move { reopen(&options, &on).await.map(drop) });
        tokio::select! {
            opened = &mut opening => return opened.unwrap().is_ok(),
            () = end => {}
        }
        opening.abort();
        // It has ended when this says so.
        matches!(opening.await, Ok(Ok(())))
    }
}

/// Opens the store as far as it goes without the others.
fn opens(disk: &SimDisk, options: &Options) -> Result<(Arc<Log>, Option<LogId>)> {
    let dir = StoreDir::new(Arc::new(disk.clone()), options);
    let clock = clock();
    let starter = Starter { dir: &dir, options, clock: &clock, progress: &|_| {} };
    let opened = starter.open(Box::new(|_: &[_], _| {}))?;
    Ok((opened.log, opened.machine.last()))
}

/// > A node that was away for longer than the log reaches back gets a snapshot
///
/// A member whose log reaches back too far for the others gets a snapshot, and goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_was_away_for_long_gets_a_snapshot() {
    Away::new().await.comes_back().await;
}

/// The power goes at every sync of a start that takes over a snapshot: the log may be forgotten before
/// the table is replaced, and the store opens all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_can_be_cut_off_anywhere() {
    let mut away = Away::new().await;
    let options = away.cluster.nodes[away.away].options.clone();
    let kept = away.cluster.nodes[away.away].disk.kill();
    let before = opens(&kept.kill(), &options).unwrap().1;
    let (mut stop, mut taken) = (0, 0);
    loop {
        let disk = kept.kill();
        disk.stop_after_syncs(stop);
        let stopped = async {
            while disk.syncs() <= stop {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let served = away.begins(&disk, stopped).await;
        for disk in [disk.kill(), disk.crash(stop)] {
            let options = Options { boot_id: format!("boot-{stop}"), ..options.clone() };
            let (_, last) = opens(&disk, &options).unwrap_or_else(|error| {
                panic!("after sync {stop} it does not open: {error}");
            });
            taken += u32::from(last > before);
        }
        if served {
            break;
        }
        stop += 1;
    }
    assert!(stop > 10 && taken > 4, "{stop} sync points, {taken} with the snapshot");
    away.cluster.nodes[away.away].disk = kept.kill();
    away.comes_back().await;
}

/// There is no room to receive a snapshot, or for a copy of it: it comes when there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_waits_for_room() {
    for percent in [50, 150] {
        let mut away = Away::new().await;
        let bytes = away.leader().machine.snapshots.list().unwrap()[0].bytes;
        let disk = away.cluster.nodes[away.away].disk.kill();
        let space = disk.space(std::path::Path::new("/")).unwrap();
        let used = space.total - space.available;
        disk.set_capacity(used + (64 << 10) + bytes * percent / 100);
        away.begins(&disk, tokio::time::sleep(Duration::from_secs(4))).await;
        let options = &away.cluster.nodes[away.away].options;
        opens(&disk.kill(), options).unwrap();
        disk.set_capacity(1 << 40);
        away.cluster.nodes[away.away].disk = disk.kill();
        away.comes_back().await;
    }
}

/// A body that has rotted where it comes from is not taken over: the node keeps what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_that_is_bad_changes_nothing() {
    let mut away = Away::new().await;
    let found = away.leader().machine.snapshots.list().unwrap().remove(0);
    let source = &away.cluster.nodes[away.leader].disk;
    source.flip_bit(&found.path, 8 * 3_000).unwrap();
    let disk = away.cluster.nodes[away.away].disk.kill();
    away.begins(&disk, tokio::time::sleep(Duration::from_secs(4))).await;
    let options = away.cluster.nodes[away.away].options.clone();
    opens(&disk.kill(), &options).unwrap();
    source.flip_bit(&found.path, 8 * 3_000).unwrap();
    away.cluster.nodes[away.away].disk = disk.kill();
    away.comes_back().await;
}

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, 1), index)
}

/// A table that came to `last`, as a snapshot in the store's directory.
fn leave_snapshot(disk: &SimDisk, options: &Options, log: &Log, last: LogId) {
    let table = Table::memory().unwrap();
    let state = AppliedState { last: Some(last), ..AppliedState::default() };
    table.apply(&[], codec::encode(&state).unwrap()).unwrap();
    let (on, dir) = (Arc::new(disk.clone()), options.data_dir.join("snapshots"));
    Snapshots::new(on, dir, clock()).take(&table, log, &|| true).unwrap();
}

/// The node stopped between a snapshot's name and the end of the log before it. What the log has there
/// was never committed: it must not be told to others one day.
#[tokio::test]
async fn a_log_that_does_not_lead_to_the_snapshot_is_forgotten() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    drop(replica);
    let disk = disk.kill();
    let on: Arc<dyn Disk> = Arc::new(disk.clone());
    let log = Log::open(on, &options.data_dir.join("log"), options.log, None).unwrap();
    let (next, blank) = (log.ends().last.unwrap().index + 1, openraft::EntryPayload::Blank);
    let entry = |index| Entry { log_id: id(9, index), payload: blank.clone() };
    log.append((next..next + 50).map(entry).collect()).unwrap();
    leave_snapshot(&disk, &options, &log, id(8, next + 20));
    drop(log);
    for _ in 0..2 {
        let (log, last) = opens(&disk, &options).unwrap();
        assert_eq!(last, Some(id(8, next + 20)));
        assert_eq!((log.ends().purged, log.ends().last), (last, last));
    }
}

/// A snapshot that goes no further than the log says what is committed; one that is bad goes away.
#[tokio::test]
async fn a_snapshot_beyond_the_table_is_used_or_removed() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    let last = replica.machine.last().unwrap();
    let log = Arc::clone(&replica.log);
    leave_snapshot(&disk, &options, &log, id(99, last.index + 1_000));
    let path = options.data_dir.join(format!("snapshots/{:020}.snap", last.index + 1_000));
    let file: Arc<dyn DiskFile> = disk.open(&path, crate::env::Access::Write, false).unwrap();
    file.write_at(&[7; 64], 64).unwrap();
    drop((replica, log));
    let disk = disk.kill();
    let (_, found) = opens(&disk, &options).unwrap();
    assert_eq!(found, Some(last));
    assert!(disk.open(&path, crate::env::Access::Read, false).is_err());
}
