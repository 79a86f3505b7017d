//! A scan of the whole table as it was at one moment, while commits go on.
//!
//! The engine has no snapshots: before a commit changes a record that the scan has not reached, it
//! saves what was there. Invariant: saved records are at or beyond the cursor.

use super::digest::Digest;
use super::keys;
use super::kv::{KvRead, Pair};
use super::saved::{Old, Saved, Spill};
use super::table::Table;
use crate::error::{Error, Result};

/// Records in a page at most: sled reads them in 10 ms, during which nothing is committed.
const PAGE_RECORDS: usize = 2048;

/// A scan in progress, as the applier sees it.
pub struct Scan {
    /// Keys below are read.
    cursor: Vec<u8>,
    saved: Saved,
    /// Why saving stopped: the scan fails, commits do not.
    failed: Option<Error>,
}

impl Scan {
    fn new(spill: Option<Spill>) -> Self {
        Self { cursor: Vec::new(), saved: Saved::new(spill), failed: None }
    }

    /// Told of a record before it changes.
    pub fn before_change(&mut self, key: &[u8], old: Option<&[u8]>) {
        if self.failed.is_none() && key >= self.cursor.as_slice() {
            self.failed = self.saved.save(key, old).err();
        }
    }
}

/// Reads the table page by page. Dropping it ends the scan.
pub struct SnapshotScan<'a> {
    table: &'a Table,
    applied: Option<Vec<u8>>,
    /// As of the start, and of what was read.
    expected: Digest,
    read: Digest,
}

impl Table {
    /// Starts a scan of the table as it is now. The caller holds no view.
    ///
    /// # Errors
    /// [`Error::NotSupported`] while another one is in progress.
    pub fn begin_snapshot(&self) -> Result<SnapshotScan<'_>> {
        let digest = self.applier.lock();
        let applied = self.applied()?;
        let mut scan = self.scan.lock();
        if scan.is_some() {
            return Err(Error::NotSupported("two snapshots at a time"));
        }
        *scan = Some(Scan::new(self.spill.clone()));
        Ok(SnapshotScan { table: self, applied, expected: *digest, read: Digest::default() })
    }
}

impl Drop for SnapshotScan<'_> {
    fn drop(&mut self) {
        *self.table.scan.lock() = None;
    }
}

impl SnapshotScan<'_> {
    /// The `applied` value of the moment; also among the records.
    pub fn applied(&self) -> Option<&[u8]> {
        self.applied.as_deref()
    }

    /// The next records in key order, about `max_bytes` of them but at least one; `None` at the
    /// end. Keeps commits out while it reads.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the end when the records are not what was committed: the table has
    /// lost something, and the snapshot is worth nothing.
    pub fn next_page(&mut self, max_bytes: usize) -> Result<Option<Vec<Pair>>> {
        let engine = self.table.engine.read();
        let mut scan = self.table.scan.lock();
        let Some(scan) = scan.as_mut() else { return Ok(None) };
        if let Some(error) = &scan.failed {
            return Err(error.clone());
        }
        let page = Page::read(&**engine, scan, max_bytes)?;
        page.iter().for_each(|(key, value)| self.read.add(key, value));
        if !page.is_empty() {
            return Ok(Some(page));
        }
        self.read.check(&self.expected).map(|()| None)
    }
}

struct Page {
    records: Vec<Pair>,
    bytes: usize,
    max_bytes: usize,
    /// The last key that was looked at.
    reached: Option<Vec<u8>>,
}

impl Page {
    /// Reads on from the cursor and moves it. Empty only at the end.
    fn read(engine: &dyn KvRead, scan: &mut Scan, max_bytes: usize) -> Result<Vec<Pair>> {
        let mut page = Self { records: Vec::new(), bytes: 0, max_bytes, reached: None };
        let saved = &mut scan.saved;
        engine.scan(&scan.cursor, keys::END, &mut |key, value| {
            while let Some(before) = saved.first().filter(|first| *first < key) {
                let before = before.to_vec();
                let old = saved.take(&before)?;
                page.push(before, old);
                if page.is_full() {
                    return Ok(false);
                }
            }
            let now = match saved.first() == Some(key) {
                true => saved.take(key)?,
                false => Some(value.to_vec()),
            };
            page.push(key.to_vec(), now);
            Ok(!page.is_full())
        })?;
        while !page.is_full()
            && let Some(key) = saved.first().map(<[u8]>::to_vec)
        {
            let old = saved.take(&key)?;
            page.push(key, old);
        }
        scan.cursor = match page.is_full().then_some(page.reached).flatten() {
            Some(mut reached) => {
                reached.push(0);
                reached
            }
            None => keys::END.to_vec(),
        };
        Ok(page.records)
    }

    fn is_full(&self) -> bool {
        self.records.len() >= PAGE_RECORDS
            || (self.bytes >= self.max_bytes && !self.records.is_empty())
    }

    fn push(&mut self, key: Vec<u8>, value: Old) {
        self.reached = Some(key.clone());
        if let Some(value) = value
            && key != keys::DIGEST
        {
            self.bytes += key.len() + value.len();
            self.records.push((key, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;

    use super::*;
    use crate::meta::engine::{self, EngineKind};
    use crate::meta::kv::{KvTxn, WriteBatch};

    type Model = BTreeMap<Vec<u8>, Vec<u8>>;

    fn write(table: &Table, model: &mut Model, batch: &WriteBatch) {
        let work = |txn: &mut dyn KvTxn| {
            for (key, value) in batch.clone() {
                match value {
                    Some(value) => txn.put(key, value),
                    None => txn.delete(key),
                }
            }
            Ok(())
        };
        table.transact(work).unwrap();
        for (key, value) in batch.clone() {
            match value {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
    }

    fn batch(len: std::ops::Range<usize>) -> impl Strategy<Value = WriteBatch> {
        let key = prop::collection::vec(b'E'..b'M', 1..3);
        let value = prop::option::weighted(0.6, prop::collection::vec(any::<u8>(), 0..6));
        prop::collection::btree_map(key, value, len)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Page(usize),
        Write(WriteBatch),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let page = (0usize..40).prop_map(Step::Page);
        prop::collection::vec(prop_oneof![page, batch(0..12).prop_map(Step::Write)], 0..20)
    }

    /// Commits before, between and after the pages: what comes out is the table of the start, and
    /// the next scan sees the table of its own start.
    fn scans_the_state_of_its_start(kind: EngineKind, cases: u32) {
        let input = (batch(0..40), steps(), 0usize..60);
        let config = ProptestConfig { cases, ..ProptestConfig::default() };
        TestRunner::new(config)
            .run(&input, |(initial, steps, above)| {
                let dir = tempfile::tempdir().unwrap();
                let engine = engine::open(kind, dir.path(), 1 << 20).unwrap();
                let table =
                    Table::over(engine, Some(Spill { dir: dir.path().into(), above })).unwrap();
                let mut model = Model::new();
                write(&table, &mut model, &initial);
                for _ in 0..2 {
                    let start = model.clone();
                    let mut scan = table.begin_snapshot().unwrap();
                    let mut found = Vec::new();
                    for step in &steps {
                        match step {
                            Step::Write(batch) => write(&table, &mut model, batch),
                            Step::Page(bytes) => {
                                found.extend(scan.next_page(*bytes).unwrap().unwrap_or_default());
                            }
                        }
                    }
                    while let Some(page) = scan.next_page(30).unwrap() {
                        found.extend(page);
                    }
                    prop_assert_eq!(found, start.into_iter().collect::<Vec<_>>());
                }
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn scans_memory_while_it_changes() {
        scans_the_state_of_its_start(EngineKind::Memory, 400);
    }

    #[test]
    fn scans_sled_while_it_changes() {
        scans_the_state_of_its_start(EngineKind::Sled, 12);
    }

    #[test]
    fn scans_redb_while_it_changes() {
        scans_the_state_of_its_start(EngineKind::Redb, 12);
    }

    #[test]
    fn there_is_one_at_a_time_and_it_knows_its_position() {
        let table = Table::memory().unwrap();
        write(&table, &mut Model::new(), &[(keys::APPLIED.to_vec(), Some(b"7".into()))].into());
        let scan = table.begin_snapshot().unwrap();
        assert_eq!(scan.applied(), Some(&b"7"[..]));
        assert!(matches!(table.begin_snapshot(), Err(Error::NotSupported(_))));
        drop(scan);
        table.begin_snapshot().unwrap();
    }

    /// A full disk fails the scan, not the commits.
    #[test]
    fn a_failed_spill_fails_the_scan_only() {
        let nowhere = Spill { dir: "/nowhere/at/all".into(), above: 0 };
        let engine = engine::open(EngineKind::Memory, "".as_ref(), 0).unwrap();
        let table = Table::over(engine, Some(nowhere)).unwrap();
        let mut scan = table.begin_snapshot().unwrap();
        write(&table, &mut Model::new(), &[(b"k".to_vec(), Some(b"v".to_vec()))].into());
        assert!(matches!(scan.next_page(10), Err(Error::Io { .. })));
    }

    /// The engine lost a record behind the table's back: the scan says so, instead of handing out a
    /// snapshot that would replace the log.
    #[test]
    fn a_lost_record_is_noticed() {
        let table = Table::memory().unwrap();
        let batch = |value| [(b"k".to_vec(), value), (b"l".to_vec(), Some(b"v".to_vec()))].into();
        write(&table, &mut Model::new(), &batch(Some(b"v".to_vec())));
        table.engine.write().commit(batch(None)).unwrap();
        let mut scan = table.begin_snapshot().unwrap();
        assert_eq!(scan.next_page(100).unwrap().unwrap().len(), 1);
        assert!(matches!(scan.next_page(100), Err(Error::Damaged(_))));
    }
}
