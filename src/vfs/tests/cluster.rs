//! The nodes, and what tests do with them often.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::ChunkStore;
use crate::env::{Clock, Disk, SimClock, SimDisk};
use crate::error::Result;
use crate::meta::EngineKind;
use crate::replication::trial::{Member, Order};
use crate::replication::{Birth, ChunkServer, Copies, LogOptions, Options, Replica, SimPeers};
use crate::types::{Attr, BucketName, Ino};
use crate::vfs::{Access, Caller, ChangeHub, ObjectReader, OpenFlags, Settings, Vfs};

/// Small, so that little data crosses many chunks.
pub const CHUNK_SIZE: u64 = 64 << 10;
pub const WHO: Caller = Caller { uid: 1, gid: 2, umask: 0o022, origin: 1, access: Access::Trusted };
pub const RDONLY: OpenFlags = OpenFlags(libc::O_RDONLY);
pub const RDWR: OpenFlags = OpenFlags(libc::O_RDWR);

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

pub struct Node {
    pub vfs: Arc<Vfs>,
    pub replica: Arc<Replica>,
    pub member: Arc<Member>,
    pub clock: Arc<SimClock>,
}

/// All nodes see the chunk files of all, what a copy on each of them would give, unless they are
/// made [`Cluster::apart`].
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub bucket: Ino,
    pub chunks: Arc<ChunkStore>,
}

fn store() -> Arc<ChunkStore> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    disk.create_dir_all(Path::new("/chunks")).unwrap();
    Arc::new(ChunkStore::open(disk, Path::new("/chunks"), 1 << 20).unwrap())
}

pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(work)
}

fn options() -> Options {
    Options {
        engine: EngineKind::Memory,
        log: LogOptions { segment_bytes: 256 << 10, direct: false },
        timeout: Duration::from_secs(20),
        boot_id: "boot".into(),
        lock: false,
        ..Options::new("/store")
    }
}

impl Cluster {
    pub async fn new(count: u64) -> Self {
        let chunks = store();
        Self::on(vec![chunks; count as usize]).await
    }

    /// Each node has chunk files of its own and reads those of others from them.
    pub async fn apart(count: u64) -> Self {
        Self::on((0..count).map(|_| store()).collect()).await
    }

    /// One node that knows it is alone, as one that never was in a cluster.
    pub async fn alone() -> Self {
        let (chunks, order) = (store(), Arc::new(Order::default()));
        let peers = SimPeers::default();
        let node = Node::start_as(Member::new(1, &order), None, &chunks, &peers).await;
        Self::of(vec![node], chunks).await
    }

    async fn on(stores: Vec<Arc<ChunkStore>>) -> Self {
        let (order, peers) = (Arc::new(Order::default()), SimPeers::default());
        let mut nodes = Vec::new();
        for (number, chunks) in (1..).zip(&stores) {
            nodes.push(Node::start(Member::new(number, &order), chunks, &peers).await);
        }
        Self::of(nodes, Arc::clone(&stores[0])).await
    }

    async fn of(nodes: Vec<Node>, chunks: Arc<ChunkStore>) -> Self {
        let bucket = BucketName::new("bucket").unwrap();
        let bucket = nodes[0].vfs.create_bucket(&WHO, &bucket).await.unwrap().ino;
        let cluster = Self { nodes, bucket, chunks };
        cluster.level().await;
        cluster
    }

    pub fn vfs(&self, at: usize) -> &Arc<Vfs> {
        &self.nodes[at].vfs
    }

    /// Every node has applied everything.
    pub async fn level(&self) {
        for node in &self.nodes {
            node.replica.barrier().await.unwrap();
        }
    }

    /// Rounds of upkeep on all nodes, until there is nothing left to do.
    pub async fn upkeep(&self) {
        for _ in 0..3 {
            self.level().await;
            for node in &self.nodes {
                node.vfs.upkeep_round().await.unwrap();
            }
        }
        self.level().await;
    }

    pub fn chunk_files(&self) -> usize {
        let mut files = 0;
        let count = &mut |_, _| {
            files += 1;
            Ok(true)
        };
        self.chunks.visit(count).unwrap();
        files
    }

    /// Nothing is kept that nobody uses, and each table agrees with itself and the others.
    pub async fn assert_clean(&self) {
        self.upkeep().await;
        let mut tables = Vec::new();
        for node in &self.nodes {
            let view = node.replica.table().view();
            let findings = crate::meta::check(&view).unwrap();
            assert!(findings.is_empty(), "{findings:#?}");
            let orphans = view.numbers(crate::meta::keys::ORPHAN, None, 10).unwrap();
            assert!(orphans.is_empty(), "orphans are left: {orphans:?}");
            tables.push(records(&view));
        }
        assert!(tables.windows(2).all(|pair| pair[0] == pair[1]), "tables differ");
    }
}

/// All records but how far the table is.
fn records(view: &crate::meta::View<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    use crate::meta::{KvRead, keys};
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        if key != keys::APPLIED {
            found.push((key.to_vec(), value.to_vec()));
        }
        Ok(true)
    };
    view.scan(&[], keys::END, &mut visit).unwrap();
    found
}

impl Node {
    async fn start(member: Arc<Member>, chunks: &Arc<ChunkStore>, peers: &SimPeers) -> Self {
        let trial = Some(Arc::clone(&member));
        let node = Self::start_as(Arc::clone(&member), trial, chunks, peers).await;
        tokio::spawn(member.follow(Arc::downgrade(&node.replica)));
        node.vfs.recover().await.unwrap();
        node
    }

    /// `trial`: the member that has the order of changes from others.
    async fn start_as(
        member: Arc<Member>,
        trial: Option<Arc<Member>>,
        chunks: &Arc<ChunkStore>,
        peers: &SimPeers,
    ) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        // Equal stores from equal chances; the sessions are told apart by their own.
        let birth = Birth { chunk_size: CHUNK_SIZE, ..Birth::default() };
        let clock: Arc<dyn Clock> = Arc::new(SimClock::new(7));
        Replica::init(options(), birth, Arc::clone(&disk), clock).await.unwrap();
        let sim = Arc::new(SimClock::new(100 + member.node));
        let clock: Arc<dyn Clock> = sim.clone();
        let hub = ChangeHub::new();
        let publish = Arc::clone(&hub);
        let listener = Box::new(move |changes: &[_], origin| publish.publish(changes, origin));
        let options = Options { trial, ..options() };
        let replica = Replica::open(options, disk, Arc::clone(&clock), &|_| {}, listener).await;
        let replica = replica.unwrap();
        let settings =
            Settings { write_buffer: 4 << 20, max_object_size: 1 << 40, quorum_required: true };
        let server = ChunkServer::new(Arc::clone(chunks), Arc::clone(replica.table()));
        peers.join(replica.node(), server);
        let copies = Copies::new(
            replica.node(),
            Arc::clone(chunks),
            Arc::new(peers.clone()),
            Arc::clone(replica.table()),
            Arc::clone(&clock),
            Duration::from_secs(10),
        );
        let vfs = Vfs::start(Arc::clone(&replica), copies, clock, hub, settings);
        let vfs = vfs.unwrap();
        Self { vfs, replica, member, clock: sim }
    }

    pub async fn create(&self, dir: Ino, name: &str, data: &[u8]) -> Ino {
        let created = self.vfs.create(&WHO, dir, name.as_bytes(), 0o644, RDWR).await;
        let (attr, opened) = created.unwrap();
        self.vfs.write(&WHO, opened.handle, 0, data).await.unwrap();
        self.close(opened.handle).await.unwrap();
        attr.ino
    }

    pub async fn lookup(&self, dir: Ino, name: &str) -> Result<Attr> {
        self.replica.barrier().await?;
        self.vfs.lookup(dir, name.as_bytes())
    }

    pub async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<u64> {
        Ok(self.vfs.open(&WHO, ino, flags).await?.handle)
    }

    pub async fn close(&self, handle: u64) -> Result<()> {
        let flushed = self.vfs.flush(handle).await;
        self.vfs.release(handle).await;
        flushed
    }

    /// Readers let go in the background.
    pub async fn drop_reader(&self, reader: ObjectReader) {
        let ino = reader.info.ino;
        drop(reader);
        while self.vfs.nodes.is_open(ino) {
            tokio::task::yield_now().await;
        }
    }

    /// All bytes, as somebody reads them who opens the file now.
    pub async fn read_whole(&self, dir: Ino, name: &str) -> Result<Vec<u8>> {
        let ino = self.lookup(dir, name).await?.ino;
        let handle = self.open(ino, RDONLY).await?;
        let read = self.read_all(handle).await;
        self.close(handle).await?;
        read
    }

    pub async fn read_all(&self, handle: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let more = self.vfs.read(handle, bytes.len() as u64, 100_000).await?;
            if more.is_empty() {
                return Ok(bytes);
            }
            bytes.extend(more);
        }
    }
}
