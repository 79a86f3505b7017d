//! Writers that keep what they were told is safe, to be looked for afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Error, Result, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::rng::pattern;
use super::s3::Client;
use super::sys::{close, fsync};
use super::wait::{now, pause};

/// What a writer was told is there, by path below the mount; it writes until it is stopped.
pub struct Writer {
    shared: Arc<Shared>,
    thread: JoinHandle<Written>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    failed: AtomicU64,
}

/// What a writer leaves.
#[derive(Default)]
pub struct Written {
    pub acknowledged: BTreeMap<PathBuf, Vec<u8>>,
    pub calls: Calls,
}

/// How a writer's calls were answered.
#[derive(Debug, Default)]
pub struct Calls {
    /// The longest that one of them has taken, whether it was refused or not.
    pub longest: Duration,
    /// What they were refused with: errno(3), or the status of HTTP.
    pub refusals: BTreeSet<i32>,
    /// How many ended in something else, as a connection that broke.
    pub broken: u64,
}

impl Calls {
    fn time<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = now();
        let answered = call();
        self.longest = self.longest.max(begun.elapsed());
        answered
    }

    /// As [`Self::time`], one that goes to a mount.
    fn system<T>(&mut self, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let answered = self.time(call);
        if let Err(error) = &answered {
            self.refusals.extend(error.raw_os_error());
        }
        answered
    }
}

impl Writer {
    /// Writes files `bucket/NAME-NUMBER` below `mount`, each acknowledged by fsync(2).
    pub fn start(mount: PathBuf, name: usize) -> Self {
        Self::start_over(mount, name, u64::MAX)
    }

    /// The same with so many names, which are written again and again.
    pub fn start_over(mount: PathBuf, name: usize, names: u64) -> Self {
        Self::start_with(name.to_string(), name, names, move |calls, path, bytes| {
            let mut file = calls.system(|| File::create(mount.join(path)))?;
            let saved = calls
                .system(|| file.write_all(bytes))
                .and_then(|()| calls.system(|| fsync(file.as_raw_fd())));
            // It promises nothing more.
            let _ = calls.system(|| close(file.into_raw_fd()));
            saved
        })
    }

    /// Writes objects `bucket/s3-NAME-NUMBER`, each acknowledged by the answer to its PUT.
    pub fn start_s3(client: Client, name: usize) -> Self {
        Self::start_with(format!("s3-{name}"), name + 5, u64::MAX, move |calls, path, bytes| {
            let path = format!("/{}", path.display());
            match calls.time(|| client.try_send("PUT", &path, &[], &[], bytes)) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => {
                    calls.refusals.insert(answer.status.into());
                    Err(Error::other(answer.status.to_string()))
                }
                Err(error) => {
                    calls.broken += 1;
                    Err(error)
                }
            }
        })
    }

    fn start_with(
        name: String,
        seed: usize,
        names: u64,
        save: impl Fn(&mut Calls, &Path, &[u8]) -> Result<()> + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let state = Arc::clone(&shared);
        // A thread that did not unshare sees the mounts of the one that started it.
        let thread = std::thread::spawn(move || {
            let mut written = Written::default();
            for number in 0.. {
                if state.stop.load(Ordering::Relaxed) {
                    break;
                }
                let path = PathBuf::from(format!("bucket/{name}-{:05}", number % names));
                let len = if number % 5 == 0 { 300_000 } else { 2000 };
                let bytes = pattern(number << 8 | seed as u64, len);
                let result = save(&mut written.calls, &path, &bytes);
                // An error is an answer too: only what was said to be safe has to be.
                if result.is_ok() {
                    written.acknowledged.insert(path, bytes);
                    state.done.fetch_add(1, Ordering::Relaxed);
                } else {
                    // Of what was there before nobody knows whether it still is.
                    written.acknowledged.remove(&path);
                    state.failed.fetch_add(1, Ordering::Relaxed);
                    pause(Duration::from_millis(5));
                }
            }
            written
        });
        Self { shared, thread }
    }

    /// Files acknowledged so far.
    pub fn count(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// Files that were refused so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Ends after the file that is under way.
    pub fn finish(self) -> Written {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the writer")
    }
}
