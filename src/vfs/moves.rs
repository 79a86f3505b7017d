//! Names that went while their files stayed. A kernel opens by number what it found by name, perhaps in a table that
//! was behind: under a name that was another file's already, or nobody's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::hub::ChangeHub;
use crate::env::Clock;
use crate::meta::Change;
use crate::types::Ino;

/// For so long at least a move is known. No kernel follows a name that went for longer: it is told, and names have a TTL
/// of a second.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// Moves are counted: what was looked up when there were as many as this is not known to have moved since.
pub type Count = u64;

#[derive(Default)]
struct Known {
    count: Count,
    /// Everything may have moved then.
    everything: Count,
    /// When `young` was begun.
    begun: Duration,
    young: HashMap<Ino, Move>,
    old: HashMap<Ino, Move>,
}

#[derive(Clone, Copy)]
struct Move {
    count: Count,
    /// The mount it came through, whose kernel knows.
    origin: u32,
}

#[derive(Default)]
pub struct Moves(Mutex<Known>);

impl Moves {
    pub fn listen(hub: &ChangeHub, clock: Arc<dyn Clock>) -> Arc<Self> {
        let moves = Arc::new(Self::default());
        let noting = Arc::clone(&moves);
        hub.subscribe(Box::new(move |change, origin| match change {
            Change::Unnamed(ino) => noting.note(*ino, origin, clock.elapsed()),
            Change::Everything => noting.note_everything(),
            _ => {}
        }));
        moves
    }

    fn note(&self, ino: Ino, origin: u32, now: Duration) {
        let mut known = self.0.lock();
        if now.saturating_sub(known.begun) > KNOWN_FOR {
            known.old = std::mem::take(&mut known.young);
            known.begun = now;
        }
        known.count += 1;
        let count = known.count;
        known.young.insert(ino, Move { count, origin });
    }

    fn note_everything(&self) {
        let mut known = self.0.lock();
        known.count += 1;
        known.everything = known.count;
    }

    /// As many as there were. To be asked before the table is.
    pub fn count(&self) -> Count {
        self.0.lock().count
    }

    /// Whether a name of the inode went since, through another mount or node than `origin`.
    pub fn has_moved(&self, ino: Ino, origin: u32, since: Count) -> bool {
        let known = self.0.lock();
        let last = known.young.get(&ino).or_else(|| known.old.get(&ino));
        let moved = last.is_some_and(|last| last.origin != origin && last.count > since);
        moved || known.everything > since
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_moved_since_is_known_for_a_while() {
        let (moves, ino, other) = (Moves::default(), Ino(7), Ino(8));
        let at = Duration::from_secs;
        let before = moves.count();
        moves.note(ino, 3, at(1));
        assert!(moves.has_moved(ino, 1, before) && !moves.has_moved(ino, 3, before));
        assert!(!moves.has_moved(ino, 1, moves.count()) && !moves.has_moved(other, 1, before));
        moves.note(other, 0, at(7));
        assert!(moves.has_moved(ino, 1, before), "six seconds are not long enough to forget it");
        moves.note(other, 0, at(13));
        assert!(!moves.has_moved(ino, 1, before) && moves.has_moved(other, 1, before));
        let count = moves.count();
        moves.note_everything();
        assert!(moves.has_moved(ino, 3, count) && !moves.has_moved(ino, 3, moves.count()));
    }
}
