//! Keeps chunks: writes them where they belong, and reads them wherever a good copy is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::asking::{Patience, graver};
use super::health::Health;
use super::peers::{ChunkPeers, Later};
use super::server::Range;
use super::spread::Spread;
use super::tally::{CopyCounts, Tally};
use crate::chunk::{ChunkStore, SealedChunk};
use crate::env::{Clock, blocking};
use crate::error::{Error, Result};
use crate::meta::{ChunkRecord, Placement, Table};
use crate::types::limits::REAP_IDS_MAX;
use crate::types::{ChunkId, NodeId};

/// Chunks whose last copies are on their way though nobody waits for them any more. Beyond that they
/// are left to the repair: slow peers must not fill the memory.
const LATE_MAX: usize = 8;
/// Chunks written here at the same time. A write that has begun goes on when nobody waits for it any
/// more: a disk that is slower than the other nodes must not fill the memory either.
const LOCAL_MAX: usize = 24;
/// Without an answer for so long, another node is asked for the same bytes, or the same chunk: a third
/// of the timeout at most.
const READ_HEDGE: Duration = Duration::from_millis(500);
const FETCH_HEDGE: Duration = Duration::from_secs(3);

/// When the writer of a chunk may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Most of its places have it.
    Quorum,
    /// Anybody has it.
    One,
}

/// Who has a chunk.
pub(super) struct Holders {
    /// Nearest first.
    pub others: Vec<NodeId>,
    /// It is recorded on this node.
    pub is_here: bool,
}

/// One node's part in the copies of all chunks.
pub struct Copies {
    pub(super) node: NodeId,
    pub(super) chunks: Arc<ChunkStore>,
    pub(super) peers: Arc<dyn ChunkPeers>,
    pub(super) table: Arc<Table>,
    pub(super) timeout: Duration,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) health: Health,
    pub(super) late: Arc<Semaphore>,
    pub(super) local: Arc<Semaphore>,
    pub(super) tally: Arc<Tally>,
    /// Here and not recorded, for they belong elsewhere.
    unwanted: Mutex<Vec<ChunkId>>,
}

impl Copies {
    /// `timeout`: how long a writer or reader waits for peers.
    pub fn new(
        node: NodeId,
        chunks: Arc<ChunkStore>,
        peers: Arc<dyn ChunkPeers>,
        table: Arc<Table>,
        clock: Arc<dyn Clock>,
        timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            chunks,
            peers,
            table,
            timeout,
            health: Health::new(Arc::clone(&clock)),
            clock,
            late: Arc::new(Semaphore::new(LATE_MAX)),
            local: Arc::new(Semaphore::new(LOCAL_MAX)),
            tally: Arc::default(),
            unwanted: Mutex::default(),
        })
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    pub fn chunks(&self) -> &Arc<ChunkStore> {
        &self.chunks
    }

    /// Who has to have a chunk. Without a table of nodes: this one.
    pub(super) fn places(&self, id: ChunkId) -> Result<Vec<NodeId>> {
        let places = self.table.view().placement()?.places(id);
        Ok(if places.is_empty() { vec![self.node] } else { places })
    }

    /// Writes a chunk here and on the other nodes it belongs to, all at the same time. Returns
    /// who has it on disk as soon as that is what is `need`ed; the names of files here are durable
    /// after [`ChunkStore::sync_names`]. What lands later is told by [`Self::take_landed`].
    /// `on` have it already.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] when it did not come to that within the timeout; on one node what its
    /// disk said. Copies that were made stay until their id is reaped.
    pub async fn store(
        self: &Arc<Self>,
        chunk: SealedChunk,
        need: Need,
        on: &[NodeId],
    ) -> Result<Vec<NodeId>> {
        let places = self.places(chunk.id())?;
        Spread::new(Arc::clone(self), chunk, places, on.to_vec(), need).run().await
    }

    /// Brings a chunk that some nodes have to a quorum of its places as they are now; returns who
    /// has it then.
    ///
    /// # Errors
    /// As [`Self::store`], and as [`Self::read`].
    pub async fn spread(
        self: &Arc<Self>,
        id: ChunkId,
        on: &[NodeId],
        need: Need,
    ) -> Result<Vec<NodeId>> {
        let placement = self.table.view().placement()?;
        let enough = match need {
            Need::Quorum => placement.is_quorum(id, on),
            Need::One => on.iter().any(|node| !placement.is_gone(*node)),
        };
        if enough {
            return Ok(on.to_vec());
        }
        let chunk = match self.load(id).await {
            Ok(chunk) => chunk,
            Err(Error::NotFound | Error::Damaged(_)) => {
                self.fetch(id, on, None, self.timeout).await?
            }
            Err(error) => return Err(error),
        };
        self.store(chunk, need, on).await
    }

    async fn load(&self, id: ChunkId) -> Result<SealedChunk> {
        let chunks = Arc::clone(&self.chunks);
        let loaded = blocking(move || chunks.load(id)).await;
        loaded.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Appends `len` bytes from `offset` of a chunk's data to `out`: from the file here, else from
    /// another node that has it. Checked either way. `on`: who has a chunk without a record.
    ///
    /// # Errors
    /// [`Error::NotFound`]: nobody has it, and perhaps nobody should any more.
    /// [`Error::Damaged`]: there is no good copy. [`Error::Unreachable`]: nobody who has one
    /// answered within the timeout.
    pub async fn read(
        &self,
        id: ChunkId,
        offset: u32,
        len: u32,
        on: &[NodeId],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let local = match self.chunks.read(id, offset, len, out) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        out.extend_from_slice(&self.read_elsewhere(id, (offset, len), on, local).await?);
        Ok(())
    }

    /// As [`Self::read`], without a copy of what is in memory.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn slices(&self, id: ChunkId, offset: u32, len: u32) -> Result<Vec<Bytes>> {
        match self.chunks.slices(id, offset, len) {
            Ok(slices) => Ok(slices),
            Err(local) => {
                let bytes = self.read_elsewhere(id, (offset, len), &[], local).await?;
                Ok(vec![bytes.into()])
            }
        }
    }

    /// After `local` came of the file here.
    async fn read_elsewhere(
        &self,
        id: ChunkId,
        (offset, len): (u32, u32),
        on: &[NodeId],
        local: Error,
    ) -> Result<Vec<u8>> {
        let Holders { others, is_here } = self.holders(id, on)?;
        if is_here || !matches!(local, Error::NotFound) {
            self.suspect(id);
        }
        if others.is_empty() {
            return Err(local);
        }
        let read = self.read_from(id, others, (offset, len)).await;
        let bytes = read.map_err(|remote| graver(local, remote))?;
        self.tally.read_elsewhere();
        Ok(bytes)
    }

    /// Reads from other nodes, as much at once as one answer holds.
    pub(super) async fn read_from(
        &self,
        id: ChunkId,
        others: Vec<NodeId>,
        (offset, len): (u32, u32),
    ) -> Result<Vec<u8>> {
        let hedge = READ_HEDGE.min(self.timeout / 3);
        let patience = Patience { total: self.timeout, hedge };
        let (mut bytes, mut at) = (Vec::new(), 0);
        while at < len {
            let (from, part) = (offset.saturating_add(at), (len - at).min(Range::MAX));
            let ask = |node| -> Later<'static, Vec<u8>> {
                let peers = Arc::clone(&self.peers);
                Box::pin(async move { peers.read(node, id, from, part).await })
            };
            let mut read = self.ask(id, others.clone(), &ask, patience).await?;
            bytes.append(&mut read);
            at += part;
        }
        Ok(bytes)
    }

    /// Brings a whole chunk from another node that has it; the one that is recorded, if it is.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) async fn fetch(
        &self,
        id: ChunkId,
        on: &[NodeId],
        record: Option<&ChunkRecord>,
        patience: Duration,
    ) -> Result<SealedChunk> {
        let others = self.holders(id, on)?.others;
        let wanted = record.map(|record| (record.len, record.sha256));
        let ask = |node| -> Later<'static, SealedChunk> {
            let peers = Arc::clone(&self.peers);
            Box::pin(async move {
                let chunk = peers.fetch(node, id).await?;
                let info = chunk.info();
                let is_it = info.header.id == id
                    && wanted.is_none_or(|wanted| wanted == (info.len, info.sha256));
                let other = || Error::damaged(format!("node {node} has another chunk {id}"));
                if is_it { Ok(chunk) } else { Err(other()) }
            })
        };
        let hedge = FETCH_HEDGE.min(self.timeout / 3);
        self.ask(id, others, &ask, Patience { total: patience, hedge }).await
    }

    /// Who else has a chunk: as its record says, nearest first, else as the caller says.
    pub(super) fn holders(&self, id: ChunkId, on: &[NodeId]) -> Result<Holders> {
        let (placement, record) = {
            let view = self.table.view();
            (view.placement()?, view.chunk(id)?)
        };
        let mut others = on.to_vec();
        let stored_on = record.map(|record| record.stored_on).unwrap_or_default();
        let is_here = stored_on.contains(&self.node);
        others.extend(stored_on);
        others.sort_unstable();
        others.dedup();
        others.retain(|node| *node != self.node);
        let own = zone(&placement, self.node);
        others.sort_by_key(|node| own.is_none() || zone(&placement, *node) != own);
        Ok(Holders { others, is_here })
    }

    /// Whether the log says that the chunk is here.
    pub(super) fn is_recorded_here(&self, id: ChunkId) -> Result<bool> {
        let record = self.table.view().chunk(id)?;
        Ok(record.is_some_and(|record| record.stored_on.contains(&self.node)))
    }

    /// Whether a file of the chunk has to be here: it is recorded so, or this is a place of it now, be
    /// it noted yet or not.
    pub(super) fn is_wanted_here(&self, id: ChunkId) -> Result<bool> {
        let view = self.table.view();
        let Some(record) = view.chunk(id)? else { return Ok(false) };
        let is_noted = record.stored_on.contains(&self.node);
        Ok(is_noted || view.placement()?.places(id).contains(&self.node))
    }

    /// This node's file of a chunk is perhaps bad or missing: the repair looks at it.
    pub fn suspect(&self, id: ChunkId) {
        self.chunks.suspect(id);
    }

    /// Files of this node that the repair may remove; those beyond a bound are left to the inventory.
    pub fn unwanted(&self, ids: &[ChunkId]) {
        let mut unwanted = self.unwanted.lock();
        let room = REAP_IDS_MAX.saturating_sub(unwanted.len());
        unwanted.extend(ids.iter().take(room));
    }

    pub(super) fn take_unwanted(&self) -> Vec<ChunkId> {
        std::mem::take(&mut self.unwanted.lock())
    }

    /// Copies that landed when nobody waited for them any more, since the last call.
    pub(super) fn take_landed(&self) -> Vec<(NodeId, ChunkId)> {
        self.tally.take_landed()
    }

    pub fn counts(&self) -> CopyCounts {
        self.tally.counts()
    }
}

fn zone(placement: &Placement, node: NodeId) -> Option<&str> {
    placement.members.iter().find(|member| member.node == node).map(|member| member.zone.as_str())
}
