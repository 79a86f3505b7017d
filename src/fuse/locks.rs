//! Requests about locks. fuser does not say whether one is of fcntl(2) or flock(2) (its issue 155),
//! so both are ranges of one kind, as Linux's NFS client has them: flock(2) locks the whole file,
//! and the two exclude each other.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::{Errno, FileHandle, LockOwner, ReplyEmpty, ReplyLock};

use super::door::Door;
use super::errno::report;
use crate::error::{Error, Result};
use crate::vfs::{Caller, FileLock, LockKind, Locked};

/// A lock as the kernel writes it: first and last byte, F_RDLCK or its like, process.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub owner: LockOwner,
    pub start: u64,
    pub end: u64,
    pub kind: i32,
    pub pid: u32,
}

impl Asked {
    fn lock(self) -> Result<FileLock> {
        let kind = match self.kind {
            libc::F_RDLCK => LockKind::Shared,
            libc::F_WRLCK => LockKind::Exclusive,
            libc::F_UNLCK => LockKind::Unlock,
            _ => return Err(Error::invalid("a kind of lock that is not known")),
        };
        if self.start > self.end {
            return Err(Error::invalid("a lock that ends before it starts"));
        }
        let (first, last) = (self.start, self.end);
        Ok(FileLock { owner: self.owner.0, first, last, kind, pid: self.pid })
    }
}

/// `thread` waits for the answer if it has to; `None`: it wants one at once.
pub(super) fn setlk(
    door: &Arc<Door>,
    who: Caller,
    handle: FileHandle,
    asked: Asked,
    thread: Option<u32>,
    reply: ReplyEmpty,
) {
    let this = Arc::clone(door);
    door.run("setlk", async move {
        let waiter = thread.map(Waiter::new);
        let gone = || waiter.as_ref().is_some_and(Waiter::is_gone);
        let wait: Option<&(dyn Fn() -> bool + Send + Sync)> = match waiter {
            Some(_) => Some(&gone),
            None => None,
        };
        let locked = match asked.lock() {
            Ok(lock) => this.vfs.set_lock(&who, handle.0, lock, wait).await,
            Err(error) => Err(error),
        };
        // Under the lock it must see what its last holder wrote, so the kernel has to know of it.
        this.told.caught_up().await;
        match locked {
            Ok(Locked::Granted) => reply.ok(),
            Ok(Locked::Taken) => reply.error(Errno::EAGAIN),
            Ok(Locked::GivenUp) => reply.error(Errno::EINTR),
            Err(Error::NoSpace) => reply.error(Errno::ENOLCK),
            Err(error) => reply.error(report("lock", &error)),
        }
    });
}

pub(super) fn getlk(
    door: &Arc<Door>,
    who: Caller,
    handle: FileHandle,
    asked: Asked,
    reply: ReplyLock,
) {
    let this = Arc::clone(door);
    door.run("getlk", async move {
        let found = match asked.lock() {
            Ok(lock) => this.vfs.get_lock(&who, handle.0, lock).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(Some(lock)) => reply.locked(lock.first, lock.last, kind_of(lock.kind), lock.pid),
            Ok(None) => reply.locked(asked.start, asked.end, libc::F_UNLCK, 0),
            Err(error) => reply.error(report("getlk", &error)),
        }
    });
}

fn kind_of(kind: LockKind) -> i32 {
    match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    }
}

/// A thread that waits in fcntl(2) or flock(2). fuser takes no INTERRUPT, so whether a signal wants
/// it back is read where the kernel shows it.
struct Waiter {
    thread: u32,
    /// A signal was there at the last look. One that another thread of the process takes is gone at
    /// the next.
    signalled: AtomicBool,
}

impl Waiter {
    fn new(thread: u32) -> Self {
        Self { thread, signalled: AtomicBool::new(false) }
    }

    fn is_gone(&self) -> bool {
        // The kernel names no thread that lives in another pid namespace.
        if self.thread == 0 {
            return false;
        }
        match fs::read_to_string(format!("/proc/{}/status", self.thread)) {
            Ok(status) => {
                let now = has_signal(&status);
                self.signalled.swap(now, Ordering::Relaxed) && now
            }
            Err(_) => true,
        }
    }
}

/// Whether a signal is pending that is not blocked; proc_pid_status(5).
fn has_signal(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
        u64::from_str_radix(line.trim(), 16).unwrap_or(0)
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_signal_is_seen_unless_it_is_blocked() {
        let status = |own: &str, shared: &str, blocked: &str| {
            format!(
                "Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\tff\n"
            )
        };
        assert!(!has_signal(&status("0000000000000000", "0000000000000000", "0")));
        assert!(has_signal(&status("0000000000000100", "0", "0")));
        assert!(has_signal(&status("0", "0000000000000002", "0000000000000004")));
        assert!(!has_signal(&status("0", "2", "2")));
        assert!(!has_signal("nothing of the kind"));
    }

    #[test]
    fn a_process_that_is_gone_does_not_wait() {
        assert!(Waiter::new(u32::MAX).is_gone());
        assert!(!Waiter::new(0).is_gone());
        let own = Waiter::new(std::process::id());
        assert!(!own.is_gone());
    }

    #[test]
    fn kinds_are_those_of_fcntl() {
        let asked = |kind, start, end| Asked { owner: LockOwner(9), start, end, kind, pid: 3 };
        for kind in [libc::F_RDLCK, libc::F_WRLCK, libc::F_UNLCK] {
            let lock = asked(kind, 1, 5).lock().unwrap();
            assert_eq!((kind_of(lock.kind), lock.first, lock.last, lock.owner), (kind, 1, 5, 9));
        }
        assert!(asked(77, 0, 1).lock().is_err() && asked(libc::F_RDLCK, 2, 1).lock().is_err());
    }
}
