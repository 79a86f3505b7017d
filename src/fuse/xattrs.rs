//! Requests about extended attributes; xattr(7).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyXattr};

use super::convert::xattr_mode;
use super::door::Door;
use super::errno::report;
use super::reply::{done, owned};
use crate::error::Result;
use crate::vfs::Caller;

/// ENOSYS once keeps the kernel from asking again. It asks for `security.capability` before each
/// write(2) otherwise.
pub(super) fn getxattr(door: &Door, node: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
    if door.no_xattr {
        return reply.error(Errno::ENOSYS);
    }
    if is_ignored(door, name) {
        return reply.error(Errno::EOPNOTSUPP);
    }
    answer("getxattr", door.vfs.getxattr(door.ino(node), name.as_bytes()), room, reply);
}

/// The names one after the other, each ended by a NUL; listxattr(2).
pub(super) fn listxattr(door: &Door, node: INodeNo, room: u32, reply: ReplyXattr) {
    if door.no_xattr {
        return reply.error(Errno::ENOSYS);
    }
    let list = door.vfs.listxattr(door.ino(node)).map(|names| joined(&names));
    answer("listxattr", list, room, reply);
}

fn joined(names: &[Vec<u8>]) -> Vec<u8> {
    names.iter().flat_map(|name| name.iter().copied().chain([0])).collect()
}

/// An access list the kernel would keep but not honour, because the mount did not ask for lists.
fn is_ignored(door: &Door, name: &OsStr) -> bool {
    !door.acl && name.as_bytes().starts_with(b"system.posix_acl_")
}

/// `room` 0 asks for the size only.
fn answer(operation: &'static str, result: Result<Vec<u8>>, room: u32, reply: ReplyXattr) {
    match result {
        Ok(value) => match (u32::try_from(value.len()), room) {
            (Ok(len), 0) => reply.size(len),
            (Ok(len), room) if len <= room => reply.data(&value),
            _ => reply.error(Errno::ERANGE),
        },
        Err(error) => reply.error(report(operation, &error)),
    }
}

pub(super) fn setxattr(
    door: &Arc<Door>,
    who: Caller,
    node: INodeNo,
    (name, value): (&OsStr, &[u8]),
    flags: i32,
    reply: ReplyEmpty,
) {
    if door.no_xattr {
        return reply.error(Errno::ENOSYS);
    }
    if is_ignored(door, name) {
        return reply.error(Errno::EOPNOTSUPP);
    }
    let mode = match xattr_mode(flags) {
        Ok(mode) => mode,
        Err(error) => return reply.error(report("setxattr", &error)),
    };
    let (ino, name, value, this) = (door.ino(node), owned(name), value.to_vec(), Arc::clone(door));
    door.run("setxattr", async move {
        done("setxattr", this.vfs.setxattr(&who, ino, &name, &value, mode).await, reply);
    });
}

pub(super) fn removexattr(
    door: &Arc<Door>,
    who: Caller,
    node: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    if door.no_xattr {
        return reply.error(Errno::ENOSYS);
    }
    let (ino, name, this) = (door.ino(node), owned(name), Arc::clone(door));
    door.run("removexattr", async move {
        done("removexattr", this.vfs.removexattr(&who, ino, &name).await, reply);
    });
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn names_are_ended_by_nul() {
        assert_eq!(joined(&[b"user.a".to_vec(), b"user.b".to_vec()]), b"user.a\0user.b\0");
        assert!(joined(&[]).is_empty());
    }
}
