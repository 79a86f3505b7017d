//! A scan of the whole table as it was at one moment, while commits go on.
//!
//! The engine has no snapshots: before a commit changes a record that the scan has not reached, it
//! saves what was there. Invariant: saved records are at or beyond the cursor.

use std::sync::Arc;

use super::digest::Digest;
use super::keys;
use super::kv::{KvEngine, Pair};
use super::saved::{Old, Saved, Spill};
use super::table::Table;
use crate::error::{Error, Result};

/// Records in a page at most.
const PAGE_RECORDS: usize = 2048;
/// Records that are read in one go: sled takes half a millisecond for them, during which nothing is committed.
const STEP_RECORDS: usize = 128;

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
    /// end. Commits go on while the engine reads, and wait only until that is put together with what they
    /// changed.
    ///
    /// # Errors
    /// [`Error::Damaged`] at the end when the records are not what was committed: the table has
    /// lost something, and the snapshot is worth nothing.
    pub fn next_page(&mut self, max_bytes: usize) -> Result<Option<Vec<Pair>>> {
        loop {
            let Some(ahead) = self.look_ahead(max_bytes)? else { return Ok(None) };
            let is_last = ahead.is_last;
            let page = self.settle(ahead, max_bytes)?;
            page.iter().for_each(|(key, value)| self.read.add(key, value));
            if !page.is_empty() {
                return Ok(Some(page));
            }
            if is_last {
                return self.read.check(&self.expected).map(|()| None);
            }
        }
    }

    /// What the engine has from the cursor on; `None` when there is no scan any more.
    fn look_ahead(&self, max_bytes: usize) -> Result<Option<Ahead>> {
        let cursor = self.table.scan.lock().as_ref().map(|scan| scan.cursor.clone());
        let Some(cursor) = cursor else { return Ok(None) };
        // Under the table's own lock a commit would wait, and keep all readers out meanwhile.
        let engine = Arc::clone(&self.table.engine.read());
        Ahead::read(&*engine, cursor, max_bytes).map(Some)
    }

    fn settle(&self, ahead: Ahead, max_bytes: usize) -> Result<Vec<Pair>> {
        let mut scan = self.table.scan.lock();
        let Some(scan) = scan.as_mut() else { return Ok(Vec::new()) };
        match &scan.failed {
            Some(error) => Err(error.clone()),
            None => Page::settle(ahead, scan, max_bytes),
        }
    }
}

/// Records as the engine had them one after the other, some of them changed since the scan began. Of each that
/// was, [`Scan::before_change`] has heard before it was.
struct Ahead {
    records: Vec<Pair>,
    /// Nothing came after them.
    is_last: bool,
}

impl Ahead {
    fn read(engine: &dyn KvEngine, mut from: Vec<u8>, max_bytes: usize) -> Result<Self> {
        engine.read_ahead(&from, keys::END, max_bytes)?;
        let (mut records, mut bytes) = (Vec::new(), 0);
        loop {
            let (mut left, mut is_last) = (STEP_RECORDS, true);
            engine.scan(&from, keys::END, &mut |key, value| {
                bytes += key.len() + value.len();
                records.push((key.to_vec(), value.to_vec()));
                left -= 1;
                is_last = left > 0 && bytes < max_bytes;
                Ok(is_last)
            })?;
            if is_last || bytes >= max_bytes || records.len() >= PAGE_RECORDS {
                return Ok(Self { records, is_last });
            }
            from = records.last().map(|(key, _)| after(key)).unwrap_or(from);
        }
    }
}

/// The first key behind `key`.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

struct Page {
    records: Vec<Pair>,
    bytes: usize,
    max_bytes: usize,
    /// The last key that was looked at.
    reached: Vec<u8>,
}

impl Page {
    /// Puts the values of the start in the place of those that came later, and moves the cursor as far as the
    /// page goes. It is empty where all of `ahead` came later, too.
    fn settle(ahead: Ahead, scan: &mut Scan, max_bytes: usize) -> Result<Vec<Pair>> {
        let reached = scan.cursor.clone();
        let mut page = Self { records: Vec::new(), bytes: 0, max_bytes, reached };
        let Ahead { records, is_last } = ahead;
        for (key, value) in records {
            page.take_saved(&mut scan.saved, Some(&key))?;
            if page.is_full() {
                break;
            }
            let now = match scan.saved.first() == Some(&key) {
                true => scan.saved.take(&key)?,
                false => Some(value),
            };
            page.push(key, now);
            if page.is_full() {
                break;
            }
        }
        if is_last {
            page.take_saved(&mut scan.saved, None)?;
        }
        scan.cursor = match is_last && !page.is_full() {
            true => keys::END.to_vec(),
            false => after(&page.reached),
        };
        Ok(page.records)
    }

    /// Takes what was saved below `end`, until the page is full.
    fn take_saved(&mut self, saved: &mut Saved, end: Option<&[u8]>) -> Result<()> {
        while !self.is_full()
            && let Some(key) = saved.first().filter(|first| end.is_none_or(|end| *first < end))
        {
            let key = key.to_vec();
            let old = saved.take(&key)?;
            self.push(key, old);
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.records.len() >= PAGE_RECORDS
            || (self.bytes >= self.max_bytes && !self.records.is_empty())
    }

    fn push(&mut self, key: Vec<u8>, value: Old) {
        self.reached.clone_from(&key);
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
        /// Commits one batch between reading and settling.
        Page(usize, WriteBatch),
        Write(WriteBatch),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let page = (0usize..40, batch(0..12)).prop_map(|(bytes, batch)| Step::Page(bytes, batch));
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
                            Step::Page(bytes, batch) => {
                                let ahead = scan.look_ahead(*bytes).unwrap().unwrap();
                                write(&table, &mut model, batch);
                                let page = scan.settle(ahead, *bytes).unwrap();
                                page.iter().for_each(|(key, value)| scan.read.add(key, value));
                                found.extend(page);
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
