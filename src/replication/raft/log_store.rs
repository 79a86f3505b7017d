//! The log as openraft writes it.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, EntryPayload, LogIdOptionExt, LogState, RaftLogReader, StorageIOError};

use super::voters::Voters;
use crate::error::Error;
use crate::replication::log::Log;
use crate::replication::snapshotter::Schedule;
use crate::replication::types::{Batch, Entry, LogId, StorageError, Types, Vote};
use crate::types::NodeId;

/// Whether the membership is this node alone, learners counted: then an entry that is written may
/// be acknowledged before it is on disk, to those who do not wait for the disk.
#[derive(Debug, Default)]
pub struct Alone(AtomicBool);

impl Alone {
    pub fn set(&self, alone: bool) {
        self.0.store(alone, Ordering::Release);
    }

    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
pub struct LogStore {
    node: NodeId,
    log: Arc<Log>,
    alone: Arc<Alone>,
    voters: Arc<Voters>,
    /// What is due when the log has grown, whoever proposes what is in it.
    schedules: Arc<[Arc<Schedule>]>,
}

impl LogStore {
    pub fn new(
        node: NodeId,
        log: Arc<Log>,
        alone: Arc<Alone>,
        schedules: impl Into<Arc<[Arc<Schedule>]>>,
    ) -> Self {
        Self { node, log, alone, voters: Arc::default(), schedules: schedules.into() }
    }

    pub fn voters(&self) -> &Voters {
        &self.voters
    }

    /// Whether this node made the entries, as a leader who commits nothing without others.
    fn leads_others(&self, entries: &[Entry]) -> bool {
        let own = |entry: &Entry| entry.log_id.leader_id.node_id == self.node;
        self.voters.take_others() && entries.iter().all(own)
    }
}

fn reading(error: Error) -> StorageError {
    StorageIOError::read_logs(AnyError::error(error)).into()
}

fn writing(error: Error) -> StorageError {
    StorageIOError::write_logs(AnyError::error(error)).into()
}

fn bounds(range: &impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&index) => index,
        Bound::Excluded(&index) => index + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => index + 1,
        Bound::Excluded(&index) => index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

/// Bytes of log entries, about, that go into one message to another member: it has to be sent and
/// written between two heartbeats.
const MESSAGE_BYTES: usize = 256 << 10;

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.log.read(bounds(&range)).map_err(reading)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.log.read_some(start..end, MESSAGE_BYTES).map_err(reading)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let ends = self.log.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.log.save_vote(vote);
        saved.map_err(|error| StorageIOError::write_vote(AnyError::error(error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.log.ends().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        self.log.save_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let Some(index) = self.log.committed().checked_sub(1) else { return Ok(None) };
        let purged = self.log.ends().purged;
        if purged.is_some_and(|purged| purged.index >= index) {
            return Ok(purged);
        }
        let entries = self.log.read(index..index + 1).map_err(reading)?;
        Ok(entries.first().map(|entry| entry.log_id))
    }

    /// Written when it returns. The callback comes with the sync, or at once: while this node is
    /// alone, when who needs the disk waits for [`Batch::record`] by itself, and while it leads
    /// others, whose word counts after its own sync only.
    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<Types>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let ends = self.log.ends();
        let forgotten = ends.purged.next_index();
        let entries: Vec<Entry> =
            entries.into_iter().filter(|entry| entry.log_id.index >= forgotten).collect();
        if let (Some(first), Some(last)) = (entries.first(), ends.last)
            && first.log_id.index <= last.index
        {
            // openraft truncates before it writes an index again; its suite does not.
            self.voters.truncated(first.log_id.index);
            self.log.truncate(first.log_id.index).map_err(writing)?;
        }
        let batches: Vec<Batch> = entries.iter().filter_map(batch).collect();
        let grows = entries.iter().any(grows);
        self.voters.appended(&entries);
        let early = self.leads_others(&entries);
        let record = self.log.append(entries).map_err(writing)?;
        let appended = self.log.appended();
        self.schedules.iter().for_each(|schedule| schedule.appended(appended));
        batches.iter().for_each(|batch| batch.set_record(record));
        if grows {
            self.alone.set(false);
        }
        if self.alone.get() {
            if batches.iter().any(|batch| batch.urgent) {
                self.log.want_sync(record);
            }
            callback.log_io_completed(Ok(()));
        } else if early {
            self.log.want_sync(record);
            callback.log_io_completed(Ok(()));
        } else {
            self.log.when_synced(record, move |result| {
                callback.log_io_completed(result.map_err(std::io::Error::other));
            });
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        self.voters.truncated(log_id.index);
        self.log.truncate(log_id.index).map_err(writing)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let whole = self.log.ends().last.is_none_or(|last| last.index <= log_id.index);
        self.voters.purged(log_id.index, whole);
        self.log.purge(log_id).map_err(writing)
    }
}

fn batch(entry: &Entry) -> Option<Batch> {
    match &entry.payload {
        EntryPayload::Normal(batch) => Some(batch.clone()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    }
}

/// Whether the entry brings a membership of more than one node.
fn grows(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Membership(membership) => membership.nodes().count() != 1,
        EntryPayload::Blank | EntryPayload::Normal(_) => false,
    }
}
