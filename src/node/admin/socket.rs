//! The Unix socket in the data directory through which a running node is asked and told.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::error::{Error, Result};

const NAME: &str = "admin.sock";

/// The socket's path, for people; programs use [`listen`] and [`connect`].
pub fn path(data_dir: &Path) -> PathBuf {
    data_dir.join(NAME)
}

/// Listens for the owner of the store. The caller holds the lock on the directory, so a socket
/// that is there already is left over.
pub fn listen(data_dir: &Path) -> Result<UnixListener> {
    let path = path(data_dir);
    let failed = |error| Error::io(format!("listening at {}", path.display()), error);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let dir = File::open(data_dir).map_err(failed)?;
    let listener = UnixListener::bind(short_path(&dir)).map_err(failed)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// The node has stopped.
pub fn remove(data_dir: &Path) {
    if let Err(error) = std::fs::remove_file(path(data_dir)) {
        log::debug!("the admin socket was not removed: {error}");
    }
}

/// A connection to the node that runs the store; `None` when nobody listens.
pub async fn connect(data_dir: &Path) -> Result<Option<UnixStream>> {
    let failed =
        |error| Error::io(format!("asking the node at {}", path(data_dir).display()), error);
    let dir = match File::open(data_dir) {
        Ok(dir) => dir,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match UnixStream::connect(short_path(&dir)).await {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(failed(error)),
        },
    }
}

/// A socket's address has room for 107 bytes; unix(7). This way any directory fits.
fn short_path(dir: &File) -> String {
    format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_path_and_a_left_over_socket_are_no_obstacle() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("d".repeat(200));
        assert!(connect(&dir).await.unwrap().is_none());
        std::fs::create_dir(&dir).unwrap();
        assert!(connect(&dir).await.unwrap().is_none());
        drop(listen(&dir).unwrap());
        assert!(connect(&dir).await.unwrap().is_none(), "nobody listens any more");
        let _listener = listen(&dir).unwrap();
        assert!(connect(&dir).await.unwrap().is_some());
        let mode = std::fs::metadata(path(&dir)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
