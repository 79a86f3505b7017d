//! The thread that puts the log on disk: one sync for everybody who waits at its start.

use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::env::DiskFile;
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
    closing: bool,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to sync, or it is the end.
    work: Condvar,
    /// A sync ended.
    done: Condvar,
}

pub struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
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
            closing: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            done: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-sync".into())
            .spawn(move || worker.run())
            .map_err(|error| Error::io("starting the log's thread", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Records through `number` were written.
    pub fn wrote(&self, number: u64) {
        self.shared.state.lock().written = number;
    }

    /// Begins to sync records through `number` if nobody did.
    pub fn want(&self, number: u64) {
        let mut state = self.shared.state.lock();
        if number > state.wanted {
            state.wanted = number;
            self.shared.work.notify_one();
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
        if number > state.wanted {
            state.wanted = number;
            self.shared.work.notify_one();
        }
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
        self.shared.state.lock().closing = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // With panic = "abort" a thread that can be joined did not panic.
            let _ = thread.join();
        }
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
    fn run(&self) {
        loop {
            let mut state = self.state.lock();
            while (state.wanted <= state.synced || state.syncing || state.failed.is_some())
                && !state.closing
            {
                self.work.wait(&mut state);
            }
            if state.closing {
                let waiters = std::mem::take(&mut state.waiters);
                drop(state);
                waiters.into_iter().for_each(|(_, waiter)| waiter(Err(Error::ShuttingDown)));
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
        // A sync in a caller's thread may have left work behind.
        self.work.notify_one();
        ready.into_iter().for_each(|(_, waiter)| waiter(answer.clone()));
    }
}
