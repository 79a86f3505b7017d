//! The log on a simulated disk: nothing that was synced is lost, what comes back is a beginning of
//! what was written, and a hole in what was synced is not taken for an end.

use std::ops::Range;
use std::path::Path;

use super::*;
use crate::env::{Seeded, SimDisk, SimThreads};
use crate::meta::{Mutation, Request};
use crate::replication::types::{Batch, Entry};
use crate::types::{RequestId, SessionId};

const DIR: &str = "/log";
const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 10, direct: false };

fn id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(term, 1), index)
}

/// An entry of about `bytes` bytes that says its index and term.
fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let request = Request {
        id: RequestId { session: SessionId(term), sequence: index },
        settled: 0,
        chunk_mark: 0,
        mutation: Mutation::OpenSession { node: 1, address: "x".repeat(bytes), nonce: index },
    };
    let payload = openraft::EntryPayload::Normal(Batch::new(vec![request], false));
    Entry { log_id: id(term, index), payload }
}

fn new_disk(options: LogOptions) -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    Log::create(&disk, Path::new(DIR), options).unwrap();
    disk
}

fn open_with(disk: &SimDisk, options: LogOptions) -> Result<Log> {
    Log::open(Arc::new(disk.clone()), Path::new(DIR), options, None)
}

fn open(disk: &SimDisk) -> Log {
    open_with(disk, OPTIONS).unwrap()
}

fn ids(log: &Log, range: Range<u64>) -> Vec<LogId> {
    log.read(range).unwrap().iter().map(|entry| entry.log_id).collect()
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[test]
fn entries_are_read_from_memory_and_from_disk() {
    for direct in [false, true] {
        let options = LogOptions { direct, ..OPTIONS };
        let disk = new_disk(options);
        let log = open_with(&disk, options).unwrap();
        for index in 0..200 {
            log.append(vec![entry(1, index, (index as usize * 37) % 5000)]).unwrap();
        }
        assert_eq!(numbers(&log.read(0..u64::MAX).unwrap()), (0..200).collect::<Vec<_>>());
        log.sync().unwrap();
        drop(log);

        let log = open_with(&disk, options).unwrap();
        assert_eq!(log.ends().last, Some(id(1, 199)));
        for range in [0..200, 0..1, 57..143, 199..300, 200..300] {
            let expected: Vec<u64> = range.clone().filter(|index| *index < 200).collect();
            assert_eq!(numbers(&log.read(range).unwrap()), expected);
        }
        let some = log.read_some(10..200, 20_000).unwrap();
        assert!(some.len() < 30 && some[0].log_id.index == 10, "{}", some.len());
        let (one, same) = (log.read(150..151).unwrap(), entry(1, 150, (150 * 37) % 5000));
        assert_eq!(layout::encode_entry(&one[0]).unwrap(), layout::encode_entry(&same).unwrap());
    }
}

#[test]
fn an_entry_must_follow_the_last() {
    let log = open(&new_disk(OPTIONS));
    log.append(vec![entry(1, 7, 10)]).unwrap();
    assert!(matches!(log.append(vec![entry(1, 7, 10)]), Err(Error::InvalidArgument(_))));
    assert!(matches!(log.append(vec![entry(1, 8, 63_000)]), Err(Error::InvalidArgument(_))));
    log.append(vec![entry(1, 8, 10)]).unwrap();
    assert_eq!(ids(&log, 0..99), [id(1, 7), id(1, 8)]);
}

#[test]
fn truncated_entries_are_void_for_good() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.append((0..50).map(|index| entry(1, index, 3000)).collect()).unwrap();
    log.truncate(20).unwrap();
    assert_eq!(log.ends().last, Some(id(1, 19)));
    log.append((20..30).map(|index| entry(2, index, 100)).collect()).unwrap();
    log.truncate(25).unwrap();
    log.append(vec![entry(3, 25, 10)]).unwrap();
    let mut expected: Vec<LogId> = (0..20).map(|index| id(1, index)).collect();
    expected.extend((20..25).map(|index| id(2, index)));
    expected.push(id(3, 25));
    assert_eq!(ids(&log, 0..99), expected);
    drop(log);
    let log = open(&disk);
    assert_eq!(ids(&log, 0..99), expected);
    log.truncate(0).unwrap();
    assert_eq!((log.ends().last, ids(&log, 0..99)), (None, vec![]));
    log.append(vec![entry(4, 0, 10)]).unwrap();
    drop(log);
    assert_eq!(ids(&open(&disk), 0..99), [id(4, 0)]);
}

#[test]
fn purged_segments_go_and_the_vote_stays() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    let vote = Vote::new(3, 1);
    log.save_vote(&vote).unwrap();
    log.append((0..100).map(|index| entry(1, index, 3000)).collect()).unwrap();
    let before = log.bytes();
    log.purge(id(1, 80)).unwrap();
    log.settle();
    assert!(log.bytes() < before / 2, "{} of {before}", log.bytes());
    assert_eq!(numbers(&log.read(0..200).unwrap()), (81..100).collect::<Vec<_>>());
    drop(log);

    let log = open(&disk);
    let ends = Ends { vote: Some(vote), purged: Some(id(1, 80)), last: Some(id(1, 99)) };
    assert_eq!(log.ends(), ends);
    assert_eq!(numbers(&log.read(0..200).unwrap()), (81..100).collect::<Vec<_>>());
    // Beyond the end, as after a snapshot from elsewhere.
    log.purge(id(2, 500)).unwrap();
    log.append(vec![entry(2, 501, 10)]).unwrap();
    drop(log);
    let log = open(&disk);
    assert_eq!((log.ends().purged, ids(&log, 0..999)), (Some(id(2, 500)), vec![id(2, 501)]));
}

/// A segment that cannot be removed goes later, and those behind it not before it: a log with a gap would
/// not open any more.
#[test]
fn a_segment_that_stays_leaves_no_gap() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.append((0..200).map(|index| entry(1, index, 3000)).collect()).unwrap();
    log.settle();
    // After the purge's own write and sync.
    disk.fail_call(3);
    log.purge(id(1, 70)).unwrap();
    log.settle();
    let found = || segment::list(&disk, Path::new(DIR)).unwrap();
    assert_eq!(found()[0].0, 1);
    log.purge(id(1, 150)).unwrap();
    log.settle();
    assert!(found()[0].0 > 3, "{:?}", found());
    drop(log);
    assert_eq!(numbers(&open(&disk).read(0..999).unwrap()), (151..200).collect::<Vec<_>>());
}

#[test]
fn what_is_committed_comes_with_the_next_record() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.append(vec![entry(1, 0, 1), entry(1, 1, 1)]).unwrap();
    log.save_committed(Some(id(1, 1)));
    assert_eq!(log.committed(), 2);
    log.append(vec![entry(1, 2, 1)]).unwrap();
    drop(log);
    assert_eq!(open(&disk).committed(), 2);
}

/// A killed process loses nothing that was written, synced or not.
#[test]
fn a_kill_loses_nothing_that_was_written() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.append((0..60).map(|index| entry(1, index, 2000)).collect()).unwrap();
    assert!(log.synced() < log.written());
    let disk = disk.kill();
    drop(log);
    let log = open(&disk);
    assert_eq!(numbers(&log.read(0..99).unwrap()), (0..60).collect::<Vec<_>>());
    // And from then on it is on disk.
    assert_eq!(log.synced(), log.written());
    let disk = disk.crash(7);
    drop(log);
    assert_eq!(numbers(&open(&disk).read(0..99).unwrap()), (0..60).collect::<Vec<_>>());
}

/// What a log was told and what it answered.
struct History {
    /// Ids in the order they were written; truncation cuts it.
    written: Vec<LogId>,
    /// Through here everything is on disk.
    synced: usize,
    /// As far as a purge may have come.
    purged: u64,
    /// The last vote that was saved, and the last that was to be.
    voted: u64,
    vote: u64,
}

/// Random work, until the disk stops. `lie`: is told when a vote is saved.
fn work(log: &Log, seed: u64, history: &mut History, lie: impl Fn(bool)) -> Result<()> {
    let mut chance = Seeded::new(seed);
    let mut term = 1;
    for _ in 0..60 {
        let next = history.written.last().map_or(0, |last| last.index + 1);
        match chance.draw() % 10 {
            0 => {
                history.vote += 1;
                lie(true);
                log.save_vote(&Vote::new(history.vote, 1))?;
                lie(false);
                history.voted = history.vote;
                history.synced = history.written.len();
            }
            1 if next > history.purged + 20 => {
                history.purged = next - 15;
                log.purge(history.written[history.written.len() - 15])?;
                history.synced = history.written.len();
            }
            2..5 => {
                log.sync()?;
                history.synced = history.written.len();
            }
            _ => {
                term += chance.draw() % 2;
                let count = 1 + chance.draw() % 5;
                let bytes = (chance.draw() % 6000) as usize;
                let entries: Vec<Entry> =
                    (next..next + count).map(|index| entry(term, index, bytes)).collect();
                history.written.extend(entries.iter().map(|entry| entry.log_id));
                log.append(entries)?;
            }
        }
    }
    Ok(())
}

/// The power goes after every sync there is, with torn writes of many kinds; then the log works on
/// and the power goes again.
#[test]
fn no_power_cut_loses_what_was_synced() {
    cut_everywhere(|_, _| {});
}

/// A log that votes before the vote is on disk may vote twice.
#[test]
#[should_panic(expected = "the vote is")]
fn a_vote_that_is_not_synced_is_noticed() {
    lying(|disk, votes| disk.lie(if votes { |_| true } else { |_| false }));
}

#[test]
#[should_panic(expected = "synced entries are gone")]
fn entries_that_are_not_synced_are_noticed() {
    lying(|disk, votes| disk.lie(if votes { |_| false } else { |_| true }));
}

/// The lie is about the whole disk: no thread may make a segment meanwhile, else that is lost first.
fn lying(lie: fn(&SimDisk, bool)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (_threads, _inside) = (SimThreads::new(1), runtime.enter());
    cut_everywhere(lie);
}

fn cut_everywhere(lie: fn(&SimDisk, bool)) {
    for seed in 0..6 {
        let mut stop = 0;
        loop {
            let disk = new_disk(OPTIONS);
            disk.stop_after_syncs(stop);
            let mut history =
                History { written: Vec::new(), synced: 0, purged: 0, voted: 0, vote: 0 };
            let mut done = false;
            if let Ok(log) = open_with(&disk, OPTIONS) {
                let lie = |votes| lie(&disk, votes);
                done = work(&log, seed, &mut history, lie).is_ok();
            }
            let disk = disk.crash(seed * 1000 + stop);
            let log = open_with(&disk, OPTIONS)
                .unwrap_or_else(|error| panic!("seed {seed}, sync {stop}: {error}"));
            check(&log, &history, &format!("seed {seed}, sync {stop}"));
            again(&disk, log, seed + stop);
            stop += 1;
            if done {
                break;
            }
        }
        assert!(stop > 20, "{stop} sync points");
    }
}

fn check(log: &Log, history: &History, when: &str) {
    let ends = log.ends();
    let vote = ends.vote.map_or(0, |vote| vote.leader_id.term);
    let may_be = history.voted..=history.vote;
    assert!(may_be.contains(&vote), "{when}: the vote is {vote}, not in {may_be:?}");
    let first = ends.purged.map_or(0, |purged| purged.index + 1);
    assert!(first <= history.purged + 1, "{when}: purged too much");
    let found = ids(log, 0..u64::MAX);
    let skip = history.written.iter().take_while(|id| id.index < first).count();
    let kept = &history.written[skip..];
    assert!(kept.starts_with(&found), "{when}: {found:?} is no beginning of {kept:?}");
    assert!(skip + found.len() >= history.synced, "{when}: synced entries are gone");
}

/// Writes on after a recovery and loses the power once more: what a torn tail left behind never
/// comes back.
fn again(disk: &SimDisk, log: Log, seed: u64) {
    let next = log.ends().last.map_or(0, |last| last.index + 1);
    let before = ids(&log, 0..u64::MAX);
    log.append(vec![entry(99, next, (seed % 5000) as usize)]).unwrap();
    log.sync().unwrap();
    let disk = disk.crash(seed);
    drop(log);
    let mut expected = before;
    expected.push(id(99, next));
    assert_eq!(ids(&open(&disk), 0..u64::MAX), expected);
}

/// Bits flip in what was synced: the log refuses, naming the place, and changes nothing. Only in
/// the very last records, which no later one vouches for, damage looks like a torn tail: the mark
/// of a clean stop still tells.
#[test]
fn damage_is_not_taken_for_a_torn_tail() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    for index in 0..100 {
        log.append(vec![entry(1, index, 1500)]).unwrap();
        log.sync().unwrap();
    }
    let last_record = log.written();
    drop(log);
    let (mut refused, mut shortened) = (0, 0);
    for segment in 1..=3 {
        let path = segment::path(Path::new(DIR), segment);
        let mut bit = 11;
        while disk.flip_bit(&path, bit).is_ok() {
            match open_with(&disk, OPTIONS) {
                Err(error) => {
                    assert!(matches!(error, Error::Damaged(_)), "{error}");
                    refused += 1;
                }
                Ok(log) if log.written() == last_record => {}
                Ok(log) => {
                    assert!(last_record - log.written() <= 2, "{}", log.written());
                    shortened += 1;
                    drop(log);
                    let noted = Some(last_record);
                    let disk = Arc::new(disk.clone());
                    let reopened = Log::open(disk, Path::new(DIR), OPTIONS, noted);
                    assert!(matches!(reopened, Err(Error::Damaged(_))));
                    return assert!(refused > 20 && shortened == 1, "{refused} refused");
                }
            }
            disk.flip_bit(&path, bit).unwrap();
            bit += 8 * 1003;
        }
    }
    panic!("no damage reached the tail: {refused} refused, {shortened} shortened");
}

#[test]
fn a_missing_segment_is_noticed() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.append((0..100).map(|index| entry(1, index, 2000)).collect()).unwrap();
    log.sync().unwrap();
    log.settle();
    drop(log);
    disk.remove(&segment::path(Path::new(DIR), 2)).unwrap();
    let error = open_with(&disk, OPTIONS).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("log segment 2 is missing"), "{error}");
}

/// A failed sync is final: nobody is told yes afterwards, not even by a later sync that succeeds.
#[test]
fn a_failed_sync_closes_the_log() {
    let disk = new_disk(OPTIONS);
    let log = open(&disk);
    log.settle();
    log.append(vec![entry(1, 0, 10)]).unwrap();
    log.sync().unwrap();
    let record = log.append(vec![entry(1, 1, 10)]).unwrap();
    disk.fail_sync(1);
    assert!(matches!(log.sync(), Err(Error::DiskFailed(_))));
    assert!(matches!(log.sync(), Err(Error::DiskFailed(_))));
    assert!(matches!(log.append(vec![entry(1, 2, 10)]), Err(Error::DiskFailed(_))));
    assert!(matches!(log.save_vote(&Vote::new(1, 1)), Err(Error::DiskFailed(_))));
    let (tell, told) = std::sync::mpsc::channel();
    log.when_synced(record, move |result| tell.send(result).unwrap());
    assert!(matches!(told.recv().unwrap(), Err(Error::DiskFailed(_))));
    assert!(log.failure().is_some());
    drop(log);
    // In the same boot the bytes may still be in memory: written again and synced, they count.
    let disk = disk.crash(3);
    assert_eq!(ids(&open(&disk), 0..9), [id(1, 0)]);
}

/// Sync by sync in one thread, all waiters are served; many threads share few syncs.
#[test]
fn waiters_share_syncs() {
    let disk = new_disk(LogOptions { segment_bytes: 4 << 20, direct: false });
    let log =
        Arc::new(open_with(&disk, LogOptions { segment_bytes: 4 << 20, direct: false }).unwrap());
    log.settle();
    let before = disk.syncs();
    let (tell, told) = std::sync::mpsc::channel();
    let mut records = Vec::new();
    for index in 0..500 {
        records.push(log.append(vec![entry(1, index, 10)]).unwrap());
    }
    for record in records {
        let (tell, log) = (tell.clone(), Arc::clone(&log));
        let synced = Arc::clone(&log);
        log.when_synced(record, move |result| {
            tell.send(result.map(|()| synced.synced() >= record)).unwrap();
        });
    }
    for _ in 0..500 {
        assert!(told.recv().unwrap().unwrap());
    }
    assert!(disk.syncs() - before <= 2, "{} syncs", disk.syncs() - before);
}

/// That there was no room once is no failure of what comes when there is.
#[test]
fn a_segment_is_tried_again_when_it_is_needed() {
    let disk = new_disk(OPTIONS);
    disk.set_capacity(100 << 10);
    let log = open(&disk);
    log.settle();
    disk.set_capacity(1 << 20);
    log.append((0..50).map(|index| entry(1, index, 3000)).collect()).unwrap();
    assert!(log.failure().is_none());
}

#[test]
fn no_room_for_the_next_segment_is_told_before_it_is_needed() {
    let disk = new_disk(OPTIONS);
    disk.set_capacity(100 << 10);
    let log = open(&disk);
    log.append((0..10).map(|index| entry(1, index, 6000)).collect()).unwrap();
    assert!(matches!(log.reserve(30_000), Err(Error::NoSpace)));
    log.reserve(100).unwrap();
    disk.set_capacity(1 << 20);
    while log.reserve(30_000).is_err() {}
    log.append(vec![entry(1, 10, 30_000)]).unwrap();
    assert_eq!(ids(&log, 0..99).len(), 11);
}
