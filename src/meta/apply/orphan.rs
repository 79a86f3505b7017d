//! Inodes that have lost their last name, and the sessions that keep them.

use super::collect;
use super::state::{State, Step, require};
use crate::error::Error;
use crate::meta::keys;
use crate::meta::mutation::{Outcome, Refusal};
use crate::meta::record::Orphan;
use crate::types::limits::RELEASED_MAX;
use crate::types::{FileKind, Ino, SessionId};

/// Makes an orphan of a file for everybody who may have it open. Alone, the proposer knows whether it
/// has (`held`). With others about each live session may, the proposer's too: it looked before the
/// change had its place in the order, and may have opened since what another has put there. False
/// when that is nobody. Other kinds are opened by kernels alone and are kept for the proposer at most.
pub fn keep(state: &mut State<'_>, ino: Ino, kind: FileKind, held: bool) -> Step<bool> {
    let mut holders = 0;
    let live = state.live_sessions()?;
    let shared = kind == FileKind::Regular && live.iter().any(|other| *other != state.session);
    for session in live {
        if shared || held && session == state.session {
            state.mark(keys::hold(session, ino));
            holders += 1;
        }
    }
    if holders > 0 {
        state.put(keys::orphan(ino), &Orphan { holders })?;
    }
    Ok(holders > 0)
}

pub fn release(state: &mut State<'_>, inos: &[Ino]) -> Step<Outcome> {
    require(inos.len() <= RELEASED_MAX, Refusal::Malformed)?;
    for &ino in inos {
        let_go(state, state.session, ino)?;
    }
    Ok(Outcome::Done)
}

/// A session uses an orphan no longer. Whoever lets go last takes it along.
fn let_go(state: &mut State<'_>, session: SessionId, ino: Ino) -> Step<()> {
    let hold = keys::hold(session, ino);
    if !state.is_marked(&hold)? {
        return Ok(());
    }
    state.delete(hold);
    let key = keys::orphan(ino);
    let wrong = || Error::damaged(format!("the holders of orphan {} were counted wrongly", ino.0));
    let orphan: Orphan = state.get(&key)?.ok_or_else(wrong)?;
    let holders = orphan.holders.checked_sub(1).ok_or_else(wrong)?;
    if holders > 0 {
        state.put(key, &Orphan { holders })?;
        return Ok(());
    }
    let inode = state.named_inode(ino)?;
    collect::free_inode(state, ino, &inode)?;
    state.delete(key);
    Ok(())
}

/// An ended session lets go of everything, in bounded steps: false when there is more.
pub fn let_all_go(state: &mut State<'_>, session: SessionId) -> Step<bool> {
    let holds = state.keys(&keys::holds_of(session), RELEASED_MAX)?;
    for ino in holds.iter().filter_map(|hold| keys::tail_number(hold)) {
        let_go(state, session, Ino(ino))?;
    }
    Ok(holds.len() < RELEASED_MAX)
}
