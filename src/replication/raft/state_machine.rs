//! The machine as openraft drives it.

use std::path::PathBuf;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, RaftSnapshotBuilder, Snapshot, StorageIOError};

use super::machine::Machine;
use crate::env::detached;
use crate::error::{Error, Result};
use crate::replication::log::Log;
use crate::replication::snapshot::{Found, Head, meta_of};
use crate::replication::types::{
    Answers, Entry, LogId, SnapshotFile, SnapshotMeta, StorageError, StoredMembership, Types,
};

pub struct StateMachine {
    machine: Arc<Machine>,
    log: Arc<Log>,
}

impl StateMachine {
    pub fn new(machine: Arc<Machine>, log: Arc<Log>) -> Self {
        Self { machine, log }
    }
}

fn snapshot_failed(error: Error) -> StorageError {
    StorageIOError::write_snapshot(None, AnyError::error(error)).into()
}

fn handle((head, found): (Head, Found)) -> Snapshot<Types> {
    let snapshot = Box::new(SnapshotFile { path: found.path });
    Snapshot { meta: meta_of(&head), snapshot }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.machine.state();
        Ok((state.last, state.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let applied = self.machine.apply(&entries);
        applied.map_err(|error| StorageIOError::write_state_machine(AnyError::error(error)).into())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { machine: Arc::clone(&self.machine), log: Arc::clone(&self.log) }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        // Snapshots come in whole: see `members/receiving.rs`.
        Ok(Box::new(SnapshotFile { path: PathBuf::new() }))
    }

    /// Replaces the table by the snapshot, which is kept already, while openraft goes on: a member
    /// that is silent for long would call for an election.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), StorageError> {
        let (machine, last) = (Arc::clone(&self.machine), meta.last_log_id);
        let installed = detached("snapshot", move || machine.install(&snapshot.path, last)).await;
        installed.map_err(snapshot_failed)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let newest = self.machine.newest_snapshot().map_err(snapshot_failed)?;
        Ok(newest.map(handle))
    }
}

/// Gives openraft the snapshot that it shall know of: the one that was announced, or else a new
/// one. A failure here would stop openraft: ours are made before it is asked, see
/// [`Machine::announce`].
pub struct Builder {
    machine: Arc<Machine>,
    log: Arc<Log>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        if !self.machine.take_announced() {
            let (machine, log) = (Arc::clone(&self.machine), Arc::clone(&self.log));
            let made = detached("snapshot", move || machine.take_snapshot(&log, &|| true)).await;
            made.map_err(snapshot_failed)?;
        }
        let newest = self.machine.newest_snapshot().map_err(snapshot_failed)?;
        newest.map(handle).ok_or_else(|| snapshot_failed(Error::NotFound))
    }
}
