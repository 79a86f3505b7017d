//! The chunk store: writes, reads, checks and removes chunk files.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::arrivals::Arrivals;
use super::buffers::Buffers;
use super::cache::{Cache, OpenChunk};
use super::damage::Damage;
use super::footer::{ChunkHeader, ChunkInfo, Footer};
use super::names::{self, Names, chunk_path};
use super::read::{self, chunk_io};
use super::sealed::SealedChunk;
use super::turns::Turns;
use super::walk::{Visitor, walk};
use crate::env::{Access, AlignedBuf, Disk, DiskFile, Space};
use crate::error::{Error, Result};
use crate::metrics::Meter;
use crate::types::ChunkId;

/// Files kept open for reading.
const OPEN_FILES: usize = 256;
/// A file made and removed at the start, to learn what the file system can do.
const PROBE: &str = "probe";

/// All chunk files below one directory. Methods block on the disk and may be called by many
/// threads at a time.
pub struct ChunkStore {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    direct: bool,
    names: Names,
    /// Held while an id is written.
    pub(super) turns: Turns,
    cache: Cache<ChunkId, Arc<OpenChunk>>,
    /// Checked when they were read; chunks never change.
    pub(super) blocks: Cache<(ChunkId, u32), Bytes>,
    pub(super) buffers: Buffers,
    pub(super) damage: Damage,
    /// Files that other nodes have sent, and that the log has to hear of.
    arrivals: Arrivals,
    /// The first failed sync.
    failed: OnceLock<String>,
    /// Reads and writes are measured, if somebody asked for it.
    meter: OnceLock<Meter<1>>,
}

impl ChunkStore {
    /// Opens the store in `root`, which is made if it is not there. Of what [`Self::slices`] reads
    /// it keeps `read_cache` bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be made or written to.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, read_cache: usize) -> Result<Self> {
        let failed = |error| Error::io(format!("opening {}", root.display()), error);
        disk.create_dir_all(root).map_err(failed)?;
        let direct = probe(&*disk, &root.join(PROBE)).map_err(failed)?;
        match disk.remove_all(&root.join(names::RENEWING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(failed)?;
        }
        Ok(Self {
            disk,
            root: root.to_path_buf(),
            direct,
            names: Names::new(root.to_path_buf()),
            turns: Turns::default(),
            cache: Cache::new(OPEN_FILES),
            blocks: Cache::new(read_cache),
            buffers: Buffers::default(),
            damage: Damage::default(),
            arrivals: Arrivals::default(),
            failed: OnceLock::new(),
            meter: OnceLock::new(),
        })
    }

    /// Whether files bypass the page cache. Where the file system has no O_DIRECT they do not.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    pub fn space(&self) -> Result<Space> {
        self.disk.space(&self.root).map_err(|error| self.io("asking for the space of", error))
    }

    /// Writes `data` as the chunk that `header` describes and returns its sha256. The file is then
    /// on disk; its name is after [`Self::sync_names`]. If the id is there already it is verified
    /// and synced and the answer is the same; a damaged or unfinished file is replaced.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when header and data do not fit or the id holds other data,
    /// [`Error::NoSpace`], [`Error::Io`]; [`Error::DiskFailed`] when a sync failed, now or before.
    /// No file is left behind.
    pub fn write(&self, header: &ChunkHeader, data: &AlignedBuf) -> Result<[u8; 32]> {
        self.check_health()?;
        let footer = Footer::describe(header, data)?;
        self.put(&footer, data)?;
        Ok(footer.info.sha256)
    }

    /// As [`Self::write`], of a chunk that was hashed before or came from a peer.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn keep(&self, chunk: &SealedChunk) -> Result<()> {
        self.check_health()?;
        self.put(&chunk.footer, &chunk.data)
    }

    /// As [`Self::keep`] and [`Self::sync_names`], of a chunk that another node has sent and will name. Nobody
    /// [discards](Self::discard) it before it was among [`Self::take_arrivals`].
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn accept(&self, chunk: &SealedChunk) -> Result<()> {
        self.check_health()?;
        let _turn = self.turns.take(chunk.id());
        self.put_in_turn(&chunk.footer, &chunk.data)?;
        self.sync_names()?;
        self.arrivals.note(chunk.id());
        Ok(())
    }

    /// Measures reads and writes from now on.
    pub fn measure(&self, meter: Meter<1>) {
        // The first one stays.
        let _ = self.meter.set(meter);
    }

    pub(super) fn measured<T>(&self, kind: &'static str, work: impl FnOnce() -> T) -> T {
        let Some(meter) = self.meter.get() else { return work() };
        let begun = meter.begin();
        let done = work();
        meter.count(&[("kind", kind)], begun);
        done
    }

    fn put(&self, footer: &Footer, data: &AlignedBuf) -> Result<()> {
        let _turn = self.turns.take(footer.info.header.id);
        self.put_in_turn(footer, data)
    }

    fn put_in_turn(&self, footer: &Footer, data: &AlignedBuf) -> Result<()> {
        self.measured("write", || self.put_unmeasured(footer, data))
    }

    fn put_unmeasured(&self, footer: &Footer, data: &AlignedBuf) -> Result<()> {
        let id = footer.info.header.id;
        let path = chunk_path(&self.root, id);
        let file = match self.create(&path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.replace_unless_good(&path, footer)?
            }
            Err(error) => return Err(chunk_io("creating", id, error)),
        };
        if let Some(file) = file {
            self.write_durably(&path, &*file, data, footer)?;
        }
        self.names.add(id);
        Ok(())
    }

    /// Makes the names of all chunks durable whose `write` returned before the call. Callers at
    /// the same time share the fsync.
    ///
    /// # Errors
    /// [`Error::DiskFailed`] when a sync failed, now or before.
    pub fn sync_names(&self) -> Result<()> {
        self.check_health()?;
        self.names.sync(&*self.disk).map_err(|error| self.poison("chunk directories", &error))
    }

    /// Appends `len` bytes from `offset` of the chunk's data to `out`; each 64 KiB block touched is
    /// verified. On an error `out` is as before.
    ///
    /// # Errors
    /// [`Error::NotFound`] without a file, [`Error::Damaged`], [`Error::Io`].
    pub fn read(&self, id: ChunkId, offset: u32, len: u32, out: &mut Vec<u8>) -> Result<()> {
        self.settled(id, || self.measured("read", || self.read_cached(id, offset, len, out)))
    }

    /// A file that is just being written looks damaged, and is not to be called so: what was found is
    /// so only if nobody writes it and a second look finds it again.
    pub(super) fn settled<T>(&self, id: ChunkId, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        match look() {
            Err(Error::Damaged(what)) => {
                // Whoever asks has other nodes to ask: nobody waits for a writer here.
                let Some(_turn) = self.turns.try_take(id) else { return Err(Error::Damaged(what)) };
                look().inspect_err(|error| self.damage.note(id, error))
            }
            result => result,
        }
    }

    fn read_cached(&self, id: ChunkId, offset: u32, len: u32, out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        let result =
            self.with_open(id, |chunk| read::append(chunk, &self.buffers, offset, len, out));
        result.inspect_err(|_| out.truncate(before))
    }

    /// Reads from the chunk's file, which is opened if it is not yet.
    pub(super) fn with_open<T>(
        &self,
        id: ChunkId,
        work: impl FnOnce(&OpenChunk) -> Result<T>,
    ) -> Result<T> {
        let chunk = match self.cache.get(id) {
            Ok(chunk) => chunk,
            Err(token) => {
                let chunk = Arc::new(read::open(&*self.disk, &self.root, id)?);
                self.cache.insert(id, Arc::clone(&chunk), 1, token);
                chunk
            }
        };
        work(&chunk).map_err(|error| {
            // The next read looks at the disk again: the file may have been replaced.
            self.cache.forget(id);
            read::of_chunk(id, error)
        })
    }

    /// Reads the whole chunk and checks it, as [`SealedChunk::from_file`] does.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn load(&self, id: ChunkId) -> Result<SealedChunk> {
        self.settled(id, || read::load(&*self.disk, &self.root, id))
    }

    /// What the chunk's footer says, its data not looked at.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn info(&self, id: ChunkId) -> Result<ChunkInfo> {
        read::open(&*self.disk, &self.root, id).map(|chunk| chunk.footer.info)
    }

    /// Reads the whole file from the disk and checks all its checksums.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn verify(&self, id: ChunkId) -> Result<ChunkInfo> {
        let chunk = read::open(&*self.disk, &self.root, id)?;
        match read::verify(&chunk, &self.buffers) {
            Ok(()) => Ok(chunk.footer.info),
            Err(error) => Err(read::of_chunk(id, error)),
        }
    }

    /// As [`Self::verify`], of a file as its writer leaves it, who is waited for.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn verify_settled(&self, id: ChunkId) -> Result<ChunkInfo> {
        match self.verify(id) {
            Err(Error::Damaged(_)) => {
                let _turn = self.turns.take(id);
                self.verify(id)
            }
            result => result,
        }
    }

    /// Notes that a chunk's file is perhaps bad or missing. What [`Self::read`] found damaged is.
    pub fn suspect(&self, id: ChunkId) {
        self.damage.suspect(id);
    }

    /// What is suspected since the last call.
    pub fn take_suspects(&self) -> BTreeSet<ChunkId> {
        self.damage.take_suspects()
    }

    /// Chunks that [`Self::read`] found damaged since the store was opened, with the reason. Only
    /// the records know whether anybody misses them.
    pub fn damaged(&self) -> Vec<(ChunkId, String)> {
        self.damage.list()
    }

    /// Notes again what was among [`Self::take_arrivals`], and the log could not be told of.
    pub fn arrived(&self, id: ChunkId) {
        self.arrivals.note(id);
    }

    /// What was [accepted](Self::accept) since the last call. Of very many some are forgotten.
    pub fn take_arrivals(&self) -> Vec<ChunkId> {
        self.arrivals.take()
    }

    /// Removes the file of a chunk that nobody needs here, but for one that has come since
    /// [`Self::take_arrivals`]: whoever has sent it counts on it. False when it is kept, or was not there.
    pub fn discard(&self, id: ChunkId) -> Result<bool> {
        let _turn = self.turns.take(id);
        if self.arrivals.may_have(id) { Ok(false) } else { self.delete(id) }
    }

    /// Removes a chunk's file; false when there was none. A power cut may bring it back.
    pub fn delete(&self, id: ChunkId) -> Result<bool> {
        self.cache.forget(id);
        let removed = match self.disk.remove(&chunk_path(&self.root, id)) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(chunk_io("removing", id, error)),
        };
        // Again, for a reader who opened it in between.
        self.cache.forget(id);
        self.damage.forget(id);
        self.names.prune(&*self.disk, id);
        Ok(removed)
    }

    /// Puts a whole chunk in the place of its bad file, unless that is good by now: in one step, when the
    /// new one is on disk, so that whatever could be read of it can be read at any time. The name is
    /// durable after [`Self::sync_names`].
    ///
    /// # Errors
    /// As [`Self::write`]; the bad file is where it was.
    pub fn renew(&self, chunk: &SealedChunk) -> Result<()> {
        self.check_health()?;
        let id = chunk.id();
        let _turn = self.turns.take(id);
        if self.verify(id).is_ok_and(|info| info == *chunk.info()) {
            return Ok(());
        }
        let failed = |error| chunk_io("renewing", id, error);
        let (path, new) = (chunk_path(&self.root, id), names::renewed_path(&self.root, id));
        for dir in [&new, &path].into_iter().filter_map(|path| path.parent()) {
            self.disk.create_dir_all(dir).map_err(failed)?;
        }
        match self.disk.remove(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = self.disk.open(&new, Access::Create, self.direct).map_err(failed)?;
        self.write_durably(&new, &*file, &chunk.data, &chunk.footer)?;
        let unfinished = Unfinished { disk: &*self.disk, path: &new };
        self.disk.rename(&new, &path).map_err(failed)?;
        unfinished.finish();
        self.cache.forget(id);
        self.damage.forget(id);
        self.names.add(id);
        Ok(())
    }

    /// Calls `visitor` with each chunk and the bytes of its file, by rising id, until it says
    /// false. Unfinished files are visited too.
    pub fn visit(&self, visitor: &mut Visitor<'_>) -> Result<()> {
        self.visit_after(None, visitor)
    }

    /// As [`Self::visit`], for the ids above `after`.
    pub fn visit_after(&self, after: Option<ChunkId>, visitor: &mut Visitor<'_>) -> Result<()> {
        walk(&*self.disk, &self.root, after, visitor)
    }

    /// Creates a file and, where they are missing, its directories.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        // An emptied directory may be removed between the two steps, but not again and again.
        for _ in 0..8 {
            match self.disk.open(path, Access::Create, self.direct) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), |dir| self.disk.create_dir_all(dir))?;
                }
                result => return result,
            }
        }
        self.disk.open(path, Access::Create, self.direct)
    }

    /// `None` when the file at `path` is whole and now synced; else it is replaced by a new one.
    fn replace_unless_good(
        &self,
        path: &Path,
        wanted: &Footer,
    ) -> Result<Option<Arc<dyn DiskFile>>> {
        let id = wanted.info.header.id;
        match self.verify(id) {
            Ok(found) if found == wanted.info => {
                let file = self
                    .disk
                    .open(path, Access::Write, self.direct)
                    .map_err(|error| chunk_io("opening", id, error))?;
                file.sync().map_err(|error| self.poison(&format!("chunk {id}"), &error))?;
                Ok(None)
            }
            Ok(_) => Err(Error::invalid(format!("chunk {id} exists with other data"))),
            Err(Error::Damaged(_) | Error::NotFound | Error::Io { .. }) => {
                self.delete(id)?;
                self.create(path).map(Some).map_err(|error| chunk_io("creating", id, error))
            }
            Err(error) => Err(error),
        }
    }

    /// Fills a new file and makes it durable; the only place that does. Removes it on an error.
    fn write_durably(
        &self,
        path: &Path,
        file: &dyn DiskFile,
        data: &AlignedBuf,
        footer: &Footer,
    ) -> Result<()> {
        let id = footer.info.header.id;
        let unfinished = Unfinished { disk: &*self.disk, path };
        file.allocate(footer.file_len())
            .and_then(|()| file.write_at(data.padded(), 0))
            .and_then(|()| file.write_at(footer.encode().padded(), footer.data_len() as u64))
            .map_err(|error| chunk_io("writing", id, error))?;
        file.sync().map_err(|error| self.poison(&format!("chunk {id}"), &error))?;
        unfinished.finish();
        Ok(())
    }

    /// The failed sync after which nothing is written any more.
    pub fn failure(&self) -> Option<Error> {
        self.failed.get().map(|what| Error::DiskFailed(what.clone()))
    }

    fn check_health(&self) -> Result<()> {
        self.failure().map_or(Ok(()), Err)
    }

    /// After a failed sync nobody knows what is on the disk: nothing is written any more.
    fn poison(&self, what: &str, error: &io::Error) -> Error {
        let what = self.failed.get_or_init(|| format!("{what}: {error}"));
        log::error!("a sync failed, chunks are read-only from now on: {what}");
        Error::DiskFailed(what.clone())
    }

    fn io(&self, doing: &str, error: io::Error) -> Error {
        Error::io(format!("{doing} {}", self.root.display()), error)
    }
}

/// Whether a new file at `path` is opened direct.
fn probe(disk: &dyn Disk, path: &Path) -> io::Result<bool> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let direct = disk.open(path, Access::Create, true)?.is_direct();
    disk.remove(path)?;
    Ok(direct)
}

/// Removes the file it guards unless it was finished.
struct Unfinished<'a> {
    disk: &'a dyn Disk,
    path: &'a Path,
}

impl Unfinished<'_> {
    fn finish(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(self.path) {
            log::warn!("the unfinished {} stays: {error}", self.path.display());
        }
    }
}
