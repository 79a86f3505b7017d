//! A node's errands, a page at a time: makes the copies that are missing on it, and gives up those
//! that are one too many.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::keeper::Copies;
use super::mend::{Lost, whole};
use super::repair::{ROUND_MAX, Repair, State, on_disk};
use crate::error::{Error, Result};
use crate::meta::{Errand, Loss, Mutation, Outcome};
use crate::types::ChunkId;

/// Errands taken up at a time; what came of them is told with one mutation.
const PAGE: usize = 256;
/// Copies made at the same time: the disk and the network are others' too.
const AT_ONCE: usize = 4;
/// Failures to reach anybody after which a round asks nobody any more: whoever has the rest is away
/// too.
pub(super) const FAILURES_MAX: usize = 16;
/// Copies remembered that nobody could give; more of them are asked for in every round.
const RESTING_MAX: usize = 8192;
/// The longest rest is two to this many rounds.
const RESTS_MAX: u32 = 8;
/// Room on the disk that copies leave, in bytes.
const RESERVE: u64 = 256 << 20;

/// How a round of errands goes.
struct Pace {
    /// When no more copies are begun.
    until: Duration,
    unreachable: usize,
    is_full: bool,
    lost: Lost,
}

/// Which of a page's copies there was time for.
enum Begun {
    All,
    /// Those up to this one.
    Upto(Option<ChunkId>),
}

impl Pace {
    /// Whether copies are brought here. Files that are here are told of in any case.
    fn may_fetch(&self) -> bool {
        !self.is_full && self.unreachable <= FAILURES_MAX
    }
}

impl Repair {
    /// Goes on where the last round had no more time.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when copies were not made for want of it; what the log says, or the disk.
    pub(super) async fn run_errands(&self) -> Result<()> {
        let mut after = self.state.lock().errands_after.take();
        let goes_on = after.is_some();
        let until = self.copies.clock.elapsed() + ROUND_MAX;
        let mut pace = Pace { until, unreachable: 0, is_full: false, lost: Lost::default() };
        let mut fresh = HashMap::new();
        loop {
            let page = self.copies.table.view().errands(self.node(), after, PAGE)?;
            let Some((last, _)) = page.last() else {
                if !goes_on || !fresh.is_empty() {
                    self.state.lock().fresh = fresh;
                }
                break;
            };
            let due = self.due(&page, &mut fresh);
            let of =
                |wanted| due.iter().filter(move |(_, errand)| *errand == wanted).map(|(id, _)| *id);
            // What is given up makes room.
            self.give_up(of(Errand::Drop).collect()).await?;
            after = match self.make(of(Errand::Make).collect(), &mut pace).await? {
                Begun::All => Some(*last),
                Begun::Upto(last) => last.or(after),
            };
            if pace.unreachable > FAILURES_MAX || self.is_late(until) {
                // Those that failed have their turn again when all others had theirs.
                self.state.lock().errands_after = after;
                break;
            }
        }
        pace.lost.tell();
        if pace.is_full { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// What of a page is to be done now: all of a full one, what was there in the last round of the
    /// rest; of neither what rests.
    fn due(
        &self,
        page: &[(ChunkId, Errand)],
        fresh: &mut HashMap<ChunkId, Errand>,
    ) -> Vec<(ChunkId, Errand)> {
        let is_full = page.len() == PAGE;
        if !is_full {
            fresh.extend(page.iter().copied());
        }
        let state = self.state.lock();
        let is_due = |(id, errand): &&(ChunkId, Errand)| {
            !state.rests(*id) && (is_full || state.fresh.get(id) == Some(errand))
        };
        page.iter().filter(is_due).copied().collect()
    }

    /// Makes copies here and tells of them, also when there is no room for all.
    async fn make(&self, ids: Vec<ChunkId>, pace: &mut Pace) -> Result<Begun> {
        let (mut under_way, mut waiting) = (JoinSet::new(), ids.into_iter());
        let (mut made, mut last) = (Vec::new(), None);
        loop {
            while under_way.len() < AT_ONCE
                && !self.is_late(pace.until)
                && let Some(id) = waiting.next()
            {
                let (copies, may_fetch) = (Arc::clone(&self.copies), pace.may_fetch());
                under_way.spawn(async move { (id, make_one(&copies, id, may_fetch).await) });
                last = Some(id);
            }
            match under_way.join_next().await {
                Some(Ok((id, Ok(true)))) => made.push(id),
                Some(Ok((_, Ok(false)))) => {}
                Some(Ok((_, Err(error @ Error::DiskFailed(_))))) => return Err(error),
                Some(Ok((_, Err(Error::NoSpace)))) => pace.is_full = true,
                Some(Ok((id, Err(error)))) => {
                    pace.unreachable += usize::from(matches!(error, Error::Unreachable(_)));
                    self.failed(id, error, &mut pace.lost);
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
        Ok(if waiting.as_slice().is_empty() { Begun::All } else { Begun::Upto(last) })
    }

    /// Who has the copy may be back in the next round. When nobody has a good one, it is asked for
    /// less and less often.
    pub(super) fn failed(&self, id: ChunkId, error: Error, lost: &mut Lost) {
        match error {
            Error::NotFound | Error::Damaged(_) => {
                if self.state.lock().rest(id) {
                    lost.note(id, error);
                }
            }
            Error::Unreachable(_) => log::debug!("no copy of chunk {id} yet: {error}"),
            error => log::warn!("chunk {id} is looked at again in the next round: {error}"),
        }
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
}

impl State {
    /// Nobody could give the copy, and it is not asked for again yet.
    pub(super) fn rests(&self, id: ChunkId) -> bool {
        self.resting.get(&id).is_some_and(|(round, _)| *round > self.rounds)
    }

    pub(super) fn has_rested(&mut self, id: ChunkId) {
        self.resting.remove(&id);
    }

    /// Nobody can give the copy; whether that is news.
    fn rest(&mut self, id: ChunkId) -> bool {
        let rounds = self.rounds;
        if self.resting.len() >= RESTING_MAX {
            self.resting.retain(|_, (round, _)| *round > rounds);
        }
        let (round, count) = self.resting.entry(id).or_default();
        *count += 1;
        *round = rounds + (1 << (*count).min(RESTS_MAX));
        *count == 1
    }
}

/// `false` when there is nothing to be done any more, or when it would have to be fetched and may not.
async fn make_one(copies: &Arc<Copies>, id: ChunkId, may_fetch: bool) -> Result<bool> {
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
    if !may_fetch {
        return Ok(false);
    }
    if copies.chunks.space()?.available < RESERVE.saturating_add(record.len.into()) {
        return Err(Error::NoSpace);
    }
    let chunk = whole(copies, id, &record).await?;
    let chunks = Arc::clone(&copies.chunks);
    on_disk(move || if is_bad { chunks.renew(&chunk) } else { chunks.keep(&chunk) }).await?;
    Ok(true)
}
