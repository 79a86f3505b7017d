//! What every engine must do: the contract of `KvRead` and `KvEngine`, checked on each with one line.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{Amount, EngineKind, Limits, WriteBack, open, open_direct};
use crate::error::Result;
use crate::meta::kv::{KvEngine, KvRead, Pair, WriteBatch};
use crate::types::limits::RECORD_MAX;

const CACHE: u64 = 8 << 20;

type Open = fn(&Path) -> Result<Box<dyn KvEngine>>;

/// What holds in memory and on disk.
pub fn suite(open: Open) {
    random_batches_read_like_a_map(open);
    a_visitor_stops_the_scan_and_its_errors_come_through(open);
    a_visitor_may_read(open);
    the_largest_records_fit(open);
}

/// And what holds on disk.
pub fn suite_on_disk(open: Open) {
    suite(open);
    a_flushed_table_comes_back(open);
    a_table_in_use_is_not_opened_twice(open);
}

fn with_engine(open: Open, test: impl FnOnce(&dyn KvEngine)) {
    let dir = tempfile::tempdir().unwrap();
    test(&*open(dir.path()).unwrap());
}

fn pairs(engine: &dyn KvRead, from: &[u8], to: &[u8]) -> Vec<Pair> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(true)
    };
    engine.scan(from, to, &mut visit).unwrap();
    found
}

fn put(engine: &dyn KvEngine, key: &[u8], value: &[u8]) {
    engine.commit([(key.to_vec(), Some(value.to_vec()))].into()).unwrap();
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(prop_oneof![Just(0u8), Just(b'/'), Just(0xff), any::<u8>()], 1..4),
        prop::collection::vec(any::<u8>(), 250..300),
    ]
}

fn batch() -> impl Strategy<Value = WriteBatch> {
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::btree_map(key(), value, 0..30)
}

/// Any batches, any range: what a map in memory says, in key order, empty values included.
fn random_batches_read_like_a_map(open: Open) {
    let input = (prop::collection::vec(batch(), 1..8), key(), key());
    let config = ProptestConfig { cases: 24, ..ProptestConfig::default() };
    TestRunner::new(config)
        .run(&input, |(batches, from, to)| {
            with_engine(open, |engine| {
                let mut model = BTreeMap::new();
                for batch in batches {
                    engine.commit(batch.clone()).unwrap();
                    for (key, value) in batch {
                        match value {
                            Some(value) => model.insert(key, value),
                            None => model.remove(&key),
                        };
                    }
                }
                let all = model.iter().map(|(key, value)| (key.clone(), value.clone()));
                assert_eq!(pairs(engine, &[], &[0xff; 301]), all.clone().collect::<Vec<_>>());
                let some = all.filter(|(key, _)| *key >= from && *key < to);
                assert_eq!(pairs(engine, &from, &to), some.collect::<Vec<_>>());
                for key in model.keys().chain([&from, &to]) {
                    assert_eq!(engine.get(key).unwrap(), model.get(key).cloned());
                }
            });
            Ok(())
        })
        .unwrap();
}

fn a_visitor_stops_the_scan_and_its_errors_come_through(open: Open) {
    with_engine(open, |engine| {
        (0..100u8).for_each(|key| put(engine, &[key], b"v"));
        let mut seen = 0;
        let mut three = |_: &[u8], _: &[u8]| {
            seen += 1;
            Ok(seen < 3)
        };
        engine.scan(&[10], &[90], &mut three).unwrap();
        assert_eq!(seen, 3);
        let failed = engine.scan(&[10], &[90], &mut |_, _| Err(crate::error::Error::Conflict));
        assert!(matches!(failed, Err(crate::error::Error::Conflict)));
    });
}

fn a_visitor_may_read(open: Open) {
    with_engine(open, |engine| {
        put(engine, b"a", b"b");
        put(engine, b"b", b"c");
        let mut found = None;
        let mut follow = |_: &[u8], value: &[u8]| {
            found = engine.get(value)?;
            Ok(false)
        };
        engine.scan(b"a", b"b", &mut follow).unwrap();
        assert_eq!(found.unwrap(), b"c");
    });
}

fn the_largest_records_fit(open: Open) {
    with_engine(open, |engine| {
        let value: Vec<u8> = (0..RECORD_MAX).map(|byte| byte as u8).collect();
        let records = (0..64u8).map(|key| (vec![key], Some(value.clone())));
        engine.commit(records.collect()).unwrap();
        assert_eq!(pairs(engine, &[], &[64]).len(), 64);
        assert_eq!(engine.get(&[63]).unwrap().unwrap(), value);
    });
}

fn fill(dir: &Path, open: Open) -> Vec<Pair> {
    let engine = open(dir).unwrap();
    for round in 0..20u32 {
        let record = |key: u32| (key.to_be_bytes().to_vec(), Some(round.to_le_bytes().to_vec()));
        engine.commit((round * 10..round * 10 + 100).map(record).collect()).unwrap();
        engine.commit([(round.to_be_bytes().to_vec(), None)].into()).unwrap();
    }
    engine.flush(&mut || Ok(())).unwrap();
    assert!(engine.size_on_disk().unwrap() > 0);
    pairs(&*engine, &[], &[0xff; 8])
}

fn a_flushed_table_comes_back(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("made/by it");
    let written = fill(&below, open);
    for _ in 0..3 {
        assert_eq!(pairs(&*open(&below).unwrap(), &[], &[0xff; 8]), written);
    }
}

fn a_table_in_use_is_not_opened_twice(open: Open) {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(dir.path()).unwrap();
    assert!(open(dir.path()).is_err());
}

/// Gathers so little that every test reaches the engine below.
fn tight(engine: Box<dyn KvEngine>) -> Result<Box<dyn KvEngine>> {
    let write = Amount { records: 7, bytes: 4096 };
    Ok(Box::new(WriteBack::new(engine, Limits { write, hold: write })?))
}

#[test]
fn memory_conforms() {
    suite(|dir| open(EngineKind::Memory, dir, CACHE));
}

#[test]
fn sled_conforms() {
    suite_on_disk(|dir| open_direct(EngineKind::Sled, dir, CACHE));
}

#[test]
fn redb_conforms() {
    suite_on_disk(|dir| open_direct(EngineKind::Redb, dir, CACHE));
}

#[test]
fn gathering_before_memory_conforms() {
    suite(|dir| tight(open_direct(EngineKind::Memory, dir, CACHE)?));
}

#[test]
fn gathering_before_sled_conforms() {
    suite_on_disk(|dir| tight(open_direct(EngineKind::Sled, dir, CACHE)?));
}

#[test]
fn gathering_before_redb_conforms() {
    suite_on_disk(|dir| open(EngineKind::Redb, dir, CACHE));
}
