//! The thread that makes segments ahead of time and takes away those that are done with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::segment;
use crate::env::{Disk, Worker};
use crate::error::{Error, Result};

#[derive(Default)]
struct State {
    /// The segment that is wanted next.
    wanted: Option<u32>,
    /// How making the wanted segment went.
    made: Option<(u32, Result<()>)>,
    /// Segments to remove, in order.
    done_with: Vec<u32>,
    /// Those that could not be removed: they go with the next ones, before them.
    stuck: Vec<u32>,
    /// Somebody makes or removes a segment.
    busy: bool,
}

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Of a segment.
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

pub struct Keeper {
    shared: Arc<Shared>,
    worker: Worker,
}

impl Keeper {
    pub fn start(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Result<Self> {
        let (dir, state, changed) = (dir.to_path_buf(), Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { disk, dir, bytes, state, changed });
        let kept = Arc::clone(&shared);
        let worker = Worker::start("log-keeper", move || while kept.step() {})?;
        Ok(Self { shared, worker })
    }

    /// Begins to make segment `number`.
    pub fn prepare(&self, number: u32) {
        let mut state = self.shared.state.lock();
        (state.wanted, state.made) = (Some(number), None);
        drop(state);
        self.worker.wake();
    }

    /// Waits until segment `number`, which is the wanted one, is there, or makes it when nobody has
    /// begun to. What failed before is tried once more: there may be room by now.
    pub fn wait(&self, number: u32) -> Result<()> {
        let mut has_tried = false;
        let mut state = self.shared.state.lock();
        loop {
            match &state.made {
                // One that was made after it is in its place by now.
                Some((made, result)) if *made > number || (*made == number && result.is_ok()) => {
                    return Ok(());
                }
                Some((made, Err(error))) if *made == number && has_tried => {
                    return Err(error.clone());
                }
                Some((made, Err(_))) if *made == number => {
                    (state.wanted, state.made) = (Some(number), None);
                }
                _ if state.wanted.is_some() && !state.busy => {
                    has_tried = true;
                    drop(state);
                    self.step();
                    state = self.shared.state.lock();
                }
                _ => self.shared.changed.wait(&mut state),
            }
        }
    }

    /// One step in the caller's thread. What was asked for meanwhile was left to it.
    fn step(&self) {
        self.shared.step();
        self.worker.wake();
    }

    /// Removes segments in this order, some time.
    pub fn remove(&self, numbers: impl IntoIterator<Item = u32>) {
        let mut state = self.shared.state.lock();
        let stuck = std::mem::take(&mut state.stuck);
        state.done_with.splice(0..0, stuck);
        state.done_with.extend(numbers);
        drop(state);
        self.worker.wake();
    }

    /// Returns when nothing is left to do.
    pub fn settle(&self) {
        let mut state = self.shared.state.lock();
        while state.busy || state.has_work() {
            if state.busy {
                self.shared.changed.wait(&mut state);
            } else {
                drop(state);
                self.step();
                state = self.shared.state.lock();
            }
        }
    }
}

impl State {
    fn has_work(&self) -> bool {
        self.wanted.is_some() || !self.done_with.is_empty()
    }
}

impl Shared {
    /// Makes the wanted segment, or removes those that are done with; false when there is neither, or
    /// somebody else is at it.
    fn step(&self) -> bool {
        let mut state = self.state.lock();
        if state.busy || !state.has_work() {
            return false;
        }
        state.busy = true;
        if let Some(number) = state.wanted.take() {
            drop(state);
            let result = segment::create(&*self.disk, &self.dir, number, self.bytes);
            state = self.state.lock();
            state.made = Some((number, result));
        } else {
            let numbers = std::mem::take(&mut state.done_with);
            drop(state);
            let removed = remove(&*self.disk, &self.dir, &numbers);
            state = self.state.lock();
            state.stuck.extend_from_slice(&numbers[removed..]);
            if !state.stuck.is_empty() {
                // What was asked for meanwhile comes after those.
                let later = std::mem::take(&mut state.done_with);
                state.stuck.extend(later);
            }
        }
        state.busy = false;
        self.changed.notify_all();
        true
    }
}

/// Oldest first, each durable before the next: after a crash the segments that are left still
/// follow one another. Returns how many are gone.
fn remove(disk: &dyn Disk, dir: &Path, numbers: &[u32]) -> usize {
    let gone = numbers.iter().take_while(|number| {
        let removed = segment::remove(disk, dir, **number).and_then(|()| {
            disk.sync_dir(dir).map_err(|error| Error::io("syncing the log's directory", error))
        });
        removed
            .inspect_err(|error| log::warn!("log segment {number} stays for now: {error}"))
            .is_ok()
    });
    gone.count()
}
