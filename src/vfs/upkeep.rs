//! The work nobody waits for: freeing what lost its last reference, and compacting slots.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::hub::ChangeHub;
use super::layer::Layer;
use super::{Vfs, unexpected};
use crate::chunk::{ChunkExtent, ChunkHeader, SealedChunk};
use crate::env::{AlignedBuf, blocking};
use crate::error::{Error, Result};
use crate::meta::{Body, Change, Inode, Mutation, NewChunk, Outcome, Piece, Slot, keys};
use crate::replication::{Copies, Need, Wait};
use crate::types::limits::{PIECES_WANTED_MAX, RELEASED_MAX};
use crate::types::{ChunkId, ContentId, Ino, SessionId};

/// Ids in one Reap.
const REAP_MAX: usize = 1000;
/// Slots brought together in one round.
const COMPACTED_MAX: usize = 16;
/// Between two rounds when nothing rings.
const PAUSE: Duration = Duration::from_secs(5);

/// What waits to be done.
#[derive(Default)]
pub(super) struct Upkeep {
    rung: Arc<Notify>,
    work: Arc<Mutex<Work>>,
}

#[derive(Default)]
struct Work {
    /// Written by this session and never named by a commit.
    abandoned: VecDeque<ChunkId>,
    /// Reaped: their files may go.
    reaped: VecDeque<ChunkId>,
    unstaged: VecDeque<ContentId>,
    /// A snapshot came: what was reaped before it is not told one by one.
    look_for_strays: bool,
    /// What they wrote and no commit named is left over.
    ended: Vec<SessionId>,
    crowded: BTreeSet<(ContentId, u64)>,
}

impl Upkeep {
    /// Hears which chunk files may be deleted, and that files have lost their names.
    pub fn listen(&self, hub: &ChangeHub, copies: &Arc<Copies>) {
        let copies = Arc::clone(copies);
        let (work, rung) = (Arc::clone(&self.work), Arc::clone(&self.rung));
        hub.subscribe(Box::new(move |change, _| match change {
            Change::Reaped(ids) => work.lock().reaped.extend(ids),
            Change::Unwanted(node, ids) if *node == copies.node() => copies.unwanted(ids),
            Change::Orphaned(_) => rung.notify_one(),
            Change::SessionEnded(session) => {
                work.lock().ended.push(*session);
                rung.notify_one();
            }
            Change::Everything => {
                work.lock().look_for_strays = true;
                rung.notify_one();
            }
            _ => {}
        }));
    }

    pub fn abandoned(&self, id: ChunkId) {
        self.work.lock().abandoned.push_back(id);
        self.rung.notify_one();
    }

    pub fn unstage(&self, content: ContentId) {
        self.work.lock().unstaged.push_back(content);
        self.rung.notify_one();
    }

    /// There is something to free.
    pub fn ring(&self) {
        self.rung.notify_one();
    }

    fn crowded(&self, content: ContentId, slot: u64) {
        self.work.lock().crowded.insert((content, slot));
    }
}

impl Vfs {
    /// Frees what earlier sessions left: chunk files nobody named. To be called once, before the
    /// doors open.
    ///
    /// # Errors
    /// What the log or the disk say.
    pub async fn recover(&self) -> Result<()> {
        self.reap_strays().await
    }

    /// Rounds of upkeep, for ever; ends when the task is dropped.
    pub async fn run_upkeep(self: Arc<Self>) {
        let mut sealed = self.clock.elapsed();
        loop {
            let _ = tokio::time::timeout(PAUSE, self.upkeep.rung.notified()).await;
            if self.clock.elapsed().saturating_sub(sealed) >= PAUSE {
                self.seal_idle(PAUSE);
                sealed = self.clock.elapsed();
            }
            if let Err(error) = self.upkeep_round().await {
                log::warn!("upkeep goes on in the next round: {error}");
            }
        }
    }

    /// One round: everything that can be freed now is.
    ///
    /// # Errors
    /// The first failure; the rest waits for the next round.
    pub async fn upkeep_round(&self) -> Result<()> {
        self.nodes.all().iter().for_each(|node| self.give_up_lost(node));
        self.drop_left_over_locks().await;
        self.release_ended().await;
        self.release_orphans().await?;
        self.drop_unstaged().await?;
        self.reap_told_strays().await?;
        self.drop_abandoned().await?;
        // What is everybody's is done by one, whoever leads: its proposals have no way to go.
        let for_all = self.replica.is_alone() || self.replica.leads();
        if for_all {
            self.free_uploads().await?;
            self.free_contents().await?;
        }
        self.reap_garbage(for_all).await?;
        self.delete_reaped();
        // Last: it needs room, which all of the above makes.
        self.compact_crowded().await;
        Ok(())
    }

    /// Lets go of files that lost their last name, on whatever node, and that nobody has open here.
    async fn release_orphans(&self) -> Result<()> {
        let session = self.replica.session();
        let mut after = None;
        loop {
            let page = self.replica.table().view().holds(session, after, RELEASED_MAX)?;
            let Some(&last) = page.last() else {
                return Ok(());
            };
            after = Some(last);
            let mut inos = Vec::new();
            for ino in page {
                // Whoever opened it while it had a name is through the gate and seen; from now on
                // it is opened only where it is open already, so the answer stays true.
                let _gate = self.gates.of(ino).write().await;
                inos.extend((!self.nodes.orphan(ino)).then_some(ino));
            }
            if !inos.is_empty() {
                self.propose(Mutation::ReleaseOrphans { inos }, 0).await?;
            }
        }
    }

    /// Those that were left over by what happened lately.
    async fn reap_told_strays(&self) -> Result<()> {
        if self.upkeep.work.lock().look_for_strays {
            self.reap_strays().await?;
            self.upkeep.work.lock().look_for_strays = false;
        }
        loop {
            let next = self.upkeep.work.lock().ended.last().copied();
            let Some(session) = next else { return Ok(()) };
            self.reap_strays_of(session).await?;
            self.upkeep.work.lock().ended.retain(|ended| *ended != session);
        }
    }

    /// Chunk files without a record that no session may name any more: a crash came before their
    /// commit, or this node was away when they were freed.
    async fn reap_strays(&self) -> Result<()> {
        self.reap_strays_among(None, None).await
    }

    /// As [`Self::reap_strays`], of one session: its chunks on nodes other than its own.
    async fn reap_strays_of(&self, session: SessionId) -> Result<()> {
        let before = ChunkId { session, counter: 0 };
        self.reap_strays_among(Some(before), Some(session)).await
    }

    async fn reap_strays_among(
        &self,
        after: Option<ChunkId>,
        last: Option<SessionId>,
    ) -> Result<()> {
        let mut strays = Vec::new();
        self.chunks.visit_after(after, &mut |id, _| {
            if last.is_some_and(|last| id.session > last) {
                return Ok(false);
            }
            let view = self.replica.table().view();
            let stray = view.chunk(id)?.is_none() && !view.may_still_come(id)?;
            strays.extend(stray.then_some(id));
            Ok(true)
        })?;
        if !strays.is_empty() {
            log::info!("{} chunk files were never committed and are removed", strays.len());
        }
        for ids in strays.chunks(REAP_MAX) {
            self.reap(ids.to_vec()).await?;
        }
        self.delete_reaped();
        Ok(())
    }

    async fn drop_unstaged(&self) -> Result<()> {
        loop {
            let next = self.upkeep.work.lock().unstaged.pop_front();
            let Some(content) = next else {
                return Ok(());
            };
            if content.session != self.replica.session() {
                // It went with its session.
                continue;
            }
            match self.propose(Mutation::Unstage { content }, 0).await {
                // Nothing was staged before it was given up.
                Ok(_) | Err(Error::NotFound) => {}
                Err(error) => {
                    self.upkeep.work.lock().unstaged.push_front(content);
                    return Err(error);
                }
            }
        }
    }

    async fn free_contents(&self) -> Result<()> {
        loop {
            let page = self.replica.table().view().ids(keys::DOOMED, None, 16)?;
            if page.is_empty() {
                return Ok(());
            }
            for content in page.into_iter().map(ContentId::from_bytes) {
                let step = Mutation::FreeContent { content };
                while self.propose(step.clone(), 0).await? == Outcome::More(true) {}
            }
        }
    }

    /// Chunks of this node that no commit will name.
    async fn drop_abandoned(&self) -> Result<()> {
        let mut left = self.upkeep.work.lock().abandoned.len();
        while left > 0 {
            let ids: Vec<ChunkId> = {
                let mut work = self.upkeep.work.lock();
                let count = left.min(REAP_MAX).min(work.abandoned.len());
                work.abandoned.drain(..count).collect()
            };
            left = if ids.is_empty() { 0 } else { left - ids.len() };
            let reaped = self.reap(ids.clone()).await;
            let gone: BTreeSet<ChunkId> = reaped.iter().flatten().copied().collect();
            for &id in ids.iter().filter(|id| !gone.contains(id)) {
                // One with a record was named by a commit after all, and goes with its references.
                // Another waits for somebody to answer.
                if self.replica.table().view().chunk(id)?.is_none() {
                    self.upkeep.work.lock().abandoned.push_back(id);
                }
            }
            reaped?;
        }
        Ok(())
    }

    /// Chunks without references. Above its session's mark only the node that gave out the number
    /// knows whether it is settled: each sees to its own there, and who works `for_all` to the rest.
    pub(super) async fn reap_garbage(&self, for_all: bool) -> Result<()> {
        let own = self.replica.session();
        let mut after = (!for_all).then(|| ChunkId { session: own, counter: 0 }.to_bytes());
        loop {
            let mut ids = Vec::new();
            {
                let view = self.replica.table().view();
                let page = view.ids(keys::GARBAGE, after, REAP_MAX)?;
                after = page.last().copied();
                for id in page.into_iter().map(ChunkId::from_bytes) {
                    if !for_all && id.session != own {
                        after = None;
                        break;
                    }
                    let is_due = match view.may_still_come(id)? {
                        true => self.replica.is_settled_chunk(id),
                        false => for_all,
                    };
                    ids.extend(is_due.then_some(id));
                }
            }
            if !ids.is_empty() {
                self.reap(ids).await?;
            }
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Files go after the log says on disk that they may: a rebuilt table must find them gone from
    /// its records too.
    async fn reap(&self, ids: Vec<ChunkId>) -> Result<Vec<ChunkId>> {
        match self.replica.propose(Mutation::Reap { ids }, Wait::Durable, 0).await? {
            Outcome::Reaped(gone) => Ok(gone),
            other => Err(unexpected(&other)),
        }
    }

    fn delete_reaped(&self) {
        loop {
            let next = self.upkeep.work.lock().reaped.pop_front();
            let Some(id) = next else {
                return;
            };
            if let Err(error) = self.chunks.delete(id) {
                log::warn!("chunk file {id} is removed at the next start: {error}");
            }
        }
    }

    /// Notes slots that small writes may have cut into many pieces.
    pub(super) fn watch_slots(&self, inode: &Inode, layers: &[Arc<Layer>]) {
        let Body::Manifest(content) = inode.body else {
            return;
        };
        let size = self.replica.chunk_size();
        for layer in layers.iter().filter(|layer| layer.len() < size / 2) {
            for range in layer.ranges() {
                self.upkeep.crowded(content, range.start() / size);
            }
        }
    }

    /// Some of the slots that were noted, one after the other, while there is room for data: what the old
    /// pieces took is freed in the next round. One that cannot be read or stored stays as it is.
    async fn compact_crowded(&self) {
        for _ in 0..COMPACTED_MAX {
            let needed = self.sealer.budget.used() + self.replica.chunk_size();
            if self.reserve.check_data(&self.chunks, needed).is_err() {
                return;
            }
            let next = self.upkeep.work.lock().crowded.pop_first();
            let Some((content, number)) = next else { return };
            let compacted = async {
                let slot = self.replica.table().view().slot(content, number)?;
                match slot.filter(|slot| slot.pieces.len() > PIECES_WANTED_MAX) {
                    Some(slot) => self.compact(content, number, slot).await,
                    None => Ok(()),
                }
            };
            match compacted.await {
                // Replaced meanwhile.
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => log::warn!("slot {number} of {content:?} stays in pieces: {error}"),
            }
        }
        self.upkeep.ring();
    }

    /// Brings a slot's pieces together in one new chunk. Whoever changes the slot meanwhile wins.
    pub(super) async fn compact(&self, content: ContentId, number: u64, slot: Slot) -> Result<()> {
        let (data, stretches) = self.gather(&slot.pieces).await?;
        if stretches.len() > crate::types::limits::CHUNK_EXTENTS_MAX {
            return Ok(());
        }
        // Not taken before the old bytes are there: whatever comes of it from here on, it is settled.
        let id = self.replica.next_chunk();
        let start = number * self.replica.chunk_size();
        let extent = |piece: &Piece| {
            let file_offset = start + u64::from(piece.start);
            ChunkExtent { file_offset, len: piece.len }
        };
        let extents = stretches.iter().map(extent).collect();
        let pieces = stretches.into_iter().map(|piece| Piece { chunk: id, ..piece }).collect();
        let header = ChunkHeader { id, content, bucket: Ino::ROOT, extents };
        let result = match self.write_compacted(header, data).await {
            Ok(chunk) => {
                let chunks = vec![chunk];
                self.propose_compaction(content, number, slot.pieces, pieces, chunks).await
            }
            Err(error) => Err(error),
        };
        self.replica.settle_chunk(id);
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                self.upkeep.abandoned(id);
                if matches!(error, Error::Conflict) { Ok(()) } else { Err(error) }
            }
        }
    }

    /// The bytes of a slot's pieces, one after the other, and the stretches of the slot they are:
    /// pieces of a chunk that has just these bytes.
    async fn gather(&self, pieces: &[Piece]) -> Result<(AlignedBuf, Vec<Piece>)> {
        let len = pieces.iter().map(|piece| piece.len as usize).sum();
        let mut data = AlignedBuf::with_capacity(len);
        let mut stretches: Vec<Piece> = Vec::new();
        for piece in pieces {
            let mut bytes = Vec::with_capacity(piece.len as usize);
            self.copies.read(piece.chunk, piece.chunk_offset, piece.len, &[], &mut bytes).await?;
            let chunk_offset = data.len() as u32;
            data.extend(&bytes);
            match stretches.last_mut() {
                Some(last) if last.end() == piece.start => last.len += piece.len,
                _ => stretches.push(Piece { chunk_offset, ..*piece }),
            }
        }
        Ok((data, stretches))
    }

    async fn write_compacted(&self, header: ChunkHeader, data: AlignedBuf) -> Result<NewChunk> {
        let (id, data) = (header.id, Arc::new(data));
        let sealed = blocking(move || SealedChunk::new(&header, data)).await;
        let chunk = sealed.unwrap_or(Err(Error::ShuttingDown))?;
        let (len, sha256) = (chunk.info().len, chunk.info().sha256);
        let stored_on = self.copies.store(chunk, Need::Quorum, &[]).await?;
        Ok(NewChunk { id, len, sha256, stored_on })
    }

    async fn propose_compaction(
        &self,
        content: ContentId,
        slot: u64,
        expected: Vec<Piece>,
        pieces: Vec<Piece>,
        chunks: Vec<NewChunk>,
    ) -> Result<()> {
        self.sync_names().await?;
        let compact = Mutation::Compact { content, slot, expected, pieces, chunks };
        self.propose_copied(compact, Wait::Applied, 0, Need::Quorum).await.map(|_| ())
    }
}
