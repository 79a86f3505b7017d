//! The two places that are compared, each on a fresh image, and what both need: time, cold caches, pressure.

use crate::support::mounts::{LoopImage, own_namespace, scratch};
use crate::support::node::{Node, Serve};
use crate::support::target::{BUCKET, init};
use crate::support::wait::{now, until};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A start that rebuilds the table of a million files takes longer than tests wait for.
const START_LIMIT: Duration = Duration::from_secs(600);

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Plain,
    Bucket,
}

/// A plain directory and a bucket mount.
pub struct Pair {
    node: Option<Node>,
    plain: LoopImage,
    store: LoopImage,
    data: PathBuf,
    mount: PathBuf,
    scratch: TempDir,
}

impl Pair {
    /// Makes both new; each image may grow to `mib`. With `noise` the second is a plain directory too.
    pub fn new(mib: u64, noise: bool) -> Self {
        own_namespace();
        let scratch = scratch("bench");
        let image = |name: &str| {
            let dir = scratch.path().join(name);
            std::fs::create_dir(&dir).expect("a directory for an image");
            LoopImage::new(&dir, mib << 20)
        };
        let (plain, store) = (image("plain"), image("store"));
        let (data, mount) = (store.path().join("data"), scratch.path().join("mnt"));
        std::fs::create_dir(&mount).expect("the mount point");
        if noise {
            let mount = store.path().to_owned();
            return Self { node: None, plain, store, data, mount, scratch };
        }
        init(&data, "sled");
        let mut pair = Self { node: None, plain, store, data, mount, scratch };
        pair.start();
        pair
    }

    /// Where this side's files go.
    pub fn root(&self, side: Side) -> &Path {
        match side {
            Side::Plain => self.plain.path(),
            Side::Bucket => &self.mount,
        }
    }

    /// Both sides, the first one changing from round to round.
    pub fn sides(round: u32) -> [Side; 2] {
        if round.is_multiple_of(2) {
            [Side::Plain, Side::Bucket]
        } else {
            [Side::Bucket, Side::Plain]
        }
    }

    /// A directory for things that belong to neither side.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Where the store's data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Whether both sides are plain directories.
    pub fn is_noise(&self) -> bool {
        self.mount == self.store.path()
    }

    /// Starts the program and says how long it took until the mount answered.
    pub fn start(&mut self) -> Duration {
        let log = self.scratch.path().join("log");
        let serve = Serve {
            data: &self.data,
            mount: &self.mount,
            show: Some(BUCKET),
            options: &[],
            log: &log,
        };
        let begin = now();
        self.node = Some(Node::start_within(&serve, START_LIMIT));
        begin.elapsed()
    }

    /// Waits until no snapshot of the metadata is being written: one takes as long as several samples.
    pub fn wait_for_quiet(&self) {
        let is_unfinished = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|end| end == "new"))
        };
        until("no snapshot is being written", START_LIMIT, || {
            let entries = std::fs::read_dir(self.data.join("snapshots"));
            // The plain side has none.
            (!entries.is_ok_and(|mut entries| entries.any(is_unfinished))).then_some(())
        });
    }

    /// Stops the program, or kills it.
    pub fn stop(&mut self, kindly: bool) {
        if let Some(node) = self.node.take() {
            if kindly { node.stop() } else { node.kill() }
        }
    }

    /// CPU seconds the program has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        if self.is_noise() {
            return 0.0;
        }
        let stat = self.proc("stat");
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("a number of ticks");
        // Fields 14 and 15 of proc_pid_stat(5), the first two being cut off.
        (ticks(11) + ticks(12)) / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
    }

    /// The most memory the program has held so far, in MiB.
    pub fn memory_peak_mib(&self) -> f64 {
        if self.is_noise() {
            return 0.0;
        }
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a size") / 1024.0
    }

    fn proc(&self, file: &str) -> String {
        let pid = self.node.as_ref().expect("a running program").pid();
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the program's figures")
    }
}

/// How long `work` takes, in seconds.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let begin = now();
    work();
    begin.elapsed().as_secs_f64()
}

/// Empties the page cache, the caches of names and of inodes of the whole machine.
pub fn cold() {
    unsafe { libc::sync() };
    std::fs::write("/proc/sys/vm/drop_caches", "3").expect("dropping the caches");
}

/// Lets what is written reach the disk, so that one side does not pay for the other.
pub fn settle() {
    unsafe { libc::sync() };
}

/// Runs a command that must succeed and says how long it took, in seconds.
pub fn timed(command: &mut Command) -> f64 {
    seconds(|| drop(crate::support::mounts::run(command)))
}
