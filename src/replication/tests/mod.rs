//! Whole replicas, over real and simulated disks.

mod away;
mod basics;
mod cluster;
mod faults;
mod https;
mod leases;
mod leaving;
mod restarts;
mod sessions;
mod snapshots;
mod starting;
pub mod wires;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::log::LogOptions;
use super::store::StoreDir;
use super::{Birth, Options, Replica, Wait};
use crate::env::{Clock, Disk, SimDisk, SystemClock};
use crate::error::Result;
use crate::meta::{EngineKind, KvRead, Make, Mutation, Outcome};
use crate::types::{FileKind, FileName, Ino, Mode, Timestamp};

/// A small store in `dir`, as on a simulated disk.
pub fn options(dir: &Path, engine: EngineKind) -> Options {
    Options {
        engine,
        cache_bytes: 4 << 20,
        timeout: Duration::from_secs(20),
        log: LogOptions { segment_bytes: 256 << 10, direct: false },
        flush_log_bytes: 4 << 10,
        boot_id: "boot-1".into(),
        lock: false,
        ..Options::new(dir)
    }
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock::new())
}

pub async fn init(options: &Options, disk: &Arc<dyn Disk>) -> Result<()> {
    let birth = Birth::default();
    Replica::init(options.clone(), birth, Arc::clone(disk), clock()).await.map(|_| ())
}

pub async fn open(options: &Options, disk: &Arc<dyn Disk>) -> Result<Arc<Replica>> {
    open_at(options, disk, clock()).await
}

pub async fn open_at(
    options: &Options,
    disk: &Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<Arc<Replica>> {
    let quiet = Box::new(|_: &[_], _| {});
    Replica::open(options.clone(), Arc::clone(disk), clock, &|_| {}, quiet).await
}

/// A bucket under the root.
pub fn bucket(name: &str) -> Mutation {
    make(Ino::ROOT, name, FileKind::Directory)
}

pub fn make(parent: Ino, name: &str, kind: FileKind) -> Mutation {
    Mutation::Make(Make {
        parent,
        name: FileName::new(name.as_bytes()).unwrap(),
        kind,
        mode: Mode::new(0o755),
        uid: 1000,
        gid: 1000,
        rdev: 0,
        target: Vec::new(),
        xattrs: Vec::new(),
        published: true,
        at: Timestamp::default(),
    })
}

pub async fn make_bucket(replica: &Replica, name: &str, wait: Wait) -> Ino {
    match replica.propose(bucket(name), wait, 0).await.unwrap() {
        Outcome::Node { ino, .. } => ino,
        other => panic!("{other:?}"),
    }
}

/// Names of all buckets, in order.
pub fn buckets(replica: &Replica) -> Vec<String> {
    let children = replica.table().view().children(Ino::ROOT, None, usize::MAX).unwrap();
    children.into_iter().map(|(name, _)| name.to_string()).collect()
}

/// All records of the table.
pub fn records(replica: &Replica) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        found.push((key.to_vec(), value.to_vec()));
        Ok(true)
    };
    replica.table().view().scan(&[], &[u8::MAX; 32], &mut visit).unwrap();
    found
}

/// A new store on a simulated disk, with its metadata in memory.
pub async fn simulated(options: &Options) -> (SimDisk, Arc<Replica>) {
    let sim = SimDisk::new();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    init(options, &disk).await.unwrap();
    (sim, open(options, &disk).await.unwrap())
}

pub async fn reopen(options: &Options, sim: &SimDisk) -> Result<Arc<Replica>> {
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    open(options, &disk).await
}

pub fn memory() -> Options {
    options(Path::new("/store"), EngineKind::Memory)
}
