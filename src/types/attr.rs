//! What stat(2) tells about an inode.

use serde::{Deserialize, Serialize};

use super::{Ino, Timestamp};

/// The file type bits of `st_mode`; inode(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileKind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

/// Permission bits with set-user-ID, set-group-ID and sticky: `mode & 0o7777`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mode(u16);

impl Mode {
    pub const SET_UID: u16 = 0o4000;
    pub const SET_GID: u16 = 0o2000;
    const ALL: u32 = 0o7777;

    /// Keeps the permission bits of `bits` and drops the file type.
    pub fn new(bits: u32) -> Self {
        Self((bits & Self::ALL) as u16)
    }

    pub fn bits(self) -> u16 {
        self.0
    }

    /// What a write by an unprivileged process leaves: no set-user-ID, and no set-group-ID where
    /// the group may execute (elsewhere that bit means mandatory locking); chmod(2), write(2).
    pub fn without_privilege(self) -> Self {
        let group_exec = if self.0 & 0o010 != 0 { Self::SET_GID } else { 0 };
        Self(self.0 & !(Self::SET_UID | group_exec))
    }
}

/// The attributes of one inode; sizes in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    pub kind: FileKind,
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub size: u64,
    /// Bytes of storage taken by one copy of the data.
    pub allocated: u64,
    /// Device number of a character or block device, as `makedev` makes it.
    pub rdev: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub crtime: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::Mode;

    #[test]
    fn a_write_drops_privilege_but_not_mandatory_locking() {
        assert_eq!(Mode::new(0o6755).without_privilege().bits(), 0o755);
        assert_eq!(Mode::new(0o2744).without_privilege().bits(), 0o2744);
        assert_eq!(Mode::new(0o100_644).bits(), 0o644);
    }
}
