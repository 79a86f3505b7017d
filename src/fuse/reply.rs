//! What the answers of several families have in common.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Generation, ReplyEmpty, ReplyEntry};

use super::door::Door;
use super::errno::report;
use crate::error::Result;
use crate::types::Attr;

/// Inode numbers are never used twice, so one generation is enough.
pub(super) const GENERATION: Generation = Generation(0);

/// Bytes as the kernel sent them, kept for work that outlives the request's buffer.
pub(super) fn owned(name: &OsStr) -> Vec<u8> {
    name.as_bytes().to_vec()
}

/// Answers with an inode; the kernel counts one more lookup of it. `moves`: as for `Vfs::remember`.
pub(super) fn entry(
    door: &Door,
    operation: &'static str,
    (result, moves): (Result<Attr>, u64),
    reply: ReplyEntry,
) {
    match result {
        Ok(attr) => {
            door.vfs.remember(door.origin, &attr, moves);
            reply.entry(&door.ttl, &door.attr(&attr), GENERATION);
        }
        Err(error) => reply.error(report(operation, &error)),
    }
}

pub(super) fn done(operation: &'static str, result: Result<()>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(report(operation, &error)),
    }
}
