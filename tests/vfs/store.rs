//! A vfs over a simulated disk, with the metadata in memory: a power cut leaves the log, the
//! snapshots and the chunk files.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bucketfs::chunk::ChunkStore;
use bucketfs::env::{Clock, Disk, SimClock, SimDisk};
use bucketfs::error::{Error, Result};
use bucketfs::meta::EngineKind;
use bucketfs::node::{Fsck, LeftOver};
use bucketfs::replication::LogOptions;
use bucketfs::replication::{Birth, Copies, NoPeers, Options, Replica};
use bucketfs::types::{BucketName, ChunkId, Ino};
use bucketfs::vfs::{Caller, ChangeHub, OpenFlags, Settings, Vfs};

use super::model::{State, digest, name};
use super::words::FILES;

/// Small, so that little data crosses many chunks.
const CHUNK_SIZE: u64 = 64 << 10;

pub struct Store {
    pub disk: SimDisk,
    pub vfs: Arc<Vfs>,
    pub bucket: Ino,
    replica: Arc<Replica>,
    chunks: Arc<ChunkStore>,
    boot: u64,
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn options(boot: u64) -> Options {
    Options {
        engine: EngineKind::Memory,
        log: LogOptions { segment_bytes: 256 << 10, direct: false },
        // Small enough that snapshots are made in the middle of the work.
        snapshot_log_bytes: 100 << 10,
        boot_id: format!("boot {boot}"),
        lock: false,
        ..Options::new("/store")
    }
}

/// Random numbers of one start must not come again in the next: sessions are told apart by them.
fn clock() -> Arc<dyn Clock> {
    static STARTS: AtomicU64 = AtomicU64::new(1);
    Arc::new(SimClock::new(STARTS.fetch_add(1, Ordering::Relaxed)))
}

impl Store {
    pub async fn create() -> Self {
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let birth = Birth { chunk_size: CHUNK_SIZE, ..Birth::default() };
        Replica::init(options(1), birth, shared, clock()).await.unwrap();
        let mut store = Self::open(disk, 1).await;
        let bucket = BucketName::new("bucket").unwrap();
        store.bucket = store.vfs.create_bucket(&Caller::default(), &bucket).await.unwrap().ino;
        store
    }

    async fn open(disk: SimDisk, boot: u64) -> Self {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let hub = ChangeHub::new();
        let publish = Arc::clone(&hub);
        let listener = Box::new(move |changes: &[_], origin| publish.publish(changes, origin));
        let replica =
            Replica::open(options(boot), Arc::clone(&shared), clock(), &|_| {}, listener).await;
        let replica = replica.unwrap();
        let chunks =
            Arc::new(ChunkStore::open(shared, Path::new("/store/chunks"), 1 << 20).unwrap());
        let settings =
            Settings { write_buffer: 1 << 20, max_object_size: 1 << 40, quorum_required: true };
        let copies = Copies::new(
            replica.node(),
            Arc::clone(&chunks),
            Arc::new(NoPeers),
            Arc::clone(replica.table()),
            clock(),
            Duration::from_secs(10),
        );
        let vfs = Vfs::start(Arc::clone(&replica), copies, clock(), hub, settings).unwrap();
        vfs.recover().await.unwrap();
        let bucket = vfs.resolve(b"bucket").unwrap_or(Ino::ROOT);
        Self { disk, vfs, bucket, replica, chunks, boot }
    }

    /// The process is killed and started again.
    pub async fn kill(self) -> Self {
        let (disk, boot) = (self.disk.kill(), self.boot);
        drop(self);
        Self::open(disk, boot).await
    }

    /// The power is cut, and the machine started again.
    pub async fn power_cut(self, seed: u64) -> Self {
        let (disk, boot) = (self.disk.crash(seed), self.boot + 1);
        drop(self);
        Self::open(disk, boot).await
    }

    /// Every record agrees with the others, and every chunk is there, whole.
    pub fn assert_consistent(&self) {
        let fsck = Fsck {
            node: self.replica.node(),
            table: self.replica.table(),
            chunks: &self.chunks,
            left_over: LeftOver::Keep,
            scratch: None,
        };
        let report = fsck.run(&mut |_| Ok(())).unwrap();
        assert!(report.is_sound(), "the store is not sound: {report}");
    }

    /// Chunk files on the disk.
    pub fn chunk_files(&self) -> usize {
        let mut files = 0;
        let count = &mut |_, _| {
            files += 1;
            Ok(true)
        };
        self.chunks.visit(count).unwrap();
        files
    }

    /// Flips a bit of a chunk's data on the disk.
    pub fn damage(&self, id: ChunkId) {
        let (session, counter) = (id.session.0, id.counter);
        let name = format!("{session:016x}/{:013x}/{counter:016x}", counter / 4096);
        self.disk.flip_bit(&Path::new("/store/chunks").join(name), 5).unwrap();
    }

    /// A file's bytes as a reader sees them.
    pub async fn read_whole(&self, name: &str) -> Result<Vec<u8>> {
        let attr = self.vfs.lookup(self.bucket, name.as_bytes())?;
        let who = Caller::default();
        let handle = self.vfs.open(&who, attr.ino, OpenFlags(libc::O_RDONLY)).await?.handle;
        let mut bytes = Vec::new();
        loop {
            let more = self.vfs.read(handle, bytes.len() as u64, 100_000).await?;
            if more.is_empty() {
                break;
            }
            bytes.extend(more);
        }
        self.vfs.release(handle).await;
        assert_eq!(bytes.len() as u64, attr.size, "{name}: stat and read disagree");
        Ok(bytes)
    }

    /// What the bucket holds.
    pub async fn state(&self) -> State {
        let mut state = State::new();
        for file in 0..FILES {
            let name = name(file);
            match self.read_whole(&name).await {
                Ok(bytes) => {
                    state.insert(name, digest(&bytes));
                }
                Err(Error::NotFound) => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
        state
    }
}
