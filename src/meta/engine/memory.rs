//! A table in memory: for models and simulated disks. A crash of the process loses it.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use crate::error::Result;
use crate::meta::kv::{KvEngine, KvRead, Visitor, WriteBatch};

#[derive(Debug, Default)]
pub struct MemoryEngine {
    /// Readers nest (a visitor may get): they take the lock recursively.
    records: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl KvRead for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.records.read_recursive().get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included(from), Bound::Excluded(to));
        for (key, value) in self.records.read_recursive().range::<[u8], _>(range) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

impl KvEngine for MemoryEngine {
    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut records = self.records.write();
        for (key, value) in batch {
            match value {
                Some(value) => records.insert(key, value),
                None => records.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        before()
    }

    fn size_on_disk(&self) -> Result<u64> {
        Ok(0)
    }
}
