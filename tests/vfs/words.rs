//! One step of work on a few files, drawn from a seed.

/// Files and directories the steps name: few, so that steps meet.
pub const FILES: u64 = 6;

#[derive(Clone, Debug)]
pub enum Step {
    /// O_CREAT, with O_TRUNC now and then, when no handle is open.
    Open {
        file: u64,
        truncate: bool,
    },
    Write {
        file: u64,
        offset: u64,
        len: u64,
        byte: u8,
    },
    Append {
        file: u64,
        len: u64,
        byte: u8,
    },
    Truncate {
        file: u64,
        size: u64,
    },
    Punch {
        file: u64,
        offset: u64,
        len: u64,
    },
    Zero {
        file: u64,
        offset: u64,
        len: u64,
    },
    Copy {
        from: u64,
        from_offset: u64,
        to: u64,
        offset: u64,
        len: u64,
    },
    Flush {
        file: u64,
    },
    Fsync {
        file: u64,
    },
    Close {
        file: u64,
    },
    Rename {
        from: u64,
        to: u64,
    },
    Exchange {
        from: u64,
        to: u64,
    },
    Link {
        from: u64,
        to: u64,
    },
    Unlink {
        file: u64,
    },
    Chmod {
        file: u64,
        mode: u32,
    },
    Upkeep,
    Sync,
}

/// A small generator: the same seed gives the same steps (SplitMix64, Steele et al. 2014).
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }

    /// Mostly small, sometimes across several chunks of 64 KiB.
    fn size(&mut self) -> u64 {
        match self.below(10) {
            0..=3 => self.below(200),
            4..=6 => self.below(20_000),
            7..=8 => self.below(100_000),
            _ => self.below(300_000),
        }
    }

    pub fn step(&mut self) -> Step {
        let (file, other) = (self.below(FILES), self.below(FILES));
        let (offset, len) = (self.size(), self.size().max(1));
        let byte = self.below(255) as u8 + 1;
        match self.below(40) {
            0..=6 => Step::Open { file, truncate: self.below(4) == 0 },
            7..=15 => Step::Write { file, offset, len, byte },
            16..=18 => Step::Append { file, len, byte },
            19..=20 => Step::Truncate { file, size: offset },
            21 => Step::Punch { file, offset, len },
            22 => Step::Zero { file, offset, len },
            23..=24 => Step::Copy { from: file, from_offset: self.size(), to: other, offset, len },
            25..=27 => Step::Flush { file },
            28..=29 => Step::Fsync { file },
            30..=32 => Step::Close { file },
            33 => Step::Rename { from: file, to: other },
            34 => Step::Exchange { from: file, to: other },
            35 => Step::Link { from: file, to: other },
            36 => Step::Unlink { file },
            37 => Step::Chmod { file, mode: 0o600 + self.below(64) as u32 },
            38 => Step::Upkeep,
            _ => Step::Sync,
        }
    }
}
