//! One large file from end to end: written and synced, read cold, read warm.

use crate::Sizes;
use crate::pair::{Pair, Side, cold, seconds, settle};
use crate::report::{Goal, Report};
use crate::support::mounts::LoopImage;
use crate::support::rng::pattern;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

const MIB: usize = 1 << 20;
/// ext4 keeps its files in pages of 4 KiB when their data is journalled.
const SMALL_PAGES: &str = "loop,data=journal";

/// Writes `mib` MiB in pieces of 1 MiB and syncs.
pub fn write(path: &Path, mib: u64) {
    let piece = pattern(7, MIB);
    let mut file = File::create(path).expect("a new file");
    for _ in 0..mib {
        file.write_all(&piece).expect("writing");
    }
    sync(&file);
}

/// Reads a file to its end and answers its size.
pub fn read(path: &Path) -> u64 {
    let mut file = File::open(path).expect("opening");
    let mut piece = vec![0; MIB];
    let mut total = 0;
    loop {
        match file.read(&mut piece).expect("reading") {
            0 => return total,
            n => total += n as u64,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "what is measured is the caller's fsync")]
pub fn sync(file: &File) {
    file.sync_all().expect("fsync");
}

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let pair = Pair::new(sizes.file_mib * 2 * u64::from(sizes.rounds) + 1024, sizes.noise);
    let small_pages =
        LoopImage::with_options(pair.scratch(), (sizes.file_mib + 1024) << 20, SMALL_PAGES);
    let control = small_pages.path().join("file");
    write(&control, sizes.file_mib);
    for round in 0..sizes.rounds {
        for side in Pair::sides(round) {
            let read_warm = one(&pair, sizes, side, round, report);
            let sample = match side {
                Side::Plain => warm(&control, sizes),
                Side::Bucket => read_warm,
            };
            let name =
                "sequential read, warm (plain: ext4 with data=journal, 4 KiB pages as FUSE has)";
            report.add(name, "s", Goal::Ratio(1.2), side, sample);
        }
    }
    report.note(String::from(
        "A warm read does not reach the node at all: the kernel copies from its page cache. It keeps a FUSE file in 4 KiB \
         pages and an ext4 file in larger ones, unless data=journal forbids them: that row compares like with like.",
    ));
}

/// Reads the file twice and answers how long the second time took, in seconds.
fn warm(file: &Path, sizes: &Sizes) -> f64 {
    read(file);
    seconds(|| assert_eq!(read(file), sizes.file_mib << 20))
}

/// Answers how long the warm read took.
fn one(pair: &Pair, sizes: &Sizes, side: Side, round: u32, report: &mut Report) -> f64 {
    let file = pair.root(side).join(format!("file-{round}"));
    let gib = sizes.file_mib as f64 / 1024.0;
    let mut cpu = pair.cpu_seconds();
    let mut used = || {
        let before = std::mem::replace(&mut cpu, pair.cpu_seconds());
        (cpu - before) / gib
    };
    settle();
    let written = seconds(|| write(&file, sizes.file_mib));
    report.add("sequential write + fsync", "s", Goal::Ratio(1.0), side, written);
    let write_cpu = used();
    cold();
    let read_cold = seconds(|| assert_eq!(read(&file), sizes.file_mib << 20));
    report.add("sequential read, cold", "s", Goal::Ratio(2.0), side, read_cold);
    let read_cpu = used();
    let read_warm = warm(&file, sizes);
    report.add("sequential read, warm", "s", Goal::Ratio(1.2), side, read_warm);
    if side == Side::Bucket {
        report.add("CPU of the node, sequential write", "s a GiB", Goal::Shown, side, write_cpu);
        report.add(
            "CPU of the node, sequential read, cold",
            "s a GiB",
            Goal::Shown,
            side,
            read_cpu,
        );
    }
    std::fs::remove_file(&file).expect("removing");
    read_warm
}
