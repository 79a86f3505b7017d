//! A whole chunk in memory, with its checksums: what is hashed once and then written, sent and
//! received as the very bytes of its file.

use std::sync::Arc;

use super::footer::{ChunkHeader, ChunkInfo, FOOTER_MAX, Footer};
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::types::limits::{CHUNK_SIZE_MAX, CRC_BLOCK};
use crate::types::{ChunkId, crc32c};

/// Data whose bytes were hashed, or were received and fit their checksums. Cloning copies no data.
#[derive(Clone, Debug)]
pub struct SealedChunk {
    pub(super) footer: Footer,
    pub(super) data: Arc<AlignedBuf>,
}

impl SealedChunk {
    /// The bytes of the largest chunk file: what a receiver has to bound.
    pub const FILE_MAX: u64 = CHUNK_SIZE_MAX + FOOTER_MAX as u64;

    /// Hashes `data`, which `header` describes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when they do not fit.
    pub fn new(header: &ChunkHeader, data: Arc<AlignedBuf>) -> Result<Self> {
        Ok(Self { footer: Footer::describe(header, &data)?, data })
    }

    /// Takes the bytes of a chunk file, from a disk or a peer, and checks all of them: each 64 KiB
    /// against its CRC32C, the footer, which has those and the sha256, against its own.
    ///
    /// # Errors
    /// [`Error::Damaged`] saying what does not fit.
    pub fn from_file(mut bytes: AlignedBuf) -> Result<Self> {
        let end = bytes.len().saturating_sub(FOOTER_MAX);
        let footer = Footer::decode(&bytes[end..], bytes.len() as u64)?;
        // Before it is cut: the padding is covered too.
        let blocks = bytes[..footer.data_len()].chunks(CRC_BLOCK);
        for (n, (block, crc)) in blocks.zip(&footer.crcs).enumerate() {
            if crc32c(block) != *crc {
                let at = n * CRC_BLOCK;
                return Err(Error::damaged(format!("the 64 KiB at {at} fail their checksum")));
            }
        }
        bytes.truncate(footer.info.len as usize);
        Ok(Self { footer, data: Arc::new(bytes) })
    }

    pub fn id(&self) -> ChunkId {
        self.footer.info.header.id
    }

    pub fn info(&self) -> &ChunkInfo {
        &self.footer.info
    }

    pub fn data(&self) -> &Arc<AlignedBuf> {
        &self.data
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.footer.file_len()
    }

    /// The bytes of the file: this many from [`Self::data`] with their padding, then the footer.
    pub fn file_parts(&self) -> (&[u8], AlignedBuf) {
        (self.data.padded(), self.footer.encode())
    }

    /// All bytes of the file in one piece.
    pub fn to_file(&self) -> AlignedBuf {
        let (data, footer) = self.file_parts();
        let mut file = AlignedBuf::with_capacity(data.len() + footer.len());
        file.extend(data);
        file.extend(&footer);
        file
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::ChunkExtent;
    use crate::types::{ContentId, Ino, SessionId};

    fn sealed(len: usize) -> SealedChunk {
        let session = SessionId(3);
        let header = ChunkHeader {
            id: ChunkId { session, counter: 9 },
            content: ContentId { session, counter: 10 },
            bucket: Ino(2),
            extents: vec![ChunkExtent { file_offset: 5, len: len as u32 }],
        };
        let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
        SealedChunk::new(&header, Arc::new(AlignedBuf::from(bytes.as_slice()))).unwrap()
    }

    #[test]
    fn a_chunk_survives_the_way() {
        for len in [1, 4095, 4096, 65_536, 200_000] {
            let sent = sealed(len);
            let file = sent.to_file();
            assert_eq!(file.len() as u64, sent.file_len());
            let received = SealedChunk::from_file(file).unwrap();
            assert_eq!(received.info(), sent.info());
            assert_eq!(received.data()[..], sent.data()[..]);
            assert_eq!(received.data().padded(), sent.data().padded());
        }
    }

    /// A byte changed on the way, a file cut short or with more behind it is never taken.
    #[test]
    fn what_changed_on_the_way_is_refused() {
        let file = sealed(70_000).to_file();
        for at in (0..file.len()).step_by(977).chain(file.len() - 96..file.len()) {
            let mut bad = AlignedBuf::from(&file[..]);
            bad[at] ^= 0x40;
            let refused = SealedChunk::from_file(bad);
            assert!(matches!(refused, Err(Error::Damaged(_))), "byte {at}");
        }
        for len in [0, 1, 4095, 4096, file.len() - 4096, file.len() - 1] {
            assert!(SealedChunk::from_file(AlignedBuf::from(&file[..len])).is_err(), "{len}");
        }
        let mut more = AlignedBuf::from(&file[..]);
        more.extend(&[0; 4096]);
        assert!(SealedChunk::from_file(more).is_err());
    }
}
