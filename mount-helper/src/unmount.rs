//! Unmounts, and stays until the daemon has saved everything: umount(2) alone returns before.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::Failure;
use crate::arguments::UnmountArguments;
use crate::daemon::enter;
use crate::mounts;

/// How long the daemon may take to save what is left: minutes on a slow disk, not for ever.
const PATIENCE_MS: i32 = 600_000;

/// # Errors
/// [`Failure::Mount`] when it is in use, is not ours, or the daemon did not end.
pub fn run(arguments: &UnmountArguments) -> Result<(), Failure> {
    if let Some(namespace) = &arguments.namespace {
        enter(namespace)?;
    }
    let path = mounts::table_path(&arguments.mount_point)?;
    let data_dir = mounts::source(&path)?;
    let daemon = mounts::daemon(&data_dir);
    // Opened before anything ends, so that the number cannot mean another process meanwhile.
    let process = daemon.as_ref().and_then(|daemon| open_process(daemon.pid));
    sync(&path);
    unmount(&path, arguments)?;
    let (Some(daemon), Some(process)) = (daemon, process) else { return Ok(()) };
    if !daemon.ends_with_last_mount || mounts::any_mounted(&daemon.mounts, &data_dir)? {
        return Ok(());
    }
    if arguments.verbose {
        eprintln!("waiting for process {} to save everything", daemon.pid);
    }
    if arguments.lazy || ends(&process, PATIENCE_MS)? {
        return Ok(());
    }
    Err(Failure::Mount(format!(
        "{} is unmounted, but process {} has not saved everything yet; see its log",
        path.display(),
        daemon.pid
    )))
}

/// Makes durable what nobody has synced: the daemon goes on when it has other mounts, or serves S3 or
/// REST. What fails
/// here fails again, and louder, there.
fn sync(path: &Path) {
    if let Ok(root) = File::open(path) {
        // SAFETY: the descriptor is open; fsync(2).
        unsafe { libc::fsync(root.as_raw_fd()) };
    }
}

fn unmount(path: &Path, arguments: &UnmountArguments) -> Result<(), Failure> {
    let target = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| Failure::system(path.display(), error))?;
    let force = if arguments.force { libc::MNT_FORCE } else { 0 };
    let lazy = if arguments.lazy { libc::MNT_DETACH } else { 0 };
    let flags = force | lazy | libc::UMOUNT_NOFOLLOW;
    // SAFETY: the string ends with NUL and lives through the call; umount2(2).
    if unsafe { libc::umount2(target.as_ptr(), flags) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    Err(Failure::Mount(match error.raw_os_error() {
        Some(libc::EBUSY) => format!("{} is in use; fuser -m names the users", path.display()),
        _ => format!("{}: {error}", path.display()),
    }))
}

/// `None` when the process is gone, or its number belongs to another program by now.
fn open_process(pid: i32) -> Option<OwnedFd> {
    // SAFETY: takes two numbers; pidfd_open(2).
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = i32::try_from(descriptor).ok().filter(|descriptor| *descriptor >= 0)?;
    // SAFETY: the call just opened it, and nobody else knows it.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    name.starts_with("bucketfs").then_some(process)
}

/// Waits for the end of a process. False when it still runs after `patience_ms`.
fn ends(process: &OwnedFd, patience_ms: i32) -> Result<bool, Failure> {
    let mut asked = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    loop {
        // SAFETY: one entry, which lives through the call; poll(2).
        match unsafe { libc::poll(&raw mut asked, 1, patience_ms) } {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(Failure::system("waiting for the daemon", error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let arguments = UnmountArguments { mount_point: "/".into(), ..Default::default() };
        assert!(
            matches!(run(&arguments), Err(Failure::Mount(text)) if text.contains("no BucketFS"))
        );
    }

    /// A number read from a file that a crash left over may belong to anybody.
    #[test]
    fn another_programs_process_is_not_waited_for() {
        assert!(open_process(1).is_none());
        assert!(open_process(i32::MAX).is_none());
    }

    #[test]
    fn a_process_is_waited_for_until_it_ends() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        // SAFETY: takes two numbers and opens a descriptor that only this test has.
        let process = unsafe {
            let number = libc::syscall(libc::SYS_pidfd_open, child.id(), 0);
            OwnedFd::from_raw_fd(i32::try_from(number).unwrap())
        };
        assert!(!ends(&process, 0).unwrap());
        drop(child.stdin.take());
        assert!(ends(&process, -1).unwrap());
        child.wait().unwrap();
    }
}
