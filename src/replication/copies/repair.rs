//! Makes the copies that are missing on this node and gives up those that are one too many, as the
//! log's errands say; tells the log what it has and what it lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::inventory::{Inventory, take};
use super::keeper::Copies;
use super::mend::whole;
use crate::env::blocking;
use crate::error::{Error, Result};
use crate::meta::{Errand, Loss, Mutation, NodeRecord, Outcome, Survey};
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
/// Errands taken up at a time; what came of them is told with one mutation.
const PAGE: usize = 256;
/// Copies made at the same time: the disk and the network are others' too.
const AT_ONCE: usize = 4;
/// Failures after which a round gives up: whoever has the rest is away too.
const FAILURES_MAX: usize = 16;
/// Copies remembered that nobody could give; more of them are asked for in every round.
const RESTING_MAX: usize = 8192;
/// The longest rest is two to this many rounds.
const RESTS_MAX: u32 = 8;
/// Room on the disk that copies leave, in bytes.
const RESERVE: u64 = 256 << 20;

/// One node's repair of its copies.
pub struct Repair {
    pub(super) copies: Arc<Copies>,
    replica: Arc<Replica>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Errands of the last round: a copy may be on its way from the chunk's writer, who is given
    /// until the next.
    fresh: HashMap<ChunkId, Errand>,
    /// Copies that nobody could give: in which round they are asked for again, and how often they were.
    resting: HashMap<ChunkId, (u64, u32)>,
    /// How far the survey was in the last round.
    surveyed: Option<(u64, Survey)>,
    rounds: u64,
    /// The round in which the files are looked at, besides the usual ones.
    inventory_at: u64,
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
        loop {
            tokio::time::sleep(PAUSE).await;
            if let Err(error) = self.round().await {
                log::warn!("the repair of copies goes on in the next round: {error}");
            }
        }
    }

    /// One round: everything that can be made is.
    ///
    /// # Errors
    /// The first failure of the log or this node's disk.
    pub async fn round(&self) -> Result<()> {
        let rounds = {
            let mut state = self.state.lock();
            state.rounds += 1;
            state.rounds
        };
        self.survey().await?;
        self.tell_landed().await?;
        if rounds % INVENTORY_EVERY == 1 || rounds == self.state.lock().inventory_at {
            self.take_inventory().await?;
        }
        self.see_to_suspects().await?;
        self.delete(self.copies.take_unwanted()).await?;
        self.run_errands().await
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
        let (mut told, mut freed) = (Vec::new(), Vec::new());
        let arrived = self.copies.chunks.take_arrivals().into_iter().map(|id| (self.node(), id));
        for (node, id) in self.copies.take_landed().into_iter().chain(arrived) {
            let view = self.copies.table.view();
            match view.chunk(id)? {
                Some(record) if node != self.node() || record.stored_on.contains(&node) => {}
                Some(_) => told.push(id),
                None if !view.may_still_come(id)? => {}
                // It was freed above its session's mark, which its receiver goes by: whoever has it is
                // told again.
                None if self.replica.is_settled_chunk(id) => freed.push(id),
                // Its commit is under way.
                None if node == self.node() => self.copies.chunks.arrived(id),
                None => self.copies.tally.landed(node, id),
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

    async fn run_errands(&self) -> Result<()> {
        let (mut after, mut fresh, mut failures) = (None, HashMap::new(), 0);
        loop {
            let page = self.copies.table.view().errands(self.node(), after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let due = self.due(&page, &mut fresh);
            let of =
                |wanted| due.iter().filter(move |(_, errand)| *errand == wanted).map(|(id, _)| *id);
            failures += self.make(of(Errand::Make).collect()).await?;
            self.give_up(of(Errand::Drop).collect()).await?;
            if failures > FAILURES_MAX {
                break;
            }
        }
        self.state.lock().fresh = fresh;
        Ok(())
    }

    /// What of a page is to be done now: all of a full one, what was there in the last round of the
    /// rest.
    fn due(
        &self,
        page: &[(ChunkId, Errand)],
        fresh: &mut HashMap<ChunkId, Errand>,
    ) -> Vec<(ChunkId, Errand)> {
        if page.len() == PAGE {
            return page.to_vec();
        }
        fresh.extend(page.iter().copied());
        let state = self.state.lock();
        let is_due = |(id, errand): &&(ChunkId, Errand)| {
            let rests = state.resting.get(id).is_some_and(|(round, _)| *round > state.rounds);
            state.fresh.get(id) == Some(errand) && !rests
        };
        page.iter().filter(is_due).copied().collect()
    }

    /// Makes copies here and tells of them; returns how many could not be made.
    async fn make(&self, ids: Vec<ChunkId>) -> Result<usize> {
        let (mut under_way, mut waiting) = (JoinSet::new(), ids.into_iter());
        let (mut made, mut failures) = (Vec::new(), 0);
        loop {
            while under_way.len() < AT_ONCE
                && let Some(id) = waiting.next()
            {
                let copies = Arc::clone(&self.copies);
                under_way.spawn(async move { (id, make_one(&copies, id).await) });
            }
            match under_way.join_next().await {
                Some(Ok((id, Ok(true)))) => made.push(id),
                Some(Ok((_, Ok(false)))) => {}
                Some(Ok((_, Err(error @ (Error::DiskFailed(_) | Error::NoSpace))))) => {
                    return Err(error);
                }
                Some(Ok((id, Err(error)))) => {
                    failures += 1;
                    self.failed(id, &error);
                }
                Some(Err(_)) => return Err(Error::ShuttingDown),
                None => break,
            }
        }
        if !made.is_empty() {
            self.state.lock().resting.retain(|id, _| !made.contains(id));
            self.sync_names().await?;
            self.copies.tally.made(made.len());
            let stored = Mutation::Stored { node: self.node(), ids: made };
            if let Outcome::Reaped(gone) = self.propose(stored).await? {
                self.delete(gone).await?;
            }
        }
        Ok(failures)
    }

    /// Who has the copy may be back in the next round. When nobody has a good one, it is asked for
    /// less and less often.
    fn failed(&self, id: ChunkId, error: &Error) {
        if !matches!(error, Error::NotFound | Error::Damaged(_)) {
            log::debug!("no copy of chunk {id} yet: {error}");
            return;
        }
        log::error!("no node has a good copy of chunk {id}: {error}");
        let mut state = self.state.lock();
        let rounds = state.rounds;
        if state.resting.len() >= RESTING_MAX {
            state.resting.retain(|_, (round, _)| *round > rounds);
        }
        let (round, count) = state.resting.entry(id).or_default();
        *count += 1;
        *round = rounds + (1 << (*count).min(RESTS_MAX));
    }

    /// Removes copies that all places have, once the log has agreed.
    async fn give_up(&self, ids: Vec<ChunkId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        let unstored = Mutation::Unstored { node: self.node(), ids, why: Loss::Surplus };
        let Outcome::Reaped(ids) = self.propose(unstored).await? else { return Ok(()) };
        self.copies.tally.given_up(ids.len());
        self.delete(ids).await
    }

    /// Deletes files that no record wants on this node.
    async fn delete(&self, ids: Vec<ChunkId>) -> Result<()> {
        let copies = Arc::clone(&self.copies);
        let delete = move || {
            let is_mine = |id| -> Result<bool> {
                let record = copies.table.view().chunk(id)?;
                Ok(record.is_some_and(|record| record.stored_on.contains(&copies.node)))
            };
            for id in ids {
                if is_mine(id)? {
                    continue;
                }
                copies.chunks.delete(id)?;
                // Recorded in between: then it is missing now, and made again.
                if is_mine(id)? {
                    copies.suspect(id);
                }
            }
            Ok(())
        };
        on_disk(delete).await
    }

    /// Compares all files with the records.
    async fn take_inventory(&self) -> Result<()> {
        let mut after = None;
        loop {
            let copies = Arc::clone(&self.copies);
            let found = on_disk(move || take(&copies, after)).await?;
            let Inventory { missing, strays, surplus, next } = found;
            missing.into_iter().for_each(|id| self.copies.suspect(id));
            self.delete(surplus).await?;
            for ids in strays.chunks(REAP_IDS_MAX) {
                log::info!("{} chunk files that nothing names are removed", ids.len());
                // Whoever has the files hears of it, this node too.
                self.propose(Mutation::Reap { ids: ids.to_vec() }).await?;
            }
            self.see_to_suspects().await?;
            match next {
                Some(id) => after = Some(id),
                None => return Ok(()),
            }
        }
    }

    pub(super) async fn sync_names(&self) -> Result<()> {
        let chunks = Arc::clone(&self.copies.chunks);
        on_disk(move || chunks.sync_names()).await
    }
}

/// `false` when there is nothing to be done any more.
async fn make_one(copies: &Arc<Copies>, id: ChunkId) -> Result<bool> {
    let Some(record) = copies.table.view().chunk(id)? else { return Ok(false) };
    if !record.missing_on.contains(&copies.node) {
        return Ok(false);
    }
    let (chunks, wanted) = (Arc::clone(&copies.chunks), (record.len, record.sha256));
    let is_bad = match on_disk(move || chunks.verify_settled(id)).await {
        // It came from its writer, or before a crash kept it from being told.
        Ok(info) if (info.len, info.sha256) == wanted => return Ok(true),
        Err(Error::NotFound) => false,
        Ok(_) | Err(Error::Damaged(_)) => true,
        Err(error) => return Err(error),
    };
    if copies.chunks.space()?.available < RESERVE.saturating_add(record.len.into()) {
        return Err(Error::NoSpace);
    }
    let chunk = whole(copies, id, &record).await?;
    let chunks = Arc::clone(&copies.chunks);
    on_disk(move || if is_bad { chunks.renew(&chunk) } else { chunks.keep(&chunk) }).await?;
    Ok(true)
}

pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    blocking(work).await.unwrap_or(Err(Error::ShuttingDown))
}
