//! umount2(2) made by ourselves, only ever of what we mounted, and the end of a connection.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::fusermount;
use super::mountinfo::{self, Mount, c_path};
use crate::error::{Error, Result};

/// What an attempt to unmount found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// The path shows something else (or nothing) by now: somebody else unmounted it.
    Before,
    Now,
    /// Somebody has a file open in it, or stands in it: it is where it was.
    NotYet,
}

/// Takes `mount` off `path` unless it is in use; then what its users wrote through mmap(2) is
/// written back.
pub(super) fn unmount(path: &Path, mount: &Mount) -> Result<Left> {
    if !is_there(path, mount)? {
        return Ok(Left::Before);
    }
    let failed = |error| Error::io(format!("unmounting {}", path.display()), error);
    match umount2(path, 0) {
        Ok(()) => Ok(Left::Now),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOENT) => Ok(Left::Before),
            Some(libc::EBUSY) => sync(path).map(|()| Left::NotYet).map_err(failed),
            _ => Err(failed(error)),
        },
    }
}

/// Ends `mount` whoever uses it: every request on its connection, and every later one, fails with
/// ENOTCONN. A copy of it in another mount namespace is cut off too, where the system shows
/// connections.
pub(super) fn force(path: &Path, mount: &Mount) -> Result<()> {
    let detached = match is_there(path, mount)? {
        true => umount2(path, libc::MNT_DETACH | libc::MNT_FORCE),
        false => Ok(()),
    };
    abort(mount)?;
    detached.map_err(|error| Error::io(format!("detaching {}", path.display()), error))
}

/// Ends the connection of `mount` and leaves it where it is: whoever uses it gets ENOTCONN, and nobody
/// what is below it.
pub(super) fn cut_off(path: &Path, mount: &Mount) -> Result<()> {
    if abort(mount)? || !is_there(path, mount)? {
        return Ok(());
    }
    match umount2(path, libc::MNT_FORCE) {
        // Cut off all the same.
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(()),
        result => {
            result.map_err(|error| Error::io(format!("cutting off {}", path.display()), error))
        }
    }
}

fn is_there(path: &Path, mount: &Mount) -> Result<bool> {
    let shown = mountinfo::topmost(path)?;
    Ok(shown.is_some_and(|shown| shown.is_ours() && shown.device == mount.device))
}

/// Takes whatever is mounted on `path` out of sight, in use or not.
pub(super) fn detach(path: &Path) -> Result<()> {
    umount2(path, libc::MNT_DETACH)
        .map_err(|error| Error::io(format!("detaching {}", path.display()), error))
}

fn sync(path: &Path) -> io::Result<()> {
    let root = File::open(path)?;
    // SAFETY: the descriptor is open; syncfs(2).
    match unsafe { libc::syncfs(root.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn umount2(path: &Path, flags: i32) -> io::Result<()> {
    let target = c_path(path)?;
    // SAFETY: the string ends with NUL and lives through the call; umount2(2).
    let result = unsafe { libc::umount2(target.as_ptr(), flags | libc::UMOUNT_NOFOLLOW) };
    if result == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::EPERM) => {
            fusermount::unmount(path, flags & libc::MNT_DETACH != 0)
        }
        error => Err(error),
    }
}

/// False when the connection is gone already, or this system does not show connections.
fn abort(mount: &Mount) -> Result<bool> {
    let Some(connection) = mount.connection() else { return Ok(false) };
    let knob = connection.join("abort");
    match fs::write(&knob, "1") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("writing {}", knob.display()), error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn ours() -> Mount {
        Mount {
            device: (0, 4_000_000_000),
            path: PathBuf::from("/"),
            kind: mountinfo::KIND.into(),
            source: "test".into(),
        }
    }

    /// After somebody else's umount the path shows what lies below: that must stay mounted.
    #[test]
    fn what_is_not_ours_is_left_alone() {
        assert_eq!(unmount(Path::new("/"), &ours()).unwrap(), Left::Before);
        assert_eq!(unmount(Path::new("/no/such/path"), &ours()).unwrap(), Left::Before);
        force(Path::new("/"), &ours()).unwrap();
        assert!(mountinfo::topmost(Path::new("/")).unwrap().is_some());
    }

    #[test]
    fn a_connection_that_is_gone_needs_no_abort() {
        assert!(!abort(&ours()).unwrap());
        assert!(!abort(&Mount { device: (8, 1), ..ours() }).unwrap());
        cut_off(Path::new("/"), &ours()).unwrap();
    }

    #[test]
    fn detaching_what_is_no_mount_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        assert!(detach(directory.path()).is_err());
    }
}
