//! Reading without copies: blocks of a chunk's data in memory, the last ones kept for whoever wants them
//! next.

use bytes::Bytes;

use super::cache::OpenChunk;
use super::read;
use super::store::ChunkStore;
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::types::{ByteRange, ChunkId};

/// Bytes of a block, which is read and checked as a whole; a multiple of `CRC_BLOCK`.
const BLOCK: u32 = 1 << 20;
/// A block is read when at least this part of it is wanted, else only what is wanted.
const WORTH: u32 = 4;

impl ChunkStore {
    /// As [`ChunkStore::read`], in pieces of memory that are not copied: parts of blocks, of which those
    /// read last are kept.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn slices(&self, id: ChunkId, offset: u32, len: u32) -> Result<Vec<Bytes>> {
        self.settled(id, || self.slices_once(id, offset, len))
    }

    fn slices_once(&self, id: ChunkId, offset: u32, len: u32) -> Result<Vec<Bytes>> {
        let range = ByteRange::between(offset.into(), u64::from(offset) + u64::from(len));
        let slices = range.slots(BLOCK.into()).map(|(number, part)| {
            let at = (part.start() % u64::from(BLOCK)) as u32;
            self.measured("read", || self.slice(id, number as u32, at, part.len() as u32))
        });
        slices.collect()
    }

    /// `len` bytes from `at` of a block.
    fn slice(&self, id: ChunkId, number: u32, at: u32, len: u32) -> Result<Bytes> {
        let cut = |block: Bytes| {
            let (to, has) = ((at + len) as usize, block.len());
            let missing = || Error::damaged(format!("{to} bytes are wanted of a block of {has}"));
            if to > has { Err(missing()) } else { Ok(block.slice(at as usize..to)) }
        };
        let token = match self.blocks.get((id, number)) {
            Ok(block) => return cut(block).map_err(|error| read::of_chunk(id, error)),
            Err(token) => token,
        };
        self.with_open(id, |chunk| {
            let left = chunk.footer.info.len.saturating_sub(number * BLOCK);
            if len >= left.min(BLOCK) / WORTH
                && let Ok(block) = block(chunk, number)
            {
                let size = block.capacity();
                let block = Bytes::from_owner(block);
                self.blocks.insert((id, number), block.clone(), size, token);
                return cut(block);
            }
            // Little is wanted, or something of the block is damaged, perhaps nothing that is wanted.
            let mut bytes = Vec::new();
            read::append(chunk, &self.buffers, number * BLOCK + at, len, &mut bytes)?;
            Ok(bytes.into())
        })
    }
}

/// The block of the data with that number.
///
/// # Errors
/// [`Error::Damaged`] behind the end of the data.
fn block(chunk: &OpenChunk, number: u32) -> Result<AlignedBuf> {
    let (start, has) = (number as usize * BLOCK as usize, chunk.footer.info.len as usize);
    if start >= has {
        return Err(Error::damaged(format!("bytes at {start} are wanted of a chunk of {has}")));
    }
    let len = (has - start).min(BLOCK as usize);
    let mut block = AlignedBuf::zeroed(len);
    read::fill(chunk, start, start + len, block.padded_mut())?;
    Ok(block)
}
