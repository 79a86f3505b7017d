//! Numbers given out in order and settled in any: through which are all settled?

use std::collections::BTreeSet;

/// Counts from 1.
#[derive(Debug, Default)]
pub struct Marks {
    given: u64,
    open: BTreeSet<u64>,
}

impl Marks {
    pub fn give(&mut self) -> u64 {
        self.given += 1;
        self.open.insert(self.given);
        self.given
    }

    /// `number` has its final answer. A number that was never given is ignored.
    pub fn settle(&mut self, number: u64) {
        self.open.remove(&number);
    }

    /// Whether `number` was given, and has its final answer.
    pub fn is_settled(&self, number: u64) -> bool {
        (1..=self.given).contains(&number) && !self.open.contains(&number)
    }

    /// All numbers up to here are settled.
    pub fn mark(&self) -> u64 {
        self.open.first().map_or(self.given, |first| first - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stops_before_the_first_open_number() {
        let mut marks = Marks::default();
        assert_eq!(marks.mark(), 0);
        assert_eq!((marks.give(), marks.give(), marks.give()), (1, 2, 3));
        marks.settle(2);
        assert_eq!(marks.mark(), 0);
        let settled: Vec<_> = (0..6).filter(|number| marks.is_settled(*number)).collect();
        assert_eq!(settled, [2]);
        marks.settle(1);
        assert_eq!(marks.mark(), 2);
        marks.settle(3);
        marks.settle(9);
        assert_eq!(marks.mark(), 3);
        assert_eq!(marks.give(), 4);
        assert_eq!(marks.mark(), 3);
    }
}
