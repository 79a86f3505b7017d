//! Commits kept in memory and written to an engine in larger batches, by a thread of its own.
//!
//! sled writes to disk twice for every batch and waits for neither (measured: 2 to 3 KiB of disk a
//! create, a backlog without bound); redb rewrites the path to every changed record. Gathered, the
//! records that change with every mutation are written once in a thousand, and outcomes that come
//! and go never. The log makes up for what a crash takes from memory.

use std::mem;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};

use crate::env::Worker;
use crate::error::{Error, Result};
use crate::meta::kv::{KvEngine, KvRead, Visitor, WriteBatch};
use crate::meta::layered::Layered;

/// When gathered changes are written, and when commits wait for that: in records and bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Readers of sled wait while a batch of this size is written: some milliseconds.
    pub write: Amount,
    pub hold: Amount,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Amount {
    pub records: usize,
    pub bytes: usize,
}

impl Amount {
    fn reaches(self, limit: Self) -> bool {
        self.records >= limit.records || self.bytes >= limit.bytes
    }
}

pub struct WriteBack {
    shared: Arc<Shared>,
    /// Woken when there is much to write.
    worker: Worker,
}

/// Locks are taken in the order of the fields.
struct Shared {
    engine: Box<dyn KvEngine>,
    limits: Limits,
    /// Held while something is written to the engine.
    writing: Mutex<()>,
    state: Mutex<State>,
    /// Readers nest (a visitor may get): they take the lock recursively.
    buffers: RwLock<Buffers>,
    changed: Condvar,
}

#[derive(Default)]
struct Buffers {
    /// Committed since the last time.
    active: WriteBatch,
    amount: Amount,
    /// On its way to the engine, and to be read here until all of it is there.
    frozen: WriteBatch,
}

#[derive(Default)]
struct State {
    wanted: bool,
    /// The engine refused a batch: it is never written to again.
    failed: Option<Error>,
}

impl WriteBack {
    pub fn new(engine: Box<dyn KvEngine>, limits: Limits) -> Result<Self> {
        let shared = Arc::new(Shared {
            engine,
            limits,
            writing: Mutex::default(),
            buffers: RwLock::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = shared.clone();
        let worker = Worker::start("meta-write-back", move || writer.write_if_wanted())?;
        Ok(Self { shared, worker })
    }
}

impl Drop for WriteBack {
    /// Writes what is left. Not written, it would be replayed from the log.
    fn drop(&mut self) {
        self.worker.stop();
        if let Err(error) = self.shared.write_all(&mut || Ok(())) {
            log::warn!("the metadata table was closed without its last changes: {error}");
        }
    }
}

impl Shared {
    fn write_if_wanted(&self) {
        if mem::take(&mut self.state.lock().wanted) {
            // A failure is kept in the state, for the next who wants room.
            let _ = self.write_all(&mut || Ok(()));
        }
    }

    /// Brings what is committed by now to the engine; then `after` runs, before more gets there.
    fn write_all(&self, after: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let writing = self.writing.lock();
        let failure = self.state.lock().failed.clone();
        let result = match failure {
            Some(error) => Err(error),
            None => self.write_active().inspect_err(|error| {
                self.state.lock().failed = Some(error.clone());
                self.changed.notify_all();
            }),
        };
        let result = result.and_then(|()| after());
        drop(writing);
        result
    }

    fn write_active(&self) -> Result<()> {
        {
            let mut buffers = self.buffers.write();
            buffers.frozen = mem::take(&mut buffers.active);
            buffers.amount = Amount::default();
        }
        // Who waits for room holds the lock from looking to waiting: this cannot fall in between.
        drop(self.state.lock());
        self.changed.notify_all();
        let batch = self.needed(&self.buffers.read_recursive().frozen)?;
        if !batch.is_empty() {
            self.engine.commit(batch)?;
        }
        self.buffers.write().frozen = WriteBatch::new();
        Ok(())
    }

    /// Without the deletions of what never reached the engine.
    fn needed(&self, frozen: &WriteBatch) -> Result<WriteBatch> {
        let mut batch = WriteBatch::new();
        for (key, value) in frozen {
            if value.is_some() || self.engine.get(key)?.is_some() {
                batch.insert(key.clone(), value.clone());
            }
        }
        Ok(batch)
    }
}

impl KvRead for WriteBack {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        {
            let buffers = self.shared.buffers.read_recursive();
            if let Some(written) = buffers.active.get(key).or_else(|| buffers.frozen.get(key)) {
                return Ok(written.clone());
            }
        }
        self.shared.engine.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        let buffers = self.shared.buffers.read_recursive();
        let below = Layered { writes: &buffers.frozen, below: &*self.shared.engine };
        let scanned = Layered { writes: &buffers.active, below: &below }.scan(from, to, visit);
        // A commit that waits is next, also before whoever scans on.
        RwLockReadGuard::unlock_fair(buffers);
        scanned
    }
}

impl KvEngine for WriteBack {
    fn make_room(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if !self.shared.buffers.read_recursive().amount.reaches(self.shared.limits.hold) {
                return Ok(());
            }
            self.shared.changed.wait(&mut state);
        }
    }

    fn commit(&self, batch: WriteBatch) -> Result<()> {
        let mut buffers = self.shared.buffers.write();
        for (key, value) in batch {
            buffers.amount.bytes += key.len() + value.as_ref().map_or(0, Vec::len);
            buffers.active.insert(key, value);
        }
        buffers.amount.records = buffers.active.len();
        let wanted = buffers.amount.reaches(self.shared.limits.write);
        drop(buffers);
        if wanted {
            self.shared.state.lock().wanted = true;
            self.worker.wake();
        }
        Ok(())
    }

    fn read_ahead(&self, from: &[u8], to: &[u8], bytes: usize) -> Result<()> {
        let mut left = bytes;
        self.shared.engine.scan(from, to, &mut |key, value| {
            left = left.saturating_sub(key.len() + value.len());
            Ok(left > 0)
        })
    }

    fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.shared.write_all(&mut || self.shared.engine.flush(before))
    }

    fn size_on_disk(&self) -> Result<u64> {
        self.shared.engine.size_on_disk()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::meta::engine::MemoryEngine;

    /// Fails, or waits for the test, where a disk would.
    struct Slow {
        inner: MemoryEngine,
        gate: Mutex<()>,
        fails: bool,
    }

    impl KvRead for Slow {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.inner.get(key)
        }

        fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
            self.inner.scan(from, to, visit)
        }
    }

    impl KvEngine for Arc<Slow> {
        fn commit(&self, batch: WriteBatch) -> Result<()> {
            let _open = self.gate.lock();
            if self.fails { Err(Error::NoSpace) } else { self.inner.commit(batch) }
        }

        fn flush(&self, before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
            before()
        }

        fn size_on_disk(&self) -> Result<u64> {
            Ok(0)
        }
    }

    impl KvRead for Arc<Slow> {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            (**self).get(key)
        }

        fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
            (**self).scan(from, to, visit)
        }
    }

    fn records(records: usize) -> Amount {
        Amount { records, bytes: usize::MAX }
    }

    fn over(fails: bool) -> (Arc<Slow>, WriteBack) {
        let slow = Arc::new(Slow { inner: MemoryEngine::default(), gate: Mutex::default(), fails });
        let limits = Limits { write: records(2), hold: records(4) };
        (slow.clone(), WriteBack::new(Box::new(slow), limits).unwrap())
    }

    fn put(engine: &dyn KvEngine, key: u8) {
        engine.commit([(vec![key], Some(vec![key]))].into()).unwrap();
    }

    fn keys(engine: &dyn KvRead) -> Vec<u8> {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            keys.push(key[0]);
            Ok(true)
        };
        engine.scan(&[], &[9], &mut visit).unwrap();
        keys
    }

    /// While the engine is stuck, reads see three layers as one, and room is there up to the limit.
    #[test]
    fn everything_is_readable_while_it_is_on_its_way() {
        let (slow, engine) = over(false);
        put(&engine, 2);
        engine.flush(&mut || Ok(())).unwrap();
        let stuck = slow.gate.lock();
        put(&engine, 1);
        put(&engine, 4);
        while !engine.shared.buffers.read().active.is_empty() {
            thread::yield_now();
        }
        engine.commit([(vec![2], None), (vec![3], Some(vec![3]))].into()).unwrap();
        engine.make_room().unwrap();
        assert_eq!(keys(&engine), [1, 3, 4]);
        assert_eq!(engine.get(&[2]).unwrap(), None);
        assert_eq!(engine.get(&[4]).unwrap().unwrap(), [4]);
        assert_eq!(keys(&slow.inner), [2]);
        drop(stuck);
        engine.flush(&mut || Ok(())).unwrap();
        assert_eq!(keys(&slow.inner), [1, 3, 4]);
    }

    #[test]
    fn who_is_too_far_ahead_waits() {
        let (slow, engine) = over(false);
        let stuck = slow.gate.lock();
        (0..8).for_each(|key| put(&engine, key));
        thread::scope(|scope| {
            let waiting = scope.spawn(|| engine.make_room());
            drop(stuck);
            waiting.join().unwrap().unwrap();
        });
        assert_eq!(keys(&engine), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_failed_write_is_told_and_final() {
        let (_, engine) = over(true);
        put(&engine, 1);
        assert!(matches!(engine.flush(&mut || Ok(())), Err(Error::NoSpace)));
        assert!(matches!(engine.make_room(), Err(Error::NoSpace)));
        assert_eq!(keys(&engine), [1]);
    }

    /// Nothing that is committed after `before` began may get into what is made durable.
    #[test]
    fn a_flush_covers_what_was_there_before() {
        let (slow, engine) = over(false);
        put(&engine, 1);
        let mut before = || {
            (2..6).for_each(|key| put(&engine, key));
            assert_eq!(keys(&slow.inner), [1]);
            Ok(())
        };
        engine.flush(&mut before).unwrap();
    }

    #[test]
    fn what_comes_and_goes_never_reaches_the_engine() {
        let (_, engine) = over(true);
        put(&engine, 1);
        engine.commit([(vec![1], None)].into()).unwrap();
        engine.flush(&mut || Ok(())).unwrap();
        assert_eq!(engine.get(&[1]).unwrap(), None);
    }
}
