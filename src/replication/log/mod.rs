//! The log: the one durable write of a commit. Segments of checked records over the disk seam,
//! written at once, synced in groups, read back by index.

mod keeper;
mod layout;
mod read;
mod recovery;
mod runs;
mod segment;
mod syncer;
mod write;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

use self::keeper::Keeper;
use self::recovery::State;
use self::syncer::Syncer;
use self::write::Writer;
use super::types::{LogId, Vote};
use crate::env::Disk;
use crate::error::{Error, Result};
use crate::types::limits::ENTRY_MAX;

/// How the log uses the disk.
#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// Size of a segment file; an entry takes half of one at most.
    pub segment_bytes: u64,
    /// Write with O_DIRECT. Without it an append costs a few microseconds and its sync as much as
    /// both together with it; see docs/performance.md.
    pub direct: bool,
}

impl LogOptions {
    pub const DEFAULT: Self = Self { segment_bytes: 16 << 20, direct: false };

    /// Bytes of the largest entry.
    pub fn entry_max(&self) -> usize {
        ENTRY_MAX.min(self.segment_bytes as usize / 2)
    }
}

const _: () = assert!(LogOptions::DEFAULT.segment_bytes as usize / 2 >= ENTRY_MAX);

/// The log of one node. Methods may be called from any thread; appends, truncations and purges
/// come from one.
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    inner: Mutex<Inner>,
    /// Bytes to the end of the segment that is written.
    room: AtomicU64,
    syncer: Syncer,
    keeper: Keeper,
}

struct Inner {
    state: State,
    writer: Writer,
    recent: read::Recent,
}

/// What openraft asks for when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when there is none.
    pub last: Option<LogId>,
}

impl Log {
    /// Makes an empty log in `dir`, which exists.
    pub fn create(disk: &dyn Disk, dir: &Path, options: LogOptions) -> Result<()> {
        segment::create(disk, dir, 1, options.segment_bytes)?;
        write::write_first(disk, dir)
    }

    /// Reads the log in `dir` and makes its end clean. `last_record` is what the last clean stop
    /// noted.
    ///
    /// # Errors
    /// [`Error::Damaged`] when records are missing that were on disk once.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        last_record: Option<u64>,
    ) -> Result<Self> {
        let recovered = recovery::recover(&*disk, dir)?;
        let last = recovered.state.next - 1;
        if last_record.is_some_and(|noted| noted > last) {
            return Err(Error::damaged(format!(
                "the log ends with record {last}, and the last clean stop left {}: its end is \
                 gone. Nothing was changed",
                last_record.unwrap_or_default()
            )));
        }
        let block = recovery::mend(&*disk, dir, &recovered)?;
        let (mut state, tail) = (recovered.state, recovered.tail);
        let file = segment::open(&*disk, dir, tail.segment, options.direct)?;
        let syncer = Syncer::start(Arc::clone(&file), last)?;
        let keeper = Keeper::start(Arc::clone(&disk), dir, options.segment_bytes)?;
        keeper.prepare(tail.segment + 1);
        keeper.remove(state.drop_forgotten(tail.segment));
        let writer = Writer::new(file, &tail, block);
        let room = AtomicU64::new(writer.room());
        let inner = Mutex::new(Inner { state, writer, recent: read::Recent::default() });
        Ok(Self { disk, dir: dir.to_path_buf(), options, inner, room, syncer, keeper })
    }

    pub fn options(&self) -> LogOptions {
        self.options
    }

    pub fn ends(&self) -> Ends {
        let inner = self.inner.lock();
        let State { vote, purged, last, .. } = inner.state;
        Ends { vote, purged, last }
    }

    /// One more than the index of the last entry known to be committed.
    pub fn committed(&self) -> u64 {
        self.inner.lock().state.committed
    }

    /// Bytes of the segments that are kept.
    pub fn bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let full = (inner.state.segments.len() as u64).saturating_sub(1);
        full * self.options.segment_bytes + inner.writer.end()
    }

    /// Bytes of the segments that have entries after `index`, about.
    pub fn bytes_after(&self, index: Option<u64>) -> u64 {
        let inner = self.inner.lock();
        let later = |highest: &Option<u64>| highest.is_some() && *highest > index;
        let full = inner.state.segments.values().filter(|highest| later(highest)).count() as u64;
        full.saturating_sub(1) * self.options.segment_bytes + inner.writer.end()
    }

    /// Bytes appended since the log was opened.
    pub fn appended(&self) -> u64 {
        self.inner.lock().writer.appended()
    }

    /// Number of the last record that was written.
    pub fn written(&self) -> u64 {
        self.syncer.written()
    }

    /// Number of the last record known to be on disk.
    pub fn synced(&self) -> u64 {
        self.syncer.synced()
    }

    /// Why the log takes nothing any more, if so.
    pub fn failure(&self) -> Option<Error> {
        self.syncer.failure()
    }

    /// Begins to sync records through `number`.
    pub fn want_sync(&self, number: u64) {
        self.syncer.want(number);
    }

    /// Calls `waiter` when records through `number` are on disk, or never will be.
    pub fn when_synced(&self, number: u64, waiter: impl FnOnce(Result<()>) + Send + 'static) {
        self.syncer.when_synced(number, Box::new(waiter));
    }

    /// Waits until records through `number` are on disk.
    pub async fn wait_synced(&self, number: u64) -> Result<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        // The receiver is gone when the caller gave up waiting.
        self.when_synced(number, move |result| drop(tell.send(result)));
        told.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Syncs all that was written, in the caller's thread.
    pub fn sync(&self) -> Result<()> {
        self.syncer.sync()
    }

    /// Waits for the housekeeping that is under way.
    pub fn settle(&self) {
        self.keeper.settle();
    }
}
