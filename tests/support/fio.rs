//! fio(1) beside everything else: it looks whether it reads what it wrote.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// One job after the other, until it is stopped.
pub struct Fio {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Jobs>,
}

/// How many jobs ended well, and how many were refused something.
#[derive(Debug, Default)]
pub struct Jobs {
    pub done: u64,
    pub refused: u64,
}

impl Fio {
    /// Works in `dir`, which it makes.
    pub fn start(dir: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        // A thread that did not unshare sees the mounts of the one that started it.
        let thread = std::thread::spawn(move || {
            let mut jobs = Jobs::default();
            // A directory that cannot be made now can be the next time.
            while !stopped.load(Ordering::Relaxed) {
                match std::fs::create_dir_all(&dir).is_ok() && job(&dir) {
                    true => jobs.done += 1,
                    false => jobs.refused += 1,
                }
            }
            jobs
        });
        Self { stop, thread }
    }

    /// Ends after the job that is under way.
    ///
    /// # Panics
    /// When something else was read than was written.
    pub fn finish(self) -> Jobs {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("fio reads what it wrote")
    }
}

/// Whether it was refused nothing.
fn job(dir: &Path) -> bool {
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
