//! Commits of bytes to files, and contents staged before a file takes them.

use super::body::{Bytes, Source, range_of};
use super::copies::Namer;
use super::copy::{copy, copy_content};
use super::manifest;
use super::state::{State, Step, require};
use crate::meta::keys;
use crate::meta::mutation::{Change, Commit, NewChunk, Outcome, Refusal, WriteOp};
use crate::meta::record::{Body, Inode, Staged};
use crate::types::limits::{COMMIT_OPS_MAX, INLINE_MAX};
use crate::types::{ContentId, FileKind};

pub fn commit(state: &mut State<'_>, commit: &Commit) -> Step<Outcome> {
    let mut inode = state.inode(commit.ino)?.ok_or(Refusal::Stale)?;
    require(inode.kind != FileKind::Directory, Refusal::IsADirectory)?;
    require(inode.kind == FileKind::Regular, Refusal::NotARegularFile)?;
    let expected = commit.expected_version.unwrap_or(inode.version);
    require(expected == inode.version, Refusal::Conflict)?;
    let mut bytes = Bytes {
        namer: Namer::File(commit.ino),
        body: std::mem::replace(&mut inode.body, Body::None),
        size: inode.size,
        allocated: inode.allocated,
        is_relaxed: false,
    };
    run(state, &mut bytes, &commit.ops, &commit.chunks)?;
    (inode.body, inode.size, inode.allocated) = (bytes.body, bytes.size, bytes.allocated);
    stamp(state, commit, &mut inode)?;
    state.put_inode(commit.ino, &inode)?;
    state.tell(Change::Data(commit.ino));
    Ok(Outcome::Node { ino: commit.ino, inode: Box::new(inode) })
}

/// Version, times and visibility. A commit without operations only publishes: it may follow a
/// utimens(2), so it leaves the times alone.
fn stamp(state: &mut State<'_>, commit: &Commit, inode: &mut Inode) -> Step<()> {
    if !commit.ops.is_empty() {
        inode.version += 1;
        inode.etag = None;
        (inode.mtime, inode.ctime) = (commit.at, commit.at);
    }
    if !commit.ops.is_empty() || !inode.published {
        inode.committed_at = commit.at;
    }
    if let Some(mtime) = commit.mtime {
        inode.mtime = mtime;
    }
    if commit.strip_privilege {
        inode.mode = inode.mode.without_privilege();
    }
    state.publish(commit.ino, inode)?;
    Ok(())
}

pub fn stage(
    state: &mut State<'_>,
    content: ContentId,
    ops: &[WriteOp],
    chunks: &[NewChunk],
    may_relax: bool,
) -> Step<Outcome> {
    require(content.session == state.session, Refusal::UnknownChunk)?;
    let key = keys::staged(content);
    let staged: Staged = match state.get(&key)? {
        Some(staged) => staged,
        None => {
            manifest::require_fresh(state, content)?;
            Staged { epoch: state.placement()?.epoch, ..Staged::default() }
        }
    };
    let allowed = ops.iter().all(|op| match op {
        WriteOp::Write { .. }
        | WriteOp::Append { .. }
        | WriteOp::Truncate { .. }
        | WriteOp::Extend { .. }
        | WriteOp::Punch { .. }
        | WriteOp::Copy { .. }
        | WriteOp::CopyContent { .. } => true,
        WriteOp::Reset
        | WriteOp::Inline { .. }
        | WriteOp::AppendInline { .. }
        | WriteOp::Outline { .. }
        | WriteOp::Adopt { .. } => false,
    });
    require(allowed, Refusal::Malformed)?;
    let mut bytes = Bytes {
        namer: Namer::Staged { may_relax },
        body: Body::Manifest(content),
        size: staged.size,
        allocated: staged.allocated,
        is_relaxed: staged.is_relaxed,
    };
    run(state, &mut bytes, ops, chunks)?;
    let Bytes { size, allocated, is_relaxed, .. } = bytes;
    // What lies behind is to be looked at again: something may have changed there.
    state.put(key, &Staged { size, allocated, is_relaxed, vouched: None, ..staged })?;
    Ok(Outcome::Done)
}

fn run(state: &mut State<'_>, bytes: &mut Bytes, ops: &[WriteOp], chunks: &[NewChunk]) -> Step<()> {
    require(ops.len() <= COMMIT_OPS_MAX, Refusal::Malformed)?;
    state.introduce(chunks)?;
    for (index, op) in ops.iter().enumerate() {
        operate(state, bytes, op, &ops[index + 1..])?;
    }
    Ok(())
}

/// Applies one operation; `later` are those after it in the same commit.
fn operate(state: &mut State<'_>, bytes: &mut Bytes, op: &WriteOp, later: &[WriteOp]) -> Step<()> {
    match *op {
        WriteOp::Reset => bytes.reset(state),
        WriteOp::Write { offset, len, chunk, chunk_offset } => {
            bytes.write(state, offset, Source { chunk, chunk_offset, len })
        }
        WriteOp::Append { len, chunk, chunk_offset } => {
            bytes.write(state, bytes.size, Source { chunk, chunk_offset, len })
        }
        WriteOp::Inline { offset, ref data } => {
            let end = range_of(offset, data.len() as u64)?.end();
            require(end <= INLINE_MAX as u64, Refusal::Malformed)?;
            bytes.write_inline(offset, data)
        }
        WriteOp::AppendInline { ref data } => {
            range_of(bytes.size, data.len() as u64)?;
            bytes.write_inline(bytes.size, data)
        }
        WriteOp::Outline { content } => bytes.outline(state, content, later),
        WriteOp::Truncate { size } => bytes.truncate(state, size),
        WriteOp::Extend { size } => bytes.extend(size),
        WriteOp::Punch { offset, len } => bytes.punch(state, range_of(offset, len)?),
        WriteOp::Copy { from, from_offset, offset, len } => {
            copy(state, bytes, (from, range_of(from_offset, len)?), range_of(offset, len)?)
        }
        WriteOp::CopyContent { from, from_offset, offset, len } => {
            let source = (from, range_of(from_offset, len)?);
            copy_content(state, bytes, source, range_of(offset, len)?)
        }
        WriteOp::Adopt { content, size } => bytes.adopt(state, content, size),
    }
}

pub fn unstage(state: &mut State<'_>, content: ContentId) -> Step<Outcome> {
    let key = keys::staged(content);
    require(content.session == state.session, Refusal::UnknownChunk)?;
    require(state.is_marked(&key)?, Refusal::NotFound)?;
    state.delete(key);
    manifest::free(state, content)?;
    Ok(Outcome::Done)
}
