//! One mount's life: from mount(2) to the end of its connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use fuser::{Config, Session, SessionACL};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::convert::NodeNumbers;
use super::door::{Door, Gate};
use super::filesystem::Kernel;
use super::invalidate::{self, Told};
use super::mount::{self, Mounted};
use super::mountinfo::Mount;
use super::options::MountOptions;
use super::unmount::{self, Left};
use crate::error::{Error, Result};
use crate::metrics::Meter;
use crate::types::{FileKind, Ino};
use crate::vfs::Vfs;

/// Between two attempts to unmount what is in use.
const RETRY: Duration = Duration::from_millis(50);
/// What is waited for after the connection was cut: the event threads only have to notice it.
const AFTER_FORCE: Duration = Duration::from_secs(2);

/// Numbers the mounts of this process, from 1: the origins of their changes.
static ORIGINS: AtomicU32 = AtomicU32::new(1);

/// A directory of the system that shows the store. Dropping it cuts the mount off; [`Self::stop`]
/// unmounts it in order.
#[derive(Debug)]
pub struct FuseMount {
    path: PathBuf,
    mount: Mount,
    ended: watch::Receiver<bool>,
}

impl FuseMount {
    /// Mounts, and serves the kernel from threads of its own; what has to wait runs in `runtime`.
    /// Requests are counted in `meter`.
    ///
    /// # Errors
    /// [`Error::Config`] with one sentence on what is wrong and what to do about it.
    pub fn start(
        vfs: Arc<Vfs>,
        runtime: Handle,
        options: &MountOptions,
        meter: Meter<1>,
    ) -> Result<Self> {
        let root = root_of(&vfs, options)?;
        let Mounted { connection, path, mount } = mount::mount(options)?;
        let (end, ended) = watch::channel(false);
        // From here on every early return unmounts.
        let this = Self { path, mount, ended };
        let door = Arc::new(door(Arc::clone(&vfs), runtime, options, root, meter));
        let kernel = Kernel(Arc::clone(&door));
        let session = Session::from_fd(kernel, connection, SessionACL::All, config(options))
            .map_err(|error| Error::io("agreeing with the kernel on the protocol", error))?;
        let invalidator = invalidate::start(&door, session.notifier())?;
        thread::Builder::new()
            .name("fuse-session".into())
            .spawn(move || {
                if let Err(error) = session.run() {
                    log::error!("a mount's event loop ended: {error}");
                }
                invalidator.stop();
                vfs.forget_mount(door.origin);
                end.send_replace(true);
            })
            .map_err(|error| Error::io("starting the session's thread", error))?;
        raise_read_ahead(&this.mount, options.read_ahead_kb);
        log::info!("{} is mounted", this.path.display());
        Ok(this)
    }

    /// Where, as the kernel's table has it.
    pub fn mount_point(&self) -> &Path {
        &self.path
    }

    /// Returns when the connection has ended, whoever unmounted it.
    pub async fn ended(&self) {
        let mut ended = self.ended.clone();
        // An error means that the session's thread is gone, which is the end too.
        let _ = ended.wait_for(|ended| *ended).await;
    }

    /// Unmounts. Those who use the mount may finish until `deadline`, then they get errors. What was
    /// written is in the vfs afterwards; saving it is the caller's next step.
    ///
    /// # Errors
    /// When it could not be unmounted.
    pub async fn stop(&self, deadline: Duration) -> Result<()> {
        match timeout(deadline, self.leave()).await {
            Ok(left) => return left,
            Err(_) => log::warn!("{} is still in use: it is cut off", self.path.display()),
        }
        let cut = async {
            self.aside(unmount::force).await?;
            self.ended().await;
            Ok(())
        };
        timeout(AFTER_FORCE, cut).await.unwrap_or_else(|_| {
            // Only root may force, and not every system shows its connections.
            log::warn!("{} cannot be cut off before this process ends", self.path.display());
            Ok(())
        })
    }

    /// Unmounts as soon as nobody uses the mount, and waits for the end of its connection, which a
    /// copy in another mount namespace can delay.
    async fn leave(&self) -> Result<()> {
        let mut told = false;
        while self.aside(unmount::unmount).await? == Left::NotYet {
            if !std::mem::replace(&mut told, true) {
                log::info!("{} is in use: waiting for its users", self.path.display());
            }
            tokio::time::sleep(RETRY).await;
        }
        self.ended().await;
        log::info!("{} is unmounted", self.path.display());
        Ok(())
    }

    /// Runs one of the system calls of unmounting on a thread that nobody has to wait for: it ends
    /// only when the requests have been answered that it makes the kernel send.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path, &Mount) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (path, mount) = (self.path.clone(), self.mount.clone());
        let (answer, answered) = oneshot::channel();
        thread::spawn(move || drop(answer.send(work(&path, &mount))));
        answered.await.unwrap_or(Err(Error::ShuttingDown))
    }
}

impl Drop for FuseMount {
    fn drop(&mut self) {
        if *self.ended.borrow() {
            return;
        }
        if let Err(error) = unmount::force(&self.path, &self.mount) {
            log::warn!("{error}");
        }
    }
}

/// The directory that becomes node 1.
fn root_of(vfs: &Vfs, options: &MountOptions) -> Result<Ino> {
    let Some(subtree) = &options.subtree else { return Ok(Ino::ROOT) };
    let attr = vfs.resolve(subtree).and_then(|ino| vfs.getattr(ino));
    match attr {
        Ok(attr) if attr.kind == FileKind::Directory => Ok(attr.ino),
        Ok(_) => Err(cannot_show(subtree, &Error::NotADirectory)),
        Err(error) => Err(cannot_show(subtree, &error)),
    }
}

fn cannot_show(subtree: &[u8], why: &Error) -> Error {
    Error::Config(format!("cannot mount {}: {why}", String::from_utf8_lossy(subtree)))
}

fn door(
    vfs: Arc<Vfs>,
    runtime: Handle,
    options: &MountOptions,
    root: Ino,
    meter: Meter<1>,
) -> Door {
    Door {
        vfs,
        runtime,
        numbers: NodeNumbers { root },
        origin: ORIGINS.fetch_add(1, Ordering::Relaxed),
        ttl: options.ttl,
        no_xattr: options.no_xattr,
        direct_io: options.direct_io,
        acl: options.acl,
        locks: options.locks,
        told: Arc::new(Told::new()),
        writers: Gate::new(options.threads / 2),
        meter,
    }
}

fn config(options: &MountOptions) -> Config {
    let mut config = Config::default();
    config.acl = SessionACL::All;
    config.n_threads = Some(options.threads);
    config.clone_fd = mount::device_is_open_to_us();
    config
}

/// Only root may; others keep the kernel's 128 KiB.
fn raise_read_ahead(mount: &Mount, kib: u32) {
    let knob = mount.bdi().join("read_ahead_kb");
    if let Err(error) = std::fs::write(&knob, kib.to_string()) {
        log::debug!("{} stays as it is: {error}", knob.display());
    }
}
