//! A node whose own disk hangs while the others' work: its writers go on, and its memory is bounded.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bucketfs::chunk::{ChunkExtent, ChunkHeader, ChunkStore, SealedChunk};
use bucketfs::env::{
    Access, AlignedBuf, Clock, Disk, DiskFile, Entry, SimDisk, Space, SystemClock,
};
use bucketfs::error::Error;
use bucketfs::replication::{Copies, Need};
use bucketfs::types::{ChunkId, ContentId, Ino};
use parking_lot::{Condvar, Mutex};

use super::cluster::{Cluster, PATIENCE};
use super::store::runtime;

/// Files are made while it is not stuck.
#[derive(Default)]
struct Gate {
    is_stuck: Mutex<bool>,
    freed: Condvar,
    begun: AtomicUsize,
}

struct Stuck {
    disk: SimDisk,
    gate: Gate,
}

impl Gate {
    fn pass(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let mut is_stuck = self.is_stuck.lock();
        while *is_stuck {
            self.freed.wait(&mut is_stuck);
        }
    }

    fn set_stuck(&self, is_stuck: bool) {
        *self.is_stuck.lock() = is_stuck;
        self.freed.notify_all();
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Disk for Stuck {
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        if access == Access::Create {
            self.gate.pass();
        }
        self.disk.open(path, access, direct)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_all(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
}

fn chunk(cluster: &Cluster) -> SealedChunk {
    let ChunkId { session, counter } = cluster.replica.next_chunk();
    let header = ChunkHeader {
        id: ChunkId { session, counter },
        content: ContentId { session, counter },
        bucket: Ino(2),
        extents: vec![ChunkExtent { file_offset: 0, len: 5 }],
    };
    SealedChunk::new(&header, Arc::new(AlignedBuf::from(&b"bytes"[..]))).unwrap()
}

/// What two other nodes have is written; the copies for the own disk piled up in memory.
#[test]
fn a_disk_that_is_behind_holds_few_chunks() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        let disk = Arc::new(Stuck { disk: SimDisk::new(), gate: Gate::default() });
        let own = Arc::clone(&disk) as Arc<dyn Disk>;
        let chunks = Arc::new(ChunkStore::open(own, "/chunks".as_ref(), 1 << 20).unwrap());
        let (way, table) = (Arc::new(cluster.peers.clone()), Arc::clone(cluster.replica.table()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let copies = Copies::new(cluster.nodes[0].id, chunks, way, table, clock, PATIENCE);
        let before = disk.gate.begun();
        disk.gate.set_stuck(true);
        let store = async |count| {
            for _ in 0..count {
                copies.store(chunk(&cluster), Need::Quorum, &[]).await?;
            }
            Ok::<_, Error>(())
        };
        let fill = async {
            while disk.gate.begun() - before < 24 {
                store(1).await?;
            }
            Ok::<_, Error>(())
        };
        let filled = tokio::time::timeout(Duration::from_secs(20), fill).await;
        let more = store(40).await;
        let begun = disk.gate.begun() - before;
        // Before anything panics: the threads that wait have to end.
        disk.gate.set_stuck(false);
        filled.unwrap().unwrap();
        more.unwrap();
        assert_eq!(begun, 24, "chunks that wait for the disk");
    });
}
