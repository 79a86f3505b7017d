//! Requests about the bytes of open files.

use std::sync::Arc;

use fuser::{
    FileHandle, FopenFlags, INodeNo, LockOwner, ReplyData, ReplyEmpty, ReplyLseek, ReplyOpen,
    ReplyWrite,
};

use super::door::Door;
use super::errno::report;
use super::reply::done;
use crate::error::{Error, Result};
use crate::vfs::{Caller, OpenFlags, Opened};

/// What one COPY_FILE_RANGE can answer for: the reply has 32 bits, and whole pages are wanted.
const COPY_MAX: u64 = 0xffff_f000;

/// What OPEN and CREATE tell the kernel about a new handle.
pub(super) fn open_reply(door: &Door, flags: i32, opened: &Opened) -> (FileHandle, FopenFlags) {
    let mut reply = FopenFlags::empty();
    reply.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    reply.set(FopenFlags::FOPEN_DIRECT_IO, door.direct_io);
    // Nothing is unsaved on a handle that did not and cannot write: close(2) needs no round trip, unless it is
    // what unlocks.
    let flags = OpenFlags(flags);
    let unchanged = !flags.is_write() && !flags.is_truncate();
    reply.set(FopenFlags::FOPEN_NOFLUSH, unchanged && !door.locks);
    (FileHandle(opened.handle), reply)
}

/// Answers only when the kernel was told of every change that the handle sees: it must not use old
/// attributes with it.
pub(super) fn open(door: &Arc<Door>, who: Caller, node: INodeNo, flags: i32, reply: ReplyOpen) {
    let (ino, this) = (door.ino(node), Arc::clone(door));
    door.run("open", async move {
        let opened = this.vfs.open(&who, ino, OpenFlags(flags)).await;
        if opened.as_ref().is_ok_and(|opened| opened.outdated) {
            this.vfs.doubt(ino);
        }
        this.told.caught_up().await;
        match opened {
            Ok(opened) => {
                let (handle, open_reply) = open_reply(&this, flags, &opened);
                reply.opened(handle, open_reply);
            }
            Err(error) => reply.error(report("open", &error)),
        }
    });
}

pub(super) fn read(door: &Arc<Door>, handle: FileHandle, offset: u64, size: u32, reply: ReplyData) {
    let this = Arc::clone(door);
    door.run("read", async move {
        match this.vfs.read(handle.0, offset, size).await {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(report("read", &error)),
        }
    });
}

/// Bytes are taken straight from the request's buffer. They are copied out of it only when so many
/// writers wait for the write budget already that one more would leave too few event threads.
pub(super) fn write(
    door: &Arc<Door>,
    who: Caller,
    (handle, offset): (FileHandle, u64),
    data: &[u8],
    from: Pages,
    reply: ReplyWrite,
) {
    if let Some(_pass) = door.writers.enter() {
        let _timed = door.timed("write");
        let written = door.run_here(write_from(door, &who, (handle, offset), data, from));
        return written_reply("write", written, reply);
    }
    let (data, this) = (data.to_vec(), Arc::clone(door));
    door.run("write", async move {
        let written = write_from(&this, &who, (handle, offset), &data, from).await;
        written_reply("write", written, reply);
    });
}

/// Whose bytes a WRITE brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pages {
    /// A process's, by write(2) with these flags of its descriptor, or of the call: O_DSYNC.
    /// `unprivileged`: the kernel leaves it to us to take set-user-ID away (FUSE_WRITE_KILL_SUIDGID),
    /// as where it bypasses its page cache.
    Process { flags: OpenFlags, unprivileged: bool },
    /// The page cache's, changed through mmap(2); FUSE_WRITE_CACHE.
    Cache,
}

async fn write_from(
    door: &Door,
    who: &Caller,
    (handle, offset): (FileHandle, u64),
    data: &[u8],
    from: Pages,
) -> Result<u64> {
    match from {
        Pages::Process { flags, unprivileged } => {
            if unprivileged {
                door.vfs.strip_privilege(handle.0).await?;
            }
            door.vfs.write_as(who, handle.0, flags, offset, data).await?;
        }
        Pages::Cache => door.vfs.write_back(who, handle.0, offset, data).await?,
    }
    Ok(data.len() as u64)
}

fn written_reply(operation: &'static str, result: Result<u64>, reply: ReplyWrite) {
    match result {
        Ok(len) => reply.written(u32::try_from(len).unwrap_or(u32::MAX)),
        Err(error) => reply.error(report(operation, &error)),
    }
}

/// A close gives up all locks the process has of the file, after its bytes are saved.
pub(super) fn flush(
    door: &Arc<Door>,
    who: Caller,
    handle: FileHandle,
    owner: LockOwner,
    reply: ReplyEmpty,
) {
    let this = Arc::clone(door);
    door.run("close", async move {
        let flushed = this.vfs.flush(handle.0).await;
        this.vfs.drop_locks(&who, handle.0, owner.0).await;
        done("close", flushed, reply);
    });
}

pub(super) fn fsync(door: &Arc<Door>, handle: FileHandle, reply: ReplyEmpty) {
    let this = Arc::clone(door);
    door.run("fsync", async move { done("fsync", this.vfs.fsync(handle.0).await, reply) });
}

/// Nobody waits for this answer; the kernel sends RELEASE after the last close or unmap.
pub(super) fn release(door: &Arc<Door>, handle: FileHandle, reply: ReplyEmpty) {
    let this = Arc::clone(door);
    door.run("release", async move {
        this.vfs.release(handle.0).await;
        reply.ok();
    });
}

pub(super) fn fallocate(
    door: &Arc<Door>,
    who: Caller,
    handle: FileHandle,
    (offset, len): (u64, u64),
    mode: i32,
    reply: ReplyEmpty,
) {
    let this = Arc::clone(door);
    door.run("fallocate", async move {
        let result = this.vfs.fallocate(&who, handle.0, offset, len, mode).await;
        done("fallocate", result, reply);
    });
}

/// SEEK_DATA and SEEK_HOLE; the kernel does the others itself.
pub(super) fn lseek(
    door: &Arc<Door>,
    handle: FileHandle,
    offset: i64,
    whence: i32,
    reply: ReplyLseek,
) {
    let this = Arc::clone(door);
    door.run("lseek", async move {
        match seek(&this, handle, offset, whence).await {
            Ok(offset) => reply.offset(offset),
            Err(Error::NoSuchOffset) => reply.error(fuser::Errno::ENXIO),
            Err(error) => reply.error(report("lseek", &error)),
        }
    });
}

async fn seek(door: &Door, handle: FileHandle, offset: i64, whence: i32) -> Result<i64> {
    let offset = u64::try_from(offset).map_err(|_| Error::NoSuchOffset)?;
    let found = door.vfs.seek(handle.0, offset, whence).await?;
    i64::try_from(found).map_err(|_| Error::FileTooLarge)
}

pub(super) fn copy_file_range(
    door: &Arc<Door>,
    who: Caller,
    (from, from_offset): (FileHandle, u64),
    (to, to_offset): (FileHandle, u64),
    len: u64,
    reply: ReplyWrite,
) {
    let this = Arc::clone(door);
    let len = len.min(COPY_MAX);
    door.run("copy_file_range", async move {
        let copied =
            this.vfs.copy_file_range(&who, (from.0, from_offset), (to.0, to_offset), len).await;
        written_reply("copy_file_range", copied, reply);
    });
}
