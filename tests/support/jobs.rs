//! Other people's programs at work beside everything else: fio(1), which looks whether it reads what it wrote, cp(1) and
//! rsync(1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::rng::pattern;

/// One job after the other, until it is stopped.
pub struct Working {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Jobs>,
}

/// The numbers of the jobs that ended well, and how many were refused something.
#[derive(Debug, Default)]
pub struct Jobs {
    pub done: Vec<u64>,
    pub refused: u64,
}

impl Jobs {
    pub fn add(&mut self, other: Self) {
        self.done.extend(other.done);
        self.refused += other.refused;
    }
}

impl Working {
    /// Works in `dir`, which it makes: `job` is told its number, and says whether it was refused nothing.
    pub fn start(dir: PathBuf, job: impl Fn(&Path, u64) -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // A thread that did not unshare sees the mounts of the one that started it.
        let thread = std::thread::spawn(move || {
            let (mut jobs, mut number) = (Jobs::default(), 0);
            // A directory that cannot be made now can be the next time.
            while !stopped.load(Ordering::Relaxed) {
                match std::fs::create_dir_all(&dir).is_ok() && job(&dir, number) {
                    true => jobs.done.push(number),
                    false => jobs.refused += 1,
                }
                number += 1;
            }
            jobs
        });
        Self { stop, thread }
    }

    /// Ends after the job that is under way.
    ///
    /// # Panics
    /// As the jobs.
    pub fn finish(self) -> Jobs {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the jobs find nothing wrong")
    }
}

/// # Panics
/// When something else was read than was written.
pub fn fio(dir: &Path, _: u64) -> bool {
    let mut fio = Command::new("fio");
    fio.args(["--name=job", "--rw=randwrite", "--bsrange=4k-64k", "--size=2M", "--fsync=16"]);
    fio.args(["--end_fsync=1", "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0"]);
    fio.arg("--directory").arg(dir).stdin(Stdio::null());
    let output = fio.output().expect("fio");
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    for wrong in ["verify failed", "bad header", "bad magic"] {
        assert!(!said.contains(wrong), "{}: {said}", dir.display());
    }
    output.status.success()
}

/// A small tree, to be copied.
pub fn plant(root: &Path) {
    for (number, size) in (0..).zip([0, 1, 5000, 70_000, 1 << 20]) {
        let dir = root.join(format!("{number}/deeper"));
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::write(dir.join("file"), pattern(number, size)).expect("a file");
        std::os::unix::fs::symlink("deeper/file", root.join(format!("{number}/link")))
            .expect("a symbolic link");
    }
}

/// Copies a tree to the directory that its number names, by one program or the other.
pub fn copy(from: &Path, dir: &Path, number: u64) -> bool {
    let mut program = match number % 2 {
        0 => Command::new("cp"),
        _ => Command::new("rsync"),
    };
    // A slash at the end: what is in the tree, and not the tree.
    program.arg("-a").arg(from.join("")).arg(dir.join(number.to_string()));
    let output = program.stdin(Stdio::null()).output().expect("cp or rsync");
    output.status.success()
}

/// The permissions and times that a copy takes along, by path.
pub fn marks(root: &Path) -> BTreeMap<PathBuf, (u32, i64)> {
    use std::os::unix::fs::MetadataExt;
    let paths = super::tree::look(root).expect("reading the tree");
    let mark = |path: PathBuf| {
        let stat = std::fs::symlink_metadata(root.join(&path)).expect("what was just seen");
        (path, (stat.mode(), stat.mtime()))
    };
    paths.into_keys().map(mark).collect()
}
