//! The seam to the chunk stores of other nodes: few methods, a contract on each.

use std::pin::Pin;

use crate::chunk::SealedChunk;
use crate::error::{Error, Result};
use crate::types::{ChunkId, NodeId};

/// What is answered later. Dropping it gives the request up; the peer may carry it out all the same.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// The chunk stores of other nodes, by node id. Asked of the node itself, or of one nobody knows,
/// every method fails with [`Error::Unreachable`].
///
/// Every answer comes within the transport's deadline, which is not above the replication timeout.
/// Nothing is tried twice: the caller has other peers, and knows when to give up. Requests to one
/// node may run at the same time. An answer that arrives is the peer's: a transport that cannot
/// tell what became of a request fails with [`Error::Unreachable`] or [`Error::Timeout`].
pub trait ChunkPeers: Send + Sync {
    /// Sends a chunk. `Ok`: its file and its name are on disk there, and its bytes are those that
    /// were sent (the receiver checks them before it writes: [`super::ChunkServer::accept`]).
    /// Sending it again is fine. Holds the chunk and no further copy of its bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`]: it did not arrive as it was sent. [`Error::NoSpace`],
    /// [`Error::DiskFailed`] and [`Error::InvalidArgument`] are the peer's.
    fn send(&self, to: NodeId, chunk: SealedChunk) -> Later<'_, ()>;

    /// Reads `len` bytes, at most [`super::Range::MAX`], from `offset` of a chunk's data. They were
    /// checked on the peer's disk, and are checked by CRC32C on their way.
    ///
    /// # Errors
    /// [`Error::NotFound`]: the peer has no such chunk. [`Error::Damaged`]: its file, or what came
    /// of it, is not good.
    fn read(&self, from: NodeId, id: ChunkId, offset: u32, len: u32) -> Later<'_, Vec<u8>>;

    /// Brings a whole chunk, checked by [`SealedChunk::from_file`] when it arrived. Takes memory for
    /// one chunk: callers bound how many at a time.
    ///
    /// # Errors
    /// As [`Self::read`].
    fn fetch(&self, from: NodeId, id: ChunkId) -> Later<'_, SealedChunk>;

    /// Which of `ids`, at most `REAP_IDS_MAX`, the peer has a file of. The files are not read.
    fn which(&self, at: NodeId, ids: Vec<ChunkId>) -> Later<'_, Vec<ChunkId>>;
}

/// A node without others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl NoPeers {
    fn nobody<T: Send + 'static>(node: NodeId) -> Later<'static, T> {
        Box::pin(async move { Err(Error::Unreachable(format!("no way to node {node} is known"))) })
    }
}

impl ChunkPeers for NoPeers {
    fn send(&self, to: NodeId, _: SealedChunk) -> Later<'_, ()> {
        Self::nobody(to)
    }

    fn read(&self, from: NodeId, _: ChunkId, _: u32, _: u32) -> Later<'_, Vec<u8>> {
        Self::nobody(from)
    }

    fn fetch(&self, from: NodeId, _: ChunkId) -> Later<'_, SealedChunk> {
        Self::nobody(from)
    }

    fn which(&self, at: NodeId, _: Vec<ChunkId>) -> Later<'_, Vec<ChunkId>> {
        Self::nobody(at)
    }
}
