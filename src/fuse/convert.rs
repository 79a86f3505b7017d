//! Words of the domain to words of the kernel protocol, and back.

use std::time::{SystemTime, UNIX_EPOCH};

use fuser::{FileAttr, FileType, INodeNo, RenameFlags, TimeOrNow};

use crate::error::{Error, Result};
use crate::types::{Attr, FileKind, Ino, Timestamp};
use crate::vfs::{RenameMode, SetTime, XattrMode};

/// `st_blksize`: what stdio and cp take as the size of one write. Larger than a page, because each
/// write is one round trip to this process.
const PREFERRED_IO: u32 = 128 << 10;
/// Unit of `st_blocks`; stat(2).
const SECTOR: u64 = 512;

/// Node 1 of the kernel is the directory that is mounted, whatever its inode number is.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeNumbers {
    pub(super) root: Ino,
}

impl NodeNumbers {
    pub(super) fn to_ino(self, node: INodeNo) -> Ino {
        if node == INodeNo::ROOT { self.root } else { Ino(node.0) }
    }

    /// The root of the whole store, above a mounted subtree, is shown as the mount's own root: it can
    /// only come as the `..` of a listing.
    pub(super) fn to_node(self, ino: Ino) -> INodeNo {
        if ino == self.root || ino == Ino::ROOT { INodeNo::ROOT } else { INodeNo(ino.0) }
    }

    pub(super) fn attr(self, attr: &Attr) -> FileAttr {
        FileAttr {
            ino: self.to_node(attr.ino),
            size: attr.size,
            blocks: attr.allocated.div_ceil(SECTOR),
            atime: attr.atime.to_system_time(),
            mtime: attr.mtime.to_system_time(),
            ctime: attr.ctime.to_system_time(),
            crtime: attr.crtime.to_system_time(),
            kind: file_type(attr.kind),
            perm: attr.mode.bits(),
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            blksize: PREFERRED_IO,
            flags: 0,
        }
    }
}

pub(super) fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Regular => FileType::RegularFile,
        FileKind::Directory => FileType::Directory,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::CharDevice => FileType::CharDevice,
        FileKind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind that the type bits of a `mode_t` name; mknod(2): none means a regular file.
pub(super) fn kind_of_mode(mode: u32) -> Result<FileKind> {
    match mode & libc::S_IFMT {
        0 | libc::S_IFREG => Ok(FileKind::Regular),
        libc::S_IFIFO => Ok(FileKind::Fifo),
        libc::S_IFSOCK => Ok(FileKind::Socket),
        libc::S_IFCHR => Ok(FileKind::CharDevice),
        libc::S_IFBLK => Ok(FileKind::BlockDevice),
        _ => Err(Error::invalid("mknod makes no such file type")),
    }
}

/// The time a SETATTR asks for.
pub(super) fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::At(timestamp(time)),
    }
}

/// Undoes how fuser 0.18 reads a timespec before 1970 (`time.rs`): it takes the nanoseconds off the
/// epoch too, though they count forward.
fn timestamp(time: SystemTime) -> Timestamp {
    match time.duration_since(UNIX_EPOCH) {
        Ok(_) => time.into(),
        Err(error) => {
            let bent = error.duration();
            let seconds = i64::try_from(bent.as_secs()).map_or(i64::MIN, |seconds| -seconds);
            Timestamp { seconds, nanos: bent.subsec_nanos() }
        }
    }
}

/// # Errors
/// InvalidArgument for RENAME_WHITEOUT and for combinations, as rename(2) says.
pub(super) fn rename_mode(flags: RenameFlags) -> Result<RenameMode> {
    if flags.is_empty() {
        Ok(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Ok(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Ok(RenameMode::Exchange)
    } else {
        Err(Error::invalid("no such kind of rename"))
    }
}

/// # Errors
/// InvalidArgument for unknown flags; setxattr(2).
pub(super) fn xattr_mode(flags: i32) -> Result<XattrMode> {
    match flags {
        0 => Ok(XattrMode::Any),
        libc::XATTR_CREATE => Ok(XattrMode::Create),
        libc::XATTR_REPLACE => Ok(XattrMode::Replace),
        _ => Err(Error::invalid("no such setxattr flag")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Mode;

    #[test]
    fn node_one_is_the_mounted_directory() {
        let whole = NodeNumbers { root: Ino::ROOT };
        assert_eq!(whole.to_ino(INodeNo(1)), Ino::ROOT);
        assert_eq!(whole.to_node(Ino(7)), INodeNo(7));
        let subtree = NodeNumbers { root: Ino(42) };
        assert_eq!(subtree.to_ino(INodeNo(1)), Ino(42));
        assert_eq!(subtree.to_node(Ino(42)), INodeNo(1));
        assert_eq!(subtree.to_node(Ino::ROOT), INodeNo(1));
        assert_eq!(subtree.to_ino(INodeNo(7)), Ino(7));
    }

    /// Nanoseconds before 1970 come mirrored out of fuser: what utimensat(2) asked for is -1.2 s.
    #[test]
    fn times_before_1970_are_unbent() {
        let bent = UNIX_EPOCH - Duration::new(2, 800_000_000);
        let SetTime::At(time) = set_time(TimeOrNow::SpecificTime(bent)) else { panic!() };
        assert_eq!(time, Timestamp { seconds: -2, nanos: 800_000_000 });
        let whole = UNIX_EPOCH - Duration::new(86_400, 0);
        assert_eq!(timestamp(whole), Timestamp { seconds: -86_400, nanos: 0 });
        let after = UNIX_EPOCH + Duration::new(5, 7);
        assert_eq!(timestamp(after), Timestamp { seconds: 5, nanos: 7 });
        assert!(matches!(set_time(TimeOrNow::Now), SetTime::Now));
    }

    #[test]
    fn attributes_keep_every_field() {
        let time = Timestamp { seconds: -2, nanos: 1 };
        let attr = Attr {
            ino: Ino(9),
            kind: FileKind::Fifo,
            mode: Mode::new(0o4751),
            uid: 1,
            gid: 2,
            nlink: 3,
            size: 1000,
            allocated: 513,
            rdev: 5,
            atime: time,
            mtime: Timestamp { seconds: 1 << 33, nanos: 0 },
            ctime: time,
            crtime: time,
        };
        let shown = NodeNumbers { root: Ino::ROOT }.attr(&attr);
        assert_eq!((shown.ino, shown.size, shown.blocks), (INodeNo(9), 1000, 2));
        assert_eq!((shown.perm, shown.kind), (0o4751, FileType::NamedPipe));
        assert_eq!((shown.uid, shown.gid, shown.nlink, shown.rdev), (1, 2, 3, 5));
        assert_eq!(Timestamp::from(shown.atime), time);
        assert_eq!(Timestamp::from(shown.mtime).seconds, 1 << 33);
    }

    #[test]
    fn every_kind_of_node_and_no_other_can_be_made() {
        let made = [
            (0, FileKind::Regular),
            (libc::S_IFREG, FileKind::Regular),
            (libc::S_IFIFO, FileKind::Fifo),
            (libc::S_IFSOCK, FileKind::Socket),
            (libc::S_IFCHR, FileKind::CharDevice),
            (libc::S_IFBLK, FileKind::BlockDevice),
        ];
        for (bits, kind) in made {
            assert_eq!(kind_of_mode(bits | 0o644).unwrap(), kind);
        }
        assert!(kind_of_mode(libc::S_IFDIR | 0o755).is_err());
        assert!(kind_of_mode(libc::S_IFLNK | 0o777).is_err());
    }

    #[test]
    fn flags_of_rename_and_setxattr_are_exact() {
        assert_eq!(rename_mode(RenameFlags::empty()).unwrap(), RenameMode::Replace);
        assert_eq!(rename_mode(RenameFlags::RENAME_NOREPLACE).unwrap(), RenameMode::NoReplace);
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE).unwrap(), RenameMode::Exchange);
        assert!(rename_mode(RenameFlags::RENAME_WHITEOUT).is_err());
        assert!(rename_mode(RenameFlags::all()).is_err());
        assert_eq!(xattr_mode(0).unwrap(), XattrMode::Any);
        assert_eq!(xattr_mode(libc::XATTR_CREATE).unwrap(), XattrMode::Create);
        assert_eq!(xattr_mode(libc::XATTR_REPLACE).unwrap(), XattrMode::Replace);
        assert!(xattr_mode(3).is_err());
    }
}
