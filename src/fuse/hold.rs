//! A mount as another process than the one that serves it knows it.

use std::path::{Path, PathBuf};

use super::mountinfo::{self, Mount};
use super::unmount;
use crate::error::Result;

/// What is mounted at a path, to be cut off when its process cannot end.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    mount: Mount,
}

impl Hold {
    /// The mount of ours at `path`, if one is there; `path` as the kernel's table has it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) when the table of mounts cannot be read.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let mount = mountinfo::topmost(path)?.filter(Mount::is_ours);
        Ok(mount.map(|mount| Self { path: path.to_path_buf(), mount }))
    }

    /// Ends its connection: whoever waits for an answer gets an error. It stays mounted, so that
    /// nobody writes into the directory below it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) when the system does not let us.
    pub fn cut_off(&self) -> Result<()> {
        unmount::cut_off(&self.path, &self.mount)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
