//! What openraft is made to order: entries that are batches of requests, answered by outcomes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::{BasicNode, TokioRuntime};
use serde::{Deserialize, Serialize};

use crate::meta::{Outcome, Request};
use crate::types::NodeId;

openraft::declare_raft_types!(
    /// The types openraft works with here.
    pub Types:
        D = Batch,
        R = Answers,
        NodeId = NodeId,
        Node = BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = SnapshotFile,
        AsyncRuntime = TokioRuntime,
);

pub type Raft = openraft::Raft<Types>;
pub type Entry = openraft::Entry<Types>;
pub type LogId = openraft::LogId<NodeId>;
pub type Vote = openraft::Vote<NodeId>;
pub type Membership = openraft::Membership<NodeId, BasicNode>;
pub type StoredMembership = openraft::StoredMembership<NodeId, BasicNode>;
pub type StorageError = openraft::StorageError<NodeId>;
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, BasicNode>;

/// A snapshot as openraft hands it on: a whole, verified file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Empty for none.
    pub path: PathBuf,
}

/// The requests of one log entry, in order. Cloning it does not copy them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    pub requests: Arc<Vec<Request>>,
    /// Somebody waits for the entry to be on disk: the sync starts with the write.
    #[serde(skip)]
    pub urgent: bool,
    /// Which record of this node's log the entry became; 0 until it was written here.
    #[serde(skip)]
    record: Arc<AtomicU64>,
}

impl Batch {
    pub fn new(requests: Vec<Request>, urgent: bool) -> Self {
        Self { requests: Arc::new(requests), urgent, record: Arc::default() }
    }

    pub fn set_record(&self, number: u64) {
        self.record.store(number, Ordering::Release);
    }

    pub fn record(&self) -> u64 {
        self.record.load(Ordering::Acquire)
    }
}

/// One outcome per request of the entry, in order; none for openraft's own entries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Answers(pub Vec<Outcome>);

/// How far a table is: stored under [`crate::meta::keys::APPLIED`] with each batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedState {
    pub last: Option<LogId>,
    pub membership: StoredMembership,
}
