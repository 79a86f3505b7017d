//! The thread that makes snapshots when enough log was written, and then lets the log be cut.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::LogIdOptionExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::log::Log;
use super::raft::{Machine, RaftHost};
use super::snapshot::Head;
use super::types::Raft;
use crate::env::{Waker, Worker};
use crate::error::{Error, Result};

/// How long openraft may take to hear of a snapshot.
const TOLD_WITHIN: Duration = Duration::from_secs(10);

/// A snapshot is worth making when the log since the last one is no small part of it: a large table would be written
/// again and again otherwise.
const SNAPSHOT_PARTS: u64 = 4;

/// Bytes of log between two snapshots, `every` at least.
pub fn spacing(every: u64, machine: &Machine) -> Result<u64> {
    let newest = machine.newest_snapshot()?;
    Ok(newest.map_or(every, |(_, found)| every.max(found.bytes / SNAPSHOT_PARTS)))
}

/// When something that depends on the log's growth is due, seen from where the log is written.
pub struct Schedule {
    /// Bytes of log between two times.
    every: u64,
    /// Of [`Log::appended`].
    next_at: AtomicU64,
    is_due: AtomicBool,
    closing: AtomicBool,
    /// Of whoever does it.
    waker: OnceLock<Waker>,
}

impl Schedule {
    /// `first`: bytes of log until the first time.
    pub fn new(every: u64, first: u64) -> Arc<Self> {
        Arc::new(Self {
            every,
            next_at: AtomicU64::new(first),
            is_due: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            waker: OnceLock::new(),
        })
    }

    /// Called after each write of the log with [`Log::appended`].
    pub fn appended(&self, bytes: u64) {
        if bytes >= self.next_at.load(Ordering::Relaxed) {
            self.is_due.store(true, Ordering::Release);
            if let Some(waker) = self.waker.get() {
                waker.wake();
            }
        }
    }

    /// Whether it is to be done now.
    pub fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire) && self.is_open()
    }

    fn is_open(&self) -> bool {
        !self.closing.load(Ordering::Acquire)
    }

    /// From now on `waker` is woken when it is due.
    pub fn wake(&self, waker: Waker) {
        // There is one for each schedule.
        let _ = self.waker.set(waker.clone());
        waker.wake();
    }

    /// Done with what there was when [`Log::appended`] was `begun_at`.
    pub fn done_at(&self, begun_at: u64) {
        self.done(begun_at + self.every);
    }

    fn done(&self, next_at: u64) {
        self.next_at.store(next_at, Ordering::Relaxed);
        self.is_due.store(false, Ordering::Release);
    }

    pub fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }
}

pub struct Snapshotter {
    schedule: Arc<Schedule>,
    worker: Mutex<Worker>,
}

impl Snapshotter {
    pub fn start(
        schedule: Arc<Schedule>,
        host: &RaftHost,
        machine: Arc<Machine>,
        log: Arc<Log>,
    ) -> Result<Self> {
        let maker = Arc::new(Maker {
            schedule: Arc::clone(&schedule),
            is_telling: AtomicBool::new(false),
            raft: host.raft().clone(),
            machine,
            log,
        });
        let runtime = host.handle().clone();
        let worker = Worker::start("snapshots", move || maker.make_if_due(&runtime))?;
        schedule.wake(worker.waker());
        Ok(Self { schedule, worker: Mutex::new(worker) })
    }

    /// Breaks off what is under way and stops.
    pub fn stop(&self) {
        self.schedule.close();
        self.worker.lock().stop();
    }
}

impl Drop for Snapshotter {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Maker {
    schedule: Arc<Schedule>,
    /// A snapshot was made, and openraft has not taken it yet.
    is_telling: AtomicBool,
    raft: Raft,
    machine: Arc<Machine>,
    log: Arc<Log>,
}

impl Maker {
    /// It stays due until openraft was told, so that there is one at a time.
    fn make_if_due(self: &Arc<Self>, runtime: &Handle) {
        if !self.schedule.is_due() || self.is_telling.swap(true, Ordering::AcqRel) {
            return;
        }
        let begun_at = self.log.appended();
        let made = self.machine.take_snapshot(&self.log, &|| self.schedule.is_open());
        let maker = Arc::clone(self);
        runtime.spawn(async move {
            let told = match made {
                Ok(head) => maker.tell(&head).await,
                Err(error) => Err(error),
            };
            let next_in = match told.and_then(|()| spacing(maker.schedule.every, &maker.machine)) {
                Ok(spacing) => spacing,
                Err(Error::ShuttingDown) => return,
                Err(error) => {
                    log::error!("no snapshot of the metadata could be made: {error}");
                    maker.schedule.every / 4
                }
            };
            maker.schedule.done(begun_at + next_in);
            maker.is_telling.store(false, Ordering::Release);
        });
    }

    /// Lets openraft know, and forget the log that the older of two snapshots has.
    async fn tell(&self, head: &Head) -> Result<()> {
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
    }
}
