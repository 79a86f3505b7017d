//! Sealing: runs become a layer at once, and a chunk file soon, on the blocking threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Vfs;
use super::budget::Budget;
use super::layer::{self, Layer, Stored};
use super::node::{Dirty, Node};
use super::runs::Run;
use crate::chunk::{ChunkHeader, SealedChunk};
use crate::env::{AlignedBuf, blocking};
use crate::error::{Error, Result};
use crate::replication::{Copies, Need};
use crate::types::limits::INLINE_MAX;
use crate::types::{ContentId, Ino};

/// Chunks hashed at the same time: enough to keep a disk busy with those that are written. How long others
/// take to store theirs keeps nobody from a turn.
const SEALS_AT_ONCE: usize = 12;

/// Turns layers into chunk files, here and on other nodes.
pub(super) struct Sealer {
    copies: Arc<Copies>,
    pub budget: Arc<Budget>,
    slots: Arc<Semaphore>,
}

impl Sealer {
    pub fn new(copies: Arc<Copies>, write_buffer: u64) -> Self {
        Self {
            copies,
            budget: Arc::new(Budget::new(write_buffer)),
            slots: Arc::new(Semaphore::new(SEALS_AT_ONCE)),
        }
    }

    /// Makes the layer's chunk files in the background; its memory goes back to the budget when as
    /// many nodes have one as are `need`ed. When that fails, `troubled` is set: whoever goes on writing
    /// has to look at it, for the memory stays until the layer is given up.
    pub fn start(
        &self,
        layer: Arc<Layer>,
        (content, bucket): (ContentId, Ino),
        need: Need,
        troubled: Arc<AtomicBool>,
    ) {
        let (Some(id), Some(memory)) = (layer.chunk(), layer.memory()) else {
            return;
        };
        let (copies, budget) = (Arc::clone(&self.copies), Arc::clone(&self.budget));
        let slots = Arc::clone(&self.slots);
        tokio::spawn(async move {
            let slot = slots.acquire_owned().await.ok();
            let extents = layer.extents().to_vec();
            let header = ChunkHeader { id, content, bucket, extents };
            let written = write(&copies, header, memory, need, slot).await;
            let failed = written.is_err();
            layer.finish(written);
            if failed {
                troubled.store(true, Ordering::Release);
            }
            budget.give_back(layer.len());
        });
    }
}

async fn write(
    copies: &Arc<Copies>,
    header: ChunkHeader,
    memory: Arc<AlignedBuf>,
    need: Need,
    slot: Option<OwnedSemaphorePermit>,
) -> Result<Stored> {
    let sealed = blocking(move || SealedChunk::new(&header, memory)).await;
    drop(slot);
    let chunk = sealed.unwrap_or(Err(Error::ShuttingDown))?;
    let sha256 = chunk.info().sha256;
    let on = copies.store(chunk, need, &[]).await?;
    Ok(Stored { sha256, on })
}

impl Vfs {
    /// Seals the given slots, each as a chunk of its own.
    pub(super) fn seal_slots(&self, node: &Node, dirty: &mut Dirty, slots: &[u64]) {
        for &slot in slots {
            let runs = dirty.runs.take_slot(slot);
            self.seal_runs(node, dirty, runs);
        }
    }

    /// Seals everything, small runs packed together.
    pub(super) fn seal_all(&self, node: &Node, dirty: &mut Dirty) {
        for runs in layer::group(dirty.runs.take_all(), self.replica.chunk_size()) {
            self.seal_runs(node, dirty, runs);
        }
    }

    /// Seals what nobody has written to for `idle`: it gets to the disk while there is time, and out
    /// of the budget. A few bytes are left to the commit, which may keep them inline.
    pub(super) fn seal_idle(&self, idle: Duration) {
        let now = self.clock.elapsed();
        for node in self.nodes.all() {
            let mut state = node.state();
            let quiet = now.saturating_sub(state.dirty.touched) >= idle;
            if quiet && state.dirty.runs.bytes() > INLINE_MAX as u64 {
                self.seal_all(&node, &mut state.dirty);
            }
        }
    }

    fn seal_runs(&self, node: &Node, dirty: &mut Dirty, runs: Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        let layer = Arc::new(Layer::new(Some(self.replica.next_chunk()), runs));
        dirty.layers.push(Arc::clone(&layer));
        self.start_sealing(node, &layer);
    }

    pub(super) fn start_sealing(&self, node: &Node, layer: &Arc<Layer>) {
        // The footer names the writer's inode: enough to find the file again without metadata.
        let content = ContentId { session: self.replica.session(), counter: node.ino.0 };
        let troubled = Arc::clone(&node.troubled);
        let of = (content, node.ino);
        self.sealer.start(Arc::clone(layer), of, self.need(node.ino), troubled);
    }

    /// The chunk of a layer will not be named by any commit: it is garbage once it is written.
    pub(super) fn abandon(&self, layer: &Arc<Layer>) {
        let Some(id) = layer.chunk() else {
            self.sealer.budget.give_back(layer.len());
            return;
        };
        let (layer, replica) = (Arc::clone(layer), Arc::clone(&self.replica));
        let upkeep = Arc::clone(&self.upkeep);
        tokio::spawn(async move {
            // Stored or failed: either way nothing writes the file any more.
            let _ = layer.stored().await;
            replica.settle_chunk(id);
            upkeep.abandoned(id);
        });
    }
}
