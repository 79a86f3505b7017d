//! Locks of fcntl(2) and flock(2) on ranges of a file: the words, and the record.

use serde::{Deserialize, Serialize};

use crate::types::Ino;

/// Ranges one owner can hold of one file: what a record has room for.
pub const LOCKS_MAX: usize = 1024;
/// Owners that can hold locks of one file: each new lock is compared with all of them.
pub const LOCK_OWNERS_MAX: usize = 4096;

/// Who holds a lock, within its session: a kernel's number of a process's files (fcntl) or of an
/// open file (flock), and the mount whose kernel that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockOwner {
    pub mount: u32,
    pub number: u64,
}

/// One range that is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// First and last byte; to the end of any file: `u64::MAX`.
    pub first: u64,
    pub last: u64,
    /// Nobody else may hold any lock of these bytes; else nobody an exclusive one.
    pub exclusive: bool,
    /// What F_GETLK tells of the process, as its own node numbers it.
    pub pid: u32,
}

/// What one owner holds of one file, at least one range: sorted and disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    pub held: Vec<HeldLock>,
}

/// Gives the proposer's `owner` a lock in place of what it holds of the range, or takes that away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLock {
    pub ino: Ino,
    pub owner: LockOwner,
    /// The range, and what is wanted of it.
    pub lock: HeldLock,
    /// Nothing is wanted: the range is unlocked, whatever `exclusive` says.
    pub unlock: bool,
}

impl HeldLock {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether two owners cannot hold these at the same time.
    pub fn conflicts(&self, other: &Self) -> bool {
        self.overlaps(other) && (self.exclusive || other.exclusive)
    }

    fn continues(&self, next: &Self) -> bool {
        self.last.checked_add(1) == Some(next.first)
            && (self.exclusive, self.pid) == (next.exclusive, next.pid)
    }
}

impl Locks {
    /// The first of these that stands in the way of `wanted` of another owner.
    pub fn in_the_way(&self, wanted: &HeldLock) -> Option<&HeldLock> {
        self.held.iter().find(|held| held.conflicts(wanted))
    }

    /// Puts `new`, or nothing, in place of whatever is held of `range`. Neighbours that continue
    /// each other become one.
    pub fn lay(&mut self, range: &HeldLock, new: Option<HeldLock>) {
        let mut held = Vec::with_capacity(self.held.len() + 2);
        for old in &self.held {
            if !old.overlaps(range) {
                held.push(*old);
                continue;
            }
            if old.first < range.first {
                held.push(HeldLock { last: range.first - 1, ..*old });
            }
            if old.last > range.last {
                held.push(HeldLock { first: range.last + 1, ..*old });
            }
        }
        held.extend(new);
        held.sort_unstable_by_key(|lock| lock.first);
        self.held.clear();
        for lock in held {
            match self.held.last_mut() {
                Some(last) if last.continues(&lock) => last.last = lock.last,
                _ => self.held.push(lock),
            }
        }
    }

    pub fn is_valid(&self) -> bool {
        let ordered = self.held.windows(2).all(|pair| pair[0].last < pair[1].first);
        let whole = self.held.iter().all(|lock| lock.first <= lock.last);
        ordered && whole && (1..=LOCKS_MAX).contains(&self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lock(first: u64, last: u64, exclusive: bool) -> HeldLock {
        HeldLock { first, last, exclusive, pid: 1 }
    }

    proptest! {
        /// Byte by byte: each is as the last change that touched it says.
        #[test]
        fn locks_equal_a_flat_table(
            changes in prop::collection::vec((0u64..30, 0u64..10, 0u8..3), 1..30)
        ) {
            let (mut locks, mut flat) = (Locks::default(), [None; 40]);
            for (first, more, kind) in changes {
                let range = lock(first, first + more, kind == 2);
                locks.lay(&range, (kind > 0).then_some(range));
                flat[first as usize..=(first + more) as usize].fill((kind > 0).then_some(kind == 2));
                prop_assert!(locks.held.is_empty() || locks.is_valid());
                for (at, expected) in flat.iter().enumerate() {
                    let byte = lock(at as u64, at as u64, true);
                    let found = locks.held.iter().find(|held| held.overlaps(&byte));
                    prop_assert_eq!(&found.map(|held| held.exclusive), expected);
                }
                let joined = locks.held.windows(2).all(|pair| !pair[0].continues(&pair[1]));
                prop_assert!(joined);
            }
        }
    }

    #[test]
    fn the_end_of_the_file_is_no_edge() {
        let mut locks = Locks::default();
        let all = lock(0, u64::MAX, true);
        locks.lay(&all, Some(all));
        locks.lay(&lock(5, u64::MAX, false), None);
        assert_eq!(locks.held, [lock(0, 4, true)]);
        assert_eq!(locks.in_the_way(&lock(4, 9, false)), Some(&lock(0, 4, true)));
        assert_eq!(locks.in_the_way(&lock(5, 9, true)), None);
        locks.lay(&all, None);
        assert!(locks.held.is_empty());
    }
}
