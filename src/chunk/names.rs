//! Where chunk files lie, and which directories have names that are not durable yet.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::env::Disk;
use crate::types::{ChunkId, SessionId};

/// Chunks in one directory.
pub const SHARD: u64 = 4096;
/// What is there at a start is left over.
pub const RENEWING: &str = "renewing";

pub fn session_dir(root: &Path, session: SessionId) -> PathBuf {
    root.join(format!("{:016x}", session.0))
}

pub fn shard_dir(root: &Path, id: ChunkId) -> PathBuf {
    session_dir(root, id.session).join(format!("{:013x}", id.counter / SHARD))
}

/// Where the file of a chunk is, below the root of the chunk files.
pub fn chunk_path(root: &Path, id: ChunkId) -> PathBuf {
    shard_dir(root, id).join(format!("{:016x}", id.counter))
}

/// Where the file that takes a bad one's place is written.
pub fn renewed_path(root: &Path, id: ChunkId) -> PathBuf {
    root.join(RENEWING).join(id.to_string())
}

/// Makes names durable, many with one fsync.
pub struct Names {
    root: PathBuf,
    state: Mutex<State>,
    /// Held by the one caller who syncs, for all who wait for it.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    /// Directories with new names.
    dirty: HashSet<PathBuf>,
    /// Shards whose own names are durable or among the dirty ones.
    anchored: HashSet<PathBuf>,
    /// The shard used last, which is not worth removing when it is empty.
    current: PathBuf,
    /// Names added so far, and those of them that are durable.
    added: u64,
    durable: u64,
    /// The first failed sync. What it should have synced is lost, whatever later ones say.
    failed: Option<(io::ErrorKind, String)>,
}

impl Names {
    pub fn new(root: PathBuf) -> Self {
        Self { root, state: Mutex::default(), turn: Mutex::default() }
    }

    /// Notes that the name of `id` was made, or is perhaps not durable.
    pub fn add(&self, id: ChunkId) {
        let shard = shard_dir(&self.root, id);
        let mut state = self.state.lock();
        state.added += 1;
        if state.anchored.insert(shard.clone()) {
            // Whoever made the directories may not have lived to sync them.
            state.dirty.insert(session_dir(&self.root, id.session));
            state.dirty.insert(self.root.clone());
        }
        state.dirty.insert(shard.clone());
        state.current = shard;
    }

    /// Makes all names durable that were added before the call.
    ///
    /// # Errors
    /// That a sync failed, now or before: for all who waited for it, too.
    pub fn sync(&self, disk: &dyn Disk) -> io::Result<()> {
        let wanted = self.state.lock().added;
        let _turn = self.turn.lock();
        let (dirty, added) = {
            let mut state = self.state.lock();
            if state.durable >= wanted {
                return Ok(());
            }
            if let Some((kind, what)) = &state.failed {
                return Err(io::Error::new(*kind, what.clone()));
            }
            (std::mem::take(&mut state.dirty), state.added)
        };
        let synced = dirty.iter().try_for_each(|dir| match disk.sync_dir(dir) {
            // Removed because it was empty: its names are gone with it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        });
        let mut state = self.state.lock();
        match &synced {
            Ok(()) => state.durable = added,
            Err(error) => state.failed = Some((error.kind(), error.to_string())),
        }
        synced
    }

    /// Removes the directories of `id` if they are empty and not in use.
    pub fn prune(&self, disk: &dyn Disk, id: ChunkId) {
        let shard = shard_dir(&self.root, id);
        let mut state = self.state.lock();
        if state.current == shard || disk.remove_dir(&shard).is_err() {
            return;
        }
        state.anchored.remove(&shard);
        let session = session_dir(&self.root, id.session);
        if !state.current.starts_with(&session) {
            // Fails as it should while other shards are there.
            let _ = disk.remove_dir(&session);
        }
    }
}
