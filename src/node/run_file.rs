//! `serve.json` in the data directory: who runs the store and where it is mounted.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// There while a node serves; left over after a crash, when the lock tells the truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFile {
    pub pid: u32,
    pub mounts: Vec<PathBuf>,
    /// Otherwise the node goes on without them: S3 or REST are served.
    pub ends_with_last_mount: bool,
    /// The admin socket.
    pub admin: PathBuf,
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("serve.json")
}

impl RunFile {
    /// Replaces the file; readers see the old or the new one. It need not survive a power cut.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, data_dir: &Path) -> Result<()> {
        replace_lightly(&path(data_dir), self)
    }

    /// The node has stopped.
    pub fn remove(data_dir: &Path) {
        if let Err(error) = std::fs::remove_file(path(data_dir)) {
            log::debug!("serve.json was not removed: {error}");
        }
    }
}

/// Replaces a small JSON file; readers see the old or the new one, a power cut may leave neither.
pub fn replace_lightly<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let unfinished = path.with_extension("json.new");
    let text = serde_json::to_vec(value).map_err(|error| Error::invalid(error.to_string()))?;
    std::fs::write(&unfinished, text)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| Error::io(format!("writing {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunFile {
            pid: 7,
            mounts: vec![PathBuf::from("/mnt")],
            ends_with_last_mount: true,
            admin: dir.path().join("admin.sock"),
        };
        run.write(dir.path()).unwrap();
        let text = std::fs::read(path(dir.path())).unwrap();
        assert_eq!(serde_json::from_slice::<RunFile>(&text).unwrap(), run);
        RunFile::remove(dir.path());
        RunFile::remove(dir.path());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
