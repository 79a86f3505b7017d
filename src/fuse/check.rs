//! Looks at a mount point before anything is mounted on it: one clear sentence for each thing that
//! is wrong, and what to do about it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::mountinfo::{self, Mount, c_path};
use super::unmount;
use crate::error::{Error, Result};

/// How long a mount that is in the way may take to answer.
const PROBE: Duration = Duration::from_secs(5);

/// The mount point, ready to be mounted on, as the kernel's table will name it. A dead mount of
/// ours is taken away: its process is gone, and nothing behind it can be lost any more.
///
/// # Errors
/// [`Error::Config`] with what is wrong with the mount point.
pub(super) fn ready(path: &Path, non_empty: bool) -> Result<PathBuf> {
    let path = real_path(path)?;
    while let Some(mount) = mountinfo::topmost(&path)?.filter(Mount::is_ours) {
        match probe(&path) {
            Probe::Dead => {
                log::warn!(
                    "{} was left mounted by a process that is gone: detached",
                    path.display()
                );
                unmount::detach(&path)?;
            }
            Probe::Alive => return Err(refuse(&path, "has BucketFS mounted already", &mount)),
            Probe::Silent => {
                return Err(refuse(&path, "has a BucketFS mounted that does not answer", &mount));
            }
        }
    }
    let facts = fs::metadata(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => missing(&path),
        _ => Error::io(format!("looking at the mount point {}", path.display()), error),
    })?;
    if !facts.is_dir() {
        return Err(Error::Config(format!(
            "the mount point {} is not a directory",
            path.display()
        )));
    }
    if !non_empty && !is_empty(&path)? {
        return Err(Error::Config(format!(
            "the mount point {} is not empty, its content would be hidden: take an empty directory, or add \
             -o nonempty",
            path.display()
        )));
    }
    Ok(path)
}

/// Follows a symbolic link in the last place too, but only where no mount is.
fn real_path(path: &Path) -> Result<PathBuf> {
    let table = mountinfo::table_path(path).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => missing(path),
        other => other,
    })?;
    if mountinfo::topmost(&table)?.is_some() {
        return Ok(table);
    }
    match fs::symlink_metadata(&table) {
        Ok(facts) if facts.is_symlink() => table.canonicalize().map_err(|error| {
            Error::io(format!("following the mount point {}", path.display()), error)
        }),
        Ok(_) | Err(_) => Ok(table),
    }
}

/// Ends the mount of ours that is at `path`, if there is one, for a process that was killed and waits in
/// the kernel for an answer that it would have to give itself.
///
/// # Errors
/// [`Error::Io`] when the system does not let us.
pub fn release(path: &Path) -> Result<()> {
    let path = real_path(path)?;
    match mountinfo::topmost(&path)?.filter(Mount::is_ours) {
        Some(mount) => unmount::force(&path, &mount),
        None => Ok(()),
    }
}

fn missing(path: &Path) -> Error {
    Error::Config(format!(
        "the mount point {0} does not exist: create it with mkdir -p {0}",
        path.display()
    ))
}

fn refuse(path: &Path, what: &str, mount: &Mount) -> Error {
    Error::Config(format!(
        "{0} {what} ({1}): unmount it first with umount {0}",
        path.display(),
        mount.source
    ))
}

fn is_empty(path: &Path) -> Result<bool> {
    let mut entries = fs::read_dir(path)
        .map_err(|error| Error::io(format!("listing the mount point {}", path.display()), error))?;
    Ok(entries.next().is_none())
}

enum Probe {
    Alive,
    /// ENOTCONN: nobody holds the other end.
    Dead,
    /// No answer in time: its process hangs.
    Silent,
}

/// Asks the mount for its space, which the kernel never answers from its cache. In a thread of its
/// own, which stays behind when nothing answers: a call that hangs cannot be called back.
fn probe(path: &Path) -> Probe {
    let (answer, answered) = mpsc::channel();
    let asked = path.to_owned();
    thread::spawn(move || drop(answer.send(statfs(&asked))));
    match answered.recv_timeout(PROBE) {
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOTCONN) => Probe::Dead,
        Ok(_) => Probe::Alive,
        Err(_) => Probe::Silent,
    }
}

fn statfs(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut space = std::mem::MaybeUninit::uninit();
    // SAFETY: the string ends with NUL, the structure is as large as the call fills; statfs(2).
    match unsafe { libc::statfs(path.as_ptr(), space.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        match ready(path, false) {
            Err(Error::Config(text)) => text,
            other => panic!("{} was not refused: {other:?}", path.display()),
        }
    }

    #[test]
    fn an_empty_directory_is_taken_and_links_to_it_are_followed() {
        let root = tempfile::tempdir().unwrap();
        let empty = root.path().canonicalize().unwrap().join("empty");
        fs::create_dir(&empty).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&empty, &link).unwrap();
        assert_eq!(ready(&empty, false).unwrap(), empty);
        assert_eq!(ready(&link, false).unwrap(), empty);
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(refusal(&root.path().join("none")).contains("mkdir -p"));
        assert!(refusal(&root.path().join("none/deeper")).contains("mkdir -p"));
        assert!(refusal(&file).contains("not a directory"));
        assert!(refusal(root.path()).contains("-o nonempty"));
        assert!(ready(root.path(), true).is_ok());
    }

    #[test]
    fn a_living_file_system_answers_the_probe() {
        assert!(matches!(probe(Path::new("/")), Probe::Alive));
    }
}
