//! Requests about names: look up, make, link, rename, remove; and the kernel's counts of lookups.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use fuser::{INodeNo, RenameFlags, ReplyCreate, ReplyEmpty, ReplyEntry};

use super::convert::{kind_of_mode, rename_mode};
use super::data::open_reply;
use super::door::Door;
use super::errno::{errno, report};
use super::reply::{GENERATION, done, entry, owned};
use crate::error::{Error, Result};
use crate::types::{Attr, FileKind, Ino};
use crate::vfs::{Caller, NewNode, OpenFlags};

/// A name that this node does not have is looked up again once the node has all that was
/// acknowledged anywhere: what one node made every other one finds. Names that do not exist are not
/// cached: another door may make them any time.
pub(super) fn lookup(door: &Arc<Door>, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
    let parent = door.ino(parent);
    if !door.is_exact() {
        let _timed = door.timed("lookup");
        let moves = door.vfs.moves();
        let known = door.vfs.lookup(parent, name.as_bytes());
        if door.vfs.is_alone() || !matches!(known, Err(Error::NotFound)) {
            return found(door, (known, moves), reply);
        }
    }
    let name = owned(name);
    door.after_barrier("lookup", move |door, seen| {
        let moves = door.vfs.moves();
        found(door, (seen.and_then(|()| door.vfs.lookup(parent, &name)), moves), reply);
    });
}

fn found(door: &Door, (found, moves): (Result<Attr>, u64), reply: ReplyEntry) {
    match found {
        Err(Error::NotFound) => reply.error(errno(&Error::NotFound)),
        found => entry(door, "lookup", (found, moves), reply),
    }
}

/// mknod of any kind, with the type in `mode`.
pub(super) fn mknod(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    (mode, rdev): (u32, u32),
    reply: ReplyEntry,
) {
    match kind_of_mode(mode) {
        Ok(kind) => make(door, who, parent, name, NewNode { kind, mode, rdev }, reply),
        Err(error) => reply.error(report("mknod", &error)),
    }
}

pub(super) fn mkdir(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    mode: u32,
    reply: ReplyEntry,
) {
    let node = NewNode { kind: FileKind::Directory, mode, rdev: 0 };
    make(door, who, parent, name, node, reply);
}

fn make(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    node: NewNode,
    reply: ReplyEntry,
) {
    let (parent, name, this) = (door.ino(parent), owned(name), Arc::clone(door));
    door.run("make", async move {
        let moves = this.vfs.moves();
        let made = this.vfs.mknod(&who, parent, &name, node).await;
        entry(&this, "mknod", (made, moves), reply);
    });
}

pub(super) fn symlink(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    target: &OsStr,
    reply: ReplyEntry,
) {
    let (parent, name, target) = (door.ino(parent), owned(name), owned(target));
    let this = Arc::clone(door);
    door.run("symlink", async move {
        let moves = this.vfs.moves();
        let made = this.vfs.symlink(&who, parent, &name, &target).await;
        entry(&this, "symlink", (made, moves), reply);
    });
}

pub(super) fn link(
    door: &Arc<Door>,
    who: Caller,
    node: INodeNo,
    (parent, name): (INodeNo, &OsStr),
    reply: ReplyEntry,
) {
    let (ino, parent, name) = (door.ino(node), door.ino(parent), owned(name));
    let this = Arc::clone(door);
    door.run("link", async move {
        let moves = this.vfs.moves();
        let linked = this.vfs.link(&who, ino, parent, &name).await;
        entry(&this, "link", (linked, moves), reply);
    });
}

pub(super) fn unlink(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    let (parent, name, this) = (door.ino(parent), owned(name), Arc::clone(door));
    door.run("unlink", async move {
        done("unlink", this.vfs.unlink(&who, parent, &name).await, reply);
    });
}

pub(super) fn rmdir(
    door: &Arc<Door>,
    who: Caller,
    parent: INodeNo,
    name: &OsStr,
    reply: ReplyEmpty,
) {
    let (parent, name, this) = (door.ino(parent), owned(name), Arc::clone(door));
    door.run("rmdir", async move {
        done("rmdir", this.vfs.rmdir(&who, parent, &name).await, reply);
    });
}

pub(super) fn rename(
    door: &Arc<Door>,
    who: Caller,
    (parent, name): (INodeNo, &OsStr),
    (new_parent, new_name): (INodeNo, &OsStr),
    flags: RenameFlags,
    reply: ReplyEmpty,
) {
    let mode = match rename_mode(flags) {
        Ok(mode) => mode,
        Err(error) => return reply.error(report("rename", &error)),
    };
    let (from, to): (Ino, Ino) = (door.ino(parent), door.ino(new_parent));
    let (name, new_name, this) = (owned(name), owned(new_name), Arc::clone(door));
    door.run("rename", async move {
        let renamed = this.vfs.rename(&who, (from, &name), (to, &new_name), mode).await;
        done("rename", renamed, reply);
    });
}

pub(super) fn create(
    door: &Arc<Door>,
    who: Caller,
    (parent, name): (INodeNo, &OsStr),
    mode: u32,
    flags: i32,
    reply: ReplyCreate,
) {
    let (parent, name, this) = (door.ino(parent), owned(name), Arc::clone(door));
    let open_flags = OpenFlags(flags);
    door.run("create", async move {
        let moves = this.vfs.moves();
        match this.vfs.create(&who, parent, &name, mode, open_flags).await {
            Ok((attr, opened)) => {
                this.vfs.remember(this.origin, &attr, moves);
                let (handle, open_reply) = open_reply(&this, flags, &opened);
                reply.created(&this.ttl, &this.attr(&attr), GENERATION, handle, open_reply);
            }
            Err(error) => reply.error(report("create", &error)),
        }
    });
}
