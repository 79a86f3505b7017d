//! The thread that makes the table durable now and then, where only that survives a crash of the
//! process: a start then has little log to apply again.

use std::sync::Arc;

use parking_lot::Mutex;

use super::log::Log;
use super::raft::Machine;
use super::snapshotter::Schedule;
use crate::env::Worker;
use crate::error::Result;

pub struct Flusher {
    schedule: Arc<Schedule>,
    worker: Mutex<Worker>,
}

impl Flusher {
    pub fn start(schedule: Arc<Schedule>, machine: Arc<Machine>, log: Arc<Log>) -> Result<Self> {
        let asked = Arc::clone(&schedule);
        let flush = move || flush_if_due(&asked, &machine, &log);
        let worker = Worker::start("table-flush", flush)?;
        schedule.wake(worker.waker());
        Ok(Self { schedule, worker: Mutex::new(worker) })
    }

    pub fn stop(&self) {
        self.schedule.close();
        self.worker.lock().stop();
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.stop();
    }
}

fn flush_if_due(schedule: &Schedule, machine: &Machine, log: &Log) {
    if schedule.is_due() {
        let begun_at = log.appended();
        // The table on disk is never ahead of the log on disk.
        if let Err(error) = machine.table.flush_after(&mut || log.sync()) {
            log::error!("the metadata table could not be flushed: {error}");
        }
        schedule.done_at(begun_at);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::env::{RealDisk, SystemClock};
    use crate::meta::{EngineKind, Table};
    use crate::replication::log::LogOptions;
    use crate::replication::snapshot::Snapshots;

    fn open(dir: &Path) -> Table {
        Table::open(EngineKind::Redb, dir, 1 << 20).unwrap()
    }

    /// What is due is on disk when the thread is done with it: a copy of the file, as a crash of
    /// the process leaves it, has it.
    #[test]
    fn a_due_flush_makes_the_table_durable() {
        let dir = tempfile::tempdir().unwrap();
        let (table, copy) = (dir.path().join("table"), dir.path().join("copy"));
        let log = dir.path().join("log");
        fs::create_dir(&log).unwrap();
        let disk = Arc::new(RealDisk::new());
        let options = LogOptions { segment_bytes: 64 << 10, direct: false };
        Log::create(&*disk, &log, options).unwrap();
        let log = Log::open(disk.clone(), &log, options, None).unwrap();
        let snapshots = Snapshots::new(disk, dir.path().into(), Arc::new(SystemClock::new()));
        let machine =
            Machine::new(Arc::new(open(&table)), snapshots, Box::new(|_: &[_], _| {})).unwrap();
        machine.table.apply(&[], b"position".to_vec()).unwrap();

        let schedule = Schedule::new(1, 0);
        schedule.appended(1);
        let flusher = Flusher::start(Arc::clone(&schedule), Arc::new(machine), Arc::new(log));
        while schedule.is_due() {
            std::thread::yield_now();
        }
        fs::create_dir(&copy).unwrap();
        fs::copy(table.join("table.redb"), copy.join("table.redb")).unwrap();
        assert_eq!(open(&copy).applied().unwrap().unwrap(), b"position");
        flusher.unwrap().stop();
    }
}
