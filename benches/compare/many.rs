//! What a file costs when its directory holds ten thousand, a hundred thousand, a million; and starting with them.

use crate::Sizes;
use crate::files::create;
use crate::pair::{Pair, Side, seconds, settle};
use crate::report::{Goal, Report};
use std::path::Path;

/// Files whose creation is timed at each size.
const SAMPLE: u64 = 5000;
/// Threads that fill the directory between the samples.
const THREADS: u64 = 8;

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let mut pair = Pair::new(24 << 10, sizes.noise);
    for side in [Side::Plain, Side::Bucket] {
        let dir = pair.root(side).join("many");
        std::fs::create_dir(&dir).expect("a new directory");
        let (mut have, mut first) = (0, None);
        for count in [sizes.many / 100, sizes.many / 10, sizes.many] {
            let sample = SAMPLE.min(count);
            let filled = fill(&dir, have, count - sample);
            pair.wait_for_quiet();
            settle();
            let sampled = seconds(|| create(&dir, count - sample, count, side == Side::Plain));
            have = count;
            let costs = [
                (
                    format!("create 4 KiB, each on disk, in a directory of {count}"),
                    sampled / sample as f64,
                ),
                (
                    format!(
                        "create 4 KiB, {THREADS} threads (plain: on disk some time), up to {count}"
                    ),
                    filled,
                ),
            ];
            let first = *first.get_or_insert(costs.clone().map(|(_, cost)| cost));
            for ((name, cost), first) in costs.into_iter().zip(first) {
                report.add(&name, "µs", Goal::Shown, side, cost * 1e6);
                if side == Side::Bucket {
                    let name = format!("{name}, against {}", sizes.many / 100);
                    report.add(&name, "×", Goal::Most(1.5), side, cost / first);
                }
            }
        }
    }
    if !pair.is_noise() {
        starts(&mut pair, report, sizes);
    }
}

/// Seconds a file.
fn fill(dir: &Path, first: u64, last: u64) -> f64 {
    let count = last - first;
    let total = seconds(|| {
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let part = |n: u64| first + count * n / THREADS;
                scope.spawn(move || create(dir, part(thread), part(thread + 1), false));
            }
        });
    });
    total / count.max(1) as f64
}

/// Starting after a clean stop, after a kill, and with the table gone (the rebuild an unclean machine stop needs).
fn starts(pair: &mut Pair, report: &mut Report, sizes: &Sizes) {
    let mut add = |how: &str, most: f64, time: f64| {
        let name = format!("start with {} files, {how}", sizes.many);
        report.add(&name, "s", Goal::Most(most), Side::Bucket, time);
    };
    pair.stop(true);
    add("after a clean stop", 5.0, pair.start().as_secs_f64());
    create(&pair.root(Side::Bucket).join("many"), sizes.many, sizes.many + SAMPLE, false);
    pair.stop(false);
    add("after kill -9", 15.0, pair.start().as_secs_f64());
    pair.stop(false);
    std::fs::remove_dir_all(pair.data().join("meta/sled")).expect("removing the table");
    add("table rebuilt", 120.0, pair.start().as_secs_f64());
}
