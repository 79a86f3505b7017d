//! What the tests of the chunk store share.

mod crash;
mod faults;
mod scrub;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::env::{AlignedBuf, RealDisk, SimDisk};
use crate::error::{Error, Result};
use crate::types::{ChunkId, ContentId, Ino, SessionId};

/// Where stores on a simulated disk are.
const ROOT: &str = "/data/chunks";

/// The store on a simulated disk.
fn open(disk: &SimDisk) -> Result<ChunkStore> {
    ChunkStore::open(Arc::new(disk.clone()), Path::new(ROOT), 1 << 20)
}

/// A disk on which the directories down to the store's are durable, as `init` leaves it.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    open(&disk).unwrap();
    crate::env::Disk::sync_dir(&disk, Path::new("/")).unwrap();
    disk
}

fn write(store: &ChunkStore, id: ChunkId, len: usize) -> Result<()> {
    store.write(&header(id, len), &pattern(len, id.counter as usize)).map(|_| ())
}

/// What [`write`] writes.
fn sealed(id: ChunkId, len: usize) -> SealedChunk {
    let data = Arc::new(pattern(len, id.counter as usize));
    SealedChunk::new(&header(id, len), data).unwrap()
}

/// Whether `id` is there as [`write`] wrote it.
fn check(store: &ChunkStore, id: ChunkId, len: usize) -> Result<()> {
    let info = store.verify(id)?;
    assert_eq!(info.header, header(id, len));
    assert!(read(store, id, 0, len as u32)? == pattern(len, id.counter as usize)[..], "{id}");
    Ok(())
}

/// A store in a real directory.
struct Fixture {
    _dir: tempfile::TempDir,
    root: PathBuf,
    store: ChunkStore,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("chunks");
    let store = ChunkStore::open(Arc::new(RealDisk::new()), &root, 1 << 20).unwrap();
    Fixture { _dir: dir, root, store }
}

fn id(session: u64, counter: u64) -> ChunkId {
    ChunkId { session: SessionId(session), counter }
}

fn header(id: ChunkId, len: usize) -> ChunkHeader {
    ChunkHeader {
        id,
        content: ContentId { session: id.session, counter: 1 },
        bucket: Ino(7),
        extents: vec![ChunkExtent { file_offset: 1 << 40, len: len as u32 }],
    }
}

/// Bytes that differ from sector to sector and from seed to seed.
fn pattern(len: usize, seed: usize) -> AlignedBuf {
    let mut buffer = AlignedBuf::zeroed(len);
    for (n, sector) in buffer.chunks_mut(512).enumerate() {
        sector.fill((n ^ (n >> 8)).wrapping_mul(7).wrapping_add(seed + 1) as u8);
    }
    buffer
}

fn read(store: &ChunkStore, id: ChunkId, offset: u32, len: u32) -> Result<Vec<u8>> {
    let mut out = vec![42];
    let result = store.read(id, offset, len, &mut out);
    assert_eq!(out[0], 42);
    match result {
        Ok(()) => Ok(out.split_off(1)),
        Err(error) => {
            assert_eq!(out, [42], "an error leaves the output as it was");
            Err(error)
        }
    }
}

fn ids(store: &ChunkStore, after: Option<ChunkId>) -> Vec<ChunkId> {
    let mut found = Vec::new();
    store
        .visit_after(after, &mut |id, _| {
            found.push(id);
            Ok(true)
        })
        .unwrap();
    found
}
