//! A file's bytes, inline or in a manifest, while operations change them.

use super::copies::{Namer, Seen, is_relaxed, require_first_copies, require_taken};
use super::manifest::{self, bounded_slots, edit_slot, slot_range, within_slot};
use super::state::{State, Step, require};
use crate::meta::keys;
use crate::meta::mutation::{Refusal, WriteOp};
use crate::meta::record::{Body, Piece, Staged};
use crate::types::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::types::{ByteRange, ChunkId, ContentId, Ino};

/// The part of an inode, or of a staged content, that operations change.
pub struct Bytes {
    pub namer: Namer,
    pub body: Body,
    pub size: u64,
    pub allocated: u64,
    /// Some chunk has no quorum, which the namer puts up with.
    pub is_relaxed: bool,
}

/// `len` bytes of a chunk from an offset in it.
#[derive(Clone, Copy)]
pub struct Source {
    pub chunk: ChunkId,
    pub chunk_offset: u32,
    pub len: u32,
}

/// A range of bytes that are written or read.
pub fn range_of(offset: u64, len: u64) -> Step<ByteRange> {
    require(len > 0, Refusal::Malformed)?;
    Ok(ByteRange::new(offset, len).ok_or(Refusal::Malformed)?)
}

impl Bytes {
    /// The file, unless it is none yet.
    pub fn ino(&self) -> Option<Ino> {
        match self.namer {
            Namer::File(ino) => Some(ino),
            Namer::Staged { .. } | Namer::Nobody => None,
        }
    }

    pub fn reset(&mut self, state: &mut State<'_>) -> Step<()> {
        self.become_body(state, Body::Inline(Vec::new()), 0, 0)
    }

    /// Takes a new body and frees the old one.
    fn become_body(
        &mut self,
        state: &mut State<'_>,
        body: Body,
        size: u64,
        allocated: u64,
    ) -> Step<()> {
        let old = std::mem::replace(&mut self.body, body);
        if let Body::Manifest(content) = old {
            manifest::free(state, content)?;
        }
        (self.size, self.allocated) = (size, allocated);
        Ok(())
    }

    /// Size = max(size, `size`).
    pub fn extend(&mut self, size: u64) -> Step<()> {
        require(size <= FILE_SIZE_MAX, Refusal::FileTooLarge)?;
        self.size = self.size.max(size);
        Ok(())
    }

    pub fn write(&mut self, state: &mut State<'_>, offset: u64, source: Source) -> Step<()> {
        let range = range_of(offset, source.len.into())?;
        let Body::Manifest(content) = self.body else { return Err(Refusal::Conflict.into()) };
        let chunk = state.chunk(source.chunk)?.ok_or(Refusal::UnknownChunk)?;
        let end = source.chunk_offset.checked_add(source.len).ok_or(Refusal::Malformed)?;
        require(end <= chunk.len, Refusal::Malformed)?;
        let seen = require_first_copies(state, source.chunk, self.namer)?;
        self.is_relaxed |= seen == Seen::Relaxed;
        self.extend(range.end())?;
        let slot_size = state.superblock.chunk_size;
        for (number, cut) in range.slots(slot_size) {
            let (start, end) = within_slot(cut, number, slot_size);
            let piece = Piece {
                start,
                len: end - start,
                chunk: source.chunk,
                chunk_offset: source.chunk_offset + (cut.start() - range.start()) as u32,
            };
            edit_slot(state, (content, number), (start, end), &[piece], &mut self.allocated)?;
        }
        Ok(())
    }

    pub fn write_inline(&mut self, offset: u64, data: &[u8]) -> Step<()> {
        let Body::Inline(body) = &mut self.body else { return Err(Refusal::Conflict.into()) };
        let end = offset.saturating_add(data.len() as u64);
        require(end <= INLINE_MAX as u64, Refusal::Conflict)?;
        let (start, end) = (offset as usize, end as usize);
        body.resize(body.len().max(end), 0);
        body[start..end].copy_from_slice(data);
        self.extend(end as u64)
    }

    pub fn outline(
        &mut self,
        state: &mut State<'_>,
        content: ContentId,
        later: &[WriteOp],
    ) -> Step<()> {
        let Body::Inline(body) = &self.body else { return Ok(()) };
        require(replaced(body.len() as u64, later), Refusal::Conflict)?;
        manifest::require_fresh(state, content)?;
        self.body = Body::Manifest(content);
        Ok(())
    }

    pub fn truncate(&mut self, state: &mut State<'_>, size: u64) -> Step<()> {
        require(size <= FILE_SIZE_MAX, Refusal::FileTooLarge)?;
        if size < self.size {
            match &mut self.body {
                Body::Inline(body) => body.truncate(usize::try_from(size).unwrap_or(usize::MAX)),
                _ => self.punch(state, ByteRange::between(size, u64::MAX))?,
            }
        }
        self.size = size;
        Ok(())
    }

    pub fn punch(&mut self, state: &mut State<'_>, range: ByteRange) -> Step<()> {
        match &mut self.body {
            Body::Inline(body) => {
                let body_range = ByteRange::between(0, body.len() as u64);
                if let Some(hit) = body_range.intersect(range) {
                    body[hit.start() as usize..hit.end() as usize].fill(0);
                }
                Ok(())
            }
            Body::Manifest(content) => {
                let content = *content;
                self.punch_slots(state, content, range)
            }
            Body::None | Body::Symlink(_) => Ok(()),
        }
    }

    fn punch_slots(
        &mut self,
        state: &mut State<'_>,
        content: ContentId,
        range: ByteRange,
    ) -> Step<()> {
        let slot_size = state.superblock.chunk_size;
        let (first, last) = (range.start() / slot_size, (range.end() - 1) / slot_size);
        for (number, _) in bounded_slots(state, content, first, last)? {
            let whole = slot_range(number, slot_size);
            if let Some(hit) = whole.intersect(range) {
                let edges = within_slot(hit, number, slot_size);
                edit_slot(state, (content, number), edges, &[], &mut self.allocated)?;
            }
        }
        Ok(())
    }

    pub fn adopt(&mut self, state: &mut State<'_>, content: ContentId, size: u64) -> Step<()> {
        let key = keys::staged(content);
        let staged: Staged = state.get(&key)?.ok_or(Refusal::UnknownChunk)?;
        require(content.session == state.session, Refusal::UnknownChunk)?;
        require(size >= staged.size, Refusal::Malformed)?;
        require(size <= FILE_SIZE_MAX, Refusal::FileTooLarge)?;
        let is_relaxed = match self.ino() {
            Some(ino) => is_relaxed(state, ino)?,
            None => false,
        };
        require_taken(state, &staged, is_relaxed)?;
        state.delete(key);
        self.become_body(state, Body::Manifest(content), size, staged.allocated)
    }
}

/// Whether operations set all of the bytes `0..len`, so that what was there does not matter.
fn replaced(len: u64, ops: &[WriteOp]) -> bool {
    let mut set: Vec<ByteRange> = Vec::new();
    for op in ops {
        let (offset, len) = match *op {
            WriteOp::Write { offset, len, .. } => (offset, len.into()),
            WriteOp::Punch { offset, len }
            | WriteOp::Copy { offset, len, .. }
            | WriteOp::CopyContent { offset, len, .. } => (offset, len),
            WriteOp::Truncate { size } => (size, u64::MAX - size),
            WriteOp::Reset | WriteOp::Adopt { .. } => (0, u64::MAX),
            WriteOp::Append { .. }
            | WriteOp::Inline { .. }
            | WriteOp::AppendInline { .. }
            | WriteOp::Outline { .. }
            | WriteOp::Extend { .. } => continue,
        };
        set.extend(ByteRange::new(offset, len));
    }
    set.sort_unstable_by_key(|range| range.start());
    let reached = set.iter().fold(0, |reached, range| {
        if range.start() <= reached { range.end().max(reached) } else { reached }
    });
    reached >= len
}
