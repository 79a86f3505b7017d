//! The real program as a child process: started, asked to stop, killed, and never left behind.

use super::mounts::{detach, mounted};
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Error};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// How long a start may take; long enough for a debug build on a busy machine that replays its log.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a drain may take.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// The program under test: `BUCKETFS_BIN` (a release build, say), else what cargo built for this
/// test. It sees no setting of whoever runs the tests.
pub fn program() -> Command {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_bucketfs"));
    let mut command = Command::new(std::env::var_os("BUCKETFS_BIN").map_or(built, PathBuf::from));
    let ours = |name: &OsString| name.as_encoded_bytes().starts_with(b"BUCKETFS_");
    std::env::vars_os().map(|(name, _)| name).filter(ours).for_each(|name| {
        command.env_remove(name);
    });
    command
}

/// What `serve` is told.
pub struct Serve<'a> {
    pub data: &'a Path,
    pub mount: &'a Path,
    /// `BUCKET[/PATH]`, or nothing for the root with all buckets.
    pub show: Option<&'a str>,
    pub options: &'a [&'a str],
    /// Everything the program writes to stderr is appended here.
    pub log: &'a Path,
}

impl Serve<'_> {
    /// The command line, ready to spawn.
    pub fn command(&self) -> Command {
        let mut mount = self.mount.as_os_str().to_owned();
        if let Some(show) = self.show {
            mount.push("=");
            mount.push(show);
        }
        let log = File::options().create(true).append(true).open(self.log).expect("the log file");
        let mut command = program();
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(self.data)
            .arg("--mount")
            .arg(mount)
            .args(self.options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        die_with_parent(&mut command);
        command
    }
}

/// Makes the kernel kill the child when the thread that started it ends, however it ends.
fn die_with_parent(command: &mut Command) {
    let ask = || match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    };
    unsafe { command.pre_exec(ask) };
}

/// A serving program; killed and unmounted when dropped, its log shown when the test fails.
pub struct Node {
    child: Child,
    lines: mpsc::Receiver<String>,
    mount: PathBuf,
    log: PathBuf,
    running: bool,
}

impl Node {
    /// Starts the program and waits for its `ready` line.
    pub fn start(serve: &Serve<'_>) -> Self {
        Self::start_within(serve, READY_LIMIT)
    }

    /// As [`Self::start`], of a store that takes longer.
    pub fn start_within(serve: &Serve<'_>, limit: Duration) -> Self {
        let mut node = Self::spawn(serve);
        node.wait_ready_within(limit);
        node
    }

    /// Starts the program.
    pub fn spawn(serve: &Serve<'_>) -> Self {
        Self::spawn_command(serve, &mut serve.command())
    }

    /// Starts the program as another user.
    pub fn spawn_as(serve: &Serve<'_>, user: u32) -> Self {
        Self::spawn_command(serve, serve.command().uid(user).gid(user))
    }

    /// Starts a program of [`Serve::command`] that was told more.
    pub fn spawn_command(serve: &Serve<'_>, command: &mut Command) -> Self {
        let mut child = command.spawn().expect("starting the program");
        let lines = lines_of(&mut child);
        Self {
            child,
            lines,
            mount: serve.mount.to_owned(),
            log: serve.log.to_owned(),
            running: true,
        }
    }

    /// Waits for the line that says the mount answers.
    pub fn wait_ready(&mut self) {
        self.wait_ready_within(READY_LIMIT);
    }

    fn wait_ready_within(&mut self, limit: Duration) {
        let end = super::wait::now() + limit;
        loop {
            let left = end.saturating_duration_since(super::wait::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.starts_with("ready") => return,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("not ready after {limit:?}"),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended before ready: {}", self.wait(STOP_LIMIT))
                }
            }
        }
    }

    /// The process id, for /proc.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to drain and stop; it must end well and take its mount with it.
    pub fn stop(mut self) {
        self.signal(libc::SIGTERM);
        let status = self.wait(STOP_LIMIT);
        assert!(status.success(), "stopping ended with {status}");
        assert_eq!(mounted(&self.mount), None, "stopped, but its mount is still there");
    }

    /// Kills it at once (SIGKILL) and detaches the dead mount.
    pub fn kill(mut self) {
        self.end();
    }

    /// Lets it run for `time`, then kills it.
    pub fn kill_after(self, time: Duration) {
        super::wait::pause(time);
        self.kill();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = wait_child(&mut self.child, limit);
        self.running = false;
        status
    }

    fn end(&mut self) {
        if self.running {
            self.signal(libc::SIGKILL);
            self.wait(STOP_LIMIT);
        }
        while mounted(&self.mount).is_some_and(|kind| kind.starts_with("fuse")) {
            detach(&self.mount);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of the program ({}) ---\n{}", self.log.display(), tail(&self.log));
            self.signal(libc::SIGKILL);
        } else {
            self.end();
        }
    }
}

/// Waits until a child has ended, without polling.
pub fn wait_child(child: &mut Child, limit: Duration) -> ExitStatus {
    assert!(ends_within(child, limit), "the program has not ended after {limit:?}");
    child.wait().expect("the exit status")
}

fn ends_within(child: &Child, limit: Duration) -> bool {
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) } as i32;
    assert!(fd >= 0, "pidfd_open: {}", Error::last_os_error());
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let ended = unsafe { libc::poll(&mut poll, 1, limit.as_millis() as i32) };
    unsafe { libc::close(fd) };
    ended == 1
}

/// The lines a child writes to stdout, as they come; the reader goes on so that the child never blocks.
fn lines_of(child: &mut Child) -> mpsc::Receiver<String> {
    let (send, receive) = mpsc::channel();
    let out = BufReader::new(child.stdout.take().expect("a piped stdout"));
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            drop(send.send(line));
        }
    });
    receive
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
