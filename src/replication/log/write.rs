//! Appending to the log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::layout::{self, Head, Kind, Start, Truncate};
use super::recovery::{State, Tail};
use super::segment;
use super::{Inner, Log};
use crate::env::{AlignedBuf, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::replication::types::{Entry, LogId, Vote};
use crate::types::limits::DIRECT_ALIGN;

/// Capacity of the block buffer that is kept between appends.
const BUFFER_KEPT: usize = 256 << 10;

/// The segment that is written. Whole blocks go to the file; the last one is written again with
/// more in it, the same bytes in front, so that a torn write spoils nothing that was there.
pub struct Writer {
    file: Arc<dyn DiskFile>,
    segment: u32,
    size: u64,
    /// The bytes from `block_at`, a block's beginning, to the end of the log; in part not written.
    buffer: AlignedBuf,
    block_at: u64,
    appended: u64,
}

impl Writer {
    /// `block`: the last block's bytes, up to the tail.
    pub fn new(file: Arc<dyn DiskFile>, tail: &Tail, block: AlignedBuf) -> Self {
        let block_at = tail.offset - tail.offset % DIRECT_ALIGN as u64;
        let (segment, size) = (tail.segment, tail.size);
        Self { file, segment, size, buffer: block, block_at, appended: 0 }
    }

    /// Where the next record goes.
    pub fn end(&self) -> u64 {
        self.block_at + self.buffer.len() as u64
    }

    pub fn appended(&self) -> u64 {
        self.appended
    }

    fn fits(&self, payload: usize) -> bool {
        layout::record_bytes(payload) as u64 <= self.room()
    }

    /// Bytes to the end of the segment.
    pub fn room(&self) -> u64 {
        self.size.saturating_sub(self.end())
    }

    fn push(&mut self, head: &Head, payload: &[u8]) {
        let before = self.buffer.len();
        layout::push(&mut self.buffer, self.segment, head, payload);
        self.appended += (self.buffer.len() - before) as u64;
    }

    /// Writes what was pushed.
    fn write(&mut self) -> Result<()> {
        self.file
            .write_at(self.buffer.padded(), self.block_at)
            .map_err(|error| Error::DiskFailed(format!("writing the log: {error}")))?;
        let whole = self.buffer.len() - self.buffer.len() % DIRECT_ALIGN;
        if whole > 0 {
            let rest = AlignedBuf::from(&self.buffer[whole..]);
            if self.buffer.capacity() > BUFFER_KEPT {
                self.buffer = rest;
            } else {
                self.buffer.truncate(0);
                self.buffer.extend(&rest);
            }
            self.block_at += whole as u64;
        }
        Ok(())
    }
}

/// Writes the first record of the first segment.
pub fn write_first(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let file = segment::open(disk, dir, 1, false)?;
    let mut block = AlignedBuf::with_capacity(DIRECT_ALIGN);
    let head = Head { number: 1, synced: 0, committed: 0, kind: Kind::Start };
    layout::push(&mut block, 1, &head, &codec::encode(&Start::default())?);
    file.write_at(block.padded(), 0).map_err(|error| Error::io("writing the log", error))?;
    file.sync().map_err(|error| Error::DiskFailed(error.to_string()))
}

impl Log {
    /// Appends entries and returns the number of the last one's record. They can be read, and
    /// survive the process; not the machine until they are synced.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is too large or has an index that is taken: nothing was
    /// appended. Any other is final.
    pub fn append(&self, entries: Vec<Entry>) -> Result<u64> {
        let payloads: Vec<Vec<u8>> =
            entries.iter().map(layout::encode_entry).collect::<Result<_>>()?;
        let longest = payloads.iter().map(Vec::len).max().unwrap_or(0);
        if (longest + DIRECT_ALIGN) as u64 > self.options.segment_bytes {
            return Err(Error::invalid("an entry is larger than a segment of the log"));
        }
        let mut inner = self.inner.lock();
        inner.check_follow(&entries)?;
        for (entry, payload) in entries.into_iter().zip(payloads) {
            let offset = self.push(&mut inner, Kind::Entry, &payload)?;
            let segment = inner.writer.segment;
            inner.state.entry(entry.log_id, segment, offset);
            inner.recent.push(entry, payload.len());
        }
        self.write(&mut inner)
    }

    /// Durable when it returns.
    pub fn save_vote(&self, vote: &Vote) -> Result<()> {
        let mut inner = self.inner.lock();
        self.push(&mut inner, Kind::Vote, &codec::encode(vote)?)?;
        inner.state.vote = Some(*vote);
        self.write(&mut inner)?;
        self.syncer.sync()
    }

    /// Entries through `index` are committed. Written with the next record.
    pub fn save_committed(&self, committed: Option<LogId>) {
        let mut inner = self.inner.lock();
        inner.state.committed = committed.map_or(0, |id| id.index + 1);
    }

    /// Forgets the entries from `since` on. Durable when it returns.
    pub fn truncate(&self, since: u64) -> Result<()> {
        let last = match since.checked_sub(1) {
            Some(before) if since > self.inner.lock().state.first_index() => {
                self.read(before..since)?.first().map(|entry| entry.log_id)
            }
            _ => self.ends().purged,
        };
        let mut inner = self.inner.lock();
        let payload = codec::encode(&Truncate { since, last })?;
        self.push(&mut inner, Kind::Truncate, &payload)?;
        inner.state.truncate(since, last);
        inner.recent.truncate(since);
        self.write(&mut inner)?;
        self.syncer.sync()
    }

    /// Forgets the entries through `upto`; segments that hold nothing else go some time later.
    pub fn purge(&self, upto: LogId) -> Result<()> {
        let mut inner = self.inner.lock();
        self.push(&mut inner, Kind::Purge, &codec::encode(&upto)?)?;
        inner.state.purge(upto);
        match inner.state.last == Some(upto) {
            true => inner.recent.clear(),
            false => inner.recent.purge(upto.index),
        }
        self.write(&mut inner)?;
        self.syncer.sync()?;
        let active = inner.writer.segment;
        self.keeper.remove(inner.state.drop_forgotten(active));
        Ok(())
    }

    /// Waits until `bytes` more can be appended, if they are at most half a segment.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the next segment cannot be made; nothing is lost by that.
    pub fn reserve(&self, bytes: usize) -> Result<()> {
        if self.has_room(bytes) {
            return Ok(());
        }
        let next = self.inner.lock().writer.segment + 1;
        self.keeper.wait(next)
    }

    /// Whether so many bytes can be appended without another segment. Waits for nobody.
    pub fn has_room(&self, bytes: usize) -> bool {
        // What openraft adds by itself is small.
        let record = layout::record_bytes(bytes + DIRECT_ALIGN);
        record as u64 <= self.room.load(Ordering::Acquire)
    }

    /// Adds a record to what is to be written; returns its offset in the segment.
    fn push(&self, inner: &mut Inner, kind: Kind, payload: &[u8]) -> Result<u64> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        if !inner.writer.fits(payload.len()) {
            self.roll(inner).inspect_err(|error| self.syncer.poison(error))?;
        }
        let offset = inner.writer.end();
        let head = self.head(&mut inner.state, kind);
        inner.writer.push(&head, payload);
        Ok(offset)
    }

    fn head(&self, state: &mut State, kind: Kind) -> Head {
        let number = state.next;
        state.next += 1;
        Head { number, synced: self.syncer.synced(), committed: state.committed, kind }
    }

    fn write(&self, inner: &mut Inner) -> Result<u64> {
        inner.writer.write().inspect_err(|error| self.syncer.poison(error))?;
        self.room.store(inner.writer.room(), Ordering::Release);
        let number = inner.state.next - 1;
        self.syncer.wrote(number);
        Ok(number)
    }

    /// Goes on in the next segment. The full one is on disk before the first byte of the next.
    fn roll(&self, inner: &mut Inner) -> Result<()> {
        self.write(inner)?;
        self.syncer.sync()?;
        let number = inner.writer.segment + 1;
        self.keeper.wait(number)?;
        let file = segment::open(&*self.disk, &self.dir, number, self.options.direct)?;
        self.syncer.switch(Arc::clone(&file));
        let tail =
            Tail { segment: number, offset: 0, size: self.options.segment_bytes, unsynced: 0 };
        let appended = inner.writer.appended;
        inner.writer = Writer::new(file, &tail, AlignedBuf::with_capacity(BUFFER_KEPT));
        inner.writer.appended = appended;
        let State { vote, purged, last, .. } = inner.state;
        let head = self.head(&mut inner.state, Kind::Start);
        inner.writer.push(&head, &codec::encode(&Start { vote, purged, last })?);
        inner.state.segments.insert(number, None);
        self.keeper.prepare(number + 1);
        Ok(())
    }
}

impl Inner {
    /// Indices rise. (openraft leaves none out; its test suite does.)
    fn check_follow(&self, entries: &[Entry]) -> Result<()> {
        let mut last = self.state.last.map(|last| last.index);
        for entry in entries {
            let index = entry.log_id.index;
            if last.is_some_and(|last| last >= index) {
                return Err(Error::invalid(format!("the log has an entry {index} already")));
            }
            last = Some(index);
        }
        Ok(())
    }
}
