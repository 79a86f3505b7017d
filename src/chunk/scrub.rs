//! Scrubbing: reads chunk files one after the other, to find damage before somebody needs them.

use super::store::ChunkStore;
use crate::error::{Error, Result};
use crate::types::ChunkId;

/// What one call of [`scrub`] found.
#[derive(Debug, Default)]
pub struct Scrubbed {
    /// Files that are damaged, unfinished or cannot be read, with the reason. Whether anybody
    /// misses them only the records know.
    pub damaged: Vec<(ChunkId, Error)>,
    /// Where the next call goes on; `None` when all files were read.
    pub next: Option<ChunkId>,
    pub files: u64,
    pub bytes: u64,
}

/// Verifies the chunks with ids above `after` in their order, until `budget` bytes are read or
/// there are no more; at least one. The caller decides how long to rest between calls. Chunks that
/// are missing altogether are not noticed here.
///
/// # Errors
/// [`Error::Io`] when a directory cannot be read.
pub fn scrub(store: &ChunkStore, after: Option<ChunkId>, budget: u64) -> Result<Scrubbed> {
    let mut found = Scrubbed::default();
    store.visit_after(after, &mut |id, len| {
        match store.verify_settled(id) {
            // Deleted meanwhile.
            Ok(_) | Err(Error::NotFound) => {}
            Err(error) => found.damaged.push((id, error)),
        }
        found.files += 1;
        found.bytes += len;
        found.next = (found.bytes >= budget).then_some(id);
        Ok(found.next.is_none())
    })?;
    Ok(found)
}
