//! The table in sled 0.34: fast, rebuildable, never the durable truth. The only file that names it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files;
use crate::error::{Error, Result};
use crate::meta::kv::{KvEngine, KvRead, Visitor, WriteBatch};

/// How often its thread writes out what is buffered, syncs and collects garbage: the most that is
/// to be replayed after a crash of the process.
const FLUSH_EVERY_MS: u64 = 1000;

/// sled counts its cache in stored bytes; measured in memory it is this much more.
const CACHE_FACTOR: u64 = 4;

const LOCK_PAUSE: Duration = Duration::from_millis(10);
const LOCK_ATTEMPTS: u32 = 500;

pub struct SledEngine {
    tree: ::sled::Db,
    dir: PathBuf,
}

impl SledEngine {
    /// # Errors
    /// [`Error::Damaged`] where sled notices it. It may also abort the process: probe a directory
    /// in doubt first.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self> {
        let config = ::sled::Config::new()
            .path(dir)
            .cache_capacity((cache_bytes / CACHE_FACTOR).max(1 << 20))
            .mode(::sled::Mode::HighThroughput)
            .flush_every_ms(Some(FLUSH_EVERY_MS));
        let mut attempts = 0;
        let tree = loop {
            match config.open() {
                Err(error) if is_locked(&error) && attempts < LOCK_ATTEMPTS => attempts += 1,
                opened => break opened.map_err(error)?,
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "sled tells nobody when its lock is free"
            )]
            std::thread::sleep(LOCK_PAUSE);
        };
        Ok(Self { tree, dir: dir.to_path_buf() })
    }
}

/// Its thread of the table that was closed last has the lock of the directory a moment longer; other
/// processes are kept out by the node's own.
fn is_locked(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

impl KvRead for SledEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.tree.get(key).map_err(error)?.map(|value| value.to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        for record in self.tree.range(from..to) {
            let (key, value) = record.map_err(error)?;
            if !visit(&key, &value)? {
                break;
            }
        }
        Ok(())
    }
}

impl KvEngine for SledEngine {
    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut changes = ::sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        self.tree.apply_batch(changes).map_err(error)?;
        // Else its backlog of unwritten buffers has no bound.
        self.tree.flush().map_err(error)?;
        Ok(())
    }

    /// sled's own flush only starts the write-out (sync_file_range): the files are synced here.
    fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        before()?;
        files::sync(&self.dir)
    }

    fn size_on_disk(&self) -> Result<u64> {
        self.tree.size_on_disk().map_err(error)
    }
}

fn error(error: ::sled::Error) -> Error {
    match error {
        ::sled::Error::Io(source) => Error::io("the metadata table (sled)", source),
        ::sled::Error::Corruption { .. } => Error::damaged(format!("metadata table: {error}")),
        ::sled::Error::CollectionNotFound(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_) => Error::Store(format!("metadata table: {error}")),
    }
}
