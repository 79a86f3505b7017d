//! One opened store: the layers put together, without doors.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::fsck::{Fsck, LeftOver};
use super::measures::Measures;
use super::progress::{OnOpen, Progress};
use super::secrets;

use crate::chunk::ChunkStore;
use crate::config::{ByteSize, Config, Engine};
use crate::env::{Clock, Disk, RealDisk, SystemClock};
use crate::error::{Error, Result};
use crate::meta::{EngineKind, Probe};
use crate::metrics::MeteredDisk;
use crate::replication::{
    ChunkServer, Copies, Options, PROTOCOL, PeerSettings, Peers, Repair, Replica,
};
use crate::vfs::{ChangeHub, Settings, Vfs};

/// The layers over one data directory, open for work. [`Store::close`] ends it in order; dropping
/// it is a crash, which loses nothing that was acknowledged.
pub struct Store {
    pub data_dir: PathBuf,
    pub engine: EngineKind,
    pub clock: Arc<dyn Clock>,
    pub chunks: Arc<ChunkStore>,
    pub copies: Arc<Copies>,
    pub replica: Arc<Replica>,
    pub vfs: Arc<Vfs>,
    /// Upkeep and repair.
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// Where the parts of a data directory lie; the log, the snapshots and the table are the replica's.
pub fn chunks_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("chunks")
}

fn table_dir(data_dir: &Path, engine: Engine) -> PathBuf {
    data_dir.join("meta").join(engine.as_str())
}

pub fn engine_kind(engine: Engine) -> EngineKind {
    match engine {
        Engine::Sled => EngineKind::Sled,
        Engine::Redb => EngineKind::Redb,
    }
}

/// The engine that was asked for; else the one the store has; else sled.
fn choose_engine(config: &Config, data_dir: &Path) -> EngineKind {
    let has = |engine: &Engine| table_dir(data_dir, *engine).is_dir();
    let found = || [Engine::Sled, Engine::Redb].into_iter().find(has);
    engine_kind(config.meta_engine.or_else(found).unwrap_or(Engine::Sled))
}

/// What the replica is told.
///
/// # Errors
/// [`Error::Config`] when no data directory is set.
pub fn replica_options(config: &Config) -> Result<Options> {
    let data_dir = config.data_dir()?;
    let data_dir = std::path::absolute(data_dir)
        .map_err(|error| Error::io(format!("finding {}", data_dir.display()), error))?;
    let mut options = Options::new(&data_dir);
    options.engine = choose_engine(config, &data_dir);
    options.cache_bytes = config.meta_cache.0;
    options.probe = Probe::own_program();
    options.timeout = config.replication_timeout.to_duration();
    options.secrets = vec![(secrets::FILE.into(), secrets::path(&data_dir))];
    options.peers = config.peers_listen.map(|listen| {
        let address = config.peers_address.clone();
        Peers::Https(PeerSettings { listen, address, protocol: PROTOCOL })
    });
    Ok(options)
}

impl Store {
    /// Opens the store, recovering it when it was not closed in order.
    ///
    /// # Errors
    /// [`Error::Store`] when there is none, when another process runs it, or when it cannot be
    /// opened; [`Error::Config`] when the settings do not fit it.
    pub async fn open(config: &Config, on_open: OnOpen) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let measures = Measures::new(&clock);
        Self::open_measured(config, clock, &measures, on_open).await
    }

    /// As [`Self::open`]; what is measured is counted in `measures`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_measured(
        config: &Config,
        clock: Arc<dyn Clock>,
        measures: &Measures,
        on_open: OnOpen,
    ) -> Result<Self> {
        let options = replica_options(config)?;
        let (data_dir, engine) = (options.data_dir.clone(), options.engine);
        let disk: Arc<dyn Disk> =
            Arc::new(MeteredDisk::new(RealDisk::new(), measures.syncs.clone()));
        let hub = ChangeHub::new();
        let heard = Arc::clone(&hub);
        let listener = Box::new(move |changes: &[_], origin| heard.publish(changes, origin));
        let progress = move |progress| on_open(Progress::from(progress));
        let (own_disk, own_clock) = (Arc::clone(&disk), Arc::clone(&clock));
        let replica = Replica::open(options, own_disk, own_clock, &progress, listener).await?;
        check_buffer(config, replica.chunk_size())?;
        forget_other_tables(&*disk, &data_dir, engine);
        let read_cache = usize::try_from(config.read_cache.0).unwrap_or(usize::MAX);
        let chunks =
            Arc::new(ChunkStore::open(Arc::clone(&disk), &chunks_dir(&data_dir), read_cache)?);
        chunks.measure(measures.chunks.clone());
        let settings = Settings {
            write_buffer: config.write_buffer.0,
            max_object_size: config.max_object_size.0,
            quorum_required: config.quorum_required,
        };
        replica.serve_chunks(ChunkServer::new(Arc::clone(&chunks), Arc::clone(replica.table())));
        let copies = Copies::new(
            replica.node(),
            Arc::clone(&chunks),
            replica.chunk_peers(),
            Arc::clone(replica.table()),
            Arc::clone(&clock),
            config.replication_timeout.to_duration(),
        );
        let vfs = Vfs::start(
            Arc::clone(&replica),
            Arc::clone(&copies),
            Arc::clone(&clock),
            hub,
            settings,
        )?;
        vfs.recover().await?;
        unlock_keys(&vfs, &*disk, &*clock, &data_dir)?;
        let repair = Repair::new(Arc::clone(&copies), Arc::clone(&replica));
        let (address, zone) = (replica.address(), config.peers_zone.as_deref());
        repair.found(address, zone, config.replication_factor).await?;
        repair.enlist(address, zone).await?;
        let tasks = vec![tokio::spawn(Arc::clone(&vfs).run_upkeep()), tokio::spawn(repair.run())];
        let tasks = Mutex::new(tasks);
        Ok(Self { data_dir, engine, clock, chunks, copies, replica, vfs, tasks })
    }

    /// A check of this store; see [`Fsck`] for `scratch`.
    pub fn fsck<'a>(&'a self, left_over: LeftOver, scratch: Option<&'a Path>) -> Fsck<'a> {
        Fsck {
            node: self.replica.node(),
            table: self.replica.table(),
            chunks: &self.chunks,
            left_over,
            scratch,
        }
    }

    /// Writes everything to disk and ends the session, so that the next start has nothing to
    /// recover.
    ///
    /// # Errors
    /// The first failure; the rest is done all the same.
    pub async fn close(&self) -> Result<()> {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            task.abort();
            // It ends where it waits; an error says that it was aborted, or that it ended before.
            let _ = task.await;
        }
        let drained = self.vfs.drain().await;
        drained.and(self.replica.close().await)
    }
}

/// Hands the vfs what seals the secrets of access keys. Without the file that is a new key, unless
/// there are secrets already, which it could not open, or other nodes, which have theirs.
fn unlock_keys(vfs: &Vfs, disk: &dyn Disk, clock: &dyn Clock, data_dir: &Path) -> Result<()> {
    let key = match secrets::load(data_dir)? {
        Some(key) => key,
        None if vfs.is_alone() && vfs.key_count()? == 0 => secrets::make(disk, clock, data_dir)?,
        None => {
            log::error!(
                "secrets.key is missing in {}: no access key can be used until it is brought back; \
                 all nodes of a cluster have the same",
                data_dir.display()
            );
            return Ok(());
        }
    };
    vfs.unlock_keys(&key);
    Ok(())
}

/// After a change of the engine: the table is rebuilt, the old one of no use to anybody.
fn forget_other_tables(disk: &dyn Disk, data_dir: &Path, engine: EngineKind) {
    for other in [Engine::Sled, Engine::Redb] {
        let dir = table_dir(data_dir, other);
        if engine_kind(other) != engine && dir.is_dir() {
            log::info!("the table in {} is replaced by one in {engine}", dir.display());
            if let Err(error) = disk.remove_all(&dir) {
                log::warn!("{} can be removed by hand: {error}", dir.display());
            }
        }
    }
}

/// The buffer is this start's, the chunk size the store's: together they may not fit.
fn check_buffer(config: &Config, chunk_size: u64) -> Result<()> {
    if config.write_buffer.0 >= 2 * chunk_size {
        return Ok(());
    }
    Err(Error::Config(format!(
        "`write_buffer` is {} but must hold two chunks of this store: at least {}",
        config.write_buffer,
        ByteSize(2 * chunk_size)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Place;
    use crate::node::fsck::tests::{made, with_store};

    /// A setting that is shown as in force is: it changes what the store has had since `init`.
    #[test]
    fn a_start_that_names_another_replication_factor_sets_it() {
        let (_dir, config) = made();
        for (named, wanted) in [(None, 3), (Some(2), 2), (None, 2), (Some(3), 3)] {
            with_store(&Config { replication_factor: named, ..config.clone() }, async |store| {
                let placement = store.replica.table().view().placement().unwrap();
                assert_eq!(placement.replication_factor, wanted, "{named:?}");
            });
        }
    }

    /// A node is in the zone that it was last told, also when a start tells none.
    #[test]
    fn a_start_that_names_another_zone_moves_the_node_to_it() {
        let (_dir, config) = made();
        let starts = [(None, ""), (Some("a"), "a"), (None, "a"), (Some("b"), "b"), (Some(""), "")];
        for (named, zone) in starts {
            let peers_zone = named.map(str::to_owned);
            with_store(&Config { peers_zone, ..config.clone() }, async |store| {
                let places = Place::all(store.replica.table()).unwrap();
                let expected = Place { node: store.replica.node(), zone: zone.into(), wanting: 0 };
                assert_eq!(places, [expected], "{named:?}");
            });
        }
    }
}
