//! Where the entries of the log are: a sparse map from log index to file position.

/// Bytes of a segment after which a new run begins: what a lookup may have to read over.
const RUN_BYTES: u64 = 64 << 10;

/// Entries with consecutive indices, with nothing but other kinds of records between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the first entry, and one more than that of the last.
    pub first: u64,
    pub end: u64,
    pub segment: u32,
    /// Of the first entry's record in the segment.
    pub offset: u64,
}

/// Runs with rising indices.
#[derive(Debug, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// What is pushed next cannot continue the last run, whose bytes go on with void entries.
    broken: bool,
}

impl Runs {
    /// An entry was written. Its index is higher than all before.
    pub fn push(&mut self, index: u64, segment: u32, offset: u64) {
        let broken = std::mem::take(&mut self.broken);
        match self.runs.last_mut() {
            Some(run)
                if !broken
                    && run.segment == segment
                    && index == run.end
                    && offset - run.offset < RUN_BYTES =>
            {
                run.end = index + 1;
            }
            _ => self.runs.push(Run { first: index, end: index + 1, segment, offset }),
        }
    }

    /// Entries from `since` on are void.
    pub fn truncate(&mut self, since: u64) {
        self.runs.retain(|run| run.first < since);
        if let Some(last) = self.runs.last_mut() {
            last.end = last.end.min(since);
        }
        self.broken = true;
    }

    /// Forgets the runs of segments before `segment`.
    pub fn drop_before(&mut self, segment: u32) {
        self.runs.retain(|run| run.segment >= segment);
    }

    pub fn clear(&mut self) {
        self.runs.clear();
    }

    /// The run that holds `index`, or the first one beyond it.
    pub fn find(&self, index: u64) -> Option<Run> {
        self.runs.get(self.runs.partition_point(|run| run.end <= index)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_bytes_segments_and_truncation() {
        let mut runs = Runs::default();
        runs.push(5, 1, 100);
        runs.push(6, 1, 200);
        runs.push(7, 1, 200 + RUN_BYTES);
        runs.push(8, 2, 40);
        runs.push(9, 2, 80);
        let run = |first, end, segment, offset| Some(Run { first, end, segment, offset });
        assert_eq!(runs.find(4), run(5, 7, 1, 100));
        assert_eq!(runs.find(6), run(5, 7, 1, 100));
        assert_eq!(runs.find(9), run(8, 10, 2, 40));
        assert_eq!(runs.find(10), None);

        runs.truncate(6);
        runs.push(6, 2, 120);
        assert_eq!(runs.find(5), run(5, 6, 1, 100));
        assert_eq!(runs.find(6), run(6, 7, 2, 120));
        runs.push(9, 2, 160);
        assert_eq!(runs.find(7), run(9, 10, 2, 160));
        runs.drop_before(2);
        assert_eq!(runs.find(5), run(6, 7, 2, 120));
    }
}
