//! What was done for the copies since the start, and what is still to be told to the log.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::types::{ChunkId, NodeId};

/// Copies remembered to be told; of more the repair finds out by itself.
const LANDED_MAX: usize = 16 << 10;

#[derive(Default)]
pub struct Tally {
    landed: Mutex<Vec<(NodeId, ChunkId)>>,
    read_elsewhere: AtomicU64,
    made: AtomicU64,
    given_up: AtomicU64,
    mended: AtomicU64,
}

/// Since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyCounts {
    /// Reads whose bytes another node had.
    pub read_elsewhere: u64,
    /// Copies made here that were missing.
    pub made: u64,
    /// Copies removed here that were one too many.
    pub given_up: u64,
    /// Files here that were bad or missing, and are made again.
    pub mended: u64,
}

impl Tally {
    pub fn landed(&self, node: NodeId, id: ChunkId) {
        let mut landed = self.landed.lock();
        if landed.len() < LANDED_MAX {
            landed.push((node, id));
        }
    }

    pub fn take_landed(&self) -> Vec<(NodeId, ChunkId)> {
        std::mem::take(&mut self.landed.lock())
    }

    pub fn read_elsewhere(&self) {
        self.read_elsewhere.fetch_add(1, Ordering::Relaxed);
    }

    pub fn made(&self, count: usize) {
        self.made.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn given_up(&self, count: usize) {
        self.given_up.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn mended(&self, count: usize) {
        self.mended.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub fn counts(&self) -> CopyCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CopyCounts {
            read_elsewhere: get(&self.read_elsewhere),
            made: get(&self.made),
            given_up: get(&self.given_up),
            mended: get(&self.mended),
        }
    }
}
