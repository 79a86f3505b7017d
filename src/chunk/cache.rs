//! The chunk files opened last, with their footers.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::footer::Footer;
use crate::env::DiskFile;
use crate::types::ChunkId;

/// A chunk file and what its footer says.
pub struct OpenChunk {
    pub file: Arc<dyn DiskFile>,
    pub footer: Footer,
}

/// Keeps a bounded number of open chunks and lets go of the one not used for longest.
pub struct Cache {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: HashMap<ChunkId, (u64, Arc<OpenChunk>)>,
    /// Counts uses.
    now: u64,
    /// Counts calls of `forget`.
    forgotten: u64,
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// The open chunk, or a token for [`Self::insert`] when it has to be opened.
    pub fn get(&self, id: ChunkId) -> Result<Arc<OpenChunk>, u64> {
        let mut state = self.state.lock();
        state.now += 1;
        let (now, forgotten) = (state.now, state.forgotten);
        let (used, chunk) = state.chunks.get_mut(&id).ok_or(forgotten)?;
        *used = now;
        Ok(chunk.clone())
    }

    /// Keeps a chunk opened after `get` gave `token`, unless any was forgotten since: it may be
    /// this one, whose file is gone.
    pub fn insert(&self, id: ChunkId, chunk: &Arc<OpenChunk>, token: u64) {
        let mut state = self.state.lock();
        if state.forgotten != token {
            return;
        }
        if state.chunks.len() >= self.capacity && !state.chunks.contains_key(&id) {
            let oldest = state.chunks.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                state.chunks.remove(&oldest);
            }
        }
        state.now += 1;
        let now = state.now;
        state.chunks.insert(id, (now, chunk.clone()));
    }

    /// Lets go of a chunk whose file is removed, replaced or found damaged.
    pub fn forget(&self, id: ChunkId) {
        let mut state = self.state.lock();
        state.forgotten += 1;
        state.chunks.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::chunk::footer::{ChunkExtent, ChunkHeader};
    use crate::env::{Access, AlignedBuf, Disk, SimDisk};
    use crate::types::{ContentId, Ino, SessionId};

    fn id(counter: u64) -> ChunkId {
        ChunkId { session: SessionId(1), counter }
    }

    fn chunk() -> Arc<OpenChunk> {
        let file = SimDisk::new().open(Path::new("/x"), Access::Create, true).unwrap();
        let header = ChunkHeader {
            id: id(1),
            content: ContentId { session: SessionId(1), counter: 1 },
            bucket: Ino(2),
            extents: vec![ChunkExtent { file_offset: 0, len: 1 }],
        };
        let footer = Footer::describe(&header, &AlignedBuf::zeroed(1)).unwrap();
        Arc::new(OpenChunk { file, footer })
    }

    fn put(cache: &Cache, counter: u64, chunk: &Arc<OpenChunk>) {
        let token = cache.get(id(counter)).err().unwrap();
        cache.insert(id(counter), chunk, token);
    }

    #[test]
    fn the_one_not_used_for_longest_goes_first() {
        let (cache, chunk) = (Cache::new(3), chunk());
        (1..=3).for_each(|counter| put(&cache, counter, &chunk));
        assert!(cache.get(id(1)).is_ok());
        put(&cache, 4, &chunk);
        let kept = [1, 2, 3, 4].map(|counter| cache.get(id(counter)).is_ok());
        assert_eq!(kept, [true, false, true, true]);
        assert_eq!(Arc::strong_count(&chunk), 4, "what is let go of is closed");
    }

    #[test]
    fn a_file_opened_before_it_was_removed_is_not_kept() {
        let (cache, chunk) = (Cache::new(3), chunk());
        let token = cache.get(id(1)).err().unwrap();
        cache.forget(id(1));
        cache.insert(id(1), &chunk, token);
        assert!(cache.get(id(1)).is_err());
        put(&cache, 1, &chunk);
        cache.forget(id(1));
        assert!(cache.get(id(1)).is_err());
    }
}
