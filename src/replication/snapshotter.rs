//! The thread that makes snapshots when enough log was written, and then lets the log be cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::LogIdOptionExt;
use parking_lot::{Condvar, Mutex};

use super::log::Log;
use super::raft::{Machine, RaftHost};
use super::snapshot::Head;
use super::types::Raft;
use crate::error::{Error, Result};

/// How long openraft may take to hear of a snapshot.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// When something that depends on the log's growth is due, seen from where the log is written.
pub struct Schedule {
    /// Bytes of log between two times.
    every: u64,
    /// Of [`Log::appended`].
    next_at: AtomicU64,
    wanted: Mutex<bool>,
    changed: Condvar,
    closing: AtomicBool,
}

impl Schedule {
    /// `pending`: bytes of log since the last time, at a start.
    pub fn new(every: u64, pending: u64) -> Arc<Self> {
        Arc::new(Self {
            every,
            next_at: AtomicU64::new(every.saturating_sub(pending)),
            wanted: Mutex::new(false),
            changed: Condvar::new(),
            closing: AtomicBool::new(false),
        })
    }

    /// Called after each commit with [`Log::appended`].
    pub fn appended(&self, bytes: u64) {
        if bytes >= self.next_at.load(Ordering::Relaxed) {
            *self.wanted.lock() = true;
            self.changed.notify_one();
        }
    }

    #[cfg(test)]
    pub fn is_due(&self) -> bool {
        *self.wanted.lock()
    }

    fn is_open(&self) -> bool {
        !self.closing.load(Ordering::Acquire)
    }

    /// Waits until it is due; false at the end.
    pub fn wait(&self) -> bool {
        let mut wanted = self.wanted.lock();
        while !*wanted && self.is_open() {
            self.changed.wait(&mut wanted);
        }
        self.is_open()
    }

    /// Done with what there was when [`Log::appended`] was `begun_at`.
    pub fn done_at(&self, begun_at: u64) {
        self.done(begun_at + self.every);
    }

    fn done(&self, next_at: u64) {
        self.next_at.store(next_at, Ordering::Relaxed);
        *self.wanted.lock() = false;
    }

    pub fn close(&self) {
        let wanted = self.wanted.lock();
        self.closing.store(true, Ordering::Release);
        drop(wanted);
        self.changed.notify_all();
    }
}

pub struct Snapshotter {
    schedule: Arc<Schedule>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Snapshotter {
    pub fn start(
        schedule: Arc<Schedule>,
        host: &RaftHost,
        machine: Arc<Machine>,
        log: Arc<Log>,
    ) -> Result<Self> {
        let worker = Worker {
            schedule: Arc::clone(&schedule),
            raft: host.raft().clone(),
            runtime: host.handle().clone(),
            machine,
            log,
        };
        let thread = std::thread::Builder::new()
            .name("snapshots".into())
            .spawn(move || worker.run())
            .map_err(|error| Error::io("starting the snapshot thread", error))?;
        Ok(Self { schedule, thread: Mutex::new(Some(thread)) })
    }

    /// Breaks off what is under way and stops.
    pub fn stop(&self) {
        self.schedule.close();
        if let Some(thread) = self.thread.lock().take() {
            // With panic = "abort" a thread that can be joined did not panic.
            let _ = thread.join();
        }
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    schedule: Arc<Schedule>,
    raft: Raft,
    runtime: tokio::runtime::Handle,
    machine: Arc<Machine>,
    log: Arc<Log>,
}

impl Worker {
    fn run(&self) {
        while self.schedule.wait() {
            let begun_at = self.log.appended();
            let made = self.machine.take_snapshot(&self.log, &|| self.schedule.is_open());
            let next_in = match made.and_then(|head| self.tell(&head)) {
                Ok(()) => self.schedule.every,
                Err(Error::ShuttingDown) => return,
                Err(error) => {
                    log::error!("no snapshot of the metadata could be made: {error}");
                    self.schedule.every / 4
                }
            };
            self.schedule.done(begun_at + next_in);
        }
    }

    /// Lets openraft know, and forget the log that the older of two snapshots has.
    fn tell(&self, head: &Head) -> Result<()> {
        let told = async {
            self.machine.announce();
            let stopped = |_| Error::ShuttingDown;
            self.raft.trigger().snapshot().await.map_err(stopped)?;
            let mut metrics = self.raft.metrics();
            let known = metrics.wait_for(|metrics| metrics.snapshot >= head.applied.last);
            match tokio::time::timeout(TOLD_WITHIN, known).await {
                Ok(known) => known.map_err(|_| Error::ShuttingDown)?,
                Err(_) => return Err(Error::Timeout("openraft did not take the snapshot")),
            };
            match self.machine.purgeable()? {
                Some(index) if Some(index) > self.log.ends().purged.index() => {
                    self.raft.trigger().purge_log(index).await.map_err(|_| Error::ShuttingDown)
                }
                _ => Ok(()),
            }
        };
        self.runtime.block_on(told)
    }
}
