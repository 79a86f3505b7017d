//! The writes of a transaction over a table that does not have them yet.

use std::collections::BTreeMap;

use super::kv::{KvRead, KvTxn, Savepoint, Visitor, WriteBatch};
use super::layered::Layered;
use crate::error::Result;

/// The value of a put; `None` for a delete.
type Write = Option<Vec<u8>>;

/// A transaction that is kept in memory. `base` does not change while it lives.
pub struct Overlay<'a> {
    base: &'a dyn KvRead,
    writes: WriteBatch,
    /// What each write replaced in `writes`, in order: `None` where the key was not there.
    undo: Vec<(Vec<u8>, Option<Write>)>,
}

impl<'a> Overlay<'a> {
    pub fn new(base: &'a dyn KvRead) -> Self {
        Self { base, writes: BTreeMap::new(), undo: Vec::new() }
    }

    /// What has to be committed to the base.
    pub fn into_writes(self) -> WriteBatch {
        self.writes
    }

    fn layered(&self) -> Layered<'_> {
        Layered { writes: &self.writes, below: self.base }
    }

    fn write(&mut self, key: Vec<u8>, value: Write) {
        let before = self.writes.insert(key.clone(), value);
        self.undo.push((key, before));
    }
}

impl KvRead for Overlay<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.layered().get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        self.layered().scan(from, to, visit)
    }
}

impl KvTxn for Overlay<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.write(key, None);
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint(self.undo.len())
    }

    fn rollback(&mut self, to: Savepoint) {
        while self.undo.len() > to.0
            && let Some((key, before)) = self.undo.pop()
        {
            match before {
                Some(value) => self.writes.insert(key, value),
                None => self.writes.remove(&key),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::meta::engine::MemoryEngine;
    use crate::meta::kv::{KvEngine, Pair};

    type Pairs = Vec<Pair>;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(0u8..4, 0..3)
    }

    fn writes() -> impl Strategy<Value = Vec<(Vec<u8>, Write)>> {
        let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..2));
        prop::collection::vec((key(), value), 0..20)
    }

    fn write(txn: &mut dyn KvTxn, key: &[u8], value: Option<&Vec<u8>>) {
        match value {
            Some(value) => txn.put(key.to_vec(), value.clone()),
            None => txn.delete(key.to_vec()),
        }
    }

    fn write_model(model: &mut BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8], value: Option<&Vec<u8>>) {
        match value {
            Some(value) => model.insert(key.to_vec(), value.clone()),
            None => model.remove(key),
        };
    }

    fn scanned(read: &dyn KvRead, from: &[u8], to: &[u8], limit: usize) -> Pairs {
        let mut found = Vec::new();
        read.scan(from, to, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(found.len() < limit)
        })
        .unwrap();
        found
    }

    proptest! {
        /// A transaction reads as if its writes were in the table, and a rollback as if they had
        /// never been made.
        #[test]
        fn reads_like_a_table_with_the_writes(
            stored in writes(), kept in writes(), undone in writes(),
            from in key(), to in key(), limit in 1usize..8,
        ) {
            let engine = MemoryEngine::default();
            let mut model = BTreeMap::new();
            engine.commit(stored.iter().cloned().collect()).unwrap();
            let stored: BTreeMap<_, _> = stored.into_iter().collect();
            stored.iter().for_each(|(key, value)| write_model(&mut model, key, value.as_ref()));
            let mut overlay = Overlay::new(&engine);
            for (key, value) in &kept {
                write(&mut overlay, key, value.as_ref());
                write_model(&mut model, key, value.as_ref());
            }
            let here = overlay.savepoint();
            undone.iter().for_each(|(key, value)| write(&mut overlay, key, value.as_ref()));
            overlay.rollback(here);

            let all: Pairs = model.clone().into_iter().collect();
            prop_assert_eq!(scanned(&overlay, &[], &[9], usize::MAX), all.clone());
            let some = all.into_iter().filter(|(key, _)| *key >= from && *key < to);
            prop_assert_eq!(scanned(&overlay, &from, &to, limit), some.take(limit).collect::<Pairs>());
            prop_assert_eq!(overlay.get(&from).unwrap(), model.get(&from).cloned());
            engine.commit(overlay.into_writes()).unwrap();
            prop_assert_eq!(scanned(&engine, &[], &[9], usize::MAX), model.into_iter().collect::<Pairs>());
        }
    }
}
