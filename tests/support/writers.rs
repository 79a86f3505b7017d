//! Writers that keep what they were told is safe, to be looked for afterwards.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Error, Result, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::rng::pattern;
use super::s3::Client;
use super::sys::fsync;
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
    /// The longest that one file has taken, whether it was written or not.
    pub longest: Duration,
}

impl Writer {
    /// Writes files `bucket/NAME-NUMBER` below `mount`, each acknowledged by fsync(2).
    pub fn start(mount: PathBuf, name: usize) -> Self {
        Self::start_with(name.to_string(), name, move |path, bytes| {
            let mut file = File::create(mount.join(path))?;
            file.write_all(bytes)?;
            fsync(file.as_raw_fd())
        })
    }

    /// Writes objects `bucket/s3-NAME-NUMBER`, each acknowledged by the answer to its PUT.
    pub fn start_s3(client: Client, name: usize) -> Self {
        Self::start_with(format!("s3-{name}"), name + 5, move |path, bytes| {
            let path = format!("/{}", path.display());
            match client.try_send("PUT", &path, &[], &[], bytes)?.status {
                200 => Ok(()),
                status => Err(Error::other(status.to_string())),
            }
        })
    }

    fn start_with(
        name: String,
        seed: usize,
        save: impl Fn(&Path, &[u8]) -> Result<()> + Send + 'static,
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
                let path = PathBuf::from(format!("bucket/{name}-{number:05}"));
                let len = if number % 5 == 0 { 300_000 } else { 2000 };
                let bytes = pattern(number << 8 | seed as u64, len);
                let begun = now();
                let result = save(&path, &bytes);
                written.longest = written.longest.max(begun.elapsed());
                // An error is an answer too: only what was said to be safe has to be.
                if result.is_ok() {
                    written.acknowledged.insert(path, bytes);
                    state.done.fetch_add(1, Ordering::Relaxed);
                } else {
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
