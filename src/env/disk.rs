//! The seam at the disk: few methods, a contract on each. Paths are absolute or relative to the
//! process; everything durable that is not the engine's own goes through here.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an existing name fails with `AlreadyExists`.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
    /// Bytes of a file; 0 for a directory.
    pub len: u64,
}

/// Room on the file system, in bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    pub total: u64,
    pub available: u64,
    pub files_total: u64,
    pub files_available: u64,
}

/// A directory tree that survives the machine, as far as it was synced.
///
/// What a power cut leaves: of each file the bytes covered by its last successful `sync`, any part
/// of later writes (in units of 512 bytes, in any order) and any of the sizes in between; of each
/// directory the names as of its last `sync_dir`, each later change there or not.
pub trait Disk: Send + Sync {
    /// `direct` asks for O_DIRECT; where the file system has none the file is opened buffered and
    /// [`DiskFile::is_direct`] says so.
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Replaces `to` atomically. Durable after `sync_dir` of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after `sync_dir`.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory; `DirectoryNotEmpty` when something is in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<Entry>>;
    /// Makes the names in `path` durable: fsync(2) of the directory.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// An open file. Methods take `&self`: several threads may use one.
pub trait DiskFile: Send + Sync {
    /// Reads until `buf` is full or the file ends; returns the bytes read. On a direct file the
    /// buffer's address, `offset` and length are multiples of `DIRECT_ALIGN`.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`, growing the file where needed; alignment as for `read_at`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Reserves space up to `len` bytes without changing the bytes; the size becomes at least
    /// `len`. Where the file system has no fallocate the size alone is set.
    fn allocate(&self, len: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn size(&self) -> io::Result<u64>;
    /// Data and size on disk when it returns: fdatasync(2). A failure is final for the file.
    fn sync(&self) -> io::Result<()>;
    fn is_direct(&self) -> bool;
}
