//! One whole node: its disk, its clock, and a runtime whose time is the simulation's.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bucketfs::chunk::ChunkStore;
use bucketfs::env::{Clock, Disk, SimClock, SimDisk};
use bucketfs::error::{Error, Result};
use bucketfs::meta::EngineKind;
use bucketfs::replication::{
    Birth, ChunkServer, Copies, Credentials, LogOptions, Options, Repair, Replica,
};
use bucketfs::types::NodeId;
use bucketfs::vfs::{ChangeHub, Settings, Vfs};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use super::net::{Net, address};

/// Small, so that little data crosses many chunks.
pub const CHUNK: u64 = 64 << 10;
pub const TICK: Duration = Duration::from_millis(1);
/// Copies of each chunk.
pub const FACTOR: u8 = 3;
const CHUNKS: &str = "/store/chunks";
/// How long a node waits for others: as configured it is longer, and here time is dear.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// What a running node is made of.
#[derive(Clone)]
pub struct Parts {
    pub replica: Arc<Replica>,
    pub chunks: Arc<ChunkStore>,
    pub copies: Arc<Copies>,
    pub vfs: Arc<Vfs>,
}

enum Start {
    Opening,
    Runs(Parts),
    Failed(Error),
}

pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    net: Net,
    /// Starts of the machine, and of the process.
    boots: u64,
    pub starts: u64,
    runtime: Option<Runtime>,
    start: Arc<Mutex<Start>>,
    /// A fault was done to its disk, so that it may refuse to start or to work.
    pub is_ailing: bool,
}

/// Nothing of a simulation may depend on the machine's time.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

impl Node {
    fn new(id: NodeId, disk: SimDisk, net: &Net) -> Self {
        let clock = Arc::new(SimClock::new(id));
        let start = Arc::new(Mutex::new(Start::Opening));
        let net = net.clone();
        Self { id, disk, clock, net, boots: 1, starts: 0, runtime: None, start, is_ailing: false }
    }

    fn options(&self) -> Options {
        Options {
            engine: EngineKind::Memory,
            timeout: PATIENCE,
            peers: Some(self.net.peers()),
            log: LogOptions { segment_bytes: 256 << 10, direct: false },
            // Small enough that snapshots are made in the middle of the work.
            snapshot_log_bytes: 150 << 10,
            boot_id: format!("boot {}", self.boots),
            lock: false,
            ..Options::new("/store")
        }
    }

    /// The first node of a new cluster, and the cluster's name.
    pub fn first(seed: u64, net: &Net) -> (Self, String) {
        let disk = SimDisk::new();
        let mut node = Self::new(0, disk.clone(), net);
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(seed));
        let birth = Birth { chunk_size: CHUNK, ..Birth::default() };
        let made = runtime().block_on(Replica::init(node.options(), birth, Arc::new(disk), clock));
        let made = made.expect("a new store");
        node.id = made.node;
        (node, made.cluster)
    }

    /// A node that joins the cluster of `contact`.
    pub fn joining(id: NodeId, cluster: &str, contact: NodeId, net: &Net) -> Self {
        let disk = SimDisk::new();
        let node = Self::new(id, disk.clone(), net);
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(id));
        let credentials = Credentials::generate(cluster).expect("credentials");
        let name = (id, cluster.to_owned());
        let contacts = [(contact, address(contact))];
        let disk = Arc::new(disk);
        let made =
            Replica::init_joined(node.options(), name, &credentials, &contacts, &[], disk, clock);
        runtime().block_on(made).expect("a new store");
        node
    }

    pub fn is_up(&self) -> bool {
        self.runtime.is_some()
    }

    /// The parts of the node when it runs and answers.
    pub fn parts(&self) -> Option<Parts> {
        match &*self.start.lock() {
            Start::Runs(parts) if self.is_up() => Some(parts.clone()),
            _ => None,
        }
    }

    /// Why the node could not start, once.
    pub fn failure(&self) -> Option<Error> {
        match &*self.start.lock() {
            Start::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Starts the process; `then` is called inside when it serves.
    pub fn start(&mut self, seed: u64, then: impl FnOnce(Parts) + Send + 'static) {
        assert!(!self.is_up(), "node {} runs", self.id);
        self.starts += 1;
        // The fault was of the disk that was stopped.
        self.is_ailing = false;
        let sim = SimClock::new(seed ^ self.id << 20 ^ self.starts);
        sim.advance(Duration::from_secs(self.starts));
        self.clock = Arc::new(sim);
        let runtime = runtime();
        let (options, disk, clock) = (self.options(), self.disk.clone(), self.clock.clone());
        let start = Arc::new(Mutex::new(Start::Opening));
        self.start = Arc::clone(&start);
        runtime.spawn(async move {
            match open(options, Arc::new(disk), clock).await {
                Ok(parts) => {
                    *start.lock() = Start::Runs(parts.clone());
                    then(parts);
                }
                Err(error) => *start.lock() = Start::Failed(error),
            }
        });
        self.runtime = Some(runtime);
    }

    /// Its chunk files, and their sizes.
    pub fn chunk_files(&self) -> Vec<(PathBuf, u64)> {
        let (mut files, mut dirs) = (Vec::new(), vec![PathBuf::from(CHUNKS)]);
        while let Some(dir) = dirs.pop() {
            for entry in self.disk.list(&dir).unwrap_or_default() {
                let path = dir.join(&entry.name);
                if entry.is_dir { dirs.push(path) } else { files.push((path, entry.len)) }
            }
        }
        files
    }

    /// A millisecond passes on this node.
    pub fn tick(&self) {
        if let Some(runtime) = &self.runtime {
            self.clock.advance(TICK);
            runtime.block_on(async { tokio::time::sleep(TICK).await });
        }
    }

    /// Begins `work` inside the node, and gives the place where its result will be.
    pub fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Arc<Mutex<Option<T>>> {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let runtime = self.runtime.as_ref().expect("a node that runs");
        runtime.spawn(async move {
            let done = work.await;
            *slot.lock() = Some(done);
        });
        result
    }

    fn stop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        let entered = runtime.enter();
        drop(self.net.unplug(self.id));
        let parts = std::mem::replace(&mut *self.start.lock(), Start::Opening);
        drop(parts);
        drop(entered);
        drop(runtime);
    }

    /// As SIGKILL: what was written is there.
    pub fn kill(&mut self) {
        self.disk = self.disk.kill();
        self.stop();
    }

    /// The power is cut: what was not synced is partly there, or not at all.
    pub fn cut_power(&mut self, seed: u64) {
        self.disk = self.disk.crash(seed);
        self.boots += 1;
        self.stop();
    }
}

async fn open(options: Options, disk: Arc<dyn Disk>, clock: Arc<dyn Clock>) -> Result<Parts> {
    let hub = ChangeHub::new();
    let publish = Arc::clone(&hub);
    let listener = Box::new(move |changes: &[_], origin| publish.publish(changes, origin));
    let own = Arc::clone(&disk);
    let replica = Replica::open(options, own, Arc::clone(&clock), &|_| {}, listener).await?;
    let chunks = Arc::new(ChunkStore::open(disk, Path::new(CHUNKS), 1 << 20)?);
    let table = replica.table();
    replica.serve_chunks(ChunkServer::new(Arc::clone(&chunks), Arc::clone(table)));
    let copies = Copies::new(
        replica.node(),
        Arc::clone(&chunks),
        replica.chunk_peers(),
        Arc::clone(table),
        Arc::clone(&clock),
        PATIENCE,
    );
    let settings =
        Settings { write_buffer: 1 << 20, max_object_size: 1 << 40, quorum_required: true };
    let vfs = Vfs::start(Arc::clone(&replica), Arc::clone(&copies), clock, hub, settings)?;
    vfs.recover().await?;
    let repair = Repair::new(Arc::clone(&copies), Arc::clone(&replica));
    repair.found(replica.address(), None, Some(FACTOR)).await?;
    repair.enlist(replica.address(), None).await?;
    tokio::spawn(Arc::clone(&vfs).run_upkeep());
    tokio::spawn(repair.run());
    Ok(Parts { replica, chunks, copies, vfs })
}
