//! Whether this node's disk failed, wherever that was noticed.

use std::sync::{Arc, OnceLock};

use super::copies::ChunkServer;
use super::log::Log;
use super::raft::Machine;
use crate::error::Error;

/// What writes to the disk of one node.
pub struct DiskHealth {
    pub log: Arc<Log>,
    pub machine: Arc<Machine>,
    /// Set when the chunk store is open.
    pub chunks: Arc<OnceLock<Arc<ChunkServer>>>,
}

impl DiskHealth {
    /// The failure after which this node writes nothing any more until it is restarted.
    pub fn failure(&self) -> Option<Error> {
        let of_chunks = || self.chunks.get()?.failure();
        self.log.failure().or_else(|| self.machine.failure()).or_else(of_chunks)
    }
}
