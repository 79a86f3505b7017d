//! What the operator is told about this node's log and table.

use std::sync::Arc;

use openraft::LogIdOptionExt;
use serde::{Deserialize, Serialize};

use super::disk_health::DiskHealth;
use super::replica::Replica;
use super::snapshot::Found;
use crate::types::{NodeId, SessionId};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node: NodeId,
    pub cluster: String,
    pub session: SessionId,
    pub engine: String,
    /// Index of the last log entry that is in the table.
    pub applied: Option<u64>,
    pub log_bytes: u64,
    /// Records of the log that are written and not yet known to be on disk.
    pub log_unsynced: u64,
    pub table_bytes: u64,
    /// Newest first.
    pub snapshots: Vec<SnapshotStatus>,
    /// Why the table was rebuilt when the store was opened, if it was.
    pub rebuilt: Option<String>,
    /// The failure after which nothing is written any more, if there was one.
    pub disk_failed: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotStatus {
    pub index: u64,
    pub bytes: u64,
    pub age_seconds: u64,
}

impl Replica {
    pub fn status(&self) -> Status {
        let (written, synced) = (self.log.written(), self.log.synced());
        let failure = self.disk_health().failure();
        Status {
            node: self.node.node,
            cluster: self.node.cluster.clone(),
            session: self.session(),
            engine: self.options.engine.to_string(),
            applied: self.machine.last().index(),
            log_bytes: self.log.bytes(),
            log_unsynced: written - synced,
            table_bytes: self.machine.table.size_on_disk().unwrap_or(0),
            snapshots: self.snapshots(),
            rebuilt: self.rebuilt.clone(),
            disk_failed: failure.map(|error| error.to_string()),
        }
    }

    pub(super) fn disk_health(&self) -> DiskHealth {
        DiskHealth {
            log: Arc::clone(&self.log),
            machine: Arc::clone(&self.machine),
            chunks: Arc::clone(&self.chunk_server),
        }
    }

    fn snapshots(&self) -> Vec<SnapshotStatus> {
        let now = self.clock.now().seconds;
        let snapshots = &self.machine.snapshots;
        let status = |found: Found| {
            let head = snapshots.open(&found.path).ok()?.head;
            let age = now.saturating_sub(head.made_at.seconds);
            Some(SnapshotStatus {
                index: found.index,
                bytes: found.bytes,
                age_seconds: u64::try_from(age).unwrap_or(0),
            })
        };
        snapshots.list().unwrap_or_default().into_iter().filter_map(status).collect()
    }
}
