//! How a process sees the one that started it end: PR_SET_PDEATHSIG of prctl(2), pidfd_open(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::machine::is_defunct;
use crate::error::{Error, Result};

/// What the kernel sends when the parent's thread that started this process ends.
const SIGNAL: libc::c_int = libc::SIGUSR1;

/// The process that started this one, from its first thread.
#[derive(Debug)]
pub struct Parent {
    pid: u32,
    /// Readable once the process and all its threads have ended.
    process: OwnedFd,
}

impl Parent {
    /// Watches the parent, which says that it is `pid`; nothing when it is gone already. From then on
    /// this process, which must have no other thread, is deaf to every signal but SIGKILL: it is to
    /// end with its parent, not before.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel cannot do that.
    pub fn watch(pid: u32) -> Result<Option<Self>> {
        let failed = |error| Error::io(format!("watching process {pid}"), error);
        block_signals().map_err(failed)?;
        // SAFETY: no memory is passed; prctl(2).
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, SIGNAL) }).map_err(failed)?;
        let Some(process) = open(pid).map_err(failed)? else { return Ok(None) };
        // What ended before the kernel was told has left this process to another one.
        // SAFETY: no memory is passed; getppid(2).
        let is_there = u32::try_from(unsafe { libc::getppid() }) == Ok(pid);
        Ok(is_there.then_some(Self { pid, process }))
    }

    /// Waits until the parent ends; true when it then has threads that do not end within `patience`,
    /// because they wait in the kernel.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be waited for.
    pub fn gets_stuck(&self, patience: Duration) -> Result<bool> {
        let failed = |error| Error::io(format!("waiting for process {}", self.pid), error);
        loop {
            wait_for_signal().map_err(failed)?;
            if self.ends_within(patience).map_err(failed)? {
                return Ok(false);
            }
            // Anybody can send the signal.
            if is_defunct(self.pid) {
                return Ok(true);
            }
        }
    }

    fn ends_within(&self, patience: Duration) -> io::Result<bool> {
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        let mut poll =
            libc::pollfd { fd: self.process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one record, valid for the call; poll(2).
        check(unsafe { libc::poll(&raw mut poll, 1, millis) }).map(|ready| ready > 0)
    }
}

fn open(pid: u32) -> io::Result<Option<OwnedFd>> {
    // SAFETY: no memory is passed; pidfd_open(2).
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match libc::c_int::try_from(opened).map(check) {
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Ok(descriptor)) => Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) })),
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Ok(Err(error)) => Err(error),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn block_signals() -> io::Result<()> {
    // SAFETY: a signal set is plain data, which sigfillset(3) fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is valid for both calls.
    check(unsafe { libc::sigfillset(&raw mut all) })?;
    // SAFETY: as above; sigprocmask(2).
    check(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) })?;
    Ok(())
}

fn wait_for_signal() -> io::Result<()> {
    // SAFETY: a signal set is plain data, which sigemptyset(3) fills.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    let mut signal = 0;
    // SAFETY: the set and the number are valid for the calls; sigwait(3), which returns its error.
    let error = unsafe {
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, SIGNAL);
        libc::sigwait(&raw const set, &raw mut signal)
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
