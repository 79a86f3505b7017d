//! The table in redb 4: commits stay in memory until a flush, which is a durable commit. The only
//! file that names it.

use std::path::{Path, PathBuf};

use ::redb::{
    Builder, Database, Durability, ReadOnlyTable, ReadableDatabase, TableDefinition,
    WriteTransaction,
};
use parking_lot::RwLock;

use super::files;
use crate::error::{Error, Result};
use crate::meta::kv::{KvEngine, KvRead, Visitor, WriteBatch};

const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");

type Records = ReadOnlyTable<&'static [u8], &'static [u8]>;

pub struct RedbEngine {
    /// Before `database`, which closes when it is dropped.
    latest: RwLock<Records>,
    database: Database,
    file: PathBuf,
}

impl RedbEngine {
    /// # Errors
    /// [`Error::Damaged`] where redb notices it. It may also abort the process: probe a directory
    /// in doubt first.
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self> {
        files::create_dir(dir)?;
        let file = dir.join("table.redb");
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let database = Builder::new().set_cache_size(cache_bytes).create(&file).map_err(error)?;
        let change = begin(&database, Durability::None)?;
        change.open_table(RECORDS).map_err(error)?;
        change.commit().map_err(error)?;
        let latest = RwLock::new(read(&database)?);
        Ok(Self { latest, database, file })
    }
}

impl KvRead for RedbEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.latest.read_recursive().get(key).map_err(error)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let records = self.latest.read_recursive().range(from..to).map_err(error)?;
        for record in records {
            let (key, value) = record.map_err(error)?;
            if !visit(key.value(), value.value())? {
                break;
            }
        }
        Ok(())
    }
}

impl KvEngine for RedbEngine {
    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let change = begin(&self.database, Durability::None)?;
        {
            let mut records = change.open_table(RECORDS).map_err(error)?;
            for (key, value) in &batch {
                match value {
                    Some(value) => records.insert(key.as_slice(), value.as_slice()),
                    None => records.remove(key.as_slice()),
                }
                .map_err(error)?;
            }
        }
        change.commit().map_err(error)?;
        let latest = read(&self.database)?;
        *self.latest.write() = latest;
        Ok(())
    }

    /// Survives a crash of the machine too: redb comes back with the state of the last flush.
    fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        before()?;
        let mut change = begin(&self.database, Durability::Immediate)?;
        // Without it, opening after a crash walks the whole file.
        change.set_quick_repair(true);
        change.commit().map_err(error)
    }

    fn size_on_disk(&self) -> Result<u64> {
        files::size(&self.file)
    }
}

fn begin(database: &Database, durability: Durability) -> Result<WriteTransaction> {
    let mut change = database.begin_write().map_err(error)?;
    change.set_durability(durability).map_err(error)?;
    Ok(change)
}

fn read(database: &Database) -> Result<Records> {
    database.begin_read().map_err(error)?.open_table(RECORDS).map_err(error)
}

fn error(error: impl Into<::redb::Error>) -> Error {
    match error.into() {
        ::redb::Error::Io(source) => Error::io("the metadata table (redb)", source),
        ::redb::Error::Corrupted(what) => Error::damaged(format!("metadata table: {what}")),
        other => Error::Store(format!("metadata table: {other}")),
    }
}
