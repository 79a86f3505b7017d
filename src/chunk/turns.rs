//! One writer of a chunk id at a time.

use std::collections::HashSet;

use parking_lot::{Condvar, Mutex};

use crate::types::ChunkId;

/// The ids being written now.
#[derive(Default)]
pub struct Turns {
    taken: Mutex<HashSet<ChunkId>>,
    freed: Condvar,
}

/// The right to write an id, until it is dropped.
pub struct Turn<'a> {
    turns: &'a Turns,
    id: ChunkId,
}

impl Turns {
    /// Waits until nobody else writes `id`: as long as one write takes.
    pub fn take(&self, id: ChunkId) -> Turn<'_> {
        let mut taken = self.taken.lock();
        while !taken.insert(id) {
            self.freed.wait(&mut taken);
        }
        Turn { turns: self, id }
    }

    /// `None` while somebody writes `id`.
    pub fn try_take(&self, id: ChunkId) -> Option<Turn<'_>> {
        self.taken.lock().insert(id).then(|| Turn { turns: self, id })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.taken.lock().remove(&self.id);
        self.turns.freed.notify_all();
    }
}
