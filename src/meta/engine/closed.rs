//! What is left of an engine that was closed.

use crate::error::{Error, Result};
use crate::meta::kv::{KvEngine, KvRead, Visitor, WriteBatch};

/// Refuses everything with [`Error::ShuttingDown`].
pub struct Closed;

impl KvRead for Closed {
    fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>> {
        Err(Error::ShuttingDown)
    }

    fn scan(&self, _from: &[u8], _to: &[u8], _visit: &mut Visitor<'_>) -> Result<()> {
        Err(Error::ShuttingDown)
    }
}

impl KvEngine for Closed {
    fn commit(&self, _batch: WriteBatch) -> Result<()> {
        Err(Error::ShuttingDown)
    }

    fn flush(&self, _before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        Err(Error::ShuttingDown)
    }

    fn size_on_disk(&self) -> Result<u64> {
        Err(Error::ShuttingDown)
    }
}
