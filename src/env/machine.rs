//! What identifies this run of this machine: the lock on a data directory, and the boot id.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use super::clock::{Clock, SystemClock};
use crate::error::{Error, Result};

/// An exclusive lock on a directory, held until it is dropped or the process ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

/// Locks `path/LOCK` with flock(2) and writes the process id into it. The directory must exist.
///
/// # Errors
/// [`Error::Store`] when another process holds the lock.
pub fn lock_dir(path: &Path) -> Result<DirLock> {
    let name = path.join("LOCK");
    let failed = |error| Error::io(format!("locking {}", name.display()), error);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(error)) => return Err(failed(error)),
        Err(TryLockError::WouldBlock) => return Err(in_use(path, &mut file)),
    }
    let note = format!("{}\n", std::process::id());
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    file.write_all(note.as_bytes()).map_err(failed)?;
    Ok(DirLock { _file: file })
}

fn in_use(path: &Path, file: &mut File) -> Error {
    let mut holder = String::new();
    // The number only helps the reader of the message; without it the message stands too.
    let process = match file.read_to_string(&mut holder) {
        Ok(_) if !holder.trim().is_empty() => format!("another process ({})", holder.trim()),
        Ok(_) | Err(_) => "another process".to_string(),
    };
    Error::Store(format!("{} is in use by {process}: stop it first", path.display()))
}

/// From now on nobody but the owner reads what this process makes: files, directories, sockets.
/// What is made through a mount has the mask of its maker, which the kernel sends along.
pub fn keep_private() {
    // SAFETY: umask(2) takes a number and cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Descriptors this process asks for at most.
const DESCRIPTORS_MAX: libc::rlim_t = 1 << 20;

/// Lets this process open as many files and connections as it may; the usual 1024 are fewer than its
/// listeners take. getrlimit(2).
///
/// # Errors
/// What the system says; the limit is as before then.
pub fn raise_descriptor_limit() -> std::io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives through both calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_cur.max(limit.rlim_max.min(DESCRIPTORS_MAX));
        match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// The process that has the lock of a directory, when it was killed and does not end: its first thread
/// is gone, and another one waits in the kernel.
pub fn dying_holder(path: &Path) -> Option<u32> {
    let mut file = File::open(path.join("LOCK")).ok()?;
    let mut holder = String::new();
    file.read_to_string(&mut holder).ok()?;
    let pid: u32 = holder.trim().parse().ok()?;
    let is_held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    (is_held && is_defunct(pid)).then_some(pid)
}

/// Whether the first thread of a process is gone. proc_pid_stat(5).
pub(super) fn is_defunct(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('Z'))
}

/// Names the time from one start of the kernel to the next; random(4). Where it cannot be read,
/// an id that is never the same twice, so that the machine counts as restarted.
pub fn boot_id() -> String {
    match std::fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) if !id.trim().is_empty() => id.trim().to_string(),
        Ok(_) | Err(_) => {
            let clock = SystemClock::new();
            format!("unknown-{:016x}{:016x}", clock.random(), clock.random())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_names_its_holder_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let lock = lock_dir(dir.path()).unwrap();
        let refused = lock_dir(dir.path()).unwrap_err();
        assert!(matches!(&refused, Error::Store(_)), "{refused:?}");
        let holder = format!("in use by another process ({})", std::process::id());
        assert!(refused.to_string().contains(&holder), "{refused}");
        assert_eq!(dying_holder(dir.path()), None, "it lives");
        drop(lock);
        lock_dir(dir.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_is_an_io_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(lock_dir(&dir.path().join("none")), Err(Error::Io { .. })));
    }

    #[test]
    fn the_boot_id_stays_within_a_boot() {
        assert_eq!(boot_id(), boot_id());
        assert!(!boot_id().contains('\n'));
    }
}
