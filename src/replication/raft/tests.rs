//! openraft's own suite for log stores and state machines, on ours.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use openraft::testing::{StoreBuilder, Suite};

use super::*;
use crate::env::{Disk, SimClock, SimDisk};
use crate::meta::Table;
use crate::replication::log::{Log, LogOptions};
use crate::replication::snapshot::Snapshots;
use crate::replication::types::{StorageError, Types};

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
        Ok(((), LogStore::new(log, alone), state_machine))
    }
}

#[test]
fn openraft_is_content_with_every_answer() {
    for alone in [false, true] {
        let disk = SimDisk::new();
        Suite::test_all(OnSimDisk { disk, stores: AtomicU32::new(0), alone }).unwrap();
    }
}
