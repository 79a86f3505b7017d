//! Copies of bytes by reference: the pieces of one file laid into another, or into the same.

use std::collections::BTreeMap;

use super::body::Bytes;
use super::copies::{Seen, require_copies};
use super::manifest::{bounded_slots, edit_slot, slot_range, within_slot};
use super::slots::part;
use super::state::{State, Step, require};
use crate::meta::mutation::Refusal;
use crate::meta::record::{Body, Piece};
use crate::types::limits::FILE_SIZE_MAX;
use crate::types::{ByteRange, ContentId, FileKind, Ino};

/// New pieces by the slot they go to.
type Runs = BTreeMap<u64, Vec<Piece>>;

pub fn copy(
    state: &mut State<'_>,
    bytes: &mut Bytes,
    (from, source): (Ino, ByteRange),
    target: ByteRange,
) -> Step<()> {
    require(target.end() <= FILE_SIZE_MAX, Refusal::FileTooLarge)?;
    let (body, size) = if bytes.ino() == Some(from) {
        require(source.intersect(target).is_none(), Refusal::Malformed)?;
        (content_of(&bytes.body, source)?, bytes.size)
    } else {
        let inode = state.inode(from)?.ok_or(Refusal::Stale)?;
        require(inode.kind == FileKind::Regular, Refusal::NotARegularFile)?;
        (content_of(&inode.body, source)?, inode.size)
    };
    // Shorter than when the caller looked: it has to look again.
    require(source.end() <= size, Refusal::Conflict)?;
    let runs = match body {
        Some(content) => collect(state, bytes, content, source, target)?,
        None => Runs::new(),
    };
    match content_of(&bytes.body, target)? {
        Some(content) => lay(state, bytes, content, target, &runs)?,
        None => require(runs.is_empty(), Refusal::Conflict)?,
    }
    bytes.extend(target.end())
}

/// As [`copy`] from a content without holes.
pub fn copy_content(
    state: &mut State<'_>,
    bytes: &mut Bytes,
    (from, source): (ContentId, ByteRange),
    target: ByteRange,
) -> Step<()> {
    require(target.end() <= FILE_SIZE_MAX, Refusal::FileTooLarge)?;
    let Body::Manifest(content) = bytes.body else { return Err(Refusal::Conflict.into()) };
    require(content != from, Refusal::Malformed)?;
    let runs = collect(state, bytes, from, source, target)?;
    let found: u64 = runs.values().flatten().map(|piece| u64::from(piece.len)).sum();
    require(found == source.len(), Refusal::Conflict)?;
    lay(state, bytes, content, target, &runs)?;
    bytes.extend(target.end())
}

/// The manifest that has a range; `None` when nothing has: the range is a hole.
fn content_of(body: &Body, range: ByteRange) -> Step<Option<ContentId>> {
    match body {
        Body::Manifest(content) => Ok(Some(*content)),
        Body::Inline(data) if data.len() as u64 <= range.start() => Ok(None),
        Body::Inline(_) => Err(Refusal::Conflict.into()),
        Body::None | Body::Symlink(_) => Err(Refusal::NotARegularFile.into()),
    }
}

/// The pieces of `source`, cut and moved to where they go in `target`. Copied is acknowledged anew:
/// their chunks must have their quorum, whoever named them before.
fn collect(
    state: &mut State<'_>,
    bytes: &mut Bytes,
    content: ContentId,
    source: ByteRange,
    target: ByteRange,
) -> Step<Runs> {
    let slot_size = state.superblock.chunk_size;
    let (first, last) = (source.start() / slot_size, (source.end() - 1) / slot_size);
    let mut runs = Runs::new();
    for (number, slot) in bounded_slots(state, content, first, last)? {
        let Some(hit) = slot_range(number, slot_size).intersect(source) else { continue };
        let (start, end) = within_slot(hit, number, slot_size);
        let origin = number * slot_size;
        for piece in &slot.pieces {
            let Some(piece) = part(piece, piece.start.max(start), piece.end().min(end)) else {
                continue;
            };
            let seen = require_copies(state, piece.chunk, bytes.namer)?;
            bytes.is_relaxed |= seen == Seen::Relaxed;
            let offset = origin + u64::from(piece.start) - source.start() + target.start();
            place(&mut runs, &piece, offset, slot_size);
        }
    }
    Ok(runs)
}

/// Cuts a piece at the slots it comes to lie in at `offset` of the file.
fn place(runs: &mut Runs, piece: &Piece, offset: u64, slot_size: u64) {
    let range = ByteRange::between(offset, offset + u64::from(piece.len));
    for (number, cut) in range.slots(slot_size) {
        let (start, end) = within_slot(cut, number, slot_size);
        runs.entry(number).or_default().push(Piece {
            start,
            len: end - start,
            chunk: piece.chunk,
            chunk_offset: piece.chunk_offset + (cut.start() - offset) as u32,
        });
    }
}

/// Replaces all of `target` by `runs` and holes between them.
fn lay(
    state: &mut State<'_>,
    bytes: &mut Bytes,
    content: ContentId,
    target: ByteRange,
    runs: &Runs,
) -> Step<()> {
    let slot_size = state.superblock.chunk_size;
    let (first, last) = (target.start() / slot_size, (target.end() - 1) / slot_size);
    let there = bounded_slots(state, content, first, last)?;
    let mut numbers: Vec<u64> = there.into_iter().map(|(number, _)| number).collect();
    numbers.extend(runs.keys());
    numbers.sort_unstable();
    numbers.dedup();
    for number in numbers {
        let Some(hit) = slot_range(number, slot_size).intersect(target) else { continue };
        let edges = within_slot(hit, number, slot_size);
        let pieces = runs.get(&number).map_or(&[][..], Vec::as_slice);
        edit_slot(state, (content, number), edges, pieces, &mut bytes.allocated)?;
    }
    Ok(())
}
