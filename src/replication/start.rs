//! Opening a store: what can be trusted after the last stop, and what has to be made again.

use std::sync::Arc;

use openraft::{EntryPayload, LogIdOptionExt};

use super::log::Log;
use super::options::{OnProgress, Options, Progress};
use super::raft::{Listener, Machine};
use super::snapshot::Snapshots;
use super::store::{LastStop, NodeFile, StoreDir};
use super::trust::Trust;
use super::types::{Entry, Vote};
use crate::env::{Clock, DirLock, lock_dir};
use crate::error::{Error, Result};
use crate::types::NodeId;

/// Bytes of log that are read before they are applied.
const REPLAY_BYTES: usize = 8 << 20;
/// Entries that are read before they are applied.
const REPLAY_ENTRIES: u64 = 4096;

/// No node has this id: see [`super::birth`].
const NOBODY: NodeId = 0;

/// A store whose table has everything its log has.
pub struct Opened {
    pub node: NodeFile,
    pub log: Arc<Log>,
    pub machine: Arc<Machine>,
    /// Bytes of log that the table on disk was behind, about.
    pub behind: u64,
    /// Why the table was made again, if it was.
    pub rebuilt: Option<String>,
    pub lock: Option<DirLock>,
}

pub struct Starter<'a> {
    pub dir: &'a StoreDir,
    pub options: &'a Options,
    pub clock: &'a Arc<dyn Clock>,
    pub progress: OnProgress<'a>,
}

impl Starter<'_> {
    /// Opens by the rules of DESIGN §3, "Starting again".
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Damaged`] with what is wrong; then nothing was changed.
    pub fn open(&self, listener: Listener) -> Result<Opened> {
        // Before the lock, which would be a file in somebody else's directory.
        let node = self.dir.identify()?;
        let lock = self.lock()?;
        let stop = self.dir.last_stop(&self.options.boot_id)?;
        let log = self.open_log(&stop)?;
        let snapshots = self.snapshots();
        snapshots.clean()?;
        let mut trust = Trust::new(self.dir, self.options, self.progress, stop.clone());
        // As long as the boot is not noted, a crash from here on is one of the machine again.
        if stop == LastStop::Machine {
            if may_have_led(&log, node.node) {
                raise_vote(&log)?;
            }
            trust.distrust_unsynced()?;
        }
        self.dir.mark_running(&self.options.boot_id)?;
        let table = trust.open_table(&log, &snapshots)?;
        let machine = Arc::new(Machine::new(Arc::new(table), snapshots, listener)?);
        trust.load_if_needed(&log, &machine)?;
        let behind = log.bytes_after(machine.last().index());
        self.replay(&log, &machine, node.node)?;
        forget_unreadable(&machine)?;
        trust.settle()?;
        if let Some(why) = &trust.rebuilt {
            log::warn!("the metadata table was rebuilt from snapshots and log: {why}");
        }
        Ok(Opened { node, log, machine, behind, rebuilt: trust.rebuilt, lock })
    }

    /// As [`Self::open`], for a store that is being made.
    pub fn open_new(&self, node: NodeFile, lock: Option<DirLock>) -> Result<Opened> {
        let log = self.open_log(&LastStop::Process)?;
        let mut trust = Trust::new(self.dir, self.options, self.progress, LastStop::Process);
        let table = trust.open_table(&log, &self.snapshots())?;
        let quiet = Box::new(|_: &[_], _| {});
        let machine = Arc::new(Machine::new(Arc::new(table), self.snapshots(), quiet)?);
        Ok(Opened { node, log, machine, behind: 0, rebuilt: None, lock })
    }

    pub fn lock(&self) -> Result<Option<DirLock>> {
        if !self.options.lock {
            return Ok(None);
        }
        lock_dir(&self.options.data_dir).map(Some)
    }

    fn snapshots(&self) -> Snapshots {
        let disk = Arc::clone(&self.dir.disk);
        Snapshots::new(disk, self.dir.snapshots(), Arc::clone(self.clock))
    }

    fn open_log(&self, stop: &LastStop) -> Result<Arc<Log>> {
        let noted = match stop {
            LastStop::Clean(clean) => Some(clean.record),
            LastStop::Process | LastStop::Machine => None,
        };
        let disk = Arc::clone(&self.dir.disk);
        Ok(Arc::new(Log::open(disk, &self.dir.log(), self.options.log, noted)?))
    }

    /// Applies what the log has and the table has not.
    fn replay(&self, log: &Log, machine: &Machine, node: NodeId) -> Result<()> {
        let start = machine.last().next_index();
        let mut next = start;
        loop {
            // Alone, an entry in the log is a committed one.
            let last = log.ends().last.next_index();
            let alone = is_alone(machine, node);
            let end = if alone { last } else { log.committed().min(last) };
            if next >= end {
                return Ok(());
            }
            let upto = end.min(next + REPLAY_ENTRIES);
            let mut entries = log.read_some(next..upto, REPLAY_BYTES)?;
            entries.truncate(through_growth(&entries, node));
            if entries.first().map(|entry| entry.log_id.index) != Some(next) {
                return Err(Error::damaged(format!("the log has no entry {next}")));
            }
            machine.apply(&entries)?;
            next += entries.len() as u64;
            (self.progress)(Progress::Replaying { done: next - start, total: end - start });
        }
    }
}

/// A snapshot beyond the table is one that could not be loaded. The leader sends another.
fn forget_unreadable(machine: &Machine) -> Result<()> {
    for found in machine.snapshots.list()? {
        if Some(found.index) > machine.last().index() {
            log::warn!("{} cannot be used and is removed", found.path.display());
            machine.snapshots.remove(&found.path)?;
        }
    }
    Ok(())
}

/// Whether this node is the only member.
pub fn is_alone(machine: &Machine, node: NodeId) -> bool {
    let membership = machine.state().membership;
    membership.membership().nodes().map(|(member, _)| *member).eq([node])
}

/// How many of the entries are up to the first that brings other members: what follows it is not
/// committed just because it is in this log.
fn through_growth(entries: &[Entry], node: NodeId) -> usize {
    let grows = |entry: &Entry| match &entry.payload {
        EntryPayload::Membership(membership) => {
            !membership.nodes().map(|(member, _)| *member).eq([node])
        }
        EntryPayload::Normal(_) | EntryPayload::Blank => false,
    };
    entries.iter().position(grows).map_or(entries.len(), |first| first + 1)
}

/// Only who has a node's vote gives out ids in a term, and a vote is synced before it is told.
fn may_have_led(log: &Log, node: NodeId) -> bool {
    log.ends().vote.is_none_or(|vote| vote.leader_id.node_id == node)
}

/// After a stop of the machine log entries may be gone that were acknowledged as ordered. A vote
/// of a higher term makes sure that their ids are never given to others. It is nobody's, and lower than
/// that of anybody who was elected in that term meanwhile.
fn raise_vote(log: &Log) -> Result<()> {
    let term = log.ends().vote.map_or(0, |vote| vote.leader_id.term);
    log.save_vote(&Vote::new(term + 1, NOBODY))
}
