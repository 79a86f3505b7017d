//! The table of all records: applied to by one, read by many, kept by an engine.

use std::path::Path;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use super::apply::{Applied, apply};
use super::codec;
use super::digest::Digest;
use super::engine::{self, EngineKind, files};
use super::keys;
use super::kv::{KvEngine, KvRead, KvTxn, WriteBatch};
use super::mutation::Request;
use super::overlay::Overlay;
use super::probe::Probe;
use super::saved::Spill;
use super::seal;
use super::snapshot_scan::Scan;
use super::view::View;
use crate::error::Result;

/// Bytes of old records that a snapshot keeps in memory.
const SAVED_MAX: usize = 64 << 20;

/// Records between two words of progress.
const PROGRESS_RECORDS: u64 = 1 << 16;

/// Locks are taken in the order of the fields.
pub struct Table {
    /// Held while the engine is flushed, and while it is closed: whoever flushes has it without
    /// `engine`.
    flushing: Mutex<()>,
    /// Held while a batch is made and committed; with the digest of what is committed.
    pub(super) applier: Mutex<Digest>,
    /// Held for reading by views, for writing while all records are replaced: in between a table
    /// shows nothing that ever was.
    pub(super) whole: RwLock<()>,
    /// Held for reading by views, for writing only while a batch becomes visible.
    pub(super) engine: RwLock<Arc<dyn KvEngine>>,
    /// The snapshot that is being read, if any.
    pub(super) scan: Mutex<Option<Scan>>,
    pub(super) spill: Option<Spill>,
}

impl Table {
    /// Whether [`Self::open`] may be called on what is in `dir`: an engine may abort the process
    /// over damaged files. A closed table is trusted, for opening compares its checksums; one that
    /// was in use when its process died is opened and read by `probe` (2 to 8 s for 1 M files).
    ///
    /// # Errors
    /// Any: set the directory aside and rebuild.
    pub fn check_openable(
        kind: EngineKind,
        dir: &Path,
        probe: &Probe,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let trusted = kind == EngineKind::Memory || seal::exists(dir) || !files::any(dir)?;
        if trusted { Ok(()) } else { probe.run(kind, dir, progress) }
    }

    /// Opens the table in `dir`, or makes an empty one, whose [`Self::applied`] is `None`.
    ///
    /// # Errors
    /// [`crate::error::Error::Damaged`], also when a file changed since the table was closed, and
    /// I/O errors: set the directory aside and rebuild.
    pub fn open(kind: EngineKind, dir: &Path, cache_bytes: u64) -> Result<Self> {
        let spill = match kind {
            EngineKind::Sled | EngineKind::Redb => {
                seal::verify(dir)?;
                seal::remove(dir)?;
                Some(Spill { dir: dir.to_path_buf(), above: SAVED_MAX })
            }
            EngineKind::Memory => None,
        };
        Self::over(engine::open(kind, dir, cache_bytes)?, spill)
    }

    /// An empty table that is gone with the process.
    pub fn memory() -> Result<Self> {
        Self::open(EngineKind::Memory, Path::new(""), 0)
    }

    pub(super) fn over(engine: Box<dyn KvEngine>, spill: Option<Spill>) -> Result<Self> {
        let digest = match engine.get(keys::DIGEST)? {
            Some(bytes) => codec::decode(&bytes)?,
            None => Digest::default(),
        };
        Ok(Self {
            flushing: Mutex::default(),
            applier: Mutex::new(digest),
            whole: RwLock::new(()),
            engine: RwLock::new(engine.into()),
            scan: Mutex::new(None),
            spill,
        })
    }

    /// What the last [`Self::apply`] or [`Self::load`] brought as `applied`; `None` on a table that
    /// is empty or was not loaded to its end.
    pub fn applied(&self) -> Result<Option<Vec<u8>>> {
        self.engine.read().get(keys::APPLIED)
    }

    /// Reads of one state. See [`View`] for what its holder must not do.
    pub fn view(&self) -> View<'_> {
        View::new(self.whole.read(), self.engine.read())
    }

    /// Applies the requests of one or more log entries in order, and commits what they changed as
    /// one batch with the new `applied` value. Gives one answer a request.
    ///
    /// # Errors
    /// Only such after which the node cannot go on: I/O and damage. Nothing is committed.
    pub fn apply(&self, requests: &[Request], applied: Vec<u8>) -> Result<Vec<Applied>> {
        let mut answers = Vec::with_capacity(requests.len());
        self.transact(|txn| {
            for request in requests {
                answers.push(apply(txn, request)?);
            }
            txn.put(keys::APPLIED.to_vec(), applied);
            Ok(())
        })?;
        Ok(answers)
    }

    /// Commits what `work` writes as one batch; nothing of it when it fails.
    pub(super) fn transact(&self, work: impl FnOnce(&mut dyn KvTxn) -> Result<()>) -> Result<()> {
        let mut digest = self.applier.lock();
        let engine = self.engine.read();
        engine.make_room()?;
        let mut overlay = Overlay::new(&**engine);
        work(&mut overlay)?;
        let mut batch = overlay.into_writes();
        let next = self.account(*digest, &**engine, &batch)?;
        batch.insert(keys::DIGEST.to_vec(), Some(codec::encode(&next)?));
        drop(engine);
        self.engine.write().commit(batch)?;
        *digest = next;
        Ok(())
    }

    /// The digest after `batch`; what `batch` replaces is saved for a scan in progress.
    fn account(&self, mut digest: Digest, now: &dyn KvRead, batch: &WriteBatch) -> Result<Digest> {
        let mut scan = self.scan.lock();
        for (key, value) in batch {
            let old = now.get(key)?;
            if let Some(scan) = scan.as_mut() {
                scan.before_change(key, old.as_deref());
            }
            if let Some(old) = &old {
                digest.remove(key, old);
            }
            if let Some(value) = value {
                digest.add(key, value);
            }
        }
        Ok(digest)
    }

    /// See [`KvEngine::flush`].
    pub fn flush(&self) -> Result<()> {
        self.flush_after(&mut || Ok(()))
    }

    /// As [`Self::flush`]; `sync_log` runs when it is settled what gets durable, so that the table
    /// on disk is never ahead of a log that syncs what it has then. Reads and commits go on
    /// meanwhile: held for that long, the lock would stop them, for a commit that waits for it
    /// keeps readers out.
    pub fn flush_after(&self, sync_log: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let _flushing = self.flushing.lock();
        let engine = Arc::clone(&self.engine.read());
        engine.flush(sync_log)
    }

    /// Reads everything, while nothing can be committed; `progress` is told the records read.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the records are not those that were committed.
    pub fn verify(&self, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let committed = self.applier.lock();
        let mut found = Digest::default();
        self.view().scan(&[], keys::END, &mut |key, value| {
            found.add(key, value);
            if found.records.is_multiple_of(PROGRESS_RECORDS) {
                progress(found.records);
            }
            Ok(true)
        })?;
        found.check(&committed)
    }

    /// Makes everything durable and lets go of the files, sealed for the next open. Everything
    /// fails with [`Error::ShuttingDown`] afterwards. Waits for views and for a flush.
    pub fn close(&self) -> Result<()> {
        let _flushing = self.flushing.lock();
        let _applier = self.applier.lock();
        let mut engine = self.engine.write();
        engine.flush(&mut || Ok(()))?;
        *engine = Arc::new(engine::Closed);
        drop(engine);
        match &self.spill {
            Some(Spill { dir, .. }) if !seal::write(dir)? => {
                log::warn!("{} is still in use: the next start reads all of it", dir.display());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Bytes on disk, for the operator.
    pub fn size_on_disk(&self) -> Result<u64> {
        self.engine.read().size_on_disk()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::error::Error;
    use crate::meta::Dirent;
    use crate::meta::kv::Visitor;
    use crate::types::{FileKind, FileName, Ino};

    fn name(text: &str) -> FileName {
        FileName::new(text.as_bytes()).unwrap()
    }

    fn put_name(txn: &mut dyn KvTxn, text: &str, kind: FileKind) {
        let key = match kind {
            FileKind::Directory => keys::directory_dirent(Ino::ROOT, &name(text)),
            _ => keys::file_dirent(Ino::ROOT, &name(text)),
        };
        txn.put(key, codec::encode(&Dirent { ino: Ino(7), kind }).unwrap());
    }

    /// A memory whose flushes say that they have begun, and end when they are told to.
    struct Slow {
        memory: engine::MemoryEngine,
        begun: mpsc::Sender<()>,
        end: Mutex<mpsc::Receiver<()>>,
    }

    impl KvRead for Slow {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.memory.get(key)
        }

        fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
            self.memory.scan(from, to, visit)
        }
    }

    impl KvEngine for Slow {
        fn commit(&self, batch: WriteBatch) -> Result<()> {
            self.memory.commit(batch)
        }

        fn flush(&self, _before: &mut dyn FnMut() -> Result<()>) -> Result<()> {
            self.begun.send(()).unwrap();
            self.end.lock().recv().unwrap();
            Ok(())
        }

        fn size_on_disk(&self) -> Result<u64> {
            Ok(0)
        }
    }

    /// A commit waited for the flush, and all reads for the commit.
    #[test]
    fn a_flush_holds_up_neither_commits_nor_reads() {
        let ((begun, has_begun), (end, ends)) = (mpsc::channel(), mpsc::channel());
        let slow = Slow { memory: engine::MemoryEngine::default(), begun, end: Mutex::new(ends) };
        let table = Table::over(Box::new(slow), None).unwrap();
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| table.flush());
            has_begun.recv().unwrap();
            let (seen, sees) = mpsc::channel();
            let table = &table;
            scope.spawn(move || {
                table.apply(&[], b"1".to_vec()).unwrap();
                seen.send(table.view().get(keys::APPLIED)).unwrap();
            });
            let read = sees.recv_timeout(Duration::from_secs(20));
            let is_flushing = !flush.is_finished();
            end.send(()).unwrap();
            assert_eq!(read.unwrap().unwrap().unwrap(), b"1");
            assert!(is_flushing);
            flush.join().unwrap().unwrap();
            end.send(()).unwrap();
            table.close().unwrap();
        });
    }

    #[test]
    fn a_failed_batch_leaves_nothing() {
        let table = Table::memory().unwrap();
        let failed = table.transact(|txn| {
            txn.put(keys::APPLIED.to_vec(), b"1".to_vec());
            Err(Error::NoSpace)
        });
        assert!(matches!(failed, Err(Error::NoSpace)));
        assert_eq!(table.applied().unwrap(), None);
    }

    #[test]
    fn names_are_found_in_either_spelling_and_paged_in_order() {
        let table = Table::memory().unwrap();
        let names = [
            ("a", FileKind::Directory),
            ("a b", FileKind::Regular),
            ("a-b", FileKind::Directory),
            ("a0", FileKind::Regular),
        ];
        table
            .transact(|txn| {
                names.iter().for_each(|(text, kind)| put_name(txn, text, *kind));
                Ok(())
            })
            .unwrap();
        let view = table.view();
        assert_eq!(view.lookup(Ino::ROOT, &name("a")).unwrap().unwrap().kind, FileKind::Directory);
        assert_eq!(view.lookup(Ino::ROOT, &name("a0")).unwrap().unwrap().kind, FileKind::Regular);
        assert_eq!(view.lookup(Ino::ROOT, &name("b")).unwrap(), None);

        let (mut after, mut listed) = (None, Vec::new());
        loop {
            let page = view.children(Ino::ROOT, after.as_ref(), 1).unwrap();
            let Some((name, dirent)) = page.into_iter().next() else { break };
            listed.push(name.to_string());
            after = Some((name, dirent.kind == FileKind::Directory));
        }
        assert_eq!(listed, ["a b", "a-b", "a", "a0"]);
    }

    #[test]
    fn the_digest_is_nobodys_record() {
        let table = Table::memory().unwrap();
        table
            .transact(|txn| {
                txn.put(b"k".to_vec(), b"v".to_vec());
                Ok(())
            })
            .unwrap();
        let mut seen = Vec::new();
        let mut visit = |key: &[u8], _: &[u8]| {
            seen.push(key.to_vec());
            Ok(true)
        };
        table.view().scan(&[], &[u8::MAX], &mut visit).unwrap();
        assert_eq!(seen, [b"k".to_vec()]);
    }
}
