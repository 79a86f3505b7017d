//! openraft's own suite for log stores and state machines, on ours; and when others' answers count.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};

use super::*;
use crate::env::{Disk, SimClock, SimDisk, SimThreads};
use crate::meta::{Table, codec};
use crate::replication::log::{Log, LogOptions};
use crate::replication::peers::{Answer, Denied, Kind, Transport};
use crate::replication::snapshot::Snapshots;
use crate::replication::types::{Entry, LogId, StorageError, Types};
use crate::types::NodeId;

/// Each store has its directory of one disk.
struct OnSimDisk {
    disk: SimDisk,
    stores: AtomicU32,
    alone: bool,
}

impl StoreBuilder<Types, LogStore, StateMachine> for OnSimDisk {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError> {
        let disk = Arc::new(self.disk.clone());
        let number = self.stores.fetch_add(1, Ordering::Relaxed);
        let root = Path::new("/").join(number.to_string());
        let (log_dir, snapshot_dir) = (root.join("log"), root.join("snapshots"));
        disk.create_dir_all(&log_dir).unwrap();
        disk.create_dir_all(&snapshot_dir).unwrap();
        let options = LogOptions { segment_bytes: 64 << 10, direct: false };
        Log::create(&*disk, &log_dir, options).unwrap();
        let log = Arc::new(Log::open(disk.clone(), &log_dir, options, None).unwrap());
        let clock = Arc::new(SimClock::new(1));
        let snapshots = Snapshots::new(disk, snapshot_dir, clock);
        let table = Arc::new(Table::memory().unwrap());
        let machine = Arc::new(Machine::new(table, snapshots, Box::new(|_, _| {})).unwrap());
        let alone = Arc::new(Alone::default());
        alone.set(self.alone);
        let state_machine = StateMachine::new(machine, Arc::clone(&log));
        Ok(((), LogStore::new(1, log, alone, []), state_machine))
    }
}

#[test]
fn openraft_is_content_with_every_answer() {
    for alone in [false, true] {
        let disk = SimDisk::new();
        Suite::test_all(OnSimDisk { disk, stores: AtomicU32::new(0), alone }).unwrap();
    }
}

/// Another member, always content with everything at once.
struct Content;

impl Transport for Content {
    fn call(&self, _: NodeId, _: Kind, _: Bytes, _: Duration) -> Answer {
        let answer: Result<AppendEntriesResponse<NodeId>, Denied> =
            Ok(AppendEntriesResponse::Success);
        let answer = codec::encode_message(&answer).map(Bytes::from);
        Box::pin(std::future::ready(answer))
    }

    fn learn(&self, _: NodeId, _: &str) {}
}

fn blank(index: u64) -> Entry {
    let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
    Entry { log_id, payload: EntryPayload::Blank }
}

async fn ask_content(log: &Arc<Log>, disk: &SimDisk) -> Result<(), String> {
    let (transport, disk): (Arc<dyn Transport>, Arc<dyn Disk>) =
        (Arc::new(Content), Arc::new(disk.clone()));
    let mut network = Network::new(&transport, &disk, log);
    let mut link = network.new_client(2, &BasicNode::new("")).await;
    let request = AppendEntriesRequest {
        vote: openraft::Vote::new_committed(1, 1),
        prev_log_id: None,
        entries: log.read(0..u64::MAX).unwrap(),
        leader_commit: None,
    };
    let asked = link.append_entries(request, RPCOption::new(Duration::from_secs(9))).await;
    asked.map(drop).map_err(|error| error.to_string())
}

/// What openraft takes for synced is not yet; what it hears from others counts when it is.
#[test]
fn another_members_word_counts_after_the_own_sync() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let _threads = SimThreads::new(1);
    runtime.block_on(async {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/log")).unwrap();
        Log::create(&disk, Path::new("/log"), LogOptions::DEFAULT).unwrap();
        let disk_of_log = Arc::new(disk.clone());
        let log = Log::open(disk_of_log, Path::new("/log"), LogOptions::DEFAULT, None).unwrap();
        let log = Arc::new(log);
        let record = log.append(vec![blank(0)]).unwrap();
        assert!(log.synced() < record);
        ask_content(&log, &disk).await.unwrap();
        assert!(log.synced() >= record);

        log.append(vec![blank(1)]).unwrap();
        disk.fail_sync(1);
        let error = ask_content(&log, &disk).await.unwrap_err();
        assert!(error.contains("disk"), "{error}");
        let error = ask_content(&log, &disk).await.unwrap_err();
        assert!(error.contains("disk"), "nobody is asked any more: {error}");
    });
}
