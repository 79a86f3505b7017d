//! Locks: two owners never hold what excludes the other, and nothing is held by who is gone.

use super::moves::Random;
use super::{Bench, Speaker, file_name, removed};
use crate::meta::keys;
use crate::meta::lock::{HeldLock, LOCKS_MAX, LockOwner, Locks, SetLock};
use crate::meta::mutation::{Change, Mutation, Outcome, Refusal};
use crate::types::Ino;

fn owner(number: u64) -> LockOwner {
    LockOwner { mount: 1, number }
}

fn lock(ino: Ino, by: u64, first: u64, last: u64, exclusive: bool) -> Mutation {
    let lock = HeldLock { first, last, exclusive, pid: 7 };
    Mutation::SetLock(SetLock { ino, owner: owner(by), lock, unlock: false })
}

fn unlock(ino: Ino, by: u64, first: u64, last: u64) -> Mutation {
    let lock = HeldLock { first, last, exclusive: false, pid: 7 };
    Mutation::SetLock(SetLock { ino, owner: owner(by), lock, unlock: true })
}

fn done(bench: &mut Bench, mutation: Mutation) {
    assert_eq!(bench.propose(mutation), Outcome::Done);
    bench.check();
}

#[test]
fn readers_share_and_writers_exclude() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    done(&mut bench, lock(ino, 1, 0, 9, false));
    done(&mut bench, lock(ino, 2, 5, 14, false));
    bench.refused(lock(ino, 3, 9, 20, true), Refusal::Locked);
    done(&mut bench, lock(ino, 3, 15, u64::MAX, true));
    bench.refused(lock(ino, 1, 0, 9, true), Refusal::Locked);
    assert!(bench.changes.is_empty());
    done(&mut bench, unlock(ino, 2, 0, 10));
    assert_eq!(bench.changes, [Change::Unlocked(ino)], "whoever waits is told");
    done(&mut bench, lock(ino, 1, 0, 9, true));
    done(&mut bench, lock(ino, 1, 2, 3, false));
    assert_eq!(bench.changes, [Change::Unlocked(ino)], "others may read now");
    done(&mut bench, lock(ino, 2, 3, 3, false));
    bench.refused(lock(ino, 2, 3, 4, false), Refusal::Locked);
    done(&mut bench, unlock(ino, 4, 0, u64::MAX));
    assert!(bench.changes.is_empty());
    bench.refused(lock(ino, 1, 5, 4, true), Refusal::Malformed);
    bench.refused(lock(Ino(999), 1, 0, 4, true), Refusal::Stale);
}

/// The same number of another session, or of another mount, is somebody else.
#[test]
fn sessions_exclude_each_other_and_lose_their_locks_at_their_end() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    let second = Speaker::new(bench.open_session(2));
    let first = std::mem::replace(&mut bench.who, second);
    done(&mut bench, lock(ino, 1, 0, 9, true));
    done(&mut bench, lock(ino, 2, 20, 29, true));
    let second = std::mem::replace(&mut bench.who, first);
    bench.refused(lock(ino, 1, 0, 9, true), Refusal::Locked);
    let end = Mutation::EndSession { session: second.session };
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert!(bench.changes.contains(&Change::Unlocked(ino)));
    assert!(bench.table.keys(keys::LOCK).is_empty() && bench.table.keys(keys::LOCK_OF).is_empty());
    done(&mut bench, lock(ino, 1, 0, 99, true));
    bench.who = second;
    bench.refused(lock(ino, 1, 200, 210, true), Refusal::Fenced);
}

#[test]
fn a_file_takes_its_locks_along() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    done(&mut bench, lock(ino, 1, 0, 9, true));
    let at = bench.now();
    let unlink = Mutation::Unlink { parent: bucket, name: file_name("f"), held: false, at };
    removed(bench.propose(unlink));
    assert!(bench.table.keys(keys::LOCK).is_empty() && bench.table.keys(keys::LOCK_OF).is_empty());
    bench.check();
}

#[test]
fn locks_are_bounded_and_a_long_end_goes_in_steps() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    for at in 0..LOCKS_MAX as u64 {
        assert_eq!(bench.propose(lock(ino, 1, 2 * at, 2 * at, true)), Outcome::Done);
        bench.who.settled = bench.who.sequence;
    }
    bench.refused(lock(ino, 1, 1 << 40, 1 << 40, true), Refusal::TooManyLocks);
    done(&mut bench, unlock(ino, 1, 0, u64::MAX));
    let second = Speaker::new(bench.open_session(2));
    let first = std::mem::replace(&mut bench.who, second);
    for by in 0..1024 {
        assert_eq!(bench.propose(lock(ino, by, 0, 9, false)), Outcome::Done);
        bench.who.settled = bench.who.sequence;
    }
    let second = std::mem::replace(&mut bench.who, first);
    let end = Mutation::EndSession { session: second.session };
    assert_eq!(bench.propose(end.clone()), Outcome::More(true));
    bench.check();
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert!(bench.table.keys(keys::LOCK).is_empty());
    bench.check();
}

/// Random locks of six owners in two sessions against a table of single bytes.
#[test]
fn random_locks_do_what_a_table_of_bytes_does() {
    for seed in 0..6 {
        println!("seed {seed}");
        let (mut bench, bucket) = Bench::new();
        let ino = bench.create(bucket, "f");
        let mut other = Speaker::new(bench.open_session(2));
        let mut random = Random(seed);
        let mut bytes = [[None; 6]; 32];
        for _ in 0..400 {
            let by = random.below(6) as usize;
            let (first, more) = (random.below(24), random.below(8));
            let range = first as usize..=(first + more) as usize;
            let (exclusive, release) = (random.percent(50), random.percent(40));
            let mutation = match release {
                true => unlock(ino, by as u64 % 3, first, first + more),
                false => lock(ino, by as u64 % 3, first, first + more, exclusive),
            };
            if by >= 3 {
                std::mem::swap(&mut bench.who, &mut other);
            }
            let outcome = bench.propose(mutation);
            bench.who.settled = bench.who.sequence;
            if by >= 3 {
                std::mem::swap(&mut bench.who, &mut other);
            }
            let taken = bytes[range.clone()].iter().any(|byte: &[Option<bool>; 6]| {
                let held = byte.iter().enumerate().filter(|(who, _)| *who != by);
                held.into_iter().any(|(_, held)| held.is_some_and(|held| held || exclusive))
            });
            if !release && taken {
                assert_eq!(outcome, Outcome::Refused(Refusal::Locked));
                continue;
            }
            assert_eq!(outcome, Outcome::Done);
            bytes[range].iter_mut().for_each(|byte| byte[by] = (!release).then_some(exclusive));
        }
        bench.check();
        let held: usize = bench
            .table
            .keys(keys::LOCK)
            .iter()
            .map(|key| {
                let locks: Locks = bench.read(key).unwrap();
                locks.held.iter().map(|lock| (lock.last - lock.first + 1) as usize).sum::<usize>()
            })
            .sum();
        assert_eq!(held, bytes.iter().flatten().flatten().count());
    }
}
