//! How many of several are enough.

/// The smallest number of `count` nodes of which any two such choices have one in common. 1 of none:
/// somebody has to have it.
pub const fn quorum(count: usize) -> usize {
    count / 2 + 1
}

const _: () = assert!(quorum(0) == 1 && quorum(1) == 1 && quorum(2) == 2);
const _: () = assert!(quorum(3) == 2 && quorum(4) == 3 && quorum(5) == 3);
