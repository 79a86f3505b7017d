//! How far something is that takes long: opening a store, checking it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::replication;

/// How far the work is, in units that its phase says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub phase: Phase,
    pub done: u64,
    /// 0 when nobody knows.
    pub total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The metadata that a killed process left is read through: records.
    Checking,
    /// The metadata comes back from a snapshot: bytes.
    Loading,
    /// And from the log: entries.
    Replaying,
    /// Other nodes are needed for a quorum.
    Waiting,
    /// Records are compared with records.
    Metadata,
    /// Recorded chunks are compared with their files: bytes.
    Chunks,
    /// Chunk files are compared with the records: files.
    Files,
}

/// Told while a store is opened.
pub type OnOpen = Arc<dyn Fn(Progress) + Send + Sync>;

/// Told how far a check is, often; an error ends the check with it.
pub type OnCheck<'a> = dyn FnMut(Progress) -> Result<()> + Send + 'a;

impl Phase {
    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Checking => "checking the metadata",
            Self::Loading => "loading the snapshot",
            Self::Replaying => "replaying the log",
            Self::Waiting => "waiting for a quorum of the cluster",
            Self::Metadata => "comparing records",
            Self::Chunks => "reading chunks",
            Self::Files => "looking for files that are left over",
        }
    }
}

impl From<replication::Progress> for Progress {
    fn from(progress: replication::Progress) -> Self {
        match progress {
            replication::Progress::Checking { done } => {
                Self { phase: Phase::Checking, done, total: 0 }
            }
            replication::Progress::Loading { done, total } => {
                Self { phase: Phase::Loading, done, total }
            }
            replication::Progress::Replaying { done, total } => {
                Self { phase: Phase::Replaying, done, total }
            }
            replication::Progress::Waiting => Self { phase: Phase::Waiting, done: 0, total: 0 },
        }
    }
}
