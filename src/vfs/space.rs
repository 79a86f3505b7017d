//! Room, and changes of bytes that carry none: statfs, fallocate, seek, copy_file_range.

use std::sync::Arc;

use super::Vfs;
use super::append::Place;
use super::node::Node;
use super::words::{Caller, StatFs};
use crate::chunk::ChunkStore;
use crate::env::Space;
use crate::error::{Error, Result};
use crate::meta::{Body, Inode, WriteOp};
use crate::replication::Wait;
use crate::types::ByteRange;
use crate::types::limits::{NAME_MAX, SLOTS_FREED_MAX};

/// Unit of statfs, in bytes.
const BLOCK: u64 = 4096;
/// Slots copied by reference in one mutation.
const COPY_SLOTS: u64 = 512;
/// Bytes copied by value in one call, when there is nothing to refer to.
const COPY_BYTES: u64 = 1 << 20;
/// Slots looked at in one step of a seek.
const SEEK_SLOTS: u64 = 1024;

/// Room that data may not take, so that metadata can always be written: names removed, the log.
#[derive(Debug)]
pub(super) struct Reserve {
    bytes: u64,
}

impl Reserve {
    /// 1/32 of the disk, at least 160 MiB (log segments, a snapshot) and at most 2 GiB; on a disk
    /// below 640 MiB a quarter of it.
    pub fn new(space: Space) -> Self {
        let wanted = (space.total / 32).clamp(160 << 20, 2 << 30);
        Self { bytes: wanted.min(space.total / 4) }
    }

    /// # Errors
    /// [`Error::NoSpace`] when metadata that grows should not be written any more. Names may use
    /// half of what data may not.
    pub fn check(&self, chunks: &ChunkStore) -> Result<()> {
        Self::room(chunks, self.bytes / 2)
    }

    /// # Errors
    /// [`Error::NoSpace`] when `pending` more bytes of data would reach into the reserve.
    pub fn check_data(&self, chunks: &ChunkStore, pending: u64) -> Result<()> {
        Self::room(chunks, self.bytes.saturating_add(pending))
    }

    fn room(chunks: &ChunkStore, needed: u64) -> Result<()> {
        if chunks.space()?.available < needed { Err(Error::NoSpace) } else { Ok(()) }
    }
}

impl Vfs {
    /// statfs(2): the disk's own numbers, less the reserve.
    ///
    /// # Errors
    /// What the disk says.
    pub fn statfs(&self) -> Result<StatFs> {
        let space = self.chunks.space()?;
        let inodes = {
            let superblock = self.replica.table().view().superblock()?;
            superblock.map_or(0, |superblock| superblock.inodes)
        };
        let available = space.available.saturating_sub(self.reserve.bytes);
        // A small file takes a record of about 512 bytes in the table and as much in the log.
        let files_free = available / 1024;
        Ok(StatFs {
            block_size: BLOCK as u32,
            blocks: space.total / BLOCK,
            blocks_free: space.available / BLOCK,
            blocks_available: available / BLOCK,
            files: inodes + files_free,
            files_free,
            name_max: NAME_MAX as u32,
        })
    }

    /// fallocate(2): allocate, keep size, punch hole, zero range. Space is not set aside: what is
    /// promised is that there is room now.
    ///
    /// # Errors
    /// [`Error::NotSupported`] for other modes, [`Error::NoSpace`], [`Error::FileTooLarge`].
    pub async fn fallocate(
        &self,
        who: &Caller,
        handle: u64,
        offset: u64,
        len: u64,
        mode: i32,
    ) -> Result<()> {
        let file = self.handles.file(handle)?;
        if !file.flags.is_write() {
            return Err(Error::BadHandle);
        }
        self.require_locks(file.node.ino, file.session)?;
        let end = offset.checked_add(len).ok_or(Error::FileTooLarge)?;
        if end > self.settings.max_object_size {
            return Err(Error::FileTooLarge);
        }
        let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let zero = match mode & !libc::FALLOC_FL_KEEP_SIZE {
            0 => false,
            libc::FALLOC_FL_PUNCH_HOLE if keep_size => true,
            libc::FALLOC_FL_ZERO_RANGE => true,
            _ => return Err(Error::NotSupported("this mode of fallocate")),
        };
        let node = &file.node;
        let _turn = node.committing.lock().await;
        self.commit_locked(node, Wait::Applied).await?;
        let size = self.inode(node.ino)?.size;
        if zero {
            self.punch(who, node, ByteRange::between(offset, end.min(size))).await?;
        } else {
            self.reserve.check_data(&self.chunks, len)?;
        }
        if !keep_size && end > size {
            self.change_bytes(node, vec![WriteOp::Extend { size: end }], who).await?;
        }
        Ok(())
    }

    /// Frees a range in bounded steps; it reads as zeros.
    async fn punch(&self, who: &Caller, node: &Arc<Node>, range: ByteRange) -> Result<()> {
        let mut at = range.start();
        while at < range.end() {
            let len = (range.end() - at).min(self.step());
            self.change_bytes(node, vec![WriteOp::Punch { offset: at, len }], who).await?;
            at += len;
        }
        Ok(())
    }

    /// Bytes whose slots one mutation may free, wherever they begin.
    pub(super) fn step(&self) -> u64 {
        (SLOTS_FREED_MAX as u64 - 1) * self.replica.chunk_size()
    }

    /// lseek(2) with SEEK_DATA or SEEK_HOLE.
    ///
    /// # Errors
    /// [`Error::NoSuchOffset`] beyond the end, or when no data follows.
    pub async fn seek(&self, handle: u64, offset: u64, whence: i32) -> Result<u64> {
        let file = self.handles.file(handle)?;
        self.settle(file.node.ino).await?;
        let inode = self.inode(file.node.ino)?;
        if offset >= inode.size {
            return Err(Error::NoSuchOffset);
        }
        match whence {
            libc::SEEK_DATA => {
                let found = self.next_data(&inode, offset)?.map(|data| data.start().max(offset));
                found.filter(|&at| at < inode.size).ok_or(Error::NoSuchOffset)
            }
            libc::SEEK_HOLE => self.next_hole(&inode, offset),
            _ => Err(Error::invalid("whence is SEEK_DATA or SEEK_HOLE here")),
        }
    }

    fn next_hole(&self, inode: &Inode, offset: u64) -> Result<u64> {
        let mut at = offset;
        while let Some(data) = self.next_data(inode, at)? {
            if data.start() > at {
                break;
            }
            at = data.end();
        }
        Ok(at.min(inode.size))
    }

    /// The first stretch of data that ends after `from`.
    fn next_data(&self, inode: &Inode, from: u64) -> Result<Option<ByteRange>> {
        let content = match &inode.body {
            Body::Inline(bytes) => {
                let data = ByteRange::between(0, bytes.len() as u64);
                return Ok((data.end() > from).then_some(data));
            }
            Body::Manifest(content) => *content,
            Body::Symlink(_) | Body::None => return Ok(None),
        };
        let size = self.replica.chunk_size();
        let last = inode.size / size;
        let mut first = from / size;
        while first <= last {
            let to = last.min(first + SEEK_SLOTS);
            let slots = self.replica.table().view().slots(content, first, to)?;
            let pieces = slots.iter().flat_map(|(number, slot)| {
                slot.pieces.iter().map(move |piece| {
                    let start = number * size + u64::from(piece.start);
                    ByteRange::between(start, start + u64::from(piece.len))
                })
            });
            if let Some(data) = joined(pieces.filter(|piece| piece.end() > from)) {
                return Ok(Some(data));
            }
            first = to + 1;
        }
        Ok(None)
    }

    /// copy_file_range(2): by reference where both sides have chunks, else by value; returns the
    /// bytes copied, which may be fewer than asked.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for overlapping ranges of one file.
    pub async fn copy_file_range(
        &self,
        who: &Caller,
        from: (u64, u64),
        to: (u64, u64),
        len: u64,
    ) -> Result<u64> {
        let (source, target) = (self.handles.file(from.0)?, self.handles.file(to.0)?);
        // The kernel refuses O_APPEND itself, of which it alone knows whether it counts now.
        if !source.flags.is_read() || !target.flags.is_write() {
            return Err(Error::BadHandle);
        }
        self.require_locks(target.node.ino, target.session)?;
        self.settle(source.node.ino).await?;
        let end = self.inode(source.node.ino)?.size;
        let len = len.min(end.saturating_sub(from.1)).min(COPY_SLOTS * self.replica.chunk_size());
        if len == 0 {
            return Ok(0);
        }
        let overlapping = ByteRange::between(from.1, from.1 + len)
            .intersect(ByteRange::between(to.1, to.1.saturating_add(len)));
        if source.node.ino == target.node.ino && overlapping.is_some() {
            return Err(Error::invalid("the ranges overlap"));
        }
        match self.copy_by_reference(who, &source.node, from.1, &target.node, to.1, len).await {
            Err(Error::Conflict) => {
                let len = len.min(COPY_BYTES) as u32;
                let bytes = self.read_node(&source.node, from.1, len).await?;
                self.write_node(who, &target.node, Place::At(to.1), &bytes).await?;
                Ok(bytes.len() as u64)
            }
            result => result.map(|()| len),
        }
    }

    async fn copy_by_reference(
        &self,
        who: &Caller,
        source: &Arc<Node>,
        from_offset: u64,
        target: &Arc<Node>,
        offset: u64,
        len: u64,
    ) -> Result<()> {
        let end = offset.checked_add(len).ok_or(Error::FileTooLarge)?;
        if end > self.settings.max_object_size {
            return Err(Error::FileTooLarge);
        }
        let _turn = target.committing.lock().await;
        self.commit_locked(target, Wait::Applied).await?;
        let mut ops = Vec::new();
        if matches!(&self.inode(target.ino)?.body, Body::Inline(bytes) if bytes.is_empty()) {
            ops.push(WriteOp::Outline { content: self.replica.next_content() });
        }
        ops.push(WriteOp::Copy { from: source.ino, from_offset, offset, len });
        self.change_bytes(target, ops, who).await.map(|_| ())
    }
}

/// The first piece and those that follow without a gap.
fn joined(mut pieces: impl Iterator<Item = ByteRange>) -> Option<ByteRange> {
    let first = pieces.next()?;
    let mut end = first.end();
    for piece in pieces {
        if piece.start() > end {
            break;
        }
        end = end.max(piece.end());
    }
    Some(ByteRange::between(first.start(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_leaves_small_disks_usable() {
        let space = |total| Space { total, available: total, ..Space::default() };
        assert_eq!(Reserve::new(space(100 << 20)).bytes, 25 << 20);
        assert_eq!(Reserve::new(space(4 << 30)).bytes, 160 << 20);
        assert_eq!(Reserve::new(space(1 << 40)).bytes, 2 << 30);
    }

    #[test]
    fn pieces_that_touch_are_one_stretch() {
        let range = ByteRange::between;
        assert_eq!(joined([range(0, 4), range(4, 8), range(9, 10)].into_iter()), Some(range(0, 8)));
        assert_eq!(joined(std::iter::empty()), None);
    }
}
