//! Names that are made and removed again and again, until a node waits in the kernel for a directory that its own users
//! have locked.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::mounts::abort;
use super::node::Node;
use super::wait::{pause, until};

/// For a signal to reach all threads.
const SOON: Duration = Duration::from_secs(20);

const CHURN: &str = "
import os, sys
while True:
    os.close(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY))
    os.unlink(sys.argv[1])
";

/// Makes and removes a file in the directory where others do the same, by a process of its own: one
/// that waits for a mount cannot be left otherwise.
pub struct Churn {
    program: Child,
    mount: PathBuf,
}

impl Churn {
    pub fn start(mount: PathBuf, name: &str) -> Self {
        let file = mount.join("bucket").join(name);
        let mut python = Command::new("python3");
        python.args(["-c", CHURN]).arg(file);
        let program = python.stderr(Stdio::null()).spawn().expect("python3");
        Self { program, mount }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.program.kill().expect("killing a child");
        if std::thread::panicking() {
            abort(&self.mount);
        }
        self.program.wait().expect("the end of a killed child");
    }
}

/// Stops a node (SIGSTOP) in which a thread waits for its own mount: telling it of a change, for the lock of a directory
/// that is held until the node answers. Leaves it running otherwise.
pub fn stop_if_it_waits_for_its_mount(node: &Node) -> bool {
    node.signal(libc::SIGSTOP);
    until("all threads are stopped, or wait in the kernel", SOON, || {
        threads(node.pid()).iter().all(|thread| "TDZX".contains(thread.state)).then_some(())
    });
    let waits = || threads(node.pid()).iter().any(|thread| thread.waits_for_its_mount);
    // Whoever has the lock without waiting for the node gives it back.
    let is_stuck = waits() && {
        pause(Duration::from_millis(50));
        waits()
    };
    if !is_stuck {
        node.signal(libc::SIGCONT);
    }
    is_stuck
}

struct Thread {
    state: char,
    waits_for_its_mount: bool,
}

/// proc(5): `/proc/PID/task/TID/stat` and `stack`.
fn threads(pid: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let thread = |path: PathBuf| {
        let stat = fs::read_to_string(path.join("stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let stack = fs::read_to_string(path.join("stack")).ok()?;
        Some(Thread { state, waits_for_its_mount: stack.contains("fuse_reverse_inval_entry") })
    };
    tasks.filter_map(|task| thread(task.ok()?.path())).collect()
}
