//! Reads all recorded chunks again and again, slowly, to find damage before somebody needs them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::fsck::verify_recorded;
use super::run_file::replace_lightly;
use super::store::Store;
use crate::env::blocking;
use crate::error::Result;
use crate::meta::keys;
use crate::types::{ChunkId, Timestamp};

/// Time for all chunks once.
const ROUND: Duration = Duration::from_secs(30 * 24 * 3600);
/// Between two portions.
const PAUSE: Duration = Duration::from_secs(10);
/// Bytes of a portion at least.
const PORTION_MIN: u64 = 1 << 20;

/// How far the round is; kept over restarts, so that a node that is restarted every day gets
/// through all the same. Times in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Of the round in progress, or the last one.
    started: i64,
    /// Chunks up to here are read.
    after: Option<ChunkId>,
    /// When the last round ended.
    pub finished: Option<i64>,
}

/// The scrubbing of one store, in the background until it is stopped.
pub struct Scrubber {
    task: JoinHandle<()>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    position: Position,
    damaged: BTreeMap<ChunkId, String>,
    /// The last of them that was looked at again.
    looked_at: Option<ChunkId>,
}

impl Scrubber {
    pub fn start(store: Arc<Store>) -> Self {
        let position = load(&store.data_dir);
        let state = Arc::new(Mutex::new(State { position, ..State::default() }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(PAUSE);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (store, state) = (Arc::clone(&store), Arc::clone(&shared));
                let portion = blocking(move || scrub_portion(&store, &state));
                if let Ok(Err(error)) = portion.await {
                    log::warn!("scrubbing goes on in the next portion: {error}");
                }
            }
        });
        Self { task, state }
    }

    pub fn stop(&self) {
        self.task.abort();
    }

    /// What was found since the start.
    pub fn damaged(&self) -> Vec<(ChunkId, String)> {
        self.state.lock().damaged.iter().map(|(id, what)| (*id, what.clone())).collect()
    }

    pub fn position(&self) -> Position {
        self.state.lock().position
    }
}

/// Reads the next chunks, as many as the pace asks for, and one that was found damaged before.
fn scrub_portion(store: &Store, state: &Mutex<State>) -> Result<()> {
    look_again(store, state)?;
    let Timestamp { seconds: now, .. } = store.clock.now();
    let mut position = state.lock().position;
    if position.after.is_none() {
        if now < position.started.saturating_add(ROUND.as_secs() as i64) {
            return Ok(());
        }
        position.started = now;
    }
    let total = store.replica.table().view().superblock()?.map_or(0, |found| found.data_bytes);
    let mut budget = (total / (ROUND.as_secs() / PAUSE.as_secs())).max(PORTION_MIN);
    while budget > 0 {
        let after = position.after.map(ChunkId::to_bytes);
        let ids = store.replica.table().view().ids(keys::CHUNK, after, 1)?;
        let Some(id) = ids.first().copied().map(ChunkId::from_bytes) else {
            (position.after, position.finished) = (None, Some(now));
            break;
        };
        budget = budget.saturating_sub(scrub_one(store, state, id)?);
        position.after = Some(id);
    }
    state.lock().position = position;
    save(&store.data_dir, position)
}

/// A damaged chunk may have been made anew from another node's copy, or freed: the next one, in turns.
fn look_again(store: &Store, state: &Mutex<State>) -> Result<()> {
    let next = {
        let mut state = state.lock();
        let after = state.looked_at.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = state.damaged.range((after, Bound::Unbounded));
        let next = behind.next().or_else(|| state.damaged.first_key_value()).map(|(id, _)| *id);
        state.looked_at = next;
        next
    };
    next.map_or(Ok(()), |id| scrub_one(store, state, id).map(|_| ()))
}

/// Returns the bytes read, one at least.
fn scrub_one(store: &Store, state: &Mutex<State>, id: ChunkId) -> Result<u64> {
    let (node, table) = (store.replica.node(), store.replica.table());
    let verified = verify_recorded(node, table, &store.chunks, id)?;
    let mut state = state.lock();
    let (len, damage) = verified.map_or((0, None), |verified| (verified.len, verified.damage));
    match damage {
        None => drop(state.damaged.remove(&id)),
        Some(what) => {
            store.copies.suspect(id);
            if state.damaged.insert(id, what.clone()).is_none() {
                log::error!("scrubbing found chunk {id} damaged: {what}");
            }
        }
    }
    Ok(u64::from(len).max(1))
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("scrub.json")
}

/// Without a file, or with one that cannot be read, the round begins anew.
fn load(data_dir: &Path) -> Position {
    let text = std::fs::read(path(data_dir)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn save(data_dir: &Path, position: Position) -> Result<()> {
    replace_lightly(&path(data_dir), &position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::fsck::tests::{chunk_files, made, with_store};
    use crate::types::SessionId;

    /// A store with a missing file and a good one: a round finds the one, ends, and the next does
    /// not begin before its time, over a restart too.
    #[test]
    fn a_round_finds_what_is_missing_and_rests_until_the_next() {
        let (_dir, config) = made();
        std::fs::remove_file(&chunk_files(&config)[0]).unwrap();
        let state = Mutex::new(State::default());
        with_store(&config, async |store| {
            while state.lock().position.finished.is_none() {
                scrub_portion(store, &state).unwrap();
            }
            assert_eq!(state.lock().damaged.len(), 1);
            let position = state.lock().position;
            assert_eq!(load(&store.data_dir), position);
            state.lock().damaged.clear();
            scrub_portion(store, &state).unwrap();
            assert!(state.lock().damaged.is_empty(), "the next round began at once");
            state.lock().position.started -= ROUND.as_secs() as i64 + 1;
            scrub_portion(store, &state).unwrap();
            assert_eq!(state.lock().damaged.len(), 1);
        });
    }

    /// What was damaged and is whole again, made anew or freed, is not told of any more, long before
    /// the next round.
    #[test]
    fn what_is_whole_again_is_forgotten_while_the_round_rests() {
        let (_dir, config) = made();
        let file = chunk_files(&config)[0].clone();
        let kept = std::fs::read(&file).unwrap();
        let state = Mutex::new(State::default());
        let freed = ChunkId { session: SessionId(99), counter: 1 };
        with_store(&config, async |store| {
            std::fs::remove_file(&file).unwrap();
            while state.lock().position.finished.is_none() {
                scrub_portion(store, &state).unwrap();
            }
            scrub_portion(store, &state).unwrap();
            assert_eq!(state.lock().damaged.len(), 1);
            std::fs::write(&file, &kept).unwrap();
            state.lock().damaged.insert(freed, "freed since".into());
            for _ in 0..2 {
                scrub_portion(store, &state).unwrap();
            }
            assert!(state.lock().damaged.is_empty());
        });
    }

    #[test]
    fn a_position_that_cannot_be_read_is_a_new_round() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Position::default());
        std::fs::write(path(dir.path()), "half of it").unwrap();
        assert_eq!(load(dir.path()), Position::default());
    }
}
