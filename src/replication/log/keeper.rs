//! The thread that makes segments ahead of time and takes away those that are done with.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::segment;
use crate::env::Disk;
use crate::error::{Error, Result};

#[derive(Default)]
struct State {
    /// The segment that is wanted next.
    wanted: Option<u32>,
    /// How making the wanted segment went.
    made: Option<(u32, Result<()>)>,
    /// Segments to remove, in order.
    done_with: Vec<u32>,
    busy: bool,
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    changed: Condvar,
}

pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub fn start(disk: Arc<dyn Disk>, dir: &Path, bytes: u64) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            changed: Condvar::new(),
        });
        let (worker, dir) = (Arc::clone(&shared), dir.to_path_buf());
        let thread = std::thread::Builder::new()
            .name("log-keeper".into())
            .spawn(move || worker.run(&*disk, dir, bytes))
            .map_err(|error| Error::io("starting the log's keeper", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Begins to make segment `number`.
    pub fn prepare(&self, number: u32) {
        let mut state = self.shared.state.lock();
        (state.wanted, state.made) = (Some(number), None);
        self.shared.work.notify_one();
    }

    /// Waits until segment `number`, which is the wanted one, is there. A failure is told and the
    /// next call tries again.
    pub fn wait(&self, number: u32) -> Result<()> {
        let mut state = self.shared.state.lock();
        loop {
            match state.made.take() {
                Some((made, Ok(()))) if made == number => {
                    state.made = Some((made, Ok(())));
                    return Ok(());
                }
                Some((made, Err(error))) if made == number => {
                    state.wanted = Some(number);
                    self.shared.work.notify_one();
                    return Err(error);
                }
                _ => self.shared.changed.wait(&mut state),
            }
        }
    }

    /// Removes segments in this order, some time.
    pub fn remove(&self, numbers: impl IntoIterator<Item = u32>) {
        self.shared.state.lock().done_with.extend(numbers);
        self.shared.work.notify_one();
    }

    /// Waits until nothing is left to do.
    pub fn settle(&self) {
        let mut state = self.shared.state.lock();
        while state.busy || state.wanted.is_some() || !state.done_with.is_empty() {
            self.shared.changed.wait(&mut state);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // With panic = "abort" a thread that can be joined did not panic.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, disk: &dyn Disk, dir: PathBuf, bytes: u64) {
        let mut state = self.state.lock();
        while !state.closing {
            if let Some(number) = state.wanted.take() {
                state.busy = true;
                drop(state);
                let result = segment::create(disk, &dir, number, bytes);
                state = self.state.lock();
                state.made = Some((number, result));
            } else if !state.done_with.is_empty() {
                let numbers = std::mem::take(&mut state.done_with);
                state.busy = true;
                drop(state);
                remove(disk, &dir, &numbers);
                state = self.state.lock();
            } else {
                self.work.wait(&mut state);
                continue;
            }
            state.busy = false;
            self.changed.notify_all();
        }
    }
}

/// Oldest first, each durable before the next: after a crash the segments that are left still
/// follow one another. One that cannot be removed is tried again at the next start.
fn remove(disk: &dyn Disk, dir: &Path, numbers: &[u32]) {
    for number in numbers {
        let removed = segment::remove(disk, dir, *number).and_then(|()| {
            disk.sync_dir(dir).map_err(|error| Error::io("syncing the log's directory", error))
        });
        if let Err(error) = removed {
            log::warn!("log segment {number} stays for now: {error}");
            return;
        }
    }
}
