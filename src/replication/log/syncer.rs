//! The thread that puts the log on disk: one sync for everybody who waits at its start.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::env::{DiskFile, Worker};
use crate::error::{Error, Result};

type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

struct State {
    /// The segment that is written.
    file: Arc<dyn DiskFile>,
    /// Records through this one are in the file.
    written: u64,
    /// Records through this one are on disk. At most `written`.
    synced: u64,
    /// Somebody waits for records through this one.
    wanted: u64,
    waiters: Vec<(u64, Waiter)>,
    /// Final: nothing is written or synced any more.
    failed: Option<Error>,
    syncing: bool,
}

struct Shared {
    state: Mutex<State>,
    /// A sync ended.
    done: Condvar,
}

pub struct Syncer {
    shared: Arc<Shared>,
    /// Woken when there is something to sync.
    worker: Worker,
}

impl Syncer {
    /// `synced`: the last record, all being on disk in segments up to `file`.
    pub fn start(file: Arc<dyn DiskFile>, synced: u64) -> Result<Self> {
        let state = State {
            file,
            written: synced,
            synced,
            wanted: synced,
            waiters: Vec::new(),
            failed: None,
            syncing: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), done: Condvar::new() });
        let synced = Arc::clone(&shared);
        let worker = Worker::start("log-sync", move || synced.sync_wanted())?;
        Ok(Self { shared, worker })
    }

    /// Records through `number` were written.
    pub fn wrote(&self, number: u64) {
        self.shared.state.lock().written = number;
    }

    /// Begins to sync records through `number` if nobody did.
    pub fn want(&self, number: u64) {
        self.want_in(self.shared.state.lock(), number);
    }

    fn want_in(&self, mut state: MutexGuard<'_, State>, number: u64) {
        if number > state.wanted {
            state.wanted = number;
            drop(state);
            self.worker.wake();
        }
    }

    /// Calls `waiter` when records through `number` are on disk, or never will be: maybe at once,
    /// else on the log's thread.
    pub fn when_synced(&self, number: u64, waiter: Waiter) {
        let mut state = self.shared.state.lock();
        if let Some(answer) = state.answer(number) {
            drop(state);
            return waiter(answer);
        }
        state.waiters.push((number, waiter));
        self.want_in(state, number);
    }

    /// Syncs all that was written, in the caller's thread.
    pub fn sync(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        while state.syncing {
            self.shared.done.wait(&mut state);
        }
        let number = state.written;
        if let Some(answer) = state.answer(number) {
            return answer;
        }
        self.shared.sync_once(state);
        // What was wanted meanwhile was left to this thread.
        self.worker.wake();
        let state = self.shared.state.lock();
        state.answer(number).unwrap_or(Err(Error::ShuttingDown))
    }

    /// A new segment is written from here on. Everything before must be synced.
    pub fn switch(&self, file: Arc<dyn DiskFile>) {
        self.shared.state.lock().file = file;
    }

    pub fn synced(&self) -> u64 {
        self.shared.state.lock().synced
    }

    pub fn written(&self) -> u64 {
        self.shared.state.lock().written
    }

    /// Why the log takes nothing any more, if so.
    pub fn failure(&self) -> Option<Error> {
        self.shared.state.lock().failed.clone()
    }

    /// The disk failed a write or a sync: final, told to everybody who waits.
    pub fn poison(&self, error: &Error) {
        self.shared.poison(&mut self.shared.state.lock(), error);
        self.shared.wake(0);
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.worker.stop();
        let waiters = std::mem::take(&mut self.shared.state.lock().waiters);
        waiters.into_iter().for_each(|(_, waiter)| waiter(Err(Error::ShuttingDown)));
    }
}

impl State {
    fn answer(&self, number: u64) -> Option<Result<()>> {
        match &self.failed {
            _ if number <= self.synced => Some(Ok(())),
            Some(error) => Some(Err(error.clone())),
            None => None,
        }
    }
}

impl Shared {
    fn sync_wanted(&self) {
        loop {
            let state = self.state.lock();
            if state.wanted <= state.synced || state.syncing || state.failed.is_some() {
                return;
            }
            self.sync_once(state);
        }
    }

    fn sync_once(&self, mut state: MutexGuard<'_, State>) {
        let (file, number) = (Arc::clone(&state.file), state.written);
        state.syncing = true;
        let result = MutexGuard::unlocked(&mut state, || file.sync());
        state.syncing = false;
        match result {
            Ok(()) => state.synced = state.synced.max(number),
            Err(error) => {
                self.poison(&mut state, &Error::DiskFailed(format!("the log: {error}")));
            }
        }
        drop(state);
        self.wake(number);
    }

    fn poison(&self, state: &mut State, error: &Error) {
        log::error!("the log is closed for good: {error}");
        state.failed.get_or_insert_with(|| error.clone());
    }

    /// Answers those who waited for records through `number`, all of them after a failure.
    fn wake(&self, number: u64) {
        let mut state = self.state.lock();
        let failed = state.failed.is_some();
        let (ready, rest): (Vec<_>, Vec<_>) =
            state.waiters.drain(..).partition(|(wanted, _)| failed || *wanted <= number);
        state.waiters = rest;
        let answer = match &state.failed {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        };
        drop(state);
        self.done.notify_all();
        ready.into_iter().for_each(|(_, waiter)| waiter(answer.clone()));
    }
}
