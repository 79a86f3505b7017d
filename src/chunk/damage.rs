//! Which chunks were found damaged since the store was opened, for the operator; and which files the
//! repair has to look at.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::Mutex;

use crate::error::Error;
use crate::types::ChunkId;

/// Chunks remembered; a disk that fails as a whole needs no longer list.
const CHUNKS_MAX: usize = 1000;
/// Suspects remembered; those beyond are found again by scrubbing, or by whoever reads them.
const SUSPECTS_MAX: usize = 8192;

#[derive(Default)]
pub struct Damage {
    found: Mutex<BTreeMap<ChunkId, String>>,
    suspects: Mutex<BTreeSet<ChunkId>>,
}

impl Damage {
    /// Remembers the chunk when `error` says that its file is damaged.
    pub fn note(&self, id: ChunkId, error: &Error) {
        let Error::Damaged(what) = error else { return };
        self.suspect(id);
        let mut found = self.found.lock();
        if found.len() < CHUNKS_MAX && found.insert(id, what.clone()).is_none() {
            log::error!("a chunk file is damaged: {what}");
        }
    }

    /// The chunk's file is another one now, or gone.
    pub fn forget(&self, id: ChunkId) {
        self.found.lock().remove(&id);
    }

    /// The chunk's file is perhaps bad or missing.
    pub fn suspect(&self, id: ChunkId) {
        let mut suspects = self.suspects.lock();
        if suspects.len() < SUSPECTS_MAX {
            suspects.insert(id);
        }
    }

    pub fn take_suspects(&self) -> BTreeSet<ChunkId> {
        std::mem::take(&mut self.suspects.lock())
    }

    pub fn list(&self) -> Vec<(ChunkId, String)> {
        self.found.lock().iter().map(|(id, what)| (*id, what.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    #[test]
    fn only_damage_is_noted_until_the_file_is_replaced() {
        let (damage, session) = (Damage::default(), SessionId(1));
        let id = |counter| ChunkId { session, counter };
        damage.note(id(1), &Error::NotFound);
        damage.note(id(2), &Error::damaged("a bit"));
        damage.note(id(2), &Error::damaged("a bit"));
        assert_eq!(damage.list(), [(id(2), "a bit".to_owned())]);
        assert_eq!(damage.take_suspects(), [id(2)].into());
        assert!(damage.take_suspects().is_empty());
        damage.forget(id(2));
        assert!(damage.list().is_empty());
        (0..2000).for_each(|counter| damage.note(id(counter), &Error::damaged("all of it")));
        assert_eq!(damage.list().len(), CHUNKS_MAX);
    }
}
