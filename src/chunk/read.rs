//! Verified reading of chunk files.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::buffers::{Buffers, WINDOW};
use super::cache::OpenChunk;
use super::footer::{FOOTER_MAX, Footer};
use super::names::chunk_path;
use super::sealed::SealedChunk;
use crate::env::{Access, AlignedBuf, Disk};
use crate::error::{Error, Result};
use crate::types::limits::{CRC_BLOCK, DIRECT_ALIGN};
use crate::types::{ChunkId, crc32c};

/// Opens a chunk's file and checks its footer.
pub fn open(disk: &dyn Disk, root: &Path, id: ChunkId) -> Result<OpenChunk> {
    let failed = |error| chunk_io("opening", id, error);
    let file = disk.open(&chunk_path(root, id), Access::Read, true).map_err(failed)?;
    let len = file.size().map_err(failed)?;
    let start = len.saturating_sub(FOOTER_MAX as u64);
    if !len.is_multiple_of(DIRECT_ALIGN as u64) {
        return Err(of_chunk(id, Error::damaged("unfinished: an odd size")));
    }
    let mut end = AlignedBuf::zeroed((len - start) as usize);
    let read = file.read_at(&mut end, start).map_err(|error| of_chunk(id, unreadable(error)))?;
    end.truncate(read);
    let footer = Footer::decode(&end, len).map_err(|error| of_chunk(id, error))?;
    if footer.info.header.id != id {
        let found = footer.info.header.id;
        return Err(of_chunk(id, Error::damaged(format!("the file is that of {found}"))));
    }
    Ok(OpenChunk { file, footer })
}

/// Reads a chunk's file as a whole and checks it.
pub fn load(disk: &dyn Disk, root: &Path, id: ChunkId) -> Result<SealedChunk> {
    let chunk = open(disk, root, id)?;
    let mut bytes = AlignedBuf::zeroed(chunk.footer.file_len() as usize);
    let read = chunk.file.read_at(&mut bytes, 0);
    let read = read.map_err(|error| of_chunk(id, unreadable(error)))?;
    bytes.truncate(read);
    SealedChunk::from_file(bytes).map_err(|error| of_chunk(id, error))
}

/// Appends `len` bytes from `offset` of the data to `out`.
pub fn append(
    chunk: &OpenChunk,
    buffers: &Buffers,
    offset: u32,
    len: u32,
    out: &mut Vec<u8>,
) -> Result<()> {
    let has = chunk.footer.info.len;
    if offset.checked_add(len).is_none_or(|end| end > has) {
        let error = format!("{len} bytes at {offset} are wanted of a chunk of {has}");
        return Err(Error::damaged(error));
    }
    let (mut at, end) = (offset as usize, (offset + len) as usize);
    out.reserve(len as usize);
    buffers.with(|window| {
        while at < end {
            let start = at - at % CRC_BLOCK;
            let filled = fill(chunk, start, end, window)?;
            let stop = end.min(start + filled);
            out.extend_from_slice(&window[at - start..stop - start]);
            at = stop;
        }
        Ok(())
    })
}

/// Checks all data against both kinds of checksum.
pub fn verify(chunk: &OpenChunk, buffers: &Buffers) -> Result<()> {
    let len = chunk.footer.info.len as usize;
    let mut hash = Sha256::new();
    buffers.with(|window| {
        let mut at = 0;
        while at < len {
            let filled = fill(chunk, at, len, window)?;
            hash.update(&window[..filled.min(len - at)]);
            at += filled;
        }
        Ok::<_, Error>(())
    })?;
    if hash.finalize()[..] != chunk.footer.info.sha256 {
        return Err(Error::damaged("the data fails its sha256"));
    }
    Ok(())
}

/// Reads whole blocks from `start`, a multiple of `CRC_BLOCK`, until `end` is covered or the
/// window full, and checks each. Returns the bytes read.
pub(super) fn fill(
    chunk: &OpenChunk,
    start: usize,
    end: usize,
    window: &mut [u8],
) -> Result<usize> {
    let data_len = chunk.footer.data_len();
    let len = (end - start).next_multiple_of(CRC_BLOCK).min(WINDOW).min(data_len - start);
    let window = &mut window[..len];
    let read = chunk.file.read_at(window, start as u64);
    let read = read.map_err(unreadable)?;
    if read < len {
        return Err(Error::damaged(format!("the file ends at {}", start + read)));
    }
    let crcs = chunk.footer.crcs.get(start / CRC_BLOCK..).unwrap_or_default();
    for (n, (block, crc)) in window.chunks(CRC_BLOCK).zip(crcs).enumerate() {
        if crc32c(block) != *crc {
            let at = start + n * CRC_BLOCK;
            return Err(Error::damaged(format!("the 64 KiB at {at} fail their checksum")));
        }
    }
    Ok(len)
}

/// A file that the disk cannot read is as bad as one with wrong bytes: another node's copy takes
/// its place. Reads past the page cache tell of a bad sector by ENODATA, and of one that fails the
/// drive's own checksum by EILSEQ (`blk_errors` in Linux' block/blk-core.c), others by EIO.
fn unreadable(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EIO | libc::ENODATA | libc::EILSEQ) => {
            Error::damaged(format!("the disk cannot read it: {error}"))
        }
        _ => Error::io("reading", error),
    }
}

/// Says which chunk an error is about.
pub fn of_chunk(id: ChunkId, error: Error) -> Error {
    match error {
        Error::Damaged(what) => Error::Damaged(format!("chunk {id}: {what}")),
        Error::Io { context, source } => {
            Error::Io { context: format!("{context} chunk {id}"), source }
        }
        other => other,
    }
}

/// An I/O error with the chunk it is about; a missing file is a missing chunk.
pub fn chunk_io(doing: &str, id: ChunkId, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound,
        _ => Error::io(format!("{doing} chunk {id}"), error),
    }
}
