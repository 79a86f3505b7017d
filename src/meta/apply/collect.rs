//! What ends: inodes without names, doomed contents, fragmented slots, chunks without references.

use std::collections::BTreeSet;

use super::copies::{Namer, require_first_copies};
use super::locks;
use super::manifest::{drop_slot, free, slots_of};
use super::slots::{self, Delta};
use super::state::{State, Step, require};
use crate::error::Error;
use crate::meta::keys;
use crate::meta::mutation::{Change, NewChunk, Outcome, Refusal};
use crate::meta::record::{Body, Inode, Piece, Session, Slot};
use crate::types::limits::{PIECES_FREED_MAX, PIECES_MAX, REAP_IDS_MAX, SLOTS_FREED_MAX};
use crate::types::{ChunkId, ContentId, Ino};

/// Removes an inode that nothing names, with its xattrs and body.
pub fn free_inode(state: &mut State<'_>, ino: Ino, inode: &Inode) -> Step<()> {
    for key in state.keys(&keys::xattrs(ino), usize::MAX)? {
        state.delete(key);
    }
    if !inode.published {
        state.forget_unpublished(ino)?;
    }
    if let Body::Manifest(content) = inode.body {
        free(state, content)?;
    }
    locks::forget(state, ino)?;
    state.delete(keys::sums(ino));
    state.delete(keys::inode(ino));
    let inodes = state.superblock.inodes.checked_sub(1);
    state.superblock.inodes = inodes.ok_or_else(|| Error::damaged("inodes counted wrongly"))?;
    state.tell(Change::Gone(ino));
    Ok(())
}

/// Removes slots of a doomed content, as many as one mutation may.
pub fn free_content(state: &mut State<'_>, content: ContentId) -> Step<Outcome> {
    let key = keys::doomed(content);
    if !state.is_marked(&key)? {
        return Ok(Outcome::More(false));
    }
    let mut pieces = 0;
    let mut found = slots_of(state, content, 0, u64::MAX, SLOTS_FREED_MAX + 1)?;
    let all = found.len();
    found.truncate(SLOTS_FREED_MAX);
    let fitting = found.iter().take_while(|(_, slot)| {
        let fits = pieces < PIECES_FREED_MAX;
        pieces += slot.pieces.len();
        fits
    });
    let freed = fitting.count();
    for (number, slot) in found.drain(..freed) {
        drop_slot(state, content, number, slot)?;
    }
    if freed == all {
        state.delete(key);
    }
    Ok(Outcome::More(freed < all))
}

pub struct Compaction<'a> {
    pub content: ContentId,
    pub slot: u64,
    pub expected: &'a [Piece],
    pub pieces: &'a [Piece],
    pub chunks: &'a [NewChunk],
}

pub fn compact(state: &mut State<'_>, compaction: &Compaction<'_>) -> Step<Outcome> {
    let Compaction { content, slot, expected, pieces, chunks } = *compaction;
    let slot_size = state.superblock.chunk_size;
    require(slots::is_valid(pieces, slot_size), Refusal::Malformed)?;
    let key = keys::slot(content, slot);
    let there: Slot = state.get(&key)?.unwrap_or_default();
    let unchanged = !expected.is_empty() && there.pieces.starts_with(expected);
    require(unchanged && !state.is_marked(&keys::doomed(content))?, Refusal::Conflict)?;
    // The same bytes are covered, so no count but the references changes.
    require(slots::runs(pieces) == slots::runs(expected), Refusal::Malformed)?;
    state.introduce(chunks)?;
    for piece in pieces {
        let chunk = state.chunk(piece.chunk)?.ok_or(Refusal::UnknownChunk)?;
        let end = piece.chunk_offset.checked_add(piece.len).ok_or(Refusal::Malformed)?;
        require(end <= chunk.len, Refusal::Malformed)?;
        require_first_copies(state, piece.chunk, Namer::Nobody)?;
    }
    let slot = [pieces, &there.pieces[expected.len()..]].concat();
    require(slot.len() <= PIECES_MAX, Refusal::TooMuch)?;
    state.count(&Delta { removed: expected.to_vec(), added: pieces.to_vec() })?;
    state.put(key, &Slot { pieces: slot })?;
    Ok(Outcome::Done)
}

/// Forgets chunks. Afterwards no session introduces or uses them again, so their files may go.
///
/// Nothing names a chunk without references but a request that brings its id, for copies by
/// reference, compactions of others and uploads' parts name what a manifest names at that moment.
/// Only the session of the id brings it. Of another session than the proposer's such a request may
/// be under way until the session's mark has passed the id: then it is refused. The proposer's own
/// are settled, as it alone knows, whatever its mark: each request that brought the id was answered,
/// and a late copy of it is answered from its outcome or fenced; or its fate was unknown, and its
/// abort is applied before this (see `replication::combiner`). So an open file whose chunk has a low
/// number keeps no other chunk.
pub fn reap(state: &mut State<'_>, ids: &[ChunkId]) -> Step<Outcome> {
    require(ids.len() <= REAP_IDS_MAX, Refusal::Malformed)?;
    let mut reaped = Vec::new();
    for &id in ids.iter().collect::<BTreeSet<_>>() {
        if id.session != state.session && may_still_come(state, id)? {
            continue;
        }
        match state.chunk(id)?.map(|chunk| chunk.references) {
            Some(0) => {
                state.forget_chunk(id);
                reaped.push(id);
            }
            Some(_) => {}
            None => reaped.push(id),
        }
    }
    if !reaped.is_empty() {
        state.tell(Change::Reaped(reaped.clone()));
    }
    Ok(Outcome::Reaped(reaped))
}

/// Whether a session has the right to introduce the chunk, now or later.
pub fn may_still_come(state: &State<'_>, id: ChunkId) -> Step<bool> {
    let session: Option<Session> = state.get(&keys::session(id.session))?;
    Ok(match session {
        Some(session) => id.counter > session.chunk_mark,
        None => id.session.0 >= state.superblock.next_session,
    })
}
