//! What a node does with its chunks when a peer asks: the other side of [`super::ChunkPeers`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkStore, SealedChunk};
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::Table;
use crate::types::limits::REAP_IDS_MAX;
use crate::types::{ChunkId, crc32c};

/// Room that copies from peers leave on the disk, in bytes: the log must be able to go on.
const RESERVE: u64 = 128 << 20;

/// Some bytes of a chunk, and their checksum for the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    pub bytes: Vec<u8>,
    pub crc: u32,
}

impl Range {
    /// Bytes that are read at once.
    pub const MAX: u32 = 16 << 20;

    /// The bytes, if they are those that were sent, and as many as were asked for.
    ///
    /// # Errors
    /// [`Error::Damaged`].
    pub fn checked(self, len: u32) -> Result<Vec<u8>> {
        if self.bytes.len() != len as usize || crc32c(&self.bytes) != self.crc {
            return Err(Error::damaged("bytes of a chunk changed on their way"));
        }
        Ok(self.bytes)
    }
}

/// Serves one node's chunks to its peers. Methods block on the disk; many may run at a time. Who
/// calls them has made sure that the peer is one.
pub struct ChunkServer {
    chunks: Arc<ChunkStore>,
    table: Arc<Table>,
}

impl ChunkServer {
    pub fn new(chunks: Arc<ChunkStore>, table: Arc<Table>) -> Self {
        Self { chunks, table }
    }

    /// The failure after which no chunk is written any more.
    pub fn failure(&self) -> Option<Error> {
        self.chunks.failure()
    }

    /// Takes the bytes of a chunk file ([`SealedChunk::file_parts`]; at most
    /// [`SealedChunk::FILE_MAX`], which the transport has to see to). On return file and name are
    /// on disk. Peers that send at the same time share the directory's fsync.
    ///
    /// # Errors
    /// [`Error::Damaged`] when they do not fit their checksums, [`Error::InvalidArgument`] for a
    /// chunk that nothing can name any more or whose id holds other data, [`Error::NoSpace`],
    /// [`Error::DiskFailed`], [`Error::Io`]. No file is left behind.
    pub fn accept(&self, file: AlignedBuf) -> Result<ChunkId> {
        let chunk = SealedChunk::from_file(file)?;
        let id = chunk.id();
        self.check_wanted(id)?;
        if self.chunks.space()?.available < RESERVE.saturating_add(chunk.file_len()) {
            return Err(Error::NoSpace);
        }
        self.chunks.accept(&chunk)?;
        // Freed meanwhile: whoever deletes files then has not seen this one.
        if let Err(unwanted) = self.check_wanted(id) {
            self.chunks.delete(id)?;
            return Err(unwanted);
        }
        Ok(id)
    }

    /// A late copy of what was given up or freed would lie about until the next search for strays.
    fn check_wanted(&self, id: ChunkId) -> Result<()> {
        let view = self.table.view();
        let is_wanted = view.chunk(id)?.is_some() || view.may_still_come(id)?;
        if is_wanted { Ok(()) } else { Err(Error::invalid(format!("chunk {id} was freed"))) }
    }

    /// Reads from a chunk's data; what it reads is checked.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above [`Range::MAX`], [`Error::NotFound`], [`Error::Damaged`],
    /// [`Error::Io`].
    pub fn read(&self, id: ChunkId, offset: u32, len: u32) -> Result<Range> {
        if len > Range::MAX {
            return Err(Error::invalid(format!("{len} bytes of a chunk at once")));
        }
        let mut bytes = Vec::new();
        let read = self.chunks.read(id, offset, len, &mut bytes);
        read.inspect_err(|error| self.note_missing(id, error))?;
        let crc = crc32c(&bytes);
        Ok(Range { bytes, crc })
    }

    /// A whole chunk, checked; [`SealedChunk::file_parts`] is what goes over the wire.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Damaged`], [`Error::Io`].
    pub fn load(&self, id: ChunkId) -> Result<SealedChunk> {
        self.chunks.load(id).inspect_err(|error| self.note_missing(id, error))
    }

    /// A peer asks for what is recorded here: a file that is not there is looked at by the repair, as
    /// one that is bad is.
    fn note_missing(&self, id: ChunkId, error: &Error) {
        if matches!(error, Error::NotFound) && matches!(self.table.view().chunk(id), Ok(Some(_))) {
            self.chunks.suspect(id);
        }
    }

    /// Which of `ids` have a file with a good footer here.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] above `REAP_IDS_MAX`, [`Error::Io`].
    pub fn which(&self, ids: &[ChunkId]) -> Result<Vec<ChunkId>> {
        if ids.len() > REAP_IDS_MAX {
            return Err(Error::invalid(format!("{} chunks at once", ids.len())));
        }
        let mut found = Vec::new();
        for &id in ids {
            match self.chunks.info(id) {
                Ok(_) => found.push(id),
                Err(Error::NotFound | Error::Damaged(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}
