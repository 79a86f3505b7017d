//! Three nodes on this machine and one disk, against one node on it: what a quorum costs, and what reading does not.

use std::fs::File;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Sizes;
use crate::files::{create, create_on, median, microseconds};
use crate::pair::{Side, cold, seconds, settle};
use crate::report::{Goal, Report};
use crate::sequential::{read, write};
use crate::support::cluster::Cluster;
use crate::support::mounts::{own_namespace, run, scratch};
use crate::support::node::program;
use crate::support::sys::close;
use crate::support::wait::{pause, until};

const PIECE: usize = 4 << 20;
const WRITERS: u64 = 8;

/// The mount of one node of a cluster.
struct Place<'a> {
    side: Side,
    cluster: &'a Cluster,
    node: usize,
}

impl Place<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.cluster.path(self.node, &format!("bucket/{name}"))
    }

    /// Copies that some node has still to make, as this one sees it.
    fn wanting(&self) -> u64 {
        let mut ask = program();
        ask.args(["--json", "status", "--data-dir"]).arg(self.cluster.data(self.node));
        let status: serde_json::Value = serde_json::from_str(&run(&mut ask)).expect("a status");
        status["wanting"]["anywhere"].as_u64().expect("how many copies are wanting")
    }
}

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    own_namespace();
    let (one, three) = (Cluster::start("one", 1), Cluster::start("three", 3));
    let place = |side, cluster, node| Place { side, cluster, node };
    let writers = [place(Side::Plain, &one, 0), place(Side::Bucket, &three, 0)];
    let readers = [place(Side::Plain, &one, 0), place(Side::Bucket, &three, 2)];
    writers.iter().for_each(|writer| {
        std::fs::create_dir(writer.cluster.path(0, "bucket")).expect("a bucket");
    });
    for round in 0..sizes.rounds {
        writers.iter().for_each(|writer| small(writer, round, sizes, report));
        large(&three, round, sizes, report);
        readers.iter().for_each(|reader| reads(reader, round, sizes, report));
    }
}

fn small(place: &Place<'_>, round: u32, sizes: &Sizes, report: &mut Report) {
    let (root, side) = (place.path(&format!("round-{round}")), place.side);
    std::fs::create_dir(&root).expect("a directory");
    let count = sizes.files / 5;
    let name = "close of 4 KiB, median, quorum (plain: one node)";
    report.add(name, "µs", Goal::Ratio(3.0), side, closes(&root.join("closed"), count));
    let alone = create_on(1, &root.join("alone"), count, false);
    report.add("create 4 KiB, quorum (plain: one node)", "µs", Goal::Shown, side, alone);
    if side == Side::Bucket {
        let together = create_apart(&root, 2 * count);
        let name =
            "create 4 KiB, 8 writers in a directory each, quorum (plain: one writer, quorum)";
        report.add(name, "µs", Goal::Ratio(0.25), Side::Plain, alone);
        report.add(name, "µs", Goal::Ratio(0.25), Side::Bucket, together);
    }
}

/// The median of close(2), in microseconds, of files of 4 KiB that are written and not saved.
fn closes(dir: &Path, count: u64) -> f64 {
    std::fs::create_dir(dir).expect("a new directory");
    let closed = |n: u64| {
        let file = File::create_new(dir.join(n.to_string())).expect("a new file");
        file.write_all_at(&[7; 4096], 0).expect("writing");
        microseconds(|| close(file.into_raw_fd()).expect("closing"))
    };
    median((0..count).map(closed).collect())
}

/// Microseconds a file. The kernel makes the files of one directory one after the other, and the next only
/// when the one before is answered.
fn create_apart(root: &Path, count: u64) -> f64 {
    let dirs: Vec<PathBuf> = (0..WRITERS).map(|n| root.join(format!("apart-{n}"))).collect();
    dirs.iter().for_each(|dir| std::fs::create_dir(dir).expect("a new directory"));
    settle();
    let total = seconds(|| {
        std::thread::scope(|scope| {
            for dir in &dirs {
                scope.spawn(move || create(dir, 0, count / WRITERS, false));
            }
        });
    });
    total / count as f64 * 1e6
}

fn large(three: &Cluster, round: u32, sizes: &Sizes, report: &mut Report) {
    let mib = sizes.file_mib / 2;
    let name = "sequential write + fsync, quorum (plain: three copies, O_DIRECT + fdatasync)";
    let (goal, dir) = (Goal::Ratio(1.25), scratch("raw"));
    let raw = || raw_copies(dir.path(), mib);
    let ours = || write(&three.path(0, &format!("bucket/large-{round}")), mib);
    for side in crate::pair::Pair::sides(round) {
        settle();
        let time = if side == Side::Plain { seconds(raw) } else { seconds(ours) };
        report.add(name, "s", goal, side, time);
    }
}

/// Writes three files at the same time, past the page cache.
fn raw_copies(dir: &Path, mib: u64) {
    let copy = |number: u32| {
        let path = dir.join(number.to_string());
        let mut options = File::options();
        options.create(true).truncate(true).write(true).custom_flags(libc::O_DIRECT);
        let file = options.open(path).expect("a file for direct writes");
        let memory = vec![7_u8; 2 * PIECE];
        let start = memory.as_ptr().align_offset(4096);
        for piece in 0..mib * (1 << 20) / PIECE as u64 {
            let bytes = &memory[start..start + PIECE];
            file.write_all_at(bytes, piece * PIECE as u64).expect("a direct write");
        }
        assert_eq!(unsafe { libc::fdatasync(file.as_raw_fd()) }, 0, "fdatasync");
    };
    std::thread::scope(|scope| (0..3).for_each(|number| drop(scope.spawn(move || copy(number)))));
}

/// Once the copies are there, a node reads its own.
fn reads(place: &Place<'_>, round: u32, sizes: &Sizes, report: &mut Report) {
    let (file, side) = (place.path(&format!("read-{round}")), place.side);
    write(&file, sizes.file_mib / 2);
    until("all copies to be made", Duration::from_secs(120), || {
        pause(Duration::from_millis(200));
        (place.wanting() == 0).then_some(())
    });
    cold();
    let name = "sequential read, cold, on the third node (plain: one node)";
    report.add(name, "s", Goal::Ratio(1.1), side, seconds(|| assert!(read(&file) > 0)));
    let dir = place.path(&format!("round-{round}/alone"));
    let names: Vec<PathBuf> = std::fs::read_dir(&dir)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    cold();
    let time = seconds(|| {
        names.iter().for_each(|name| assert!(name.metadata().expect("a file").is_file()));
    });
    let cost = time / names.len() as f64 * 1e6;
    report.add(
        "stat, cold, on the third node (plain: one node)",
        "µs",
        Goal::Ratio(1.1),
        side,
        cost,
    );
}
