//! The key-value engines under the table, one file each, and the choice between them.

mod closed;
#[cfg(test)]
mod conformance;
pub mod files;
mod memory;
mod redb;
mod sled;
mod write_back;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use closed::Closed;
pub use memory::MemoryEngine;
use redb::RedbEngine;
use sled::SledEngine;
use write_back::{Amount, Limits, WriteBack};

use super::kv::KvEngine;
use crate::error::{Error, Result};

/// Which engine keeps the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    Sled,
    Redb,
    /// For models and simulated disks; no configuration can name it.
    Memory,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
            Self::Memory => "memory",
        })
    }
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sled" => Ok(Self::Sled),
            "redb" => Ok(Self::Redb),
            _ => Err(Error::Config(format!("no engine \"{text}\": take \"sled\" or \"redb\""))),
        }
    }
}

/// What is gathered in memory before it is written, and at most.
const LIMITS: Limits = Limits {
    write: Amount { records: 1024, bytes: 1 << 20 },
    hold: Amount { records: 4096, bytes: 4 << 20 },
};

/// Opens the engine's files in `dir`, or makes them. `cache_bytes` bounds what it caches.
pub fn open(kind: EngineKind, dir: &Path, cache_bytes: u64) -> Result<Box<dyn KvEngine>> {
    let engine = open_direct(kind, dir, cache_bytes)?;
    Ok(match kind {
        EngineKind::Sled | EngineKind::Redb => Box::new(WriteBack::new(engine, LIMITS)?),
        EngineKind::Memory => engine,
    })
}

/// Without the gathering of writes.
fn open_direct(kind: EngineKind, dir: &Path, cache_bytes: u64) -> Result<Box<dyn KvEngine>> {
    Ok(match kind {
        EngineKind::Sled => Box::new(SledEngine::open(dir, cache_bytes)?),
        EngineKind::Redb => Box::new(RedbEngine::open(dir, cache_bytes)?),
        EngineKind::Memory => Box::new(MemoryEngine::default()),
    })
}
