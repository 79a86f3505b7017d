//! The chunks of other nodes over the transport, and this node's answers about its own.
//!
//! | message | body → answer |
//! |---|---|
//! | chunk send | the bytes of the chunk's file → nothing, when it is on disk |
//! | chunk read | id, offset, length → [`Range`] |
//! | chunk fetch | id → a byte, then the bytes of the chunk's file (0) or why not (1) |
//! | chunk which | ids → those of them that are here |

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::peers::{ChunkPeers, Later};
use super::server::{ChunkServer, Range};
use crate::chunk::SealedChunk;
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::replication::peers::{Kind, Transport};
use crate::types::{ChunkId, NodeId};

/// Reaches the chunk stores of other members.
pub struct RemoteChunks {
    transport: Arc<dyn Transport>,
    /// How long one answer may take.
    within: Duration,
}

impl RemoteChunks {
    pub fn new(transport: Arc<dyn Transport>, within: Duration) -> Self {
        Self { transport, within }
    }

    async fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        node: NodeId,
        kind: Kind,
        body: &B,
    ) -> Result<A> {
        let body = Bytes::from(codec::encode_message(body)?);
        let answer = self.transport.call(node, kind, body, self.within).await?;
        codec::decode_message::<Result<A, Failure>>(&answer)?.map_err(Error::from)
    }
}

impl ChunkPeers for RemoteChunks {
    fn send(&self, to: NodeId, chunk: SealedChunk) -> Later<'_, ()> {
        Box::pin(async move {
            let body = Bytes::from_owner(chunk.to_file());
            let answer = self.transport.call(to, Kind::ChunkSend, body, self.within).await?;
            codec::decode_message::<Result<(), Failure>>(&answer)?.map_err(Error::from)
        })
    }

    fn read(&self, from: NodeId, id: ChunkId, offset: u32, len: u32) -> Later<'_, Vec<u8>> {
        Box::pin(async move {
            let range: Range = self.ask(from, Kind::ChunkRead, &(id, offset, len)).await?;
            range.checked(len)
        })
    }

    fn fetch(&self, from: NodeId, id: ChunkId) -> Later<'_, SealedChunk> {
        Box::pin(async move {
            let body = Bytes::from(codec::encode_message(&id)?);
            let answer = self.transport.call(from, Kind::ChunkFetch, body, self.within).await?;
            match answer.split_first() {
                Some((0, file)) => SealedChunk::from_file(AlignedBuf::from(file)),
                Some((_, why)) => Err(codec::decode_message::<Failure>(why)?.into()),
                None => Err(Error::damaged("a peer answered with nothing")),
            }
        })
    }

    fn which(&self, at: NodeId, ids: Vec<ChunkId>) -> Later<'_, Vec<ChunkId>> {
        Box::pin(async move { self.ask(at, Kind::ChunkWhich, &ids).await })
    }
}

impl ChunkServer {
    /// Answers one message about chunks. Blocks on the disk.
    ///
    /// # Errors
    /// [`Error::Damaged`] for a body of another form.
    pub fn answer(&self, kind: Kind, body: &[u8]) -> Result<Bytes> {
        match kind {
            Kind::ChunkSend => reply(self.accept(AlignedBuf::from(body)).map(|_| ())),
            Kind::ChunkRead => {
                let (id, offset, len) = codec::decode_message(body)?;
                reply(self.read(id, offset, len))
            }
            Kind::ChunkWhich => {
                let ids: Vec<ChunkId> = codec::decode_message(body)?;
                reply(self.which(&ids))
            }
            _ => self.whole(codec::decode_message(body)?),
        }
    }

    fn whole(&self, id: ChunkId) -> Result<Bytes> {
        let mut answer = BytesMut::new();
        match self.load(id) {
            Ok(chunk) => {
                let (data, footer) = chunk.file_parts();
                answer.reserve(1 + data.len() + footer.len());
                answer.put_u8(0);
                answer.extend_from_slice(data);
                answer.extend_from_slice(&footer);
            }
            Err(error) => {
                answer.put_u8(1);
                answer.extend_from_slice(&codec::encode_message(&Failure::from(error))?);
            }
        }
        Ok(answer.freeze())
    }
}

fn reply<T: Serialize>(answer: Result<T>) -> Result<Bytes> {
    codec::encode_message(&answer.map_err(Failure::from)).map(Bytes::from)
}

/// Errors as they go over the wire: those a peer acts on, and a text for the rest.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Failure {
    NotFound,
    NoSpace,
    Damaged(String),
    Invalid(String),
    DiskFailed(String),
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => Self::NotFound,
            Error::NoSpace => Self::NoSpace,
            Error::Damaged(what) => Self::Damaged(what),
            Error::InvalidArgument(what) => Self::Invalid(what),
            Error::DiskFailed(what) => Self::DiskFailed(what),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotFound => Self::NotFound,
            Failure::NoSpace => Self::NoSpace,
            Failure::Damaged(what) => Self::Damaged(what),
            Failure::Invalid(what) => Self::InvalidArgument(what),
            Failure::DiskFailed(what) => Self::DiskFailed(what),
            Failure::Other(what) => Self::Unreachable(what),
        }
    }
}
