//! The rounds of one node's repair, and what it tells the log; what it does with files is in `mend`,
//! `errands` and `inventory`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::inventory::Looking;
use super::keeper::Copies;
use crate::env::blocking;
use crate::error::{Error, Result};
use crate::meta::{Errand, Mutation, NodeRecord, Outcome, Survey};
use crate::replication::{Replica, Wait};
use crate::types::limits::REAP_IDS_MAX;
use crate::types::{ChunkId, NodeId};

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(2);
/// Rounds between two looks at all files.
const INVENTORY_EVERY: u64 = 6 * 3600 / PAUSE.as_secs();
/// Rounds after a survey until the files are looked at: what was written by the table before it may
/// still arrive, and is recorded elsewhere.
const INVENTORY_AFTER: u64 = 30 / PAUSE.as_secs();
/// How long a round goes on with what takes long before it sees to the rest again.
pub(super) const ROUND_MAX: Duration = Duration::from_secs(10);

/// One node's repair of its copies.
pub struct Repair {
    pub(super) copies: Arc<Copies>,
    replica: Arc<Replica>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// Errands of the last round: a copy may be on its way from the chunk's writer, who is given
    /// until the next.
    pub fresh: HashMap<ChunkId, Errand>,
    /// Where the errands go on, when the last round had no time for all.
    pub errands_after: Option<ChunkId>,
    /// Copies that nobody could give: in which round they are asked for again, and how often they were.
    pub resting: HashMap<ChunkId, (u64, u32)>,
    /// How far the survey was in the last round.
    surveyed: Option<(u64, Survey)>,
    pub rounds: u64,
    /// The round in which the files are looked at, besides the usual ones.
    inventory_at: u64,
    /// The look at all files that is under way: it goes on until it is at its end.
    pub inventory: Option<Looking>,
    /// There was no time for everything in this round.
    is_behind: bool,
}

impl Repair {
    pub fn new(copies: Arc<Copies>, replica: Arc<Replica>) -> Arc<Self> {
        Arc::new(Self { copies, replica, state: Mutex::default() })
    }

    /// Sets the replication factor, if it is to be another than the cluster has, and enlists this
    /// node, if the log knows of no node at all.
    ///
    /// # Errors
    /// What the log says.
    pub async fn found(&self, address: &str, zone: Option<&str>, factor: Option<u8>) -> Result<()> {
        let is_new = self.copies.table.view().nodes()?.is_empty();
        let now = self.copies.table.view().placement()?.replication_factor;
        if let Some(factor) = factor.filter(|factor| *factor != now) {
            if !is_new {
                log::warn!(
                    "the cluster wants {factor} copies of each chunk from now on, not {now}"
                );
            }
            if factor == 2 {
                log::warn!(
                    "of 2 copies a write waits for both: a bucket's writes stop with either"
                );
            }
            self.propose(Mutation::SetReplicationFactor { factor }).await?;
        }
        if !is_new {
            return Ok(());
        }
        self.enlist(address, zone).await?;
        self.survey().await
    }

    /// Puts this node into the log, unless it is there: from then on it takes copies, and counts for
    /// the quorum of those it has to take. Its peers must have a way to it. A node that is there and
    /// is told another `zone` moves to it, and copies with it.
    ///
    /// # Errors
    /// What the log says.
    pub async fn enlist(&self, address: &str, zone: Option<&str>) -> Result<()> {
        if zone.is_some() {
            // The record may have to be written again as it is: it must not be one of yesterday.
            self.replica.barrier().await?;
        }
        let nodes = self.copies.table.view().nodes()?;
        let known = nodes.into_iter().find(|(node, _)| *node == self.node());
        let record = match (known, zone) {
            (Some((_, known)), Some(zone)) if known.zone != zone => {
                log::warn!("this node is in zone `{zone}` from now on, it was in `{}`", known.zone);
                NodeRecord { zone: zone.to_owned(), ..known }
            }
            (Some(_), _) => return Ok(()),
            (None, zone) => NodeRecord::enlisting(address, zone.unwrap_or_default()),
        };
        self.propose(Mutation::SetNode { node: self.node(), record }).await.map(|_| ())
    }

    /// Rounds, for ever; ends when the task is dropped.
    pub async fn run(self: Arc<Self>) {
        let mut pause = PAUSE;
        loop {
            tokio::time::sleep(pause).await;
            pause = match self.round().await {
                Ok(()) if self.state.lock().is_behind => Duration::ZERO,
                Ok(()) => PAUSE,
                Err(error) => {
                    log::warn!("the repair of copies goes on in the next round: {error}");
                    PAUSE
                }
            };
        }
    }

    /// One round: everything that can be made is, as far as there is time.
    ///
    /// # Errors
    /// The first failure of the log or this node's disk.
    pub async fn round(&self) -> Result<()> {
        self.begin_round();
        self.survey().await?;
        self.tell_landed().await?;
        // What it cannot look at must not keep the rest from being made.
        let looked = self.take_inventory().await;
        self.see_to_suspects().await?;
        self.delete(self.copies.take_unwanted()).await?;
        self.run_errands().await.and(looked)
    }

    fn begin_round(&self) {
        let mut state = self.state.lock();
        state.rounds += 1;
        state.is_behind = false;
        if state.rounds % INVENTORY_EVERY == 1 || state.rounds == state.inventory_at {
            state.inventory = Some(Looking::default());
        }
    }

    /// Whether a round has no more time; the next one comes without a pause then.
    pub(super) fn is_late(&self, until: Duration) -> bool {
        let is_late = self.copies.clock.elapsed() > until;
        if is_late {
            self.state.lock().is_behind = true;
        }
        is_late
    }

    pub(super) fn node(&self) -> NodeId {
        self.copies.node
    }

    pub(super) async fn propose(&self, mutation: Mutation) -> Result<Outcome> {
        self.replica.propose(mutation, Wait::Applied, 0).await
    }

    /// Looks through the chunks after a change of the nodes: the first member does, and whoever sees
    /// that it does not.
    async fn survey(&self) -> Result<()> {
        let placement = self.copies.table.view().placement()?;
        let at = (placement.epoch, placement.survey);
        let before = self.note_survey(at);
        if placement.survey == Survey::Done {
            return Ok(());
        }
        let is_first = placement.members.first().is_none_or(|first| first.node == self.node());
        if is_first || before == Some(at) {
            let epoch = placement.epoch;
            while self.propose(Mutation::Survey { epoch }).await? == Outcome::More(true) {}
        }
        Ok(())
    }

    /// Returns how far it was in the round before.
    fn note_survey(&self, at: (u64, Survey)) -> Option<(u64, Survey)> {
        let mut state = self.state.lock();
        let before = state.surveyed.replace(at);
        if at.1 == Survey::Done && before.is_some_and(|before| before != at) {
            state.inventory_at = state.rounds + INVENTORY_AFTER;
        }
        before
    }

    /// Tells of copies that landed here after their chunk was named. Each node speaks for itself: what
    /// its writer knows of a copy may be of before this node has removed it as one too many.
    async fn tell_landed(&self) -> Result<()> {
        let arrived = self.copies.chunks.take_arrivals().into_iter().map(|id| (self.node(), id));
        let landed: Vec<_> = self.copies.take_landed().into_iter().chain(arrived).collect();
        let told = self.tell(&landed).await;
        if told.is_err() {
            // Until the log has heard of them they are not to be taken for too many.
            landed.into_iter().for_each(|(node, id)| self.note_landed(node, id));
        }
        told
    }

    fn note_landed(&self, node: NodeId, id: ChunkId) {
        match node == self.node() {
            true => self.copies.chunks.arrived(id),
            false => self.copies.tally.landed(node, id),
        }
    }

    async fn tell(&self, landed: &[(NodeId, ChunkId)]) -> Result<()> {
        let (mut told, mut freed) = (Vec::new(), Vec::new());
        for &(node, id) in landed {
            let view = self.copies.table.view();
            match view.chunk(id)? {
                Some(record) if node != self.node() || record.stored_on.contains(&node) => {}
                Some(_) => told.push(id),
                None if !view.may_still_come(id)? => {}
                // It was freed above its session's mark, which its receiver goes by: whoever has it is
                // told again.
                None if self.replica.is_settled_chunk(id) => freed.push(id),
                // Its commit is under way.
                None => self.note_landed(node, id),
            }
        }
        if !told.is_empty() {
            self.sync_names().await?;
            // Some may have been removed since they landed: only this task does that.
            let chunks = Arc::clone(&self.copies.chunks);
            let is_there = move |id: &ChunkId| chunks.info(*id).is_ok();
            told = on_disk(move || Ok(told.into_iter().filter(is_there).collect())).await?;
        }
        for ids in freed.chunks(REAP_IDS_MAX) {
            self.propose(Mutation::Reap { ids: ids.to_vec() }).await?;
        }
        for ids in told.chunks(REAP_IDS_MAX) {
            let stored = Mutation::Stored { node: self.node(), ids: ids.to_vec() };
            self.propose(stored).await?;
        }
        Ok(())
    }

    /// Deletes files that no record wants on this node, and none that was told of when this began. One that
    /// cannot be deleted stays until the next inventory.
    pub(super) async fn delete(&self, ids: Vec<ChunkId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.replica.barrier().await {
            // Later then: the next look at all files is hours away.
            self.copies.unwanted(&ids);
            return Err(error);
        }
        let copies = Arc::clone(&self.copies);
        let delete = move || {
            for id in ids {
                if copies.is_wanted_here(id)? {
                    continue;
                }
                if let Err(error) = copies.chunks.discard(id) {
                    log::warn!("chunk {id}, which nobody needs here, stays for now: {error}");
                    continue;
                }
                // Recorded in between: then it is missing now, and made again.
                if copies.is_recorded_here(id)? {
                    copies.suspect(id);
                }
            }
            Ok(())
        };
        on_disk(delete).await
    }

    pub(super) async fn sync_names(&self) -> Result<()> {
        let chunks = Arc::clone(&self.copies.chunks);
        on_disk(move || chunks.sync_names()).await
    }
}

pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking(work).await.unwrap_or(Err(Error::ShuttingDown))
}
