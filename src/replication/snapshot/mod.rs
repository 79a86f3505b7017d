//! Snapshots of the table: files of our own, two of which are kept. The log is cut only behind the
//! older one.

mod frame;
mod incoming;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use self::frame::Head;
pub use self::incoming::Incoming;
pub use self::reader::{Reader, Records};
use self::writer::{PAGE_BYTES, Writer};
use super::log::Log;
use super::types::{AppliedState, LogId, SnapshotMeta};
use crate::env::{Clock, Disk, Space};
use crate::error::{Error, Result};
use crate::meta::{Table, codec};

/// Snapshots that are kept.
const KEPT: usize = 2;

/// Pages of a snapshot between two looks at the room that is left.
const PAGES_BETWEEN_LOOKS: u64 = 64;

/// Bytes of a disk that no snapshot takes: the log must be able to go on. A quarter of what files leave.
fn spared(space: Space) -> u64 {
    (space.total / 128).clamp(40 << 20, 512 << 20).min(space.total / 16)
}

/// A snapshot that was whole when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Of the last entry it has.
    pub index: u64,
    pub path: PathBuf,
    pub bytes: u64,
}

/// The directory of snapshots. `N.snap` is one through log index N; `N.new` is unfinished.
#[derive(Clone)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Snapshots {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { disk, dir, clock }
    }

    /// Newest first.
    pub fn list(&self) -> Result<Vec<Found>> {
        let listing = |error| Error::io(format!("listing {}", self.dir.display()), error);
        let entries = self.disk.list(&self.dir).map_err(listing)?;
        let mut found: Vec<Found> = entries
            .into_iter()
            .filter_map(|entry| {
                let index = entry.name.strip_suffix(".snap")?.parse().ok()?;
                Some(Found { index, path: self.dir.join(&entry.name), bytes: entry.len })
            })
            .collect();
        found.sort_unstable_by_key(|found| std::cmp::Reverse(found.index));
        Ok(found)
    }

    pub fn open(&self, path: &Path) -> Result<Reader> {
        Reader::open(&*self.disk, path)
    }

    /// Writes a snapshot of the table while commits go on. The log is synced first, so that no
    /// snapshot is ever ahead of the log on disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the table has lost something: the snapshot is thrown away.
    /// [`Error::ShuttingDown`] when it shall not go on. [`Error::NoSpace`] when there is no room for one
    /// like the last.
    pub fn take(&self, table: &Table, log: &Log, go_on: &dyn Fn() -> bool) -> Result<Head> {
        self.require_room(self.list()?.first().map_or(0, |last| last.bytes))?;
        let mut scan = table.begin_snapshot()?;
        let applied: AppliedState = match scan.applied() {
            Some(bytes) => codec::decode(bytes)?,
            None => AppliedState::default(),
        };
        log.sync()?;
        let head = Head { applied, made_at: self.clock.now() };
        let mut pages = 0;
        self.write(&head, &mut || {
            if !go_on() {
                return Err(Error::ShuttingDown);
            }
            pages += 1;
            if pages % PAGES_BETWEEN_LOOKS == 0 {
                self.require_room(0)?;
            }
            scan.next_page(PAGE_BYTES)
        })?;
        Ok(head)
    }

    fn require_room(&self, bytes: u64) -> Result<()> {
        let asking =
            |error| Error::io(format!("asking for the space of {}", self.dir.display()), error);
        let space = self.disk.space(&self.dir).map_err(asking)?;
        let is_enough = space.available >= bytes.saturating_add(spared(space));
        if is_enough { Ok(()) } else { Err(Error::NoSpace) }
    }

    fn write(
        &self,
        head: &Head,
        next_page: &mut dyn FnMut() -> Result<Option<Vec<frame::Pair>>>,
    ) -> Result<()> {
        let unfinished = self.path(head).with_extension("new");
        self.remove(&unfinished)?;
        let written = self.write_pages(&unfinished, head, next_page).and_then(|()| {
            let back = self.open(&unfinished)?.verify()?;
            if back == *head { Ok(()) } else { Err(Error::damaged("a snapshot changed its head")) }
        });
        if let Err(error) = written {
            // The first error is the one to tell.
            let _ = self.remove(&unfinished);
            return Err(error);
        }
        self.name(&unfinished, head)?;
        self.prune()
    }

    /// Where a snapshot is when it is whole.
    fn path(&self, head: &Head) -> PathBuf {
        let index = head.applied.last.map_or(0, |last| last.index);
        self.dir.join(format!("{index:020}.snap"))
    }

    fn write_pages(
        &self,
        path: &Path,
        head: &Head,
        next_page: &mut dyn FnMut() -> Result<Option<Vec<frame::Pair>>>,
    ) -> Result<()> {
        let mut writer = Writer::create(&*self.disk, path, head)?;
        while let Some(page) = next_page()? {
            writer.records(&page)?;
        }
        writer.finish().map(|_| ())
    }

    /// Removes all but the newest.
    pub fn prune(&self) -> Result<()> {
        for old in self.list()?.iter().skip(KEPT) {
            self.remove(&old.path)?;
        }
        self.sync_dir()
    }

    /// Removes what unfinished writing left.
    pub fn clean(&self) -> Result<()> {
        let listing = |error| Error::io(format!("listing {}", self.dir.display()), error);
        for entry in self.disk.list(&self.dir).map_err(listing)? {
            if entry.name.ends_with(".new") {
                self.remove(&self.dir.join(&entry.name))?;
            }
        }
        Ok(())
    }

    pub fn remove(&self, path: &Path) -> Result<()> {
        match self.disk.remove(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(format!("removing {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }

    fn sync_dir(&self) -> Result<()> {
        let failed = |error| Error::DiskFailed(format!("{}: {error}", self.dir.display()));
        self.disk.sync_dir(&self.dir).map_err(failed)
    }
}

/// As openraft wants to know it.
pub fn meta_of(head: &Head) -> SnapshotMeta {
    let last: Option<LogId> = head.applied.last;
    SnapshotMeta {
        last_log_id: last,
        last_membership: head.applied.membership.clone(),
        snapshot_id: last.map_or("empty".into(), |last| last.to_string()),
    }
}
