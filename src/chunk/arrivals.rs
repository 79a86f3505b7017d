//! What other nodes have sent and the log has not heard of.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use crate::types::ChunkId;

/// Of more some are forgotten: an inventory finds them.
const MAX: usize = 16 << 10;

#[derive(Default)]
pub struct Arrivals(Mutex<BTreeSet<ChunkId>>);

impl Arrivals {
    pub fn note(&self, id: ChunkId) {
        let mut noted = self.0.lock();
        if noted.len() < MAX {
            noted.insert(id);
        }
    }

    /// What was noted since the last call, by rising id.
    pub fn take(&self) -> Vec<ChunkId> {
        std::mem::take(&mut *self.0.lock()).into_iter().collect()
    }

    /// Whether a chunk may have been noted since [`Self::take`].
    pub fn may_have(&self, id: ChunkId) -> bool {
        let noted = self.0.lock();
        noted.len() >= MAX || noted.contains(&id)
    }
}
