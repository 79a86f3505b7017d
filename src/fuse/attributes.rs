//! Requests about attributes, link targets and the space of the store.

use std::sync::Arc;

use fuser::{INodeNo, ReplyAttr, ReplyData, ReplyStatfs};

use super::door::Door;
use super::errno::report;
use crate::error::Result;
use crate::types::Attr;
use crate::vfs::{AttrChange, Caller};

pub(super) fn getattr(door: &Arc<Door>, node: INodeNo, reply: ReplyAttr) {
    let ino = door.ino(node);
    if door.is_exact() {
        door.after_barrier("getattr", move |door, seen| {
            answer(door, "getattr", seen.and_then(|()| door.vfs.getattr(ino)), reply);
        });
    } else {
        let _timed = door.timed("getattr");
        answer(door, "getattr", door.vfs.getattr(ino), reply);
    }
}

pub(super) fn setattr(
    door: &Arc<Door>,
    who: Caller,
    node: INodeNo,
    change: AttrChange,
    reply: ReplyAttr,
) {
    let (ino, this) = (door.ino(node), Arc::clone(door));
    door.run("setattr", async move {
        let changed = this.vfs.setattr(&who, ino, change).await;
        answer(&this, "setattr", changed, reply);
    });
}

fn answer(door: &Door, operation: &'static str, result: Result<Attr>, reply: ReplyAttr) {
    match result {
        Ok(attr) => reply.attr(&door.ttl, &door.attr(&attr)),
        Err(error) => reply.error(report(operation, &error)),
    }
}

pub(super) fn readlink(door: &Door, node: INodeNo, reply: ReplyData) {
    match door.vfs.readlink(door.ino(node)) {
        Ok(target) => reply.data(&target),
        Err(error) => reply.error(report("readlink", &error)),
    }
}

pub(super) fn statfs(door: &Door, reply: ReplyStatfs) {
    match door.vfs.statfs() {
        Ok(space) => reply.statfs(
            space.blocks,
            space.blocks_free,
            space.blocks_available,
            space.files,
            space.files_free,
            space.block_size,
            space.name_max,
            space.block_size,
        ),
        Err(error) => reply.error(report("statfs", &error)),
    }
}
