//! Filling a table in bulk: the rebuild.

use std::mem;

use super::codec;
use super::digest::Digest;
use super::keys;
use super::kv::{Pair, WriteBatch};
use super::table::Table;
use crate::error::{Error, Result};

/// Records, or what went wrong in reading them.
pub type Pairs<'a> = dyn Iterator<Item = Result<Pair>> + 'a;

/// Records and bytes after which a load commits.
const BATCH_RECORDS: usize = 4096;
const BATCH_BYTES: usize = 1 << 20;

impl Table {
    /// Replaces all records by `pairs`, which come in key order, in many batches; views wait
    /// meanwhile. Until it is done [`Self::applied`] is `None`.
    ///
    /// # Errors
    /// What `pairs` yields; [`Error::Damaged`] when they are out of order.
    pub fn load(&self, pairs: &mut Pairs<'_>) -> Result<()> {
        let mut committed = self.applier.lock();
        let _nobody_looks = self.whole.write();
        self.clear()?;
        let mut digest = Digest::default();
        let mut loading = Loading::default();
        let mut previous = None;
        for pair in pairs {
            let (key, value) = pair?;
            if previous.as_ref().is_some_and(|previous| *previous >= key) {
                return Err(Error::damaged("the records to load are out of order"));
            }
            digest.add(&key, &value);
            previous = Some(key.clone());
            if loading.push(key, value) {
                self.commit(loading.take())?;
            }
        }
        self.commit(loading.take())?;
        let mut last = loading.last;
        last.insert(keys::DIGEST.to_vec(), Some(codec::encode(&digest)?));
        self.commit(last)?;
        *committed = digest;
        Ok(())
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        self.engine.read().make_room()?;
        self.engine.write().commit(batch)
    }

    /// Deletes all records, first those that say that they are complete.
    fn clear(&self) -> Result<()> {
        let first = [keys::APPLIED, keys::DIGEST].map(|key| (key.to_vec(), None));
        self.commit(first.into())?;
        loop {
            let mut batch = WriteBatch::new();
            self.engine.read().scan(&[], keys::END, &mut |key, _| {
                batch.insert(key.to_vec(), None);
                Ok(batch.len() < BATCH_RECORDS)
            })?;
            if batch.is_empty() {
                return Ok(());
            }
            self.commit(batch)?;
        }
    }
}

#[derive(Default)]
struct Loading {
    batch: WriteBatch,
    bytes: usize,
    /// What makes the table whole.
    last: WriteBatch,
}

impl Loading {
    /// True when the batch is full.
    fn push(&mut self, key: Vec<u8>, value: Vec<u8>) -> bool {
        if key == keys::APPLIED {
            self.last.insert(key, Some(value));
            return false;
        }
        self.bytes += key.len() + value.len();
        self.batch.insert(key, Some(value));
        self.batch.len() >= BATCH_RECORDS || self.bytes >= BATCH_BYTES
    }

    fn take(&mut self) -> WriteBatch {
        self.bytes = 0;
        mem::take(&mut self.batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::kv::{KvRead, KvTxn};

    #[test]
    fn a_load_replaces_everything_and_refuses_disorder() {
        let table = Table::memory().unwrap();
        let old = |txn: &mut dyn KvTxn| {
            txn.put(b"gone".to_vec(), b"v".to_vec());
            Ok(())
        };
        table.transact(old).unwrap();
        let pair = |key: &[u8]| Ok((key.to_vec(), b"v".to_vec()));
        table.load(&mut [pair(b"A"), pair(b"a"), pair(b"b")].into_iter()).unwrap();
        assert_eq!(table.applied().unwrap().unwrap(), b"v");
        assert_eq!(table.view().get(b"gone").unwrap(), None);
        assert_eq!(table.view().get(b"b").unwrap().unwrap(), b"v");

        let disorder = table.load(&mut [pair(b"A"), pair(b"b"), pair(b"b")].into_iter());
        assert!(matches!(disorder, Err(Error::Damaged(_))));
        assert_eq!(table.applied().unwrap(), None);
    }
}
