//! Walks the chunk files in the order of their ids.

use std::io;
use std::path::Path;

use super::names::{SHARD, session_dir, shard_dir};
use crate::env::Disk;
use crate::error::{Error, Result};
use crate::types::{ChunkId, SessionId};

/// Called with an id and the bytes of its file; false ends the walk.
pub type Visitor<'a> = dyn FnMut(ChunkId, u64) -> Result<bool> + 'a;

/// Calls `visitor` with each chunk file after `after`, by rising id. Files made meanwhile may be
/// missed; files that are no chunk's are passed over.
pub fn walk(
    disk: &dyn Disk,
    root: &Path,
    after: Option<ChunkId>,
    visitor: &mut Visitor<'_>,
) -> Result<()> {
    let first = after.unwrap_or(ChunkId { session: SessionId(0), counter: 0 });
    for (session, _) in numbered(disk, root, 16, true)? {
        let session = SessionId(session);
        if session < first.session {
            continue;
        }
        for (shard, _) in numbered(disk, &session_dir(root, session), 13, true)? {
            let lowest = ChunkId { session, counter: shard * SHARD };
            let highest = ChunkId { session, counter: lowest.counter + (SHARD - 1) };
            if highest < first {
                continue;
            }
            if !walk_shard(disk, root, lowest, after, visitor)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn walk_shard(
    disk: &dyn Disk,
    root: &Path,
    lowest: ChunkId,
    after: Option<ChunkId>,
    visitor: &mut Visitor<'_>,
) -> Result<bool> {
    for (counter, len) in numbered(disk, &shard_dir(root, lowest), 16, false)? {
        let id = ChunkId { counter, ..lowest };
        let belongs = counter / SHARD == lowest.counter / SHARD;
        if belongs && after.is_none_or(|after| id > after) && !visitor(id, len)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The names in a directory that are numbers of `digits` lower-case hexadecimal digits, rising,
/// with the sizes. A directory that is gone is empty.
fn numbered(disk: &dyn Disk, dir: &Path, digits: usize, dirs: bool) -> Result<Vec<(u64, u64)>> {
    let entries = match disk.list(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(format!("listing {}", dir.display()), error)),
    };
    let number = |name: &str| {
        let number = u64::from_str_radix(name, 16).ok()?;
        (format!("{number:0digits$x}") == name).then_some(number)
    };
    let mut found: Vec<_> = entries
        .iter()
        .filter(|entry| entry.is_dir == dirs)
        .filter_map(|entry| Some((number(&entry.name)?, entry.len)))
        .collect();
    found.sort_unstable();
    Ok(found)
}
