//! Many small files: created with one and with eight threads, looked at, listed, renamed, removed.

use crate::Sizes;
use crate::pair::{Pair, Side, cold, seconds, settle};
use crate::report::{Goal, Report};
use crate::sequential::sync;
use crate::support::rng::pattern;
use crate::support::sys;
use crate::support::wait::now;
use std::fs::File;
use std::io::Write;
use std::path::Path;

const THREADS: u64 = 8;

/// Makes the files `first..last` of 4 KiB each.
pub fn create(dir: &Path, first: u64, last: u64, synced: bool) {
    let bytes = pattern(first, 4096);
    for n in first..last {
        let mut file = File::create(dir.join(format!("file-{n}"))).expect("a new file");
        file.write_all(&bytes).expect("writing");
        if synced {
            sync(&file);
        }
        sys::close(std::os::fd::IntoRawFd::into_raw_fd(file)).expect("closing");
    }
}

/// Microseconds a file, of `count` files of 4 KiB that so many threads make in a new directory.
pub fn create_on(threads: u64, dir: &Path, count: u64, synced: bool) -> f64 {
    std::fs::create_dir(dir).expect("a new directory");
    settle();
    let total = seconds(|| {
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (first, last) = (count * thread / threads, count * (thread + 1) / threads);
                scope.spawn(move || create(dir, first, last, synced));
            }
        });
    });
    total / count as f64 * 1e6
}

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let pair = Pair::new(8192, sizes.noise);
    for round in 0..sizes.rounds {
        for side in Pair::sides(round) {
            let root = pair.root(side).join(format!("round-{round}"));
            std::fs::create_dir(&root).expect("a new directory");
            creations(&root, sizes, side, report);
            looks(&root, sizes, side, report);
            names(&root, sizes, side, report);
            renamed_directory(&root, sizes, side, report);
        }
    }
}

/// The plain directory syncs where the bucket's close alone is on disk; the rows without say so.
fn creations(root: &Path, sizes: &Sizes, side: Side, report: &mut Report) {
    for (threads, word) in [(1, "1 thread"), (THREADS, "8 threads")] {
        let fair = create_on(
            threads,
            &root.join(format!("safe-{threads}")),
            sizes.files,
            side == Side::Plain,
        );
        let name = format!("create 4 KiB, {word}, each on disk (plain: + fsync)");
        report.add(&name, "µs", Goal::Ratio(2.0), side, fair);
        let both = create_on(threads, &root.join(format!("synced-{threads}")), sizes.files, true);
        report.add(&format!("create 4 KiB + fsync, {word}"), "µs", Goal::Shown, side, both);
        let bare = create_on(threads, &root.join(format!("bare-{threads}")), sizes.files, false);
        let name = format!("create 4 KiB, {word} (plain: on disk some time)");
        report.add(&name, "µs", Goal::Shown, side, bare);
    }
}

fn looks(root: &Path, sizes: &Sizes, side: Side, report: &mut Report) {
    let dir = root.join("safe-1");
    let each = |total: f64| total / sizes.files as f64 * 1e6;
    let stat = |n: u64| {
        std::fs::metadata(dir.join(format!("file-{n}"))).expect("stat");
    };
    let list = || assert_eq!(std::fs::read_dir(&dir).expect("listing").count() as u64, sizes.files);
    cold();
    report.add("readdir, cold, a name", "µs", Goal::Shown, side, each(seconds(list)));
    report.add("readdir, warm, a name", "µs", Goal::Shown, side, each(seconds(list)));
    cold();
    let all = || (0..sizes.files).for_each(stat);
    report.add("stat, cold", "µs", Goal::Shown, side, each(seconds(all)));
    report.add("stat, warm", "µs", Goal::Shown, side, each(seconds(all)));
}

/// The median time of one call, in microseconds: what waits for a disk now and then does not hide the usual case.
fn each(count: u64, mut call: impl FnMut(u64)) -> f64 {
    median((0..count).map(|n| microseconds(|| call(n))).collect())
}

pub fn microseconds(call: impl FnOnce()) -> f64 {
    let begin = now();
    call();
    begin.elapsed().as_secs_f64() * 1e6
}

pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn names(root: &Path, sizes: &Sizes, side: Side, report: &mut Report) {
    let dir = root.join("names");
    std::fs::create_dir(&dir).expect("a new directory");
    create(&dir, 0, sizes.files, false);
    settle();
    let at = |prefix: &str, n: u64| dir.join(format!("{prefix}-{n}"));
    let goal = Goal::Most(300.0);
    let mut add = |name: &str, time: f64| report.add(name, "µs", goal, side, time);
    add("mkdir, median", each(sizes.files, |n| sys::mkdir(&at("dir", n), 0o755).expect("mkdir")));
    add("chmod, median", each(sizes.files, |n| sys::chmod(&at("file", n), 0o600).expect("chmod")));
    add(
        "rename, median",
        each(sizes.files, |n| sys::rename(&at("file", n), &at("new", n), 0).expect("rename")),
    );
    add("unlink, median", each(sizes.files, |n| sys::unlink(&at("new", n)).expect("unlink")));
}

fn renamed_directory(root: &Path, sizes: &Sizes, side: Side, report: &mut Report) {
    let (dir, new) = (root.join("ten-thousand"), root.join("renamed"));
    std::fs::create_dir(&dir).expect("a new directory");
    let entries = 2 * sizes.files;
    (0..entries).for_each(|n| {
        sys::mknod(&dir.join(format!("{n}")), libc::S_IFREG | 0o644, 0).expect("mknod")
    });
    settle();
    let time = seconds(|| sys::rename(&dir, &new, 0).expect("rename"));
    report.add(
        &format!("rename of a directory with {entries} entries"),
        "µs",
        Goal::Shown,
        side,
        time * 1e6,
    );
}
