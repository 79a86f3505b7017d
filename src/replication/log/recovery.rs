//! Reading the log after a start: what it says, where it ends, and whether that end is honest.
//!
//! The log ends where no intact record with the next number follows. What comes after must be what
//! an unsynced write left behind. It is not when an intact record further on says that the log was
//! synced through the place where it breaks off: then synced bytes are gone or bad, and nothing is
//! touched.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use super::layout::{self, HEADER, Head, Kind, RECORD_ALIGN, Start, Truncate};
use super::runs::Runs;
use super::segment::{self, Reader};
use crate::env::{AlignedBuf, Disk};
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::replication::types::{LogId, Vote};
use crate::types::limits::DIRECT_ALIGN;

static ZEROS: [u8; DIRECT_ALIGN] = [0; DIRECT_ALIGN];

/// What the records say, one after the other.
#[derive(Debug, Default)]
pub struct State {
    pub vote: Option<Vote>,
    /// The last entry that is forgotten.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when there is none.
    pub last: Option<LogId>,
    /// One more than the index of the last entry known to be committed.
    pub committed: u64,
    pub runs: Runs,
    /// Highest index of an entry in each segment, if it has entries.
    pub segments: BTreeMap<u32, Option<u64>>,
    /// Number of the next record.
    pub next: u64,
}

/// Where the log ends.
#[derive(Debug)]
pub struct Tail {
    pub segment: u32,
    pub offset: u64,
    pub size: u64,
    /// Where the first record begins that is not known to be on disk.
    pub unsynced: u64,
}

#[derive(Debug)]
pub struct Recovered {
    pub state: State,
    pub tail: Tail,
    /// Segments after the tail's: nothing of them counts.
    pub unused: Vec<u32>,
}

/// Reads all segments in `dir`. Changes nothing.
///
/// # Errors
/// [`Error::Damaged`] where synced records are missing.
pub fn recover(disk: &dyn Disk, dir: &Path) -> Result<Recovered> {
    let segments = segment::list(disk, dir)?;
    let numbers: Vec<u32> = segments.iter().map(|(number, _)| *number).collect();
    if let Some(pair) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        return Err(missing(pair[0] + 1));
    }
    let mut state = State::default();
    let mut tail: Option<Tail> = None;
    for number in &numbers {
        let mut reader = Reader::open(disk, dir, *number)?;
        if !state.begin_segment(&mut reader)? {
            break;
        }
        tail = Some(state.read_segment(&mut reader)?);
    }
    let Some(tail) = tail else {
        return Err(Error::damaged(
            "the log has no beginning: its first segment is missing or bad",
        ));
    };
    let mut from = tail.offset;
    for number in numbers.iter().filter(|number| **number >= tail.segment) {
        refuse_synced_rest(&mut Reader::open(disk, dir, *number)?, from, state.next)?;
        from = 0;
    }
    let unused = numbers.into_iter().filter(|number| *number > tail.segment).collect();
    Ok(Recovered { state, tail, unused })
}

fn missing(number: u32) -> Error {
    Error::damaged(format!("log segment {number} is missing"))
}

/// Looks for proof that the record `next`, which is not there, was on disk once.
fn refuse_synced_rest(reader: &mut Reader, from: u64, next: u64) -> Result<()> {
    let (mut at, number) = (from, reader.number);
    while at + HEADER as u64 <= reader.size {
        let window = reader.bytes(at, DIRECT_ALIGN)?;
        // Most of a segment is: a slice is compared at once, in builds for tests too.
        if window == &ZEROS[..window.len()] {
            at += (window.len() / RECORD_ALIGN * RECORD_ALIGN) as u64;
            continue;
        }
        if let Some((record, _)) = reader.record(at)?
            && record.head.synced >= next
        {
            return Err(Error::damaged(format!(
                "record {next} of the log is gone or bad, and record {} in segment {number} says \
                 that it was on disk. Nothing was changed; bring back the log from a copy, or \
                 leave this store to an expert",
                record.head.number
            )));
        }
        at += RECORD_ALIGN as u64;
    }
    Ok(())
}

impl State {
    /// Whether the segment begins with the record that follows. The first one says what went before.
    fn begin_segment(&mut self, reader: &mut Reader) -> Result<bool> {
        let Some((record, _)) = reader.record(0)? else { return Ok(false) };
        if record.head.kind != Kind::Start {
            return Ok(false);
        }
        if self.segments.is_empty() {
            let start: Start = codec::decode(record.payload)?;
            (self.vote, self.purged, self.last) = (start.vote, start.purged, start.last);
            self.next = record.head.number;
        }
        Ok(record.head.number == self.next)
    }

    fn read_segment(&mut self, reader: &mut Reader) -> Result<Tail> {
        let (segment, size) = (reader.number, reader.size);
        self.segments.insert(segment, None);
        let (mut offset, mut synced, mut starts) = (0, 0, VecDeque::new());
        while let Some((record, end)) = reader.record(offset)? {
            if record.head.number != self.next {
                break;
            }
            synced = record.head.synced.max(synced);
            starts.push_back((record.head.number, offset));
            while starts.front().is_some_and(|(number, _)| *number <= synced) {
                starts.pop_front();
            }
            self.take(&record.head, record.payload, segment, offset)?;
            self.next += 1;
            offset = end;
        }
        let unsynced = starts.front().map_or(offset, |(_, start)| *start);
        Ok(Tail { segment, offset, size, unsynced })
    }

    fn take(&mut self, head: &Head, payload: &[u8], segment: u32, offset: u64) -> Result<()> {
        self.committed = head.committed;
        match head.kind {
            Kind::Start => {}
            Kind::Entry => self.entry(layout::entry_id(payload)?, segment, offset),
            Kind::Vote => self.vote = Some(codec::decode(payload)?),
            Kind::Truncate => {
                let truncate: Truncate = codec::decode(payload)?;
                self.truncate(truncate.since, truncate.last);
            }
            Kind::Purge => self.purge(codec::decode(payload)?),
        }
        Ok(())
    }

    /// An entry was written.
    pub fn entry(&mut self, id: LogId, segment: u32, offset: u64) {
        self.runs.push(id.index, segment, offset);
        let highest = self.segments.entry(segment).or_default();
        *highest = (*highest).max(Some(id.index));
        self.last = Some(id);
    }

    /// Entries from `since` on are void; `last` is the one before.
    pub fn truncate(&mut self, since: u64, last: Option<LogId>) {
        self.runs.truncate(since);
        self.last = last;
        self.committed = self.committed.min(since);
    }

    /// Entries through `upto` are forgotten.
    pub fn purge(&mut self, upto: LogId) {
        self.purged = Some(upto);
        if self.last.is_none_or(|last| last < upto) {
            self.last = Some(upto);
            self.runs.clear();
        }
    }

    /// Index of the first entry that is not forgotten.
    pub fn first_index(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// The oldest segments, as far as everything in them is forgotten; they are so from now on.
    pub fn drop_forgotten(&mut self, active: u32) -> Vec<u32> {
        let first = self.first_index();
        let mut dropped = Vec::new();
        while let Some(oldest) = self.segments.first_entry()
            && *oldest.key() < active
            && oldest.get().is_none_or(|highest| highest < first)
        {
            dropped.push(oldest.remove_entry().0);
        }
        if let Some(last) = dropped.last() {
            self.runs.drop_before(last + 1);
        }
        dropped
    }
}

/// Makes the end of the log clean: what was written and never known to be on disk is written and
/// synced again (a sync that failed may have left it in memory only), and what lies beyond is
/// zeroed, so that an old record can never follow a new one.
///
/// Returns the last block of the log, up to its end.
pub fn mend(disk: &dyn Disk, dir: &Path, recovered: &Recovered) -> Result<AlignedBuf> {
    let tail = &recovered.tail;
    let failed = |error| Error::io("mending the end of the log", error);
    for number in recovered.unused.iter().rev() {
        segment::remove(disk, dir, *number)?;
        disk.sync_dir(dir).map_err(|error| Error::DiskFailed(error.to_string()))?;
    }
    let file = segment::open(disk, dir, tail.segment, false)?;
    let align = DIRECT_ALIGN as u64;
    let mut at = tail.unsynced - tail.unsynced % align;
    let mut block = AlignedBuf::zeroed(DIRECT_ALIGN);
    let mut last = AlignedBuf::with_capacity(DIRECT_ALIGN);
    while at < tail.size {
        let read = file.read_at(&mut block, at).map_err(failed)?;
        let keep = (tail.offset.saturating_sub(at) as usize).min(read);
        let dirty = block[keep..] != ZEROS[keep..];
        block[keep..].fill(0);
        if keep > 0 || dirty {
            file.write_at(&block, at).map_err(failed)?;
        }
        if keep > 0 && keep < DIRECT_ALIGN {
            last.extend(&block[..keep]);
        }
        at += align;
    }
    file.sync().map_err(|error| Error::DiskFailed(error.to_string()))?;
    Ok(last)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::env::{Access, SimDisk, largest_allocation};

    const KINDS: [Kind; 5] = [Kind::Start, Kind::Entry, Kind::Vote, Kind::Truncate, Kind::Purge];

    /// A segment file of records with any payload, of which some bits are flipped.
    fn filled(records: &[(usize, Vec<u8>)], flipped: &[(usize, u8)], zeros: usize) -> AlignedBuf {
        let mut bytes = AlignedBuf::with_capacity(64 << 10);
        let head = |number, kind| Head { number, synced: number / 2, committed: 0, kind };
        let start = codec::encode(&Start::default()).unwrap();
        layout::push(&mut bytes, 1, &head(1, Kind::Start), &start);
        for ((kind, payload), number) in records.iter().zip(2..) {
            layout::push(&mut bytes, 1, &head(number, KINDS[*kind]), payload);
        }
        bytes.extend(&vec![0; zeros]);
        let len = bytes.len();
        flipped.iter().for_each(|(at, bits)| bytes[at % len] ^= bits);
        bytes
    }

    proptest! {
        /// Whatever the segments hold, a start reads them or says what is wrong.
        #[test]
        fn any_log_is_read_or_refused(
            records in vec((0..KINDS.len(), vec(any::<u8>(), 0..80)), 0..12),
            flipped in vec(any::<(usize, u8)>(), 0..4),
            zeros in 0..9000usize,
        ) {
            let (disk, dir) = (SimDisk::new(), Path::new("/log"));
            disk.create_dir_all(dir).unwrap();
            let bytes = filled(&records, &flipped, zeros);
            let file = disk.open(&segment::path(dir, 1), Access::Create, false).unwrap();
            file.write_at(&bytes, 0).unwrap();
            let took = largest_allocation(|| {
                if let Ok(Recovered { state, tail, .. }) = recover(&disk, dir) {
                    assert!(tail.offset <= tail.size && tail.unsynced <= tail.offset);
                    assert!(state.next >= 2);
                }
            });
            prop_assert!(took < 2 << 20);
        }
    }
}
