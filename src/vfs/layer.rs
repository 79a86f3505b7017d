//! Fixed data on its way into the metadata: one chunk (or a few inline bytes), from the moment its
//! bytes do not change any more until the commit that brings it in is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::runs::Run;
use crate::chunk::ChunkExtent;
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::{NewChunk, WriteOp};
use crate::types::limits::CHUNK_EXTENTS_MAX;
use crate::types::{ByteRange, ChunkId, NodeId};

/// Where a layer's bytes are.
#[derive(Clone, Debug)]
enum State {
    /// In memory only; being hashed and written.
    Writing,
    /// In chunk files, synced, on as many nodes as there have to be: who they are, and the sha256 of
    /// the data.
    Stored(Stored),
    Failed(Error),
}

/// Where a layer's chunk is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub sha256: [u8; 32],
    pub on: Vec<NodeId>,
}

/// The bytes of one chunk and where in the file they belong.
#[derive(Debug)]
pub(super) struct Layer {
    /// `None`: the bytes travel in the commit itself and stay in memory until then.
    chunk: Option<ChunkId>,
    extents: Vec<ChunkExtent>,
    hull: ByteRange,
    /// How far the bytes have moved in the file since, modulo 2^64: see `append.rs`.
    moved: AtomicU64,
    len: u32,
    state: watch::Sender<State>,
    /// Dropped once the chunk file has them.
    memory: Mutex<Option<Arc<AlignedBuf>>>,
}

impl Layer {
    /// Packs runs, in file order, into one chunk's data.
    pub fn new(chunk: Option<ChunkId>, runs: Vec<Run>) -> Self {
        let extents: Vec<ChunkExtent> = runs
            .iter()
            .map(|run| ChunkExtent { file_offset: run.start, len: run.data.len() as u32 })
            .collect();
        let start = runs.first().map_or(0, |run| run.start);
        let end = runs.last().map_or(0, Run::end);
        let mut runs = runs.into_iter();
        let mut data = runs.next().map_or_else(|| AlignedBuf::with_capacity(0), |run| run.data);
        runs.for_each(|run| data.extend(&run.data));
        Self {
            chunk,
            extents,
            hull: ByteRange::between(start, end),
            moved: AtomicU64::new(0),
            len: data.len() as u32,
            state: watch::Sender::new(State::Writing),
            memory: Mutex::new(Some(Arc::new(data))),
        }
    }

    pub fn chunk(&self) -> Option<ChunkId> {
        self.chunk
    }

    /// Where the bytes belonged when they were packed.
    pub fn extents(&self) -> &[ChunkExtent] {
        &self.extents
    }

    /// Where they belong now.
    pub fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        self.pieces().map(|(range, _)| range)
    }

    /// Moves all bytes in the file, by a distance modulo 2^64.
    pub fn shift(&self, by: u64) {
        self.moved.fetch_add(by, Ordering::Relaxed);
    }

    fn hull(&self) -> ByteRange {
        let moved = self.moved.load(Ordering::Relaxed);
        ByteRange::between(
            self.hull.start().wrapping_add(moved),
            self.hull.end().wrapping_add(moved),
        )
    }

    pub fn len(&self) -> u64 {
        self.len.into()
    }

    /// Where its last byte's successor is in the file.
    pub fn end(&self) -> u64 {
        self.hull().end()
    }

    /// The bytes, while they are in memory.
    pub fn memory(&self) -> Option<Arc<AlignedBuf>> {
        self.memory.lock().clone()
    }

    /// Ends the writing: whoever waits goes on.
    pub fn finish(&self, result: Result<Stored>) {
        let stored = result.is_ok();
        self.state.send_replace(match result {
            Ok(stored) => State::Stored(stored),
            Err(error) => State::Failed(error),
        });
        if stored {
            self.memory.lock().take();
        }
    }

    /// Who has the chunk on disk, as far as that is known.
    pub fn on(&self) -> Vec<NodeId> {
        match &*self.state.borrow() {
            State::Stored(stored) => stored.on.clone(),
            State::Writing | State::Failed(_) => Vec::new(),
        }
    }

    /// Waits until the chunk's files are synced. Returns the record that introduces it,
    /// none when the bytes travel in the commit.
    ///
    /// # Errors
    /// What the chunk store said, [`Error::NoQuorum`].
    pub async fn stored(&self) -> Result<Option<NewChunk>> {
        let Some(id) = self.chunk else {
            return Ok(None);
        };
        let mut watcher = self.state.subscribe();
        let state = watcher.wait_for(|state| !matches!(state, State::Writing)).await;
        match state.as_deref() {
            Ok(State::Stored(Stored { sha256, on })) => {
                Ok(Some(NewChunk { id, len: self.len, sha256: *sha256, stored_on: on.clone() }))
            }
            Ok(State::Failed(error)) => Err(error.clone()),
            Ok(State::Writing) | Err(_) => Err(Error::ShuttingDown),
        }
    }

    /// The operations that put the bytes into the file's body.
    pub fn ops(&self) -> Vec<WriteOp> {
        let Some(chunk) = self.chunk else {
            return self.inline_ops();
        };
        let op = |(file, chunk_offset): (ByteRange, u32)| WriteOp::Write {
            offset: file.start(),
            len: file.len() as u32,
            chunk,
            chunk_offset,
        };
        self.pieces().map(op).collect()
    }

    fn inline_ops(&self) -> Vec<WriteOp> {
        let Some(memory) = self.memory() else {
            return Vec::new();
        };
        let op = |(file, at): (ByteRange, u32)| {
            let at = at as usize;
            let data = memory[at..at + file.len() as usize].to_vec();
            WriteOp::Inline { offset: file.start(), data }
        };
        self.pieces().map(op).collect()
    }

    /// As [`Self::ops`], for bytes whose place is the end of the file whatever it is: in order of
    /// the numbers that come along.
    pub fn append_ops(&self) -> Vec<(u64, WriteOp)> {
        let op = |op: WriteOp| match op {
            WriteOp::Write { offset, len, chunk, chunk_offset } => {
                (offset, WriteOp::Append { len, chunk, chunk_offset })
            }
            WriteOp::Inline { offset, data } => (offset, WriteOp::AppendInline { data }),
            other => (u64::MAX, other),
        };
        self.ops().into_iter().map(op).collect()
    }

    /// Each extent's place in the file and its offset in the chunk's data.
    fn pieces(&self) -> impl Iterator<Item = (ByteRange, u32)> {
        let moved = self.moved.load(Ordering::Relaxed);
        self.extents.iter().scan(0, move |at, extent| {
            let chunk_offset = *at;
            *at += extent.len;
            let start = extent.file_offset.wrapping_add(moved);
            Some((ByteRange::between(start, start + u64::from(extent.len)), chunk_offset))
        })
    }

    /// The parts of `range` this layer has: where in the file, where in the chunk's data.
    pub fn within(&self, range: ByteRange) -> Vec<(ByteRange, u32)> {
        if self.hull().intersect(range).is_none() {
            return Vec::new();
        }
        let cut = |(file, chunk_offset): (ByteRange, u32)| {
            let common = file.intersect(range)?;
            Some((common, chunk_offset + (common.start() - file.start()) as u32))
        };
        self.pieces().filter_map(cut).collect()
    }
}

/// Cuts runs (in file order) into groups that fit one chunk each.
pub(super) fn group(runs: Vec<Run>, chunk_size: u64) -> Vec<Vec<Run>> {
    let mut groups: Vec<Vec<Run>> = Vec::new();
    let mut bytes = 0;
    for run in runs {
        let len = run.data.len() as u64;
        match groups.last_mut() {
            Some(group) if bytes + len <= chunk_size && group.len() < CHUNK_EXTENTS_MAX => {
                bytes += len;
                group.push(run);
            }
            _ => {
                bytes = len;
                groups.push(vec![run]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    fn run(start: u64, len: usize) -> Run {
        Run { start, data: AlignedBuf::from(vec![start as u8; len].as_slice()) }
    }

    fn id() -> ChunkId {
        ChunkId { session: SessionId(1), counter: 1 }
    }

    #[test]
    fn runs_are_packed_and_found_again() {
        let layer = Layer::new(Some(id()), vec![run(10, 4), run(100, 6)]);
        assert_eq!(layer.len(), 10);
        assert_eq!(layer.memory().unwrap()[4..], [100; 6]);
        let found = layer.within(ByteRange::between(12, 103));
        assert_eq!(found, [(ByteRange::between(12, 14), 2), (ByteRange::between(100, 103), 4)]);
        assert!(layer.within(ByteRange::between(14, 100)).is_empty());
    }

    #[test]
    fn groups_respect_bytes_and_extents() {
        let sizes = |groups: Vec<Vec<Run>>| -> Vec<usize> { groups.iter().map(Vec::len).collect() };
        assert_eq!(sizes(group(vec![run(0, 10), run(20, 6), run(40, 1)], 16)), [2, 1]);
        let many = (0..CHUNK_EXTENTS_MAX as u64 + 1).map(|at| run(at * 2, 1)).collect();
        assert_eq!(sizes(group(many, 1 << 20)), [CHUNK_EXTENTS_MAX, 1]);
    }

    #[test]
    fn waiting_ends_with_the_writing() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let layer = Layer::new(Some(id()), vec![run(0, 1)]);
        assert!(layer.memory().is_some());
        layer.finish(Ok(Stored { sha256: [3; 32], on: vec![9] }));
        assert_eq!(runtime.block_on(layer.stored()).unwrap().unwrap().stored_on, [9]);
        assert_eq!(layer.on(), [9]);
        assert!(layer.memory().is_none());
    }
}
