//! Copies of the chunks that a change names: enough of them before it is proposed, and more when the
//! nodes they belong to have become others meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::layer::Layer;
use super::{Vfs, unexpected};
use crate::env::blocking;
use crate::error::{Error, Result};
use crate::meta::{Body, Mutation, NewChunk, ObjectBody, Outcome, WriteOp};
use crate::replication::{Need, Wait};
use crate::types::{ByteRange, ChunkId, ContentId, Ino, NodeId, SessionId};

/// Times a change is proposed again because the nodes have changed.
const ATTEMPTS: u32 = 8;
/// Directories above a file that are looked through for its bucket.
const DEPTH_MAX: usize = 4096;
/// Slots looked at in one view.
const SLOTS_PAGE: u64 = 1024;

impl Vfs {
    /// What the bucket of a file asks of its chunks.
    pub(super) fn need(&self, ino: Ino) -> Need {
        // Where in doubt, more.
        self.asked(ino).unwrap_or(Need::Quorum)
    }

    fn asked(&self, ino: Ino) -> Result<Need> {
        let view = self.replica.table().view();
        let mut at = ino;
        for _ in 0..DEPTH_MAX {
            let Some(inode) = view.inode(at)? else { break };
            if inode.parent == Ino::ROOT {
                let relaxed = view.bucket(at)?.is_some_and(|bucket| !bucket.quorum_required);
                return Ok(if relaxed { Need::One } else { Need::Quorum });
            }
            at = inode.parent;
        }
        Ok(Need::Quorum)
    }

    /// The records of the layers' chunks, once files and names are on disk on enough nodes.
    pub(super) async fn stored(&self, layers: &[Arc<Layer>]) -> Result<Vec<NewChunk>> {
        let mut chunks = Vec::with_capacity(layers.len());
        for layer in layers {
            chunks.extend(layer.stored().await?);
        }
        let own = self.copies.node();
        if chunks.iter().any(|chunk| chunk.stored_on.contains(&own)) {
            self.sync_names().await?;
        }
        Ok(chunks)
    }

    pub(super) async fn sync_names(&self) -> Result<()> {
        let store = Arc::clone(&self.chunks);
        let synced = blocking(move || store.sync_names()).await;
        synced.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Proposes a change that names chunks. Where they are on too few of the nodes that the log wants
    /// them on by now, they are sent there, and it is proposed again.
    ///
    /// # Errors
    /// As [`crate::replication::Replica::propose`]; [`Error::NoQuorum`].
    pub(super) async fn propose_copied(
        &self,
        mutation: Mutation,
        wait: Wait,
        origin: u32,
        need: Need,
    ) -> Result<Outcome> {
        self.propose_copied_of(None, mutation, wait, origin, need).await
    }

    /// As [`Self::propose_copied`], for what was begun in a session: not proposed in another.
    pub(super) async fn propose_copied_of(
        &self,
        session: Option<SessionId>,
        mut mutation: Mutation,
        wait: Wait,
        origin: u32,
        need: Need,
    ) -> Result<Outcome> {
        if self.has_no_members()? {
            return self.propose_once(session, mutation, wait, origin).await;
        }
        for _ in 0..ATTEMPTS {
            match self.propose_once(session, mutation.clone(), wait, origin).await {
                Err(Error::TooFewCopies) => self.supply(&mut mutation, need).await?,
                answered => return answered,
            }
        }
        Err(Error::NoQuorum("the nodes that have to store the data change too fast".into()))
    }

    async fn propose_once(
        &self,
        session: Option<SessionId>,
        mutation: Mutation,
        wait: Wait,
        origin: u32,
    ) -> Result<Outcome> {
        match session {
            Some(session) => self.replica.propose_of(session, mutation, wait, origin).await,
            None => self.replica.propose(mutation, wait, origin).await,
        }
    }

    /// No table of nodes: nobody else could have copies.
    fn has_no_members(&self) -> Result<bool> {
        Ok(self.replica.table().view().placement()?.members.is_empty())
    }

    /// Makes copies of everything that a change names.
    async fn supply(&self, mutation: &mut Mutation, need: Need) -> Result<()> {
        match mutation {
            Mutation::Commit(commit) => {
                // The file may have come into a bucket that asks for more since.
                let need = self.need(commit.ino);
                self.supply_chunks(&mut commit.chunks, need).await?;
                self.supply_ops(&commit.ops, need).await
            }
            Mutation::Stage { ops, chunks, .. } => {
                self.supply_chunks(chunks, need).await?;
                self.supply_ops(ops, need).await
            }
            Mutation::Compact { chunks, .. } => self.supply_chunks(chunks, need).await,
            Mutation::PutObject(put) | Mutation::CompleteUpload { put, .. } => match put.body {
                ObjectBody::Staged { content, .. } => self.vouch(content).await,
                ObjectBody::Inline(_) => Err(Error::TooFewCopies),
            },
            Mutation::PutPart { part, .. } => match part.content {
                Some(content) => self.vouch(content).await,
                None => Err(Error::TooFewCopies),
            },
            _ => Err(Error::TooFewCopies),
        }
    }

    async fn supply_chunks(&self, chunks: &mut [NewChunk], need: Need) -> Result<()> {
        for chunk in chunks {
            chunk.stored_on = self.copies.spread(chunk.id, &chunk.stored_on, need).await?;
        }
        self.sync_names().await
    }

    async fn supply_ops(&self, ops: &[WriteOp], need: Need) -> Result<()> {
        for op in ops {
            match *op {
                WriteOp::Adopt { content, .. } => self.vouch(content).await?,
                WriteOp::CopyContent { from, from_offset, len, .. } => {
                    let range = ByteRange::between(from_offset, from_offset.saturating_add(len));
                    self.supply_range(from, range, need).await?;
                }
                WriteOp::Copy { from, from_offset, len, .. } => {
                    let range = ByteRange::between(from_offset, from_offset.saturating_add(len));
                    if let Body::Manifest(content) = self.inode(from)?.body {
                        self.supply_range(content, range, need).await?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Has the log see again that all chunks of a staged content have their quorum, and sees to it.
    async fn vouch(&self, content: ContentId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let vouched = loop {
                match self.propose(Mutation::Vouch { content }, 0).await {
                    Ok(Outcome::More(true)) => {}
                    Ok(Outcome::More(false)) => break Ok(()),
                    Ok(other) => break Err(unexpected(&other)),
                    Err(error) => break Err(error),
                }
            };
            match vouched {
                Err(Error::TooFewCopies) => {
                    let all = ByteRange::between(0, u64::MAX);
                    self.supply_range(content, all, Need::Quorum).await?;
                }
                vouched => return vouched,
            }
        }
        Err(Error::NoQuorum("the nodes that have to store the data change too fast".into()))
    }

    /// Makes copies of the recorded chunks that have bytes in a range, and tells the log.
    async fn supply_range(&self, content: ContentId, range: ByteRange, need: Need) -> Result<()> {
        let size = self.replica.chunk_size();
        let (mut first, last) = (range.start() / size, range.end().saturating_sub(1) / size);
        while first <= last {
            let to = last.min(first.saturating_add(SLOTS_PAGE - 1));
            let slots = self.replica.table().view().slots(content, first, to)?;
            let pieces = slots.iter().flat_map(|(_, slot)| &slot.pieces);
            let ids: BTreeSet<ChunkId> = pieces.map(|piece| piece.chunk).collect();
            self.supply_recorded(ids, need).await?;
            if slots.is_empty() && !self.has_slots_from(content, to)? {
                break;
            }
            let Some(next) = to.checked_add(1) else { break };
            first = next;
        }
        Ok(())
    }

    /// Whether a content goes on after a slot.
    fn has_slots_from(&self, content: ContentId, after: u64) -> Result<bool> {
        self.replica.table().view().has_slots(content, after)
    }

    async fn supply_recorded(&self, ids: BTreeSet<ChunkId>, need: Need) -> Result<()> {
        let mut made: BTreeMap<NodeId, Vec<ChunkId>> = BTreeMap::new();
        for id in ids {
            let record = self.replica.table().view().chunk(id)?;
            let Some(record) = record else { continue };
            for node in self.copies.spread(id, &record.stored_on, need).await? {
                if !record.stored_on.contains(&node) {
                    made.entry(node).or_default().push(id);
                }
            }
        }
        if made.contains_key(&self.copies.node()) {
            self.sync_names().await?;
        }
        for (node, ids) in made {
            self.propose(Mutation::Stored { node, ids }, 0).await?;
        }
        Ok(())
    }
}
