//! Reading entries by index: the latest from memory, older ones from the segments.

use std::collections::VecDeque;
use std::ops::Range;

use super::Log;
use super::layout::{self, Kind};
use super::segment::Reader;
use crate::error::{Error, Result};
use crate::replication::types::Entry;

/// Bytes of the latest entries that are kept in memory; entries share what they hold with the
/// applier, so this is little more than the applier's own.
const RECENT_BYTES: usize = 8 << 20;

/// The latest entries, consecutive.
#[derive(Default)]
pub struct Recent {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
}

impl Recent {
    pub fn push(&mut self, entry: Entry, bytes: usize) {
        let last = self.entries.back().map(|(last, _)| last.log_id.index + 1);
        if last.is_some_and(|next| next != entry.log_id.index) {
            self.clear();
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.bytes > RECENT_BYTES && self.entries.len() > 1 {
            self.pop_front();
        }
    }

    pub fn truncate(&mut self, since: u64) {
        while self.entries.back().is_some_and(|(entry, _)| entry.log_id.index >= since) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    pub fn purge(&mut self, upto: u64) {
        while self.entries.front().is_some_and(|(entry, _)| entry.log_id.index <= upto) {
            self.pop_front();
        }
    }

    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn pop_front(&mut self) {
        self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
    }

    /// Index of the first entry that is here.
    fn first(&self) -> Option<u64> {
        self.entries.front().map(|(entry, _)| entry.log_id.index)
    }

    /// The entries of `range` that are here, up to the one with which they pass `limit` bytes.
    fn get(&self, range: &Range<u64>, limit: usize) -> impl Iterator<Item = Entry> {
        let first = self.first().unwrap_or(u64::MAX);
        let place = |index: u64| (index.saturating_sub(first) as usize).min(self.entries.len());
        let mut taken = 0usize;
        let fits = move |(_, bytes): &&(Entry, usize)| {
            let fits = taken < limit;
            taken = taken.saturating_add(*bytes);
            fits
        };
        let found = self.entries.range(place(range.start)..place(range.end));
        found.take_while(fits).map(|(entry, _)| entry.clone())
    }
}

impl Log {
    /// The entries with indices in `range`, as far as there are any.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Entry>> {
        self.read_some(range, usize::MAX)
    }

    /// As [`Self::read`], but not many more than `bytes` bytes; one entry at least.
    pub fn read_some(&self, range: Range<u64>, bytes: usize) -> Result<Vec<Entry>> {
        let (mut entries, from_memory) = {
            let inner = self.inner.lock();
            let end = inner.state.last.map_or(0, |last| last.index + 1).min(range.end);
            let range = range.start.max(inner.state.first_index())..end;
            if range.is_empty() {
                return Ok(Vec::new());
            }
            match inner.recent.first() {
                Some(first) if first <= range.start => {
                    return Ok(inner.recent.get(&range, bytes).collect());
                }
                Some(first) => {
                    let recent = inner.recent.get(&range, bytes).collect();
                    (range.start..end.min(first), recent)
                }
                None => (range, Vec::new()),
            }
        };
        let (mut found, mut budget) = (Vec::new(), bytes);
        while entries.start < entries.end {
            budget = self.read_run(&mut entries, &mut found, budget)?;
            if budget == 0 {
                return Ok(found);
            }
        }
        found.extend::<Vec<Entry>>(from_memory);
        Ok(found)
    }

    /// Reads what one run holds of the range, and moves its start behind that. Returns what is left
    /// of `budget`, in bytes.
    fn read_run(
        &self,
        range: &mut Range<u64>,
        found: &mut Vec<Entry>,
        mut budget: usize,
    ) -> Result<usize> {
        let run = self.inner.lock().state.runs.find(range.start);
        let Some(run) = run.filter(|run| run.first < range.end) else {
            range.start = range.end;
            return Ok(budget);
        };
        let end = range.end.min(run.end);
        let mut reader = Reader::open(&*self.disk, &self.dir, run.segment)?;
        let (mut offset, mut index) = (run.offset, run.first);
        while index < end && budget > 0 {
            let Some((record, after)) = reader.record(offset)? else {
                return Err(Error::damaged(format!(
                    "log segment {} has no record at {offset}",
                    run.segment
                )));
            };
            if record.head.kind == Kind::Entry {
                if index >= range.start {
                    found.push(layout::decode_entry(record.payload)?);
                    budget = budget.saturating_sub(record.payload.len());
                }
                index += 1;
            }
            offset = after;
        }
        range.start = end;
        Ok(budget)
    }
}
