//! The arithmetic of one slot: pieces laid over pieces. Pure; all offsets are within the slot.

use crate::error::{Error, Result};
use crate::meta::record::Piece;

/// The pieces that a change of a slot took away and brought: what reference counts follow.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    pub removed: Vec<Piece>,
    pub added: Vec<Piece>,
}

impl Delta {
    /// A count of covered bytes as the change leaves it.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the count was wrong before.
    pub fn balance(&self, bytes: u64) -> Result<u64> {
        let sum = bytes.checked_add(covered(&self.added));
        sum.and_then(|sum| sum.checked_sub(covered(&self.removed)))
            .ok_or_else(|| Error::damaged("stored bytes were counted wrongly"))
    }
}

/// Puts `new` in place of whatever covers `start..end`, cutting and splitting pieces that reach
/// over the edges; neighbours that continue each other in one chunk become one piece.
///
/// `pieces` and `new` are sorted and disjoint, `new` lies within `start..end`.
pub fn splice(pieces: &mut Vec<Piece>, start: u32, end: u32, new: &[Piece]) -> Delta {
    // Pieces that only touch an edge are in the window too: they may be continued.
    let first = pieces.partition_point(|piece| piece.end() < start);
    let last = pieces.partition_point(|piece| piece.start <= end).max(first);
    let old = &pieces[first..last];
    let mut window: Vec<Piece> = Vec::with_capacity(new.len() + 2);
    let before = old.iter().filter_map(|piece| part(piece, piece.start, piece.end().min(start)));
    let after = old.iter().filter_map(|piece| part(piece, piece.start.max(end), piece.end()));
    for piece in before.chain(new.iter().copied()).chain(after) {
        match window.last_mut() {
            Some(last) if continues(last, &piece) => last.len += piece.len,
            _ => window.push(piece),
        }
    }
    let delta = difference(old, &window);
    pieces.splice(first..last, window);
    delta
}

/// The bytes `start..end` of a piece; `None` when that is nothing.
pub fn part(piece: &Piece, start: u32, end: u32) -> Option<Piece> {
    (start < end).then(|| Piece {
        start,
        len: end - start,
        chunk: piece.chunk,
        chunk_offset: piece.chunk_offset + (start - piece.start),
    })
}

fn continues(left: &Piece, right: &Piece) -> bool {
    left.end() == right.start
        && left.chunk == right.chunk
        && left.chunk_offset + left.len == right.chunk_offset
}

fn difference(old: &[Piece], new: &[Piece]) -> Delta {
    let same = |(left, right): &(&Piece, &Piece)| left == right;
    let head = old.iter().zip(new).take_while(same).count();
    let (old, new) = (&old[head..], &new[head..]);
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(same).count();
    Delta { removed: old[..old.len() - tail].to_vec(), added: new[..new.len() - tail].to_vec() }
}

/// Sorted, disjoint, none empty, all within `slot_size` bytes.
pub fn is_valid(pieces: &[Piece], slot_size: u64) -> bool {
    let mut at = 0u64;
    pieces.iter().all(|piece| {
        let start = u64::from(piece.start);
        let fits = piece.len > 0 && start >= at;
        at = start + u64::from(piece.len);
        fits && at <= slot_size
    })
}

/// Bytes that valid pieces cover.
pub fn covered(pieces: &[Piece]) -> u64 {
    pieces.iter().map(|piece| u64::from(piece.len)).sum()
}

/// The runs of bytes `(start, end)` that valid pieces cover, joined where they touch.
pub fn runs(pieces: &[Piece]) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for piece in pieces {
        match runs.last_mut() {
            Some((_, end)) if *end == piece.start => *end = piece.end(),
            _ => runs.push((piece.start, piece.end())),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{ChunkId, SessionId};

    const SIZE: u32 = 48;

    /// A byte of a slot: which byte of which chunk it is.
    type Bytes = Vec<Option<(u64, u32)>>;

    fn piece(start: u32, len: u32, chunk: u64, chunk_offset: u32) -> Piece {
        let chunk = ChunkId { session: SessionId(1), counter: chunk };
        Piece { start, len, chunk, chunk_offset }
    }

    fn lay(bytes: &mut Bytes, piece: &Piece) {
        for at in 0..piece.len {
            let byte = (piece.chunk.counter, piece.chunk_offset + at);
            bytes[(piece.start + at) as usize] = Some(byte);
        }
    }

    fn bytes(pieces: &[Piece]) -> Bytes {
        let mut bytes = vec![None; SIZE as usize];
        pieces.iter().for_each(|piece| lay(&mut bytes, piece));
        bytes
    }

    fn change() -> impl Strategy<Value = (u32, u32, Option<(u64, u32)>)> {
        let source = prop::option::weighted(0.7, (0u64..3, 0u32..40));
        (0..SIZE, 1..=SIZE, source)
            .prop_map(|(start, len, source)| (start, SIZE.min(start + len), source))
    }

    proptest! {
        /// Laying pieces over pieces is laying bytes over bytes, and what is told of it is all
        /// that changed.
        #[test]
        fn pieces_are_their_bytes(changes in prop::collection::vec(change(), 1..40)) {
            let mut pieces = Vec::new();
            let mut model = bytes(&[]);
            for (start, end, source) in changes {
                let new = source.map(|(chunk, offset)| piece(start, end - start, chunk, offset));
                model[start as usize..end as usize].fill(None);
                new.iter().for_each(|new| lay(&mut model, new));
                let mut expected = pieces.clone();
                let delta = splice(&mut pieces, start, end, new.as_slice());

                prop_assert!(is_valid(&pieces, SIZE.into()), "{pieces:?}");
                prop_assert_eq!(bytes(&pieces), model.clone());
                prop_assert_eq!(covered(&pieces), model.iter().flatten().count() as u64);
                prop_assert!(pieces.windows(2).all(|pair| !continues(&pair[0], &pair[1])));
                expected.retain(|piece| !delta.removed.contains(piece));
                expected.extend(&delta.added);
                expected.sort_by_key(|piece| piece.start);
                prop_assert_eq!(&pieces, &expected);
                prop_assert!(delta.added.iter().all(|piece| !delta.removed.contains(piece)));
            }
        }
    }

    #[test]
    fn a_write_that_changes_nothing_counts_nothing() {
        let mut pieces = vec![piece(0, 10, 1, 0), piece(20, 10, 1, 20)];
        let before = pieces.clone();
        assert_eq!(splice(&mut pieces, 2, 6, &[piece(2, 4, 1, 2)]), Delta::default());
        assert_eq!(splice(&mut pieces, 10, 20, &[]), Delta::default());
        assert_eq!(pieces, before);
        let delta = splice(&mut pieces, 10, 20, &[piece(10, 10, 1, 10)]);
        assert_eq!(pieces, [piece(0, 30, 1, 0)]);
        assert_eq!((delta.removed, delta.added), (before, pieces));
    }

    #[test]
    fn broken_slots_are_seen() {
        let size = SIZE.into();
        assert!(is_valid(&[piece(0, 4, 1, 0), piece(4, 44, 1, 0)], size));
        let overlapping = [piece(0, 5, 1, 0), piece(4, 4, 1, 0)];
        let (unsorted, empty) = ([piece(4, 4, 1, 0), piece(0, 4, 1, 0)], [piece(0, 0, 1, 0)]);
        let (beyond, wrapping) = ([piece(40, 9, 1, 0)], [piece(u32::MAX, u32::MAX, 1, 0)]);
        for bad in [&overlapping[..], &unsorted, &empty, &beyond, &wrapping] {
            assert!(!is_valid(bad, size), "{bad:?}");
        }
        assert_eq!(
            runs(&[piece(0, 4, 1, 0), piece(4, 2, 2, 9), piece(8, 1, 1, 0)]),
            [(0, 6), (8, 9)]
        );
    }

    #[test]
    fn a_wrong_count_is_damage() {
        let delta = Delta { removed: vec![piece(0, 4, 1, 0)], added: vec![] };
        assert_eq!(delta.balance(4).unwrap(), 0);
        assert!(matches!(delta.balance(3), Err(Error::Damaged(_))));
    }
}
