//! The words in which the doors talk to the vfs.

use super::access::Access;
use crate::types::{Attr, FileKind, Ino, Timestamp};

/// Who asks: the credentials new files get, and the mount the call came through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    pub uid: u32,
    pub gid: u32,
    /// Applied to the mode of what is created, unless a default ACL takes its place.
    pub umask: u32,
    /// Number of the mount, from 1: its kernel needs no word of its own changes. 0 = no mount.
    pub origin: u32,
    pub access: Access,
}

/// The flags of open(2) as the kernel hands them to a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags(pub i32);

impl OpenFlags {
    pub fn is_read(self) -> bool {
        self.0 & libc::O_ACCMODE != libc::O_WRONLY
    }

    pub fn is_write(self) -> bool {
        self.0 & libc::O_ACCMODE != libc::O_RDONLY
    }

    pub fn is_append(self) -> bool {
        self.0 & libc::O_APPEND != 0
    }

    pub fn is_truncate(self) -> bool {
        self.0 & libc::O_TRUNC != 0
    }

    pub fn is_exclusive(self) -> bool {
        self.0 & libc::O_EXCL != 0
    }

    /// Opened to be run: FMODE_EXEC of the kernel's include/linux/fs.h.
    pub fn is_exec(self) -> bool {
        const FMODE_EXEC: i32 = 0x20;
        self.0 & FMODE_EXEC != 0
    }

    /// O_SYNC and O_DSYNC: each write is on disk when it returns.
    pub fn is_sync(self) -> bool {
        self.0 & libc::O_DSYNC != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub handle: u64,
    /// The pages this kernel holds are those of the version that was opened.
    pub keep_cache: bool,
    /// It may be about to take older attributes for those of what was opened: it was told them with a
    /// reference, and may have missed what it was told since, not knowing the inode yet.
    pub outdated: bool,
}

/// A time of utimensat(2); UTIME_OMIT is no change at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    Now,
    At(Timestamp),
}

/// What setattr changes; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Bytes.
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    /// The handle of ftruncate(2).
    pub handle: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode {
    pub kind: FileKind,
    /// Permission bits before the umask.
    pub mode: u32,
    pub rdev: u32,
}

/// One entry of a directory listing.
#[derive(Debug)]
pub struct DirItem<'a> {
    pub ino: Ino,
    pub kind: FileKind,
    pub name: &'a [u8],
    pub attr: Attr,
    /// The cookie that continues after this entry.
    pub next: u64,
}

/// statvfs(3), in units of `block_size` bytes and files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    pub block_size: u32,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    Shared,
    Exclusive,
    /// No lock: the range is free for others.
    Unlock,
}

/// A lock of fcntl(2) or flock(2) on a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// Whose it is, as the mount's kernel numbers owners.
    pub owner: u64,
    /// First and last byte.
    pub first: u64,
    pub last: u64,
    pub kind: LockKind,
    pub pid: u32,
}

/// What became of the wish for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    Granted,
    /// Somebody else has it.
    Taken,
    /// Nobody waits for it any more.
    GivenUp,
}

/// What the vfs is told at start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of unsealed data held in memory, over all files.
    pub write_buffer: u64,
    /// Largest file, in bytes.
    pub max_object_size: u64,
    /// Whether new buckets wait for a quorum of copies.
    pub quorum_required: bool,
}

#[cfg(test)]
mod tests {
    use super::OpenFlags;

    #[test]
    fn access_modes_are_a_number_not_bits() {
        assert!(OpenFlags(libc::O_RDWR).is_read() && OpenFlags(libc::O_RDWR).is_write());
        assert!(!OpenFlags(libc::O_RDONLY).is_write() && !OpenFlags(libc::O_WRONLY).is_read());
        assert!(OpenFlags(libc::O_WRONLY | libc::O_SYNC).is_sync());
    }
}
