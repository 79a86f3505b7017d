//! Locks that hold across nodes: granted where the order is made, gone with their session.

use super::state::{State, Step, require};
use crate::error::Result;
use crate::meta::lock::{LOCK_OWNERS_MAX, LOCKS_MAX, Locks, SetLock};
use crate::meta::mutation::{Change, Outcome, Refusal};
use crate::meta::{codec, keys};
use crate::types::{Ino, SessionId};

/// Owners whose locks go in one step with their session.
const UNLOCKED_AT_ONCE: usize = 1024;

pub fn set(state: &mut State<'_>, change: &SetLock) -> Step<Outcome> {
    let SetLock { ino, owner, lock, unlock } = *change;
    require(lock.first <= lock.last, Refusal::Malformed)?;
    let key = keys::lock(ino, state.session, owner);
    let mut locks: Locks = state.get(&key)?.unwrap_or_default();
    let lost = locks.held.iter().any(|held| held.overlaps(&lock) && (unlock || held.exclusive));
    if !unlock {
        require(state.is_marked(&keys::inode(ino))?, Refusal::Stale)?;
        require_granted(state, change, &key)?;
    }
    locks.lay(&lock, (!unlock).then_some(lock));
    require(locks.held.len() <= LOCKS_MAX, Refusal::TooManyLocks)?;
    let index = keys::lock_of(state.session, ino, owner);
    if locks.held.is_empty() {
        state.delete(key);
        state.delete(index);
    } else {
        state.put(key, &locks)?;
        state.mark(index);
    }
    if lost {
        state.tell(Change::Unlocked(ino));
    }
    Ok(Outcome::Done)
}

/// # Errors
/// [`Refusal::Locked`] when another owner, of whatever session, stands in the way.
fn require_granted(state: &State<'_>, change: &SetLock, own: &[u8]) -> Step<()> {
    let (from, to) = keys::locks(change.ino);
    let (mut free, mut owners) = (true, 0);
    state.view().scan(&from, &to, &mut |key, value| {
        owners += 1;
        if key != own {
            let locks: Locks = codec::decode(value)?;
            free = locks.in_the_way(&change.lock).is_none();
        }
        Ok(free)
    })?;
    require(free, Refusal::Locked)?;
    require(owners < LOCK_OWNERS_MAX, Refusal::TooManyLocks)
}

/// An ended session loses its locks, in bounded steps: false when there are more.
pub fn drop_all(state: &mut State<'_>, session: SessionId) -> Step<bool> {
    let found = state.keys(&keys::locks_of(session), UNLOCKED_AT_ONCE)?;
    let more = found.len() == UNLOCKED_AT_ONCE;
    for index in found {
        if let Some((ino, owner)) = keys::locked(&index) {
            state.delete(keys::lock(ino, session, owner));
            state.tell(Change::Unlocked(ino));
        }
        state.delete(index);
    }
    Ok(!more)
}

/// The file goes; whoever still has locks of it has it closed without a word.
pub fn forget(state: &mut State<'_>, ino: Ino) -> Result<()> {
    for key in state.keys(&keys::locks(ino), usize::MAX)? {
        if let Some((session, owner)) = keys::locker(&key) {
            state.delete(keys::lock_of(session, ino, owner));
        }
        state.delete(key);
    }
    Ok(())
}
