//! Open files and directories by the number the kernel hands back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::directories::Listing;
use super::node::Node;
use super::words::OpenFlags;
use crate::error::{Error, Result};
use crate::types::SessionId;

#[derive(Debug)]
pub(super) struct FileHandle {
    pub node: Arc<Node>,
    /// The mount that opened it.
    pub origin: u32,
    pub flags: OpenFlags,
    /// Failures of the node this handle was told about.
    pub failures_seen: AtomicU64,
    /// This node's session when it was opened.
    pub session: SessionId,
}

#[derive(Clone, Debug)]
enum Open {
    File(Arc<FileHandle>),
    Directory(Arc<Listing>),
}

#[derive(Debug, Default)]
pub(super) struct Handles {
    last: AtomicU64,
    open: RwLock<HashMap<u64, Open>>,
}

impl Handles {
    pub fn add_file(&self, file: FileHandle) -> u64 {
        self.add(Open::File(Arc::new(file)))
    }

    pub fn add_directory(&self, listing: Listing) -> u64 {
        self.add(Open::Directory(Arc::new(listing)))
    }

    fn add(&self, open: Open) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.write().insert(number, open);
        number
    }

    /// # Errors
    /// [`Error::BadHandle`] when the number is not an open file's.
    pub fn file(&self, number: u64) -> Result<Arc<FileHandle>> {
        match self.open.read().get(&number) {
            Some(Open::File(file)) => Ok(Arc::clone(file)),
            Some(Open::Directory(_)) | None => Err(Error::BadHandle),
        }
    }

    /// # Errors
    /// [`Error::BadHandle`] when the number is not an open directory's.
    pub fn directory(&self, number: u64) -> Result<Arc<Listing>> {
        match self.open.read().get(&number) {
            Some(Open::Directory(listing)) => Ok(Arc::clone(listing)),
            Some(Open::File(_)) | None => Err(Error::BadHandle),
        }
    }

    /// Of files and directories that were opened through these mounts.
    pub fn of(&self, mounts: &BTreeSet<u32>) -> Vec<u64> {
        let open = self.open.read();
        let of = |open: &Open| match open {
            Open::File(file) => file.origin,
            Open::Directory(listing) => listing.origin,
        };
        let found = open.iter().filter(|(_, open)| mounts.contains(&of(open)));
        found.map(|(number, _)| *number).collect()
    }

    /// Forgets the number; the file it was, if it was one.
    pub fn remove(&self, number: u64) -> Option<Arc<FileHandle>> {
        match self.open.write().remove(&number) {
            Some(Open::File(file)) => Some(file),
            Some(Open::Directory(_)) | None => None,
        }
    }
}
