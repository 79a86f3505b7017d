//! 4 KiB at random offsets of one file: read cold, read warm, written and synced one by one.

use crate::Sizes;
use crate::pair::{Pair, Side, cold, seconds, settle};
use crate::report::{Goal, Report};
use crate::sequential;
use crate::support::rng::{Rng, pattern};
use std::fs::File;
use std::os::unix::fs::FileExt;

const BLOCK: u64 = 4096;

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let mib = sizes.file_mib / 2;
    let pair = Pair::new(mib * 3 + 1024, sizes.noise);
    for side in [Side::Plain, Side::Bucket] {
        sequential::write(&pair.root(side).join("file"), mib);
    }
    for round in 0..sizes.rounds {
        for side in Pair::sides(round) {
            let path = pair.root(side).join("file");
            let mut offsets = Rng::new(u64::from(round));
            let mut next = || offsets.below((mib << 20) / BLOCK) * BLOCK;
            cold();
            let reader = File::open(&path).expect("opening");
            let few = sizes.random / 5;
            add(report, "4k random read, cold", Goal::Shown, side, few, || read(&reader, next()));
            sequential::read(&path);
            add(report, "4k random read, warm", Goal::Ratio(1.5), side, sizes.random, || {
                read(&reader, next())
            });
            settle();
            let writer = File::options().write(true).open(&path).expect("opening");
            let few = sizes.random / 10;
            add(report, "4k random write + fdatasync", Goal::Shown, side, few, || {
                write(&writer, next())
            });
        }
    }
}

/// Adds the mean time of one operation in microseconds.
fn add(
    report: &mut Report,
    name: &str,
    goal: Goal,
    side: Side,
    count: u64,
    mut operation: impl FnMut(),
) {
    let total = seconds(|| (0..count).for_each(|_| operation()));
    report.add(name, "µs", goal, side, total / count as f64 * 1e6);
}

fn read(file: &File, at: u64) {
    let mut block = [0; BLOCK as usize];
    file.read_exact_at(&mut block, at).expect("reading");
}

#[allow(clippy::disallowed_methods, reason = "what is measured is the caller's fdatasync")]
fn write(file: &File, at: u64) {
    file.write_all_at(&pattern(at, BLOCK as usize), at).expect("writing");
    file.sync_data().expect("fdatasync");
}
