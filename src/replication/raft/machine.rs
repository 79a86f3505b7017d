//! The table, what is applied to it, and the snapshots made of it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use openraft::{EntryPayload, LogIdOptionExt};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::meta::{Applied, Change, Mutation, Outcome, Request, Table, codec};
use crate::replication::log::Log;
use crate::replication::snapshot::{Found, Head, Reader, Records, Snapshots};
use crate::replication::types::{Answers, AppliedState, Entry, LogId, StoredMembership};
use crate::types::limits::ENTRY_MUTATIONS_MAX;
use crate::types::{NodeId, RequestId};

/// Called by the applier with what a request changed, once it can be read, and the origin of the
/// proposal: 0 when it was not made here. Must not block.
pub type Listener = Box<dyn Fn(&[Change], u32) + Send + Sync>;

/// The table and what goes with applying to it.
pub struct Machine {
    pub table: Arc<Table>,
    pub snapshots: Snapshots,
    listener: Listener,
    /// Where the proposals under way come from, if from anywhere.
    origins: Mutex<HashMap<RequestId, u32>>,
    state: Mutex<AppliedState>,
    /// Nodes that were removed, rising; asked for with each message, also while the table is loaded.
    gone: Mutex<Vec<NodeId>>,
    /// One more than the index of the last entry that is in the table.
    applied: watch::Sender<u64>,
    /// The highest that `applied` ever was: a load begins with an empty table.
    reached: AtomicU64,
    /// The newest snapshot, once it was looked for.
    newest: Mutex<Option<(Head, Found)>>,
    /// The newest snapshot is news to openraft, which is about to ask for it.
    announced: AtomicBool,
    /// Rung when a session has ended, or when one may have unseen.
    pub sessions: watch::Sender<u64>,
    /// Why nothing is applied any more, if so.
    failure: Mutex<Option<Error>>,
}

impl Machine {
    /// # Errors
    /// [`Error::Damaged`] when what the table says about itself cannot be read.
    pub fn new(table: Arc<Table>, snapshots: Snapshots, listener: Listener) -> Result<Self> {
        let state = match table.applied()? {
            Some(bytes) => codec::decode(&bytes)?,
            None => AppliedState::default(),
        };
        let gone = table.view().placement()?.gone;
        Ok(Self {
            table,
            snapshots,
            listener,
            origins: Mutex::default(),
            applied: watch::Sender::new(state.last.next_index()),
            reached: AtomicU64::new(state.last.next_index()),
            state: Mutex::new(state),
            gone: Mutex::new(gone),
            newest: Mutex::default(),
            announced: AtomicBool::default(),
            sessions: watch::Sender::new(0),
            failure: Mutex::default(),
        })
    }

    /// This node's session may have ended.
    pub fn ring_sessions(&self) {
        self.sessions.send_modify(|rung| *rung += 1);
    }

    pub fn state(&self) -> AppliedState {
        self.state.lock().clone()
    }

    pub fn last(&self) -> Option<LogId> {
        self.state.lock().last
    }

    /// Whether a node was removed, as far as the table was applied.
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.gone.lock().binary_search(&node).is_ok()
    }

    fn note_gone(&self) -> Result<()> {
        let gone = self.table.view().placement()?.gone;
        *self.gone.lock() = gone;
        Ok(())
    }

    pub fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }

    /// Waits until the entry with this index is in the table.
    pub async fn wait_applied(&self, index: u64) -> Result<()> {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|next| *next > index).await;
        reached.map(|_| ()).map_err(|_| Error::ShuttingDown)
    }

    fn set_state(&self, state: AppliedState) {
        let next = state.last.next_index();
        *self.state.lock() = state;
        self.reached.fetch_max(next, Ordering::AcqRel);
        self.applied.send_replace(next);
    }

    pub fn set_origin(&self, id: RequestId, origin: u32) {
        if origin != 0 {
            self.origins.lock().insert(id, origin);
        }
    }

    pub fn clear_origin(&self, id: RequestId) {
        self.origins.lock().remove(&id);
    }

    /// Applies entries in as few batches as their sizes allow. One answer each.
    ///
    /// # Errors
    /// What the table says; nothing is applied afterwards.
    pub fn apply(&self, entries: &[Entry]) -> Result<Vec<Answers>> {
        if let Some(error) = self.failure() {
            return Err(error);
        }
        let mut answers = Vec::with_capacity(entries.len());
        let mut rest = entries;
        while !rest.is_empty() {
            let (group, later) = rest.split_at(group_len(rest));
            let applied = self.apply_group(group);
            answers.extend(applied.inspect_err(|error| {
                log::error!("applying to the table failed: {error}");
                *self.failure.lock() = Some(error.clone());
            })?);
            rest = later;
        }
        Ok(answers)
    }

    /// Makes a snapshot of what is applied, while more is applied. Not on the raft thread.
    pub fn take_snapshot(&self, log: &Log, go_on: &dyn Fn() -> bool) -> Result<Head> {
        let head = self.snapshots.take(&self.table, log, go_on)?;
        self.look_for_newest()?;
        Ok(head)
    }

    /// The newest snapshot of what the table has, if there is one.
    pub fn newest_snapshot(&self) -> Result<Option<(Head, Found)>> {
        let known = self.newest.lock().clone();
        if known.is_some() { Ok(known) } else { self.look_for_newest() }
    }

    /// The next snapshot that openraft asks for is the newest there is.
    pub fn announce(&self) {
        self.announced.store(true, Ordering::Release);
    }

    pub fn take_announced(&self) -> bool {
        self.announced.swap(false, Ordering::AcqRel)
    }

    /// Replaces the table by the snapshot in `path`, which is kept, and goes through `last`.
    pub fn install(&self, path: &Path, last: Option<LogId>) -> Result<()> {
        let reader = self.snapshots.open(path)?;
        let (head, bytes) = (reader.head.clone(), reader.size()?);
        if head.applied.last != last {
            return Err(Error::damaged(format!("{} is another snapshot", path.display())));
        }
        self.load(reader, &|_| {})?;
        let found = Found { index: last.map_or(0, |last| last.index), path: path.into(), bytes };
        *self.newest.lock() = Some((head, found));
        if let Err(error) = self.snapshots.prune() {
            log::warn!("older snapshots stay for now: {error}");
        }
        (self.listener)(&[Change::Everything], 0);
        Ok(())
    }

    /// One that the table has not come to yet is on its way into it: openraft must not hear of it
    /// from elsewhere, or it would not take it.
    fn look_for_newest(&self) -> Result<Option<(Head, Found)>> {
        // One at a time, so that what was seen first does not replace what was seen later.
        let mut newest = self.newest.lock();
        let found =
            self.reached()?.into_iter().find_map(|found| match self.snapshots.open(&found.path) {
                Ok(reader) => Some((reader.head, found)),
                Err(error) => {
                    log::warn!("{} cannot be used: {error}", found.path.display());
                    None
                }
            });
        newest.clone_from(&found);
        Ok(found)
    }

    /// The snapshots of what the table has, or had before it is loaded, newest first.
    fn reached(&self) -> Result<Vec<Found>> {
        let mut found = self.snapshots.list()?;
        // One of a table to which nothing was applied has index 0.
        let next = self.reached.load(Ordering::Acquire).max(1);
        found.retain(|found| found.index < next);
        Ok(found)
    }

    /// Replaces the table by what a snapshot has. `seen` is told the bytes that were read.
    ///
    /// # Errors
    /// [`Error::Damaged`]; the table then says that it is empty.
    pub fn load(&self, snapshot: Reader, seen: &dyn Fn(u64)) -> Result<()> {
        let head = snapshot.head.clone();
        self.set_state(AppliedState::default());
        self.table.load(&mut Records::new(snapshot, seen))?;
        self.note_gone()?;
        self.set_state(head.applied);
        self.ring_sessions();
        Ok(())
    }

    /// Empties the table.
    pub fn clear(&self) -> Result<()> {
        self.set_state(AppliedState::default());
        self.table.load(&mut std::iter::empty())
    }

    /// Index through which the log may be forgotten: what the older of two snapshots has.
    pub fn purgeable(&self) -> Result<Option<u64>> {
        Ok(self.reached()?.get(1).map(|older| older.index))
    }

    /// Index of the newest snapshot, as far as there is one.
    pub fn snapshot_index(&self) -> Result<Option<u64>> {
        Ok(self.newest_snapshot()?.and_then(|(head, _)| head.applied.last.index()))
    }

    fn apply_group(&self, group: &[Entry]) -> Result<Vec<Answers>> {
        let mut state = self.state();
        for entry in group {
            state.last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                state.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
        }
        let bytes = codec::encode(&state)?;
        let applied = match group {
            [entry] => self.table.apply(requests(entry), bytes)?,
            _ => {
                let all: Vec<Request> = group.iter().flat_map(requests).cloned().collect();
                self.table.apply(&all, bytes)?
            }
        };
        if group.iter().flat_map(requests).any(|request| sets_node(&request.mutation)) {
            self.note_gone()?;
        }
        self.tell(group, &applied);
        self.set_state(state);
        let mut outcomes = applied.into_iter().map(|applied| applied.outcome);
        let answer = |entry| outcomes.by_ref().take(requests(entry).len()).collect();
        Ok(group.iter().map(answer).map(|list: Vec<Outcome>| Answers(list)).collect())
    }

    fn tell(&self, group: &[Entry], applied: &[Applied]) {
        for (request, applied) in group.iter().flat_map(requests).zip(applied) {
            if !applied.changes.is_empty() {
                if matches!(applied.changes[..], [Change::SessionEnded(_), ..]) {
                    self.ring_sessions();
                }
                let origin = self.origins.lock().get(&request.id).copied().unwrap_or(0);
                (self.listener)(&applied.changes, origin);
            }
        }
    }
}

fn sets_node(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::SetNode { .. })
}

fn requests(entry: &Entry) -> &[Request] {
    match &entry.payload {
        EntryPayload::Normal(batch) => &batch.requests,
        EntryPayload::Blank | EntryPayload::Membership(_) => &[],
    }
}

/// How many of the first entries go into one batch: as many requests as one full entry has.
fn group_len(entries: &[Entry]) -> usize {
    let mut count = 0;
    let fits = |entry: &&Entry| {
        count += requests(entry).len();
        count <= ENTRY_MUTATIONS_MAX
    };
    entries.iter().take_while(fits).count().max(1)
}
