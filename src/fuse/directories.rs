//! Requests about open directories.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{
    FileHandle, FopenFlags, INodeNo, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyOpen,
};

use super::convert::file_type;
use super::door::Door;
use super::errno::report;
use super::reply::{GENERATION, done};

/// Opening a directory is an open(2): the listing has all that was acknowledged anywhere before it.
pub(super) fn opendir(door: &Arc<Door>, node: INodeNo, reply: ReplyOpen) {
    let ino = door.ino(node);
    door.after_barrier("opendir", move |door, seen| {
        match seen.and_then(|()| door.vfs.opendir(door.origin, ino)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::empty()),
            Err(error) => reply.error(report("opendir", &error)),
        }
    });
}

pub(super) fn readdir(door: &Door, handle: FileHandle, cookie: u64, mut reply: ReplyDirectory) {
    let listed = door.vfs.readdir(handle.0, cookie, &mut |item| {
        let node = door.numbers.to_node(item.ino);
        !reply.add(node, item.next, file_type(item.kind), OsStr::from_bytes(item.name))
    });
    match listed {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(report("readdir", &error)),
    }
}

/// Each entry told counts as one lookup of its inode, except `.` and `..`; fs/fuse/readdir.c.
pub(super) fn readdirplus(
    door: &Door,
    handle: FileHandle,
    cookie: u64,
    mut reply: ReplyDirectoryPlus,
) {
    let (mut looked_up, moves) = (Vec::new(), door.vfs.moves());
    let listed = door.vfs.readdir(handle.0, cookie, &mut |item| {
        let name = OsStr::from_bytes(item.name);
        let attr = door.attr(&item.attr);
        let full = reply.add(attr.ino, item.next, name, &door.ttl, &attr, GENERATION);
        if !full && !matches!(item.name, b"." | b"..") {
            looked_up.push(item.attr);
        }
        !full
    });
    match listed {
        Ok(()) => {
            looked_up.iter().for_each(|attr| door.vfs.remember(door.origin, attr, moves));
            reply.ok();
        }
        Err(error) => reply.error(report("readdir", &error)),
    }
}

pub(super) fn releasedir(door: &Door, handle: FileHandle, reply: ReplyEmpty) {
    door.vfs.releasedir(handle.0);
    reply.ok();
}

/// The log is one: syncing any directory syncs everything this node has applied.
pub(super) fn fsyncdir(door: &Arc<Door>, reply: ReplyEmpty) {
    let this = Arc::clone(door);
    door.run("fsyncdir", async move { done("fsync", this.vfs.sync().await, reply) });
}
