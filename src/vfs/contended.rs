//! Commits to files that other nodes write at the same time: what they have committed meanwhile
//! stays, whatever a commit here was prepared for.

use std::sync::Arc;

use super::Vfs;
use super::commit::{ATTEMPTS, Plan};
use super::layer::Layer;
use super::node::Node;
use super::runs::Run;
use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::{Body, Inode, Slot, WriteOp};
use crate::replication::Wait;
use crate::types::{ByteRange, ContentId};

/// Slots of a staged content that one commit lays over a file: each has many pieces at worst.
const SLOTS_AT_ONCE: u64 = 4;

impl Vfs {
    /// Bytes that are nobody's writes but have to be written with some, as a chunk.
    pub(super) fn filler(&self, node: &Node, start: u64, bytes: &[u8]) -> Arc<Layer> {
        self.sealer.budget.take_anyway(bytes.len() as u64);
        let run = Run { start, data: AlignedBuf::from(bytes) };
        let layer = Arc::new(Layer::new(Some(self.replica.next_chunk()), vec![run]));
        self.start_sealing(node, &layer);
        layer
    }

    /// Commits fillers after `ops`, over that version only.
    pub(super) async fn commit_filler(
        &self,
        node: &Node,
        plan: &Plan,
        layers: &[Arc<Layer>],
        mut ops: Vec<WriteOp>,
        version: u64,
        wait: Wait,
    ) -> Result<Box<Inode>> {
        let result = async {
            let chunks = self.stored(layers).await?;
            ops.extend(layers.iter().flat_map(|layer| layer.ops()));
            self.propose_commit(node, plan, ops, chunks, Some(version), wait).await
        }
        .await;
        for layer in layers {
            match (&result, layer.chunk()) {
                (Ok(_), Some(id)) => self.replica.settle_chunk(id),
                _ => self.abandon(layer),
            }
        }
        result
    }

    /// Lays what was staged for an empty file over what others have written to it meanwhile.
    pub(super) async fn lay_over(
        &self,
        node: &Node,
        plan: &Plan,
        content: ContentId,
        wait: Wait,
    ) -> Result<(Box<Inode>, u64)> {
        self.make_manifest(node, plan).await?;
        let last = plan.end / self.replica.chunk_size();
        for first in (0..=last).step_by(SLOTS_AT_ONCE as usize) {
            let slots = {
                let view = self.replica.table().view();
                view.slots(content, first, last.min(first + SLOTS_AT_ONCE - 1))?
            };
            let ops = self.copies(content, &slots);
            if !ops.is_empty() {
                self.propose_commit(node, plan, ops, Vec::new(), None, Wait::Applied).await?;
            }
        }
        self.upkeep.unstage(content);
        let end = vec![WriteOp::Extend { size: plan.end }];
        let inode = self.propose_commit(node, plan, end, Vec::new(), None, wait).await?;
        // The kernel of the writer has nothing of the others' bytes: its pages are of no version.
        Ok((inode, 0))
    }

    /// By reference, what a content has and nothing of what it has not.
    fn copies(&self, content: ContentId, slots: &[(u64, Slot)]) -> Vec<WriteOp> {
        let size = self.replica.chunk_size();
        let mut ranges: Vec<ByteRange> = Vec::new();
        for (number, slot) in slots {
            for piece in &slot.pieces {
                let start = number * size + u64::from(piece.start);
                let end = start + u64::from(piece.len);
                match ranges.last_mut() {
                    Some(last) if last.end() == start => {
                        *last = ByteRange::between(last.start(), end);
                    }
                    _ => ranges.push(ByteRange::between(start, end)),
                }
            }
        }
        let copy = |range: ByteRange| {
            let (offset, len) = (range.start(), range.len());
            WriteOp::CopyContent { from: content, from_offset: offset, offset, len }
        };
        ranges.into_iter().map(copy).collect()
    }

    /// Gives the file a manifest, with the bytes it has.
    async fn make_manifest(&self, node: &Node, plan: &Plan) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let inode = self.inode(node.ino)?;
            let Body::Inline(bytes) = &inode.body else {
                return Ok(());
            };
            let base = (!bytes.is_empty()).then(|| self.filler(node, 0, bytes));
            let layers: Vec<_> = base.into_iter().collect();
            let outline = vec![WriteOp::Outline { content: self.replica.next_content() }];
            let version = inode.version;
            match self.commit_filler(node, plan, &layers, outline, version, Wait::Applied).await {
                Err(Error::Conflict) => {}
                result => return result.map(|_| ()),
            }
        }
        Err(Error::Conflict)
    }
}
