//! Reads: committed pieces under what is not committed yet.

use std::sync::Arc;

use bytes::Bytes;

use super::Vfs;
use super::node::{Dirty, Node};
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::{Body, Inode, Piece, View};
use crate::types::{ByteRange, ChunkId, ContentId, FileKind, Ino, NodeId};

/// Times a read looks at the manifest again because a chunk was collected under it.
pub(super) const ATTEMPTS: u32 = 4;
/// Largest answer to one read, in bytes.
const READ_MAX: u32 = 16 << 20;

/// What lies under the uncommitted bytes.
enum Base {
    Nothing,
    Inline(Vec<u8>),
    Pieces(Vec<Stored>),
}

/// Where committed bytes of a file are: which of its bytes, in which chunk, from which offset on.
type Stored = (ByteRange, ChunkId, u32);

enum Source {
    Copied(Vec<u8>),
    Memory(Arc<AlignedBuf>, u32),
    /// Not recorded yet; the nodes that have it.
    Chunk(ChunkId, u32, Vec<NodeId>),
}

/// What one read consists of, fixed under the node's lock.
struct Plan {
    range: ByteRange,
    base: Base,
    patches: Vec<(ByteRange, Source)>,
}

impl Vfs {
    /// read(2): fewer bytes than asked only at the end of the file.
    ///
    /// # Errors
    /// [`Error::Damaged`] when stored bytes fail their checksum and no good copy is left.
    pub async fn read(&self, handle: u64, offset: u64, size: u32) -> Result<Vec<u8>> {
        let file = self.handles.file(handle)?;
        if !file.flags.is_read() {
            return Err(Error::BadHandle);
        }
        for _ in 0..ATTEMPTS {
            match self.read_node(&file.node, offset, size).await {
                // Bytes of this node are on their way to a place that is not known yet.
                Err(Error::Conflict) => drop(file.node.committing.lock().await),
                result => return result,
            }
        }
        Err(Error::Conflict)
    }

    pub(super) async fn read_node(&self, node: &Node, offset: u64, size: u32) -> Result<Vec<u8>> {
        let mut missing = None;
        for _ in 0..ATTEMPTS {
            match self.read_once(node, offset, size.min(READ_MAX)).await {
                // Compacted or replaced between manifest and file: the manifest knows better, as soon as
                // this node has heard of it.
                Err(Error::NotFound) => {
                    missing = Some(node.ino);
                    self.replica.barrier().await?;
                }
                result => return result,
            }
        }
        Err(Error::damaged(format!(
            "inode {:?}: a chunk file is missing",
            missing.map(|ino| ino.0)
        )))
    }

    async fn read_once(&self, node: &Node, offset: u64, size: u32) -> Result<Vec<u8>> {
        let plan = {
            let mut state = node.state();
            // One for both: a commit of others in between would move what was not committed.
            let view = self.replica.table().view();
            let inode = view.inode(node.ino)?.ok_or(Error::Stale)?;
            if state.dirty.is_uncertain(inode.version) {
                return Err(Error::Conflict);
            }
            state.dirty.rebase(inode.size, self.replica.chunk_size());
            self.read_plan(&state.dirty, &view, inode, offset, size)?
        };
        self.read_planned(&plan).await
    }

    async fn read_planned(&self, plan: &Plan) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(plan.range.len() as usize);
        if let Base::Pieces(pieces) = &plan.base {
            self.read_pieces(pieces, plan.range, &mut out).await?;
        }
        plan.cover(&mut out);
        for (range, source) in &plan.patches {
            if let Source::Chunk(chunk, at, on) = source {
                let mut bytes = Vec::with_capacity(range.len() as usize);
                self.copies.read(*chunk, *at, range.len() as u32, on, &mut bytes).await?;
                plan.part(&mut out, *range).copy_from_slice(&bytes);
            } else {
                plan.patch(&mut out, *range, source);
            }
        }
        Ok(out)
    }

    /// What a reader sees of one moment, where that is not on this node read from others.
    ///
    /// # Errors
    /// [`Error::NotFound`] when a chunk went meanwhile.
    pub(super) async fn read_seen_anywhere(
        &self,
        dirty: &Dirty,
        ino: Ino,
        range: ByteRange,
    ) -> Result<Vec<u8>> {
        let plan = {
            let view = self.replica.table().view();
            let inode = view.inode(ino)?.ok_or(Error::Stale)?;
            self.read_plan(dirty, &view, inode, range.start(), range.len() as u32)?
        };
        self.read_planned(&plan).await
    }

    /// The node's lock makes one moment of the committed record and the uncommitted changes. The
    /// pieces are of that moment, too: read later, those of a body that was replaced meanwhile are
    /// gone, and would be zeros.
    fn read_plan(
        &self,
        dirty: &Dirty,
        view: &View<'_>,
        inode: Inode,
        offset: u64,
        size: u32,
    ) -> Result<Plan> {
        let file_end = dirty.size(inode.size);
        let start = offset.min(file_end);
        let range = ByteRange::between(start, start.saturating_add(size.into()).min(file_end));
        let mut patches = Vec::new();
        if dirty.has_data() {
            layer_patches(dirty, range, &mut patches);
            for run in dirty.runs.within(range, self.replica.chunk_size()) {
                let Some(common) = run.range().intersect(range) else { continue };
                let from = (common.start() - run.start) as usize;
                let bytes = run.data[from..from + common.len() as usize].to_vec();
                patches.push((common, Source::Copied(bytes)));
            }
        }
        let covered = range.is_empty() || patches.iter().any(|(patch, _)| *patch == range);
        let base = match base(dirty, inode) {
            _ if covered => Base::Nothing,
            Under::Nothing => Base::Nothing,
            Under::Inline(bytes) => Base::Inline(bytes),
            Under::Manifest(content) => Base::Pieces(self.stored_in(view, content, range)?),
        };
        Ok(Plan { range, base, patches })
    }

    /// The pieces that have bytes of a range which is not empty.
    fn stored_in(
        &self,
        view: &View<'_>,
        content: ContentId,
        range: ByteRange,
    ) -> Result<Vec<Stored>> {
        let size = self.replica.chunk_size();
        let (first, last) = (range.start() / size, (range.end() - 1) / size);
        let mut stored = Vec::new();
        for (number, slot) in view.slots(content, first, last)? {
            stored.extend(slot.pieces.iter().filter_map(|piece| {
                let (common, at) = piece_within(piece, number * size, range)?;
                Some((common, piece.chunk, at))
            }));
        }
        Ok(stored)
    }

    /// Appends the bytes of `range` to `out`, zeros where there is no piece. May stop short of the
    /// end of the range when only zeros follow.
    async fn read_pieces(
        &self,
        pieces: &[Stored],
        range: ByteRange,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len() as u64;
        for &(part, chunk, at) in pieces {
            out.resize((start + part.start() - range.start()) as usize, 0);
            self.copies.read(chunk, at, part.len() as u32, &[], out).await?;
        }
        Ok(())
    }

    /// The bytes of a range, of the manifest as it is now: whoever keeps a body's bytes asks
    /// afterwards whether they changed. May stop short as [`Self::read_pieces`] does.
    pub(super) async fn slices(&self, content: ContentId, range: ByteRange) -> Result<Vec<Bytes>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let pieces = self.stored_in(&self.replica.table().view(), content, range)?;
        let (mut slices, mut end) = (Vec::new(), range.start());
        for (part, chunk, at) in pieces {
            slices.extend(zeros(part.start() - end));
            slices.append(&mut self.copies.slices(chunk, at, part.len() as u32).await?);
            end = part.end();
        }
        Ok(slices)
    }
}

/// Bytes that are written nowhere.
pub(super) fn zeros(len: u64) -> Option<Bytes> {
    (len > 0).then(|| vec![0; len as usize].into())
}

impl Plan {
    /// Brings `out`, which has the bytes of the pieces, to its length: inline bytes, zeros.
    fn cover(&self, out: &mut Vec<u8>) {
        if let Base::Inline(bytes) = &self.base {
            let from = (self.range.start() as usize).min(bytes.len());
            let to = (self.range.end() as usize).min(bytes.len());
            out.extend_from_slice(&bytes[from..to]);
        }
        out.resize(self.range.len() as usize, 0);
    }

    /// The bytes of `out` that a part of the range is.
    fn part<'a>(&self, out: &'a mut [u8], part: ByteRange) -> &'a mut [u8] {
        let from = (part.start() - self.range.start()) as usize;
        &mut out[from..from + part.len() as usize]
    }

    /// Lays bytes in memory over `out`.
    fn patch(&self, out: &mut [u8], range: ByteRange, source: &Source) {
        let out = self.part(out, range);
        match source {
            Source::Copied(bytes) => out.copy_from_slice(bytes),
            Source::Memory(buffer, at) => {
                let at = *at as usize;
                out.copy_from_slice(&buffer[at..at + out.len()]);
            }
            // Read by the caller.
            Source::Chunk(..) => {}
        }
    }
}

enum Under {
    Nothing,
    Inline(Vec<u8>),
    Manifest(ContentId),
}

fn base(dirty: &Dirty, inode: Inode) -> Under {
    match (dirty.staged, inode.body) {
        (Some(content), _) => Under::Manifest(content),
        _ if dirty.reset => Under::Nothing,
        (None, Body::Inline(bytes)) if inode.kind == FileKind::Regular => Under::Inline(bytes),
        (None, Body::Manifest(content)) => Under::Manifest(content),
        (None, Body::Inline(_) | Body::Symlink(_) | Body::None) => Under::Nothing,
    }
}

fn layer_patches(dirty: &Dirty, range: ByteRange, patches: &mut Vec<(ByteRange, Source)>) {
    for layer in &dirty.layers {
        for (common, at) in layer.within(range) {
            let source = match (layer.memory(), layer.chunk()) {
                (Some(memory), _) => Source::Memory(memory, at),
                (None, Some(chunk)) => Source::Chunk(chunk, at, layer.on()),
                // Bytes that travel in a commit stay in memory until it is done.
                (None, None) => continue,
            };
            patches.push((common, source));
        }
    }
}

/// The part of `range` a piece has, and where it is in the chunk's data.
pub(super) fn piece_within(
    piece: &Piece,
    slot_start: u64,
    range: ByteRange,
) -> Option<(ByteRange, u32)> {
    let start = slot_start + u64::from(piece.start);
    let common = ByteRange::between(start, start + u64::from(piece.len)).intersect(range)?;
    Some((common, piece.chunk_offset + (common.start() - start) as u32))
}

/// The parts of `range` that nothing uncommitted covers, in order.
pub(super) fn uncovered(dirty: &Dirty, range: ByteRange, slot_size: u64) -> Vec<ByteRange> {
    let layers =
        dirty.layers.iter().flat_map(|layer| layer.within(range)).map(|(common, _)| common);
    let runs = dirty.runs.within(range, slot_size).filter_map(|run| run.range().intersect(range));
    let mut covered: Vec<ByteRange> = layers.chain(runs).collect();
    covered.sort_by_key(|part| part.start());
    let mut gaps = Vec::new();
    let mut at = range.start();
    for part in covered {
        if part.start() > at {
            gaps.push(ByteRange::between(at, part.start()));
        }
        at = at.max(part.end());
    }
    if at < range.end() {
        gaps.push(ByteRange::between(at, range.end()));
    }
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::SessionId;

    #[test]
    fn gaps_are_what_no_write_covers() {
        let mut dirty = Dirty::default();
        dirty.runs.write(4, &[1; 4], 16);
        dirty.runs.write(14, &[1; 6], 16);
        let gaps = uncovered(&dirty, ByteRange::between(2, 24), 16);
        let expected = [(2, 4), (8, 14), (20, 24)];
        assert_eq!(gaps, expected.map(|(start, end)| ByteRange::between(start, end)));
        assert!(uncovered(&dirty, ByteRange::between(5, 7), 16).is_empty());
    }

    #[test]
    fn a_piece_is_cut_to_the_range() {
        let chunk = ChunkId { session: SessionId(1), counter: 1 };
        let piece = Piece { start: 10, len: 20, chunk, chunk_offset: 100 };
        let cut = piece_within(&piece, 1000, ByteRange::between(1015, 1020));
        assert_eq!(cut, Some((ByteRange::between(1015, 1020), 105)));
        assert_eq!(piece_within(&piece, 0, ByteRange::between(1015, 1020)), None);
    }
}
