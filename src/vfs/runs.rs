//! Unsealed bytes of one file: disjoint runs in slots, merged as writes come.

use std::collections::BTreeMap;

use crate::env::AlignedBuf;
use crate::types::ByteRange;

/// A run of this many bytes gets room for all that may follow it in its slot: it is being written
/// from one end to the other. The kernel may give memory in pages of twice this size.
pub(super) const LONG: usize = 1 << 20;

/// Bytes that follow each other in the file, within one slot.
#[derive(Debug)]
pub(super) struct Run {
    pub start: u64,
    pub data: AlignedBuf,
}

impl Run {
    pub fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }

    pub fn range(&self) -> ByteRange {
        ByteRange::between(self.start, self.end())
    }
}

/// The runs of one file by slot. Runs of a slot are sorted, disjoint and do not touch.
#[derive(Debug, Default)]
pub(super) struct Runs {
    slots: BTreeMap<u64, Vec<Run>>,
    bytes: u64,
}

impl Runs {
    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Lays `data` over what is there. Returns the bytes by which the runs grew, and the slots
    /// that this write filled to the last byte.
    pub fn write(&mut self, offset: u64, data: &[u8], slot_size: u64) -> (u64, Vec<u64>) {
        let before = self.bytes;
        let mut full = Vec::new();
        for (slot, piece) in ByteRange::between(offset, offset + data.len() as u64).slots(slot_size)
        {
            let from = (piece.start() - offset) as usize;
            let bytes = &data[from..from + piece.len() as usize];
            let runs = self.slots.entry(slot).or_default();
            let held: u64 = runs.iter().map(|run| run.data.len() as u64).sum();
            lay(runs, piece, bytes, (slot + 1) * slot_size);
            self.bytes += runs.iter().map(|run| run.data.len() as u64).sum::<u64>() - held;
            if let [run] = runs.as_slice()
                && run.data.len() as u64 == slot_size
            {
                full.push(slot);
            }
        }
        (self.bytes - before, full)
    }

    /// Takes the runs of one slot out.
    pub fn take_slot(&mut self, slot: u64) -> Vec<Run> {
        let runs = self.slots.remove(&slot).unwrap_or_default();
        self.bytes -= runs.iter().map(|run| run.data.len() as u64).sum::<u64>();
        runs
    }

    /// Takes everything out, in file order.
    pub fn take_all(&mut self) -> Vec<Run> {
        self.bytes = 0;
        std::mem::take(&mut self.slots).into_values().flatten().collect()
    }

    /// The runs that have bytes in `range`, in file order.
    pub fn within(&self, range: ByteRange, slot_size: u64) -> impl Iterator<Item = &Run> {
        self.slots
            .range(range.start() / slot_size..=range.end() / slot_size)
            .flat_map(|(_, runs)| runs)
            .filter(move |run| run.range().intersect(range).is_some())
    }

    /// All runs, in file order.
    pub fn iter(&self) -> impl Iterator<Item = &Run> {
        self.slots.values().flatten()
    }
}

/// Lays one slot's `bytes` over its runs, joining all that overlap or touch.
fn lay(runs: &mut Vec<Run>, range: ByteRange, bytes: &[u8], slot_end: u64) {
    let room = (slot_end - range.start()) as usize;
    let room = if bytes.len() >= LONG { room } else { bytes.len() };
    let first = runs.partition_point(|run| run.end() < range.start());
    let last = runs.partition_point(|run| run.start <= range.end());
    if first == last {
        let data = AlignedBuf::with_room(bytes, room);
        runs.insert(first, Run { start: range.start(), data });
        return;
    }
    if runs[first].start <= range.start() {
        let tails: Vec<Run> = runs.drain(first + 1..last).collect();
        if range.end() - runs[first].start >= LONG as u64 && range.end() > runs[first].end() {
            let room = slot_end - runs[first].start;
            runs[first].data.reserve(room as usize);
        }
        overwrite(&mut runs[first], range, bytes);
        tails.iter().for_each(|tail| append_rest(&mut runs[first], tail));
        return;
    }
    let tails: Vec<Run> = runs.drain(first..last).collect();
    let mut joined = Run { start: range.start(), data: AlignedBuf::with_room(bytes, room) };
    tails.iter().for_each(|tail| append_rest(&mut joined, tail));
    runs.insert(first, joined);
}

/// `range` begins within or at the end of `run`.
fn overwrite(run: &mut Run, range: ByteRange, bytes: &[u8]) {
    let at = (range.start() - run.start) as usize;
    let inside = bytes.len().min(run.data.len() - at);
    run.data[at..at + inside].copy_from_slice(&bytes[..inside]);
    run.data.extend(&bytes[inside..]);
}

/// Appends what `tail` has beyond the end of `run`.
fn append_rest(run: &mut Run, tail: &Run) {
    if tail.end() > run.end() {
        let from = (run.end() - tail.start) as usize;
        run.data.extend(&tail.data[from..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn runs_equal_a_flat_buffer(
            writes in prop::collection::vec((0u64..60, 1usize..40, any::<u8>()), 1..40)
        ) {
            let (mut runs, slot_size) = (Runs::default(), 16);
            let mut flat: BTreeMap<u64, u8> = BTreeMap::new();
            for (offset, len, byte) in writes {
                let before = flat.len() as u64;
                let data: Vec<u8> = (0..len).map(|index| byte.wrapping_add(index as u8)).collect();
                flat.extend((offset..).zip(data.iter().copied()));
                let (grown, full) = runs.write(offset, &data, slot_size);
                prop_assert_eq!(grown, flat.len() as u64 - before);
                for slot in full {
                    prop_assert_eq!(flat.range(slot * 16..(slot + 1) * 16).count(), 16);
                }
            }
            prop_assert_eq!(runs.bytes(), flat.len() as u64);
            let mut held = BTreeMap::new();
            let mut last_end = None;
            for run in runs.iter() {
                prop_assert_eq!(run.start / slot_size, (run.end() - 1) / slot_size);
                if let Some(end) = last_end && run.start % slot_size != 0 {
                    prop_assert!(run.start > end);
                }
                last_end = Some(run.end());
                held.extend((run.start..).zip(run.data.iter().copied()));
            }
            prop_assert_eq!(held, flat);
        }
    }

    #[test]
    fn taking_empties() {
        let mut runs = Runs::default();
        runs.write(0, &[1; 40], 16);
        assert_eq!(runs.take_slot(1).len(), 1);
        assert_eq!(runs.bytes(), 24);
        assert_eq!(runs.take_all().len(), 2);
        assert!(runs.is_empty() && runs.bytes() == 0);
    }
}
