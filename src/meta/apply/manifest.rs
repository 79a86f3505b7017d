//! Manifests: slots of a content changed one by one, with exact reference counts, and freed.

use super::slots::{self, Delta};
use super::state::{State, Step, require};
use crate::error::Error;
use crate::meta::mutation::Refusal;
use crate::meta::record::{Piece, Slot};
use crate::meta::{codec, keys};
use crate::types::limits::PIECES_MAX;
use crate::types::{ByteRange, ContentId};

/// A content with at most so many slots is freed together with what named it.
const SLOTS_FREED_AT_ONCE: usize = 64;

/// All bytes of a slot.
pub fn slot_range(number: u64, slot_size: u64) -> ByteRange {
    let start = number.saturating_mul(slot_size);
    ByteRange::between(start, start.saturating_add(slot_size))
}

/// A range of a file that lies in one slot, as offsets in the slot.
pub fn within_slot(range: ByteRange, number: u64, slot_size: u64) -> (u32, u32) {
    let origin = number * slot_size;
    ((range.start() - origin) as u32, (range.end() - origin) as u32)
}

/// The first `limit` slots from `first` to `last`, both included.
pub fn slots_of(
    state: &mut State<'_>,
    content: ContentId,
    first: u64,
    last: u64,
    limit: usize,
) -> Step<Vec<(u64, Slot)>> {
    state.store_slots()?;
    let (from, all) = keys::slots(content, first);
    let to = last.checked_add(1).map_or(all, |end| keys::slot(content, end));
    let mut found = Vec::new();
    state.view().scan(&from, &to, &mut |key, value| {
        let number = keys::slot_number(key).ok_or_else(|| Error::damaged("a slot's key"))?;
        found.push((number, codec::decode(value)?));
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

/// As [`slots_of`], all of them.
///
/// # Errors
/// [`Refusal::TooMuch`] when they are more than the mutation may still walk over.
pub fn bounded_slots(
    state: &mut State<'_>,
    content: ContentId,
    first: u64,
    last: u64,
) -> Step<Vec<(u64, Slot)>> {
    let limit = state.slots_left() + 1;
    let found = slots_of(state, content, first, last, limit)?;
    state.spend_slots(found.len())?;
    Ok(found)
}

/// Puts `new` in place of the bytes `start..end` of a slot; `allocated` is its file's count.
pub fn edit_slot(
    state: &mut State<'_>,
    (content, number): (ContentId, u64),
    (start, end): (u32, u32),
    new: &[Piece],
    allocated: &mut u64,
) -> Step<()> {
    let slot = state.open_slot(content, number)?;
    let delta = slots::splice(&mut slot.pieces, start, end, new);
    require(slot.pieces.len() <= PIECES_MAX, Refusal::TooMuch)?;
    state.count(&delta)?;
    *allocated = delta.balance(*allocated)?;
    Ok(())
}

/// Removes a slot as it was read; returns its part in the counts.
pub fn drop_slot(
    state: &mut State<'_>,
    content: ContentId,
    number: u64,
    slot: Slot,
) -> Step<Delta> {
    let delta = Delta { removed: slot.pieces, added: Vec::new() };
    state.count(&delta)?;
    state.delete(keys::slot(content, number));
    Ok(delta)
}

/// Frees a content that nothing names any more: at once when it is small and the mutation has not
/// freed much already, else it is doomed and goes in steps.
pub fn free(state: &mut State<'_>, content: ContentId) -> Step<()> {
    let limit = SLOTS_FREED_AT_ONCE.min(state.slots_left());
    let found = slots_of(state, content, 0, u64::MAX, limit + 1)?;
    if found.len() > limit {
        state.mark(keys::doomed(content));
        return Ok(());
    }
    state.spend_slots(found.len())?;
    for (number, slot) in found {
        drop_slot(state, content, number, slot)?;
    }
    Ok(())
}

/// # Errors
/// [`Refusal::UnknownChunk`] unless the id is the session's own and nothing is known under it.
pub fn require_fresh(state: &mut State<'_>, content: ContentId) -> Step<()> {
    state.store_slots()?;
    let unused = content.session == state.session
        && !state.is_marked(&keys::staged(content))?
        && !state.is_marked(&keys::doomed(content))?
        && state.keys(&keys::slots(content, 0), 1)?.is_empty();
    require(unused, Refusal::UnknownChunk)
}
