//! Ordered key-value storage as the state machine sees it. Keys order as byte strings.

use std::collections::BTreeMap;

use crate::error::Result;

/// Key and value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Called with each key and value of a scan, in order; `false` stops it.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool> + 'a;

pub trait KvRead {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// Visits the entries with `from <= key < to` in key order.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()>;
}

/// A transaction: reads see its own writes; nothing of it is stored until it is committed.
pub trait KvTxn: KvRead {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>);
    fn delete(&mut self, key: Vec<u8>);
    /// Marks this moment of the transaction.
    fn savepoint(&self) -> Savepoint;
    /// Forgets the writes made since `to`, and the savepoints.
    fn rollback(&mut self, to: Savepoint);
}

/// A moment of the transaction that made it, as the count of its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Savepoint(pub(super) usize);

/// Changes that become visible together: `None` deletes.
pub type WriteBatch = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// A table on disk (or in memory).
///
/// After a crash of the process it holds a prefix of the committed batches, each whole. After a
/// power cut it may be lost, unless `flush` promises more: the log rebuilds it.
pub trait KvEngine: KvRead + Send + Sync {
    /// Waits where a commit would be further ahead of the disk than the engine can hold.
    fn make_room(&self) -> Result<()> {
        Ok(())
    }
    /// Atomic: a reader sees all of the batch or nothing of it. There is one committer at a time.
    fn commit(&self, batch: WriteBatch) -> Result<()>;
    /// On return every batch committed before survives a crash of the process, and of the machine
    /// where the engine can promise that. `before` runs when it is settled what that covers.
    fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()>;
    /// Reads about `bytes` of what a scan of `from..to` begins with, so that it finds them in memory. Nothing
    /// that a commit waits for is held meanwhile.
    fn read_ahead(&self, _from: &[u8], _to: &[u8], _bytes: usize) -> Result<()> {
        Ok(())
    }
    /// Bytes on disk, for the operator.
    fn size_on_disk(&self) -> Result<u64>;
}
