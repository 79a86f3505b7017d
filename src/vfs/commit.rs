//! Commits: what was written becomes what everybody sees, in one mutation that follows its chunks.

use std::sync::Arc;

use super::crowded::CROWD;
use super::layer::Layer;
use super::node::{Dirty, Node};
use super::read::uncovered;
use super::words::Caller;
use super::{Vfs, node_outcome};
use crate::error::{Error, Result};
use crate::meta::{Body, Commit, Inode, Mutation, NewChunk, Refusal, WriteOp};
use crate::replication::Wait;
use crate::types::limits::{COMMIT_OPS_MAX, INLINE_MAX};
use crate::types::{ByteRange, ContentId, SessionId, Timestamp};

/// Times a commit is made again because its base changed.
pub(super) const ATTEMPTS: u32 = 16;

/// What one commit brings, fixed under the node's lock.
pub(super) struct Plan {
    pub layers: Vec<Arc<Layer>>,
    pub reset: bool,
    pub staged: Option<ContentId>,
    /// End of the furthest write.
    pub end: u64,
    /// Size of the file with what is brought, while it is of `version`.
    pub size: u64,
    /// Appended bytes, shown from there on, go to the end of the file.
    pub appended: Option<u64>,
    /// The inline body becomes a manifest, and only if it is still of this version.
    pub outline: Option<u64>,
    /// The bytes of that body, under all others.
    pub base: Option<Arc<Layer>>,
    /// What is brought takes bytes of this version along.
    pub based_on: Option<u64>,
    pub version: u64,
    pub session: SessionId,
    pub written_at: Option<Timestamp>,
    pub origin: Option<u32>,
}

impl Vfs {
    /// Makes what is dirty of a file the file's committed bytes; nothing to do when it is clean.
    /// Also publishes a file that was created here and never written.
    ///
    /// # Errors
    /// What kept it from the disk; the old bytes are untouched and the new ones are given up.
    pub(super) async fn commit(&self, node: &Arc<Node>, wait: Wait) -> Result<()> {
        let _turn = node.committing.lock().await;
        self.commit_locked(node, wait).await
    }

    /// As [`Self::commit`], by a caller that holds `committing`.
    pub(super) async fn commit_locked(&self, node: &Arc<Node>, wait: Wait) -> Result<()> {
        self.give_up_lost(node);
        for _ in 0..ATTEMPTS {
            let Some(plan) = self.plan(node)? else {
                return self.catch_up(node, wait).await;
            };
            match self.bring_in(node, &plan, wait).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(Error::Conflict) if plan.staged.is_none() => {
                    self.unplan(node, &plan);
                    if plan.appended.is_some() {
                        self.thin_out_end(node).await?;
                    }
                }
                Err(error) => {
                    plan.base.iter().for_each(|layer| self.abandon(layer));
                    self.lose(node, error.clone());
                    return Err(error);
                }
            }
        }
        self.lose(node, Error::Conflict);
        Err(Error::Conflict)
    }

    /// An earlier commit did not wait for the disk: now somebody does.
    async fn catch_up(&self, node: &Node, wait: Wait) -> Result<()> {
        let commits = {
            let state = node.state();
            (wait == Wait::Durable && state.is_unsynced()).then(|| state.commits())
        };
        if let Some(commits) = commits {
            self.replica.sync().await?;
            node.state().synced_through(commits);
        }
        Ok(())
    }

    /// Fixes what the next commit brings; `None` when there is nothing.
    fn plan(&self, node: &Node) -> Result<Option<Plan>> {
        let mut state = node.state();
        if state.dirty.is_clean() && !state.unpublished {
            return Ok(None);
        }
        let inode = match self.inode(node.ino) {
            Ok(inode) => inode,
            Err(Error::Stale) => {
                state.unpublished = false;
                drop(state);
                self.discard(node);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let dirty = &mut state.dirty;
        dirty.rebase(inode.size, self.replica.chunk_size());
        let (outline, base) = self.fix(node, dirty, &inode);
        dirty.frozen = Some(inode.version);
        let placed = self.replica.is_alone() || dirty.reset || dirty.staged.is_some();
        Ok(Some(Plan {
            appended: dirty.appended.filter(|_| !placed),
            base,
            based_on: dirty.based_on,
            layers: dirty.layers.clone(),
            reset: dirty.reset,
            staged: dirty.staged,
            end: dirty.end,
            size: dirty.size(inode.size),
            outline,
            version: inode.version,
            session: dirty.session.unwrap_or_else(|| self.replica.session()),
            written_at: dirty.written_at,
            origin: dirty.origin,
        }))
    }

    /// Turns runs into layers: inline where the whole body can stay inline, chunks otherwise.
    /// Returns the version an inline body must still have to become a manifest, and its bytes.
    fn fix(
        &self,
        node: &Node,
        dirty: &mut Dirty,
        inode: &Inode,
    ) -> (Option<u64>, Option<Arc<Layer>>) {
        let inline_base = dirty.staged.is_none()
            && (dirty.reset || matches!(inode.body, Body::Inline(_)))
            && inode.kind == crate::types::FileKind::Regular;
        let small = dirty.runs.iter().all(|run| run.end() <= INLINE_MAX as u64);
        let any_chunk = dirty.layers.iter().any(|layer| layer.chunk().is_some());
        if inline_base && small && !any_chunk {
            if !dirty.runs.is_empty() {
                let runs = dirty.runs.take_all();
                dirty.layers.push(Arc::new(Layer::new(None, runs)));
            }
            return (None, None);
        }
        self.seal_all(node, dirty);
        let base = match (inline_base, dirty.reset, &inode.body) {
            (true, false, Body::Inline(bytes)) => self.base_layer(node, dirty, bytes),
            _ => None,
        };
        (inline_base.then_some(inode.version), base)
    }

    /// Inline bytes that a manifest takes the place of, unless all of them are written anew, and by the
    /// commit that makes the manifest: few enough operations are in one, and crowd no slot. A commit
    /// that is made again looks at them again.
    fn base_layer(&self, node: &Node, dirty: &Dirty, bytes: &[u8]) -> Option<Arc<Layer>> {
        let whole = ByteRange::between(0, bytes.len() as u64);
        let ops: usize = dirty.layers.iter().map(|layer| layer.extents().len()).sum();
        let at_once = self.replica.is_alone() && ops <= CROWD;
        if bytes.is_empty()
            || at_once && uncovered(dirty, whole, self.replica.chunk_size()).is_empty()
        {
            return None;
        }
        Some(self.filler(node, 0, bytes))
    }

    /// Undoes the inline part of a plan whose base changed: its bytes are runs again.
    fn unplan(&self, node: &Node, plan: &Plan) {
        plan.base.iter().for_each(|layer| self.abandon(layer));
        let mut state = node.state();
        let dirty = &mut state.dirty;
        dirty.frozen = None;
        let chunk_size = self.replica.chunk_size();
        let inline = |layer: &Arc<Layer>| layer.chunk().is_none();
        for layer in plan.layers.iter().filter(|layer| inline(layer)) {
            dirty.layers.retain(|kept| !Arc::ptr_eq(kept, layer));
            for op in layer.ops() {
                let WriteOp::Inline { offset, data } = op else { continue };
                let range = ByteRange::between(offset, offset + data.len() as u64);
                for gap in uncovered(dirty, range, chunk_size) {
                    let from = (gap.start() - offset) as usize;
                    let bytes = &data[from..from + gap.len() as usize];
                    let (grown, _) = dirty.runs.write(gap.start(), bytes, chunk_size);
                    self.sealer.budget.take_anyway(grown);
                }
            }
            self.sealer.budget.give_back(layer.len());
        }
    }

    /// Waits for the chunks, proposes, and forgets what is committed. False when that was only what
    /// had been staged: the layers over it need a commit of another kind.
    async fn bring_in(&self, node: &Arc<Node>, plan: &Plan, wait: Wait) -> Result<bool> {
        let (inode, commits) = match plan.staged {
            Some(content) if !self.crowded_slots(Some(content), &plan.layers)?.is_empty() => {
                let (inode, commits) = self.adopt(node, plan, content, Wait::Applied).await?;
                self.adopted(node, plan, &inode, commits);
                return Ok(false);
            }
            Some(content) => {
                let chunks = self.stored(&plan.layers).await?;
                self.stage(content, &plan.layers, chunks, self.need(node.ino)).await?;
                self.adopt(node, plan, content, wait).await?
            }
            None => self.commit_layers(node, plan, wait).await?,
        };
        self.committed(node, plan, &inode, commits, wait);
        Ok(true)
    }

    /// One commit, or several in order when there is more than one may carry. Appended bytes go in
    /// one, so that others' come before or after all of them. Returns how many commits it took.
    async fn commit_layers(
        &self,
        node: &Arc<Node>,
        plan: &Plan,
        wait: Wait,
    ) -> Result<(Box<Inode>, u64)> {
        let layers: Vec<_> = plan.base.iter().chain(&plan.layers).cloned().collect();
        let chunks = self.stored(&layers).await?;
        let mut expected = plan.outline.filter(|_| !plan.reset).or(plan.based_on);
        let mut ops = Vec::new();
        if plan.reset {
            ops.push(WriteOp::Reset);
        }
        if plan.outline.is_some() {
            ops.push(WriteOp::Outline { content: self.replica.next_content() });
        }
        if plan.appended.is_some() {
            ops.extend(plan.base.iter().flat_map(|base| base.ops()));
            let appended = plan.layers.iter().flat_map(|layer| layer.append_ops());
            let mut appended: Vec<_> = appended.collect();
            appended.sort_by_key(|(shown, _)| *shown);
            ops.extend(appended.into_iter().map(|(_, op)| op));
            let bumps = u64::from(!ops.is_empty());
            let inode = self.propose_commit(node, plan, ops, chunks, expected, wait).await?;
            return Ok((inode, bumps));
        }
        let crowded = self.slots_to_join(node, plan)?;
        let (mut batch, mut commits) = (Vec::new(), 0);
        let mut chunks = chunks.into_iter().peekable();
        for layer in &layers {
            let is_base = plan.base.as_ref().is_some_and(|base| Arc::ptr_eq(base, layer));
            let mut more = layer.ops();
            more.retain(|op| is_base || !self.is_within(op, &crowded));
            if ops.len() + more.len() > COMMIT_OPS_MAX {
                let (ops, batch) = (std::mem::take(&mut ops), std::mem::take(&mut batch));
                let expected = expected.take();
                self.propose_commit(node, plan, ops, batch, expected, Wait::Applied).await?;
                commits += 1;
            }
            ops.extend(more);
            batch.extend(chunks.next_if(|chunk| Some(chunk.id) == layer.chunk()));
        }
        commits += u64::from(!ops.is_empty());
        if crowded.is_empty() {
            let inode = self.propose_commit(node, plan, ops, batch, expected, wait).await?;
            return Ok((inode, commits));
        }
        self.propose_commit(node, plan, ops, batch, expected, Wait::Applied).await?;
        let (inode, joined) = self.commit_crowded(node, plan, &crowded, wait).await?;
        Ok((inode, commits + joined))
    }

    pub(super) async fn propose_commit(
        &self,
        node: &Node,
        plan: &Plan,
        ops: Vec<WriteOp>,
        chunks: Vec<NewChunk>,
        expected_version: Option<u64>,
        wait: Wait,
    ) -> Result<Box<Inode>> {
        let commit = Commit {
            ino: node.ino,
            ops,
            chunks,
            expected_version,
            at: self.clock.now(),
            mtime: plan.written_at,
            strip_privilege: false,
        };
        let origin = plan.origin.unwrap_or(0);
        let (mutation, need) = (Mutation::Commit(commit), self.need(node.ino));
        let session = Some(plan.session);
        let outcome = self.propose_copied_of(session, mutation, wait, origin, need).await?;
        node_outcome(outcome).map(|(_, inode)| inode)
    }

    /// Forgets what a plan brought in; later writes stay.
    fn committed(&self, node: &Node, plan: &Plan, inode: &Inode, commits: u64, wait: Wait) {
        let landed = plan.appended.map(|from| inode.size.wrapping_sub(plan.end - from));
        let moved = landed.zip(plan.appended).map_or(0, |(at, from)| at.wrapping_sub(from));
        let mut state = node.state();
        state.unpublished = false;
        state.committed(wait == Wait::Durable);
        let dirty = &mut state.dirty;
        dirty.reset = false;
        (dirty.staged, dirty.based_on, dirty.frozen) = (None, None, None);
        // Alone, more may have been appended meanwhile.
        dirty.appended = dirty.appended.map(|from| from.max(plan.end));
        self.settle_layers(dirty, &plan.layers);
        plan.base
            .iter()
            .filter_map(|base| base.chunk())
            .for_each(|id| self.replica.settle_chunk(id));
        if dirty.layers.is_empty() && dirty.runs.is_empty() {
            *dirty = Dirty::default();
        } else {
            dirty.shrink_end();
        }
        drop(state);
        let own = inode.version == plan.version + commits;
        if moved != 0 {
            plan.layers.iter().for_each(|layer| layer.shift(moved));
            self.tell_moved(node);
        } else if let Some(origin) = plan.origin.filter(|_| own) {
            self.kernel.wrote(origin, node.ino, plan.version, inode.version);
        }
        self.watch_slots(inode, &plan.layers);
    }

    pub(super) fn settle_layers(&self, dirty: &mut Dirty, layers: &[Arc<Layer>]) {
        dirty.layers.retain(|kept| !layers.iter().any(|layer| Arc::ptr_eq(kept, layer)));
        for layer in layers {
            match layer.chunk() {
                Some(id) => self.replica.settle_chunk(id),
                None => self.sealer.budget.give_back(layer.len()),
            }
        }
    }

    /// Gives up what was written in a session that this node has lost: others were told since that
    /// nobody writes, and may have gone on. Each handle hears of it.
    pub(super) fn give_up_lost(&self, node: &Node) {
        let session = self.replica.session();
        let lost = node.state().dirty.session.is_some_and(|of| of != session);
        if lost {
            self.lose(node, Refusal::Fenced.into());
        }
    }

    /// What is not committed is lost: each handle hears of it, and what kernels show of it goes.
    pub(super) fn lose(&self, node: &Node, error: Error) {
        self.discard(node);
        node.state().fail(error);
        self.kernel.distrust(node.ino);
        self.tell_moved(node);
    }

    /// Gives up everything that is not committed.
    pub(super) fn discard(&self, node: &Node) {
        let dirty = std::mem::take(&mut node.state().dirty);
        self.sealer.budget.give_back(dirty.runs.bytes());
        dirty.layers.iter().for_each(|layer| self.abandon(layer));
        if let Some(content) = dirty.staged {
            self.upkeep.unstage(content);
        }
    }

    /// A change of bytes that carries no data of its own, by a caller that holds `committing`.
    pub(super) async fn change_bytes(
        &self,
        node: &Node,
        ops: Vec<WriteOp>,
        who: &Caller,
    ) -> Result<Box<Inode>> {
        let before = self.inode(node.ino)?.version;
        let commit = Commit {
            ino: node.ino,
            ops,
            chunks: Vec::new(),
            expected_version: None,
            at: self.clock.now(),
            mtime: None,
            strip_privilege: false,
        };
        let (mutation, need) = (Mutation::Commit(commit), self.need(node.ino));
        let outcome = self.propose_copied(mutation, Wait::Applied, who.origin, need).await?;
        let (ino, inode) = node_outcome(outcome)?;
        {
            let mut state = node.state();
            state.unpublished = false;
            state.committed(false);
        }
        if inode.version == before + 1 {
            self.kernel.wrote(who.origin, ino, before, inode.version);
        }
        Ok(inode)
    }
}
