//! A snapshot that comes in from elsewhere: a file without a name that counts, until it is whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Snapshots;
use super::frame::Head;
use super::meta_of;
use crate::env::{Access, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::replication::types::SnapshotMeta;

/// What has come in so far. It goes when it is dropped, unless it was [kept](Snapshots::keep).
pub struct Incoming {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    end: u64,
    is_kept: bool,
}

impl Incoming {
    /// Adds what follows.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if self.end != offset {
            return Err(Error::Conflict);
        }
        let failed = |error| Error::io("receiving a snapshot", error);
        self.file.write_at(bytes, offset).map_err(failed)?;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.is_kept {
            // What cannot be removed now goes at the next start.
            let _ = self.disk.remove(&self.path);
        }
    }
}

impl Snapshots {
    /// An empty file, which is nobody else's.
    pub fn receive(&self) -> Result<Incoming> {
        let path = self.dir.join(format!("{:016x}.new", self.clock.random()));
        let failed = |error| Error::io(format!("making {}", path.display()), error);
        let file = self.disk.open(&path, Access::Create, false).map_err(failed)?;
        Ok(Incoming { disk: Arc::clone(&self.disk), path, file, end: 0, is_kept: false })
    }

    /// Makes it one of these snapshots, when it is whole and what it was said to be. It is durable
    /// under its name, which is returned, before anybody relies on it.
    ///
    /// # Errors
    /// [`Error::Damaged`] and others: nothing is left of it.
    pub fn keep(&self, mut incoming: Incoming, meta: &SnapshotMeta) -> Result<PathBuf> {
        let failed = |error| Error::DiskFailed(format!("a received snapshot: {error}"));
        incoming.file.sync().map_err(failed)?;
        let reader = self.open(&incoming.path)?;
        if meta_of(&reader.head) != *meta {
            return Err(Error::damaged("a received snapshot is not what it was said to be"));
        }
        let head = reader.verify()?;
        let path = self.name(&incoming.path, &head)?;
        incoming.is_kept = true;
        Ok(path)
    }

    /// Gives the snapshot in `unfinished`, which is whole and on disk, its name.
    pub(super) fn name(&self, unfinished: &Path, head: &Head) -> Result<PathBuf> {
        let finished = self.path(head);
        let naming = |error| Error::io(format!("naming {}", finished.display()), error);
        self.disk.rename(unfinished, &finished).map_err(naming)?;
        self.sync_dir()?;
        Ok(finished)
    }
}
