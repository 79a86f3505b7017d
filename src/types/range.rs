//! Half-open ranges of byte offsets.

use serde::{Deserialize, Serialize};

/// Bytes `start..end` of a file; `start <= end` always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ByteRange {
    start: u64,
    end: u64,
}

impl ByteRange {
    /// `None` when `offset + len` passes the largest 64-bit number.
    pub fn new(offset: u64, len: u64) -> Option<Self> {
        Some(Self { start: offset, end: offset.checked_add(len)? })
    }

    /// From `start` up to, not including, `end`; empty at `start` when `end` lies before it.
    pub fn between(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    pub fn start(self) -> u64 {
        self.start
    }

    pub fn end(self) -> u64 {
        self.end
    }

    pub fn len(self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The bytes both ranges have; `None` when there are none.
    pub fn intersect(self, other: Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start < end).then_some(Self { start, end })
    }

    /// Cuts the range at multiples of `slot_size` (not zero), in order.
    pub fn slots(self, slot_size: u64) -> impl Iterator<Item = (u64, ByteRange)> {
        let mut at = self.start;
        std::iter::from_fn(move || {
            let slot = at / slot_size;
            let piece = Self::between(at, self.end.min((slot + 1).saturating_mul(slot_size)));
            at = piece.end;
            (!piece.is_empty()).then_some((slot, piece))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::ByteRange;

    #[test]
    fn an_end_past_64_bits_is_no_range() {
        assert!(ByteRange::new(u64::MAX, 1).is_none());
        assert_eq!(ByteRange::new(3, 4).unwrap(), ByteRange::between(3, 7));
    }

    #[test]
    fn slots_cover_the_range_once() {
        let cut: Vec<_> = ByteRange::between(3, 21).slots(8).collect();
        let expected = [(0, 3, 8), (1, 8, 16), (2, 16, 21)];
        let expected = expected.map(|(slot, start, end)| (slot, ByteRange::between(start, end)));
        assert_eq!(cut, expected);
        assert_eq!(ByteRange::between(5, 5).slots(8).count(), 0);
    }

    #[test]
    fn intersection_is_symmetric() {
        let (left, right) = (ByteRange::between(0, 10), ByteRange::between(5, 15));
        assert_eq!(left.intersect(right), Some(ByteRange::between(5, 10)));
        assert_eq!(left.intersect(right), right.intersect(left));
        assert_eq!(left.intersect(ByteRange::between(10, 12)), None);
    }
}
