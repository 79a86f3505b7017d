//! Staging: pieces of a big new file go to a content that no inode names yet, so that they need not
//! wait in memory; one small commit makes it the file's.

use std::sync::Arc;

use super::Vfs;
use super::commit::Plan;
use super::layer::Layer;
use super::node::Node;
use crate::error::{Error, Result};
use crate::meta::{Body, Inode, Mutation, NewChunk, WriteOp};
use crate::replication::{Need, Wait};
use crate::types::ContentId;
use crate::types::limits::{CHUNK_EXTENTS_MAX, COMMIT_OPS_MAX};

/// Layers of one file above which they are put into metadata before the commit that shows them.
const LAYERS_MAX: usize = 512;

impl Vfs {
    /// Bounds the memory a growing file's layers take: on an empty base they go to a content of
    /// their own. Elsewhere they are committed, and where a slot would get too many pieces: it is
    /// written whole then, with what others have in its holes, which a content of its own has not.
    pub(super) async fn spill(&self, node: &Arc<Node>) -> Result<()> {
        if node.state().dirty.layers.len() < LAYERS_MAX {
            return Ok(());
        }
        let _turn = node.committing.lock().await;
        let inode = self.inode(node.ino)?;
        let empty = matches!(&inode.body, Body::Inline(bytes) if bytes.is_empty());
        let (layers, staged) = {
            let state = node.state();
            let dirty = &state.dirty;
            let appended = dirty.appended.is_some() && !self.replica.is_alone() && !dirty.reset;
            let fresh = (dirty.reset || empty) && !appended;
            let staged = dirty.staged.or_else(|| fresh.then(|| self.replica.next_content()));
            (dirty.layers.clone(), staged)
        };
        let content = match staged {
            Some(content) if self.crowded_slots(Some(content), &layers)?.is_empty() => content,
            _ => return self.commit_locked(node, Wait::Applied).await,
        };
        let result = async {
            let chunks = self.stored(&layers).await?;
            self.stage(content, &layers, chunks, self.need(node.ino)).await
        }
        .await;
        if let Err(error) = result {
            self.lose(node, error.clone());
            // Some of it may be staged, which no commit will ever take.
            self.upkeep.unstage(content);
            return Err(error);
        }
        let mut state = node.state();
        if state.dirty.staged.is_none() && !state.dirty.reset {
            state.dirty.based_on = Some(inode.version);
        }
        state.dirty.staged = Some(content);
        self.settle_layers(&mut state.dirty, &layers);
        Ok(())
    }

    /// Puts layers into a content of their own.
    pub(super) async fn stage(
        &self,
        content: ContentId,
        layers: &[Arc<Layer>],
        chunks: Vec<NewChunk>,
        need: Need,
    ) -> Result<()> {
        let mut chunks = chunks.into_iter();
        for group in layers.chunks(COMMIT_OPS_MAX / CHUNK_EXTENTS_MAX) {
            let ops = group.iter().flat_map(|layer| layer.ops()).collect();
            let chunks = chunks.by_ref().take(group.len()).collect();
            let may_relax = need == Need::One;
            let stage = Mutation::Stage { content, ops, chunks, may_relax };
            self.propose_copied(stage, Wait::Applied, 0, need).await?;
        }
        Ok(())
    }

    /// Makes a staged content the file's, or lays it over what others have written meanwhile. Returns
    /// how many commits it took; none when the kernel of the writer has not all of it.
    pub(super) async fn adopt(
        &self,
        node: &Node,
        plan: &Plan,
        content: ContentId,
        wait: Wait,
    ) -> Result<(Box<Inode>, u64)> {
        let ops = vec![WriteOp::Adopt { content, size: plan.size }];
        match self.propose_commit(node, plan, ops, Vec::new(), plan.based_on, wait).await {
            Err(Error::Conflict) => self.lay_over(node, plan, content, wait).await,
            inode => Ok((inode?, 1)),
        }
    }

    /// Forgets what was staged, now the file's; the layers over it stay, each at its place.
    pub(super) fn adopted(&self, node: &Node, plan: &Plan, inode: &Inode, commits: u64) {
        {
            let mut state = node.state();
            state.unpublished = false;
            state.committed(false);
            let dirty = &mut state.dirty;
            dirty.reset = false;
            (dirty.staged, dirty.based_on, dirty.frozen) = (None, None, None);
            dirty.appended = None;
        }
        if let Some(origin) = plan.origin.filter(|_| inode.version == plan.version + commits) {
            self.kernel.wrote(origin, node.ino, plan.version, inode.version);
        }
    }
}
