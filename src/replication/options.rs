//! What a replica is opened with.

use std::path::PathBuf;
use std::time::Duration;

use super::log::LogOptions;
use super::peers::Peers;
use crate::env;
use crate::meta::{EngineKind, Probe};
use crate::types::limits::CHUNK_SIZE_DEFAULT;

#[derive(Clone)]
pub struct Options {
    pub data_dir: PathBuf,
    pub engine: EngineKind,
    /// What the engine may cache, in bytes.
    pub cache_bytes: u64,
    /// How long a proposal waits for its answer.
    pub timeout: Duration,
    /// How this node is reached by others; `None`: it has no peers.
    pub peers: Option<Peers>,
    /// Files that every node of a cluster has, beside the log: name in the data directory, place.
    pub secrets: Vec<(String, PathBuf)>,
    pub log: LogOptions,
    /// Bytes of log after which a snapshot is made.
    pub snapshot_log_bytes: u64,
    /// Bytes of log after which a table that needs it is flushed; that much is applied again after a
    /// crash of the process, within seconds.
    pub flush_log_bytes: u64,
    /// The time from one start of the kernel to the next: [`env::boot_id`].
    pub boot_id: String,
    /// Asked about a table that was not closed: an engine may abort the process over a damaged one.
    pub probe: Probe,
    /// Lock the directory against other processes; not on a simulated disk.
    pub lock: bool,
    /// Its place among replicas that share an order.
    #[cfg(test)]
    pub trial: Option<std::sync::Arc<super::trial::Member>>,
}

impl Options {
    /// The defaults, for a store in `data_dir`. A program that can be its own probe says so.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            engine: EngineKind::Sled,
            cache_bytes: 64 << 20,
            timeout: Duration::from_secs(10),
            peers: None,
            secrets: Vec::new(),
            log: LogOptions::DEFAULT,
            snapshot_log_bytes: 256 << 20,
            flush_log_bytes: 32 << 20,
            boot_id: env::boot_id(),
            probe: Probe::InProcess,
            lock: true,
            #[cfg(test)]
            trial: None,
        }
    }
}

/// What a new store is made with.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    pub chunk_size: u64,
    /// Owner of the root.
    pub uid: u32,
    pub gid: u32,
}

impl Default for Birth {
    fn default() -> Self {
        Self { chunk_size: CHUNK_SIZE_DEFAULT, uid: 0, gid: 0 }
    }
}

/// Told while opening takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Records of the table that are seen to be right.
    Checking { done: u64 },
    /// Bytes of the snapshot that are in the table, of all.
    Loading { done: u64, total: u64 },
    /// Other nodes are needed, and not there yet.
    Waiting,
    /// Log entries that are applied, of all that are to be.
    Replaying { done: u64, total: u64 },
}

pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Send + Sync);
