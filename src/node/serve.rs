//! Runs one node in the foreground, from the opened store to the last unmount.

use std::ffi::OsString;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::{Handle, Runtime};

use super::admin::{self, Server};
use super::guard;
use super::measures::Measures;
use super::notify::Notify;
use super::progress::{OnOpen, Progress};
use super::rest_door::RestDoor;
use super::run_file::RunFile;
use super::s3_door::S3Door;
use super::scrub::Scrubber;
use super::signals::{Hangups, StopSignals};
use super::store::Store;
use crate::config::Config;
use crate::env::{Clock, SystemClock, blocking, dying_holder, raise_descriptor_limit};
use crate::error::{Error, Result};
use crate::fuse::{self, FuseMount, MountOptions};
use crate::web::Tls;

/// How long a process that was killed may take to end once nothing holds it.
const DYING_MAX: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Fewer let a few blocking reads of the disk stop everything else.
const WORKERS_MIN: usize = 4;
/// What a mount may take to answer its first request.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long programs may go on using a mount that is being taken away.
const FAREWELL: Duration = Duration::from_secs(10);
/// What the service manager allows for the start or the stop from now on.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a node serves, once it does.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    pub ready: bool,
    pub pid: u32,
    pub data_dir: PathBuf,
    pub mounts: Vec<PathBuf>,
    pub admin: PathBuf,
    /// Where S3 is served.
    pub s3: Option<SocketAddr>,
    /// Where the REST API is served.
    pub rest: Option<SocketAddr>,
    /// Both with TLS.
    pub tls: bool,
}

/// The threads everything asynchronous runs on.
///
/// # Errors
/// [`Error::Io`] when they cannot be started.
pub fn runtime() -> Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(WORKERS_MIN))
        .enable_all()
        .build()
        .map_err(|error| Error::io("starting the threads", error))
}

/// What a node is asked to serve.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `DIR` or `DIR=BUCKET[/PATH]` each.
    pub mounts: Vec<OsString>,
    /// `DIR` each, whatever its name is.
    pub mount_points: Vec<OsString>,
    /// End with the last mount, also when S3 or REST are served.
    pub until_unmounted: bool,
    /// Words of `-o` for all of them.
    pub options: String,
}

/// Serves the store until it is asked to stop or, without S3 and REST or when that is wanted, until
/// the last mount is unmounted. Calls `announce` when everything answers. On return everything is on disk.
///
/// # Errors
/// What kept it from serving, or from stopping in order.
pub fn serve(
    config: &Config,
    wanted: &Wanted,
    on_open: OnOpen,
    announce: &dyn Fn(&Ready) -> Result<()>,
) -> Result<()> {
    if let Err(error) = raise_descriptor_limit() {
        log::warn!("the number of open files stays as it is: {error}");
    }
    // Names the store in the table of mounts: umount.bucketfs finds the node by it.
    let source = std::path::absolute(config.data_dir()?)
        .map_err(|error| Error::io("finding the data directory", error))?;
    let targets = wanted.mounts.iter().map(|target| MountOptions::new(target));
    let places = wanted.mount_points.iter().map(|place| MountOptions::at(place));
    let options = |mut options: MountOptions| {
        options.source = source.display().to_string();
        options.with(&wanted.options)
    };
    let mounts: Vec<MountOptions> = targets.chain(places).map(options).collect::<Result<_>>()?;
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        let mut signals = StopSignals::catch()?;
        let notify = Arc::new(Notify::from_environment());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let measures = Measures::new(&clock);
        let tls = tls(config)?;
        let rest = RestDoor::open(config.rest_listen, tls.clone(), &measures).await?;
        outlive_killed(config.data_dir()?, &mounts).await?;
        look_before(config, &mounts)?;
        let opening = open(config.clone(), clock, measures.clone(), on_open, Arc::clone(&notify));
        let Some(store) = or_signal(opening, &mut signals).await.transpose()? else {
            return Ok(());
        };
        let store = Arc::new(store);
        let until_unmounted = wanted.until_unmounted;
        let (s3, mounts_up) = (None, Vec::new());
        let serving =
            Serving { store, mounts: mounts_up, until_unmounted, s3, rest, tls, measures, notify };
        serving.run(config, &mounts, announce, &mut signals).await
    });
    // Threads that wait for a disk or a kernel that will not answer must not keep the process.
    runtime.shutdown_background();
    served
}

/// The certificate of S3 and REST, if the settings name one.
fn tls(config: &Config) -> Result<Option<Arc<Tls>>> {
    match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => Tls::open(certificate, key).map(Some),
        _ => Ok(None),
    }
}

/// What would keep the node from serving once the store is open is said before it is touched.
fn look_before(config: &Config, mounts: &[MountOptions]) -> Result<()> {
    mounts.iter().try_for_each(fuse::can_mount)?;
    let doors = [("S3", config.s3_listen), ("other nodes", config.peers_listen)];
    for (whom, listen) in doors {
        // Let go of again: until there is a store to answer from, clients are refused at once.
        if let Some(listen) = listen {
            std::net::TcpListener::bind(listen)
                .map_err(|error| Error::io(format!("listening for {whom} at {listen}"), error))?;
        }
    }
    Ok(())
}

/// Lets a process end that had this store, was killed, and waits for its own mounts.
async fn outlive_killed(data_dir: &Path, mounts: &[MountOptions]) -> Result<()> {
    let Some(pid) = dying_holder(data_dir) else { return Ok(()) };
    log::warn!("process {pid} was killed and waits for what it had mounted: that is cut off");
    for mount in mounts {
        fuse::release(&mount.mount_point)?;
    }
    let ended = async {
        while dying_holder(data_dir).is_some() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    // Whoever takes the lock says who still has it.
    let _ = tokio::time::timeout(DYING_MAX, ended).await;
    Ok(())
}

/// Opens the store in a task of its own, because that blocks, and keeps the manager patient.
async fn open(
    config: Config,
    clock: Arc<dyn Clock>,
    measures: Measures,
    on_open: OnOpen,
    notify: Arc<Notify>,
) -> Result<Store> {
    notify.busy("opening the store", PATIENCE);
    let tell = Arc::new(move |progress: Progress| {
        notify.busy(progress.phase.title(), PATIENCE);
        on_open(progress);
    });
    let opening =
        tokio::spawn(async move { Store::open_measured(&config, clock, &measures, tell).await });
    opening.await.map_err(|error| Error::io("opening the store", error.into()))?
}

/// `None` when a signal came first: what was begun is left as a crash leaves it.
async fn or_signal<T>(work: impl Future<Output = T>, signals: &mut StopSignals) -> Option<T> {
    tokio::select! {
        done = work => Some(done),
        () = signals.next() => None,
    }
}

struct Serving {
    store: Arc<Store>,
    mounts: Vec<FuseMount>,
    until_unmounted: bool,
    s3: Option<S3Door>,
    rest: Option<RestDoor>,
    tls: Option<Arc<Tls>>,
    measures: Measures,
    notify: Arc<Notify>,
}

impl Serving {
    async fn run(
        mut self,
        config: &Config,
        mounts: &[MountOptions],
        announce: &dyn Fn(&Ready) -> Result<()>,
        signals: &mut StopSignals,
    ) -> Result<()> {
        let served = match self.start(config, mounts, announce, signals).await {
            Ok(Some(server)) => {
                let asked = self.until_asked(signals).await;
                server.stop();
                asked
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.notify.stopping();
        self.notify.busy("writing everything to disk", PATIENCE);
        let stopped = self.stop(signals).await;
        served.and(stopped)
    }

    /// `None` when a signal came before all mounts answered.
    async fn start(
        &mut self,
        config: &Config,
        mounts: &[MountOptions],
        announce: &dyn Fn(&Ready) -> Result<()>,
        signals: &mut StopSignals,
    ) -> Result<Option<Server>> {
        for options in mounts {
            let vfs = Arc::clone(&self.store.vfs);
            // One mount of one node: its kernel alone sees all who lock.
            let locks = options.locks && (mounts.len() > 1 || !vfs.is_alone());
            let mut options = options.clone();
            options.locks = locks;
            let meter = self.measures.kernel.clone();
            let mount = FuseMount::start(vfs, Handle::current(), &options, meter)?;
            let path = mount.mount_point().to_path_buf();
            self.mounts.push(mount);
            if or_signal(answers(&path), signals).await.transpose()?.is_none() {
                return Ok(None);
            }
        }
        if let Some(listen) = config.s3_listen {
            let requests = self.measures.of_door("s3");
            let door = S3Door::open(&self.store, config, listen, self.tls.clone(), requests);
            self.s3 = Some(door.await?);
        }
        if let Some(rest) = &self.rest {
            rest.serve(&self.store, &self.measures);
        }
        let data_dir = &self.store.data_dir;
        let paths: Vec<PathBuf> =
            self.mounts.iter().map(|mount| mount.mount_point().to_path_buf()).collect();
        if !paths.is_empty()
            && let Err(error) = guard::start(&paths)
        {
            log::warn!(
                "only the next start frees this node if it is killed and cannot end: {error}"
            );
        }
        let scrubber = Arc::new(Scrubber::start(Arc::clone(&self.store)));
        let server = Server::start(Arc::clone(&self.store), paths.clone(), scrubber)?;
        let (pid, admin) = (std::process::id(), admin::path(data_dir));
        let (mounts, ends_with_last_mount) = (paths.clone(), self.ends_with_last_mount());
        RunFile { pid, mounts, ends_with_last_mount, admin: admin.clone() }.write(data_dir)?;
        let s3 = self.s3.as_ref().map(S3Door::address);
        let rest = self.rest.as_ref().map(RestDoor::address);
        let tls = self.tls.is_some();
        let data_dir = data_dir.clone();
        announce(&Ready { ready: true, pid, data_dir, mounts: paths, admin, s3, rest, tls })?;
        self.notify.ready();
        Ok(Some(server))
    }

    /// Whether nobody could use the node any more, or was to, once nothing is mounted.
    fn ends_with_last_mount(&self) -> bool {
        let has_doors = self.s3.is_some() || self.rest.is_some();
        !self.mounts.is_empty() && (self.until_unmounted || !has_doors)
    }

    /// Returns at a signal, or when the last mount is gone: nobody could use the node any more.
    ///
    /// # Errors
    /// When the node cannot serve any more, because its cluster has removed it.
    async fn until_asked(&self, signals: &mut StopSignals) -> Result<()> {
        let all_unmounted = async {
            for mount in &self.mounts {
                mount.ended().await;
            }
            if !self.ends_with_last_mount() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = signals.next() => log::info!("asked to stop"),
            () = all_unmounted => log::info!("everything was unmounted"),
            () = renew_certificate(self.tls.as_deref()) => {}
            removed = self.store.vfs.until_removed() => return Err(removed),
        }
        Ok(())
    }

    /// Saves before unmounting, so that little is left to save when nobody can see it any more,
    /// and after it. A second signal cuts the farewell short, never the saving.
    async fn stop(&mut self, signals: &mut StopSignals) -> Result<()> {
        if let Some(rest) = &self.rest {
            or_signal(rest.drain(), signals).await;
        }
        if let Some(endpoint) = self.s3.take() {
            or_signal(endpoint.close(), signals).await;
        }
        let drained = self.store.vfs.drain().await;
        if let Err(error) = &drained {
            log::error!("not everything could be written before unmounting: {error}");
        }
        let mut unmounted = Ok(());
        for mount in &self.mounts {
            let left = match or_signal(mount.stop(FAREWELL), signals).await {
                Some(left) => left,
                None => mount.stop(Duration::ZERO).await,
            };
            unmounted = unmounted.and(left);
        }
        let closed = self.store.close().await;
        if let Some(rest) = self.rest.take() {
            or_signal(rest.close(), signals).await;
        }
        RunFile::remove(&self.store.data_dir);
        // What was not written is given up by now: closing finds nothing left that could fail.
        drained.and(closed).and(unmounted)
    }
}

/// Reads the certificate again at each SIGHUP, for ever; without one a SIGHUP ends the process as
/// it does others.
async fn renew_certificate(tls: Option<&Tls>) {
    let Some(tls) = tls else { return std::future::pending().await };
    match Hangups::catch() {
        Ok(mut hangups) => loop {
            hangups.next().await;
            tls.reload();
        },
        Err(error) => {
            log::warn!("a SIGHUP will not renew the certificate: {error}");
            std::future::pending().await
        }
    }
}

/// Returns when the kernel gets an answer from the mount.
async fn answers(path: &Path) -> Result<()> {
    let silent = || Error::Store(format!("{} was mounted but does not answer", path.display()));
    let asked = path.to_path_buf();
    let look = blocking(move || std::fs::metadata(asked));
    match tokio::time::timeout(ANSWER_MAX, look).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(error))) => Err(Error::io(format!("looking at {}", path.display()), error)),
        Ok(Err(_)) | Err(_) => Err(silent()),
    }
}
