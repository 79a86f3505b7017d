//! Calls that meet: each test was written for a moment in which one of them saw half of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bucketfs::error::{Error, Result};
use bucketfs::types::Ino;
use bucketfs::vfs::{Access, AttrChange, Caller, OpenFlags, Opened, Vfs};

use super::store::{Store, runtime};

const WHO: Caller = Caller { uid: 1, gid: 2, umask: 0o022, origin: 1, access: Access::Trusted };
const RDWR: OpenFlags = OpenFlags(libc::O_RDWR);
const TRUNCATE: OpenFlags = OpenFlags(libc::O_RDWR | libc::O_TRUNC);

async fn create(store: &Store, name: &str) -> (Ino, u64) {
    let created = store.vfs.create(&WHO, store.bucket, name.as_bytes(), 0o666, RDWR).await;
    let (attr, Opened { handle, .. }) = created.unwrap();
    (attr.ino, handle)
}

async fn close(vfs: &Vfs, handle: u64) -> Result<()> {
    let result = vfs.flush(handle).await;
    vfs.release(handle).await;
    result
}

/// stat(2) read the record, a commit landed and left nothing dirty, and the size of before was told
/// though the write had been answered long since.
#[test]
fn a_size_never_goes_back_while_commits_land() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        let (written, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let looking = {
            let (vfs, bucket) = (Arc::clone(&store.vfs), store.bucket);
            let (written, done) = (Arc::clone(&written), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let least = written.load(Ordering::Acquire);
                    let size = vfs.getattr(ino).unwrap().size;
                    assert!(size >= least, "stat told {size} after {least} bytes were written");
                    let least = written.load(Ordering::Acquire);
                    let size = vfs.lookup(bucket, b"f").unwrap().size;
                    assert!(size >= least, "lookup told {size} after {least} bytes");
                }
            })
        };
        for size in 1..2000 {
            store.vfs.write(&WHO, handle, size - 1, b"x").await.unwrap();
            written.store(size, Ordering::Release);
            store.vfs.flush(handle).await.unwrap();
        }
        done.store(true, Ordering::Release);
        looking.join().unwrap();
    });
}

/// open(O_TRUNC) looked at the size, waited for a commit, and then took the file for empty that the
/// commit had filled.
#[test]
fn emptying_covers_the_commit_it_waited_for() {
    runtime().block_on(async {
        let store = Store::create().await;
        for round in 0..300 {
            let (ino, handle) = create(&store, &format!("f{round}")).await;
            store.vfs.write(&WHO, handle, 0, &[7; 100]).await.unwrap();
            let vfs = Arc::clone(&store.vfs);
            let flushing = tokio::spawn(async move { vfs.flush(handle).await });
            let opened = store.vfs.open(&WHO, ino, TRUNCATE).await.unwrap();
            flushing.await.unwrap().unwrap();
            assert_eq!(store.vfs.getattr(ino).unwrap().size, 0, "round {round}");
            close(&store.vfs, opened.handle).await.unwrap();
            close(&store.vfs, handle).await.unwrap();
            assert_eq!(store.vfs.info(ino).unwrap().size, 0, "round {round}");
        }
    });
}

/// unlink(2) found the file open; its last handle was closed before the name was gone, and nobody
/// was left to free the inode before the next start.
#[test]
fn a_close_beside_the_unlink_leaves_no_orphan() {
    runtime().block_on(async {
        let store = Store::create().await;
        let before = store.vfs.report().unwrap().inodes;
        for round in 0..500 {
            let name = format!("f{round}");
            let (_, handle) = create(&store, &name).await;
            store.vfs.write(&WHO, handle, 0, b"bytes").await.unwrap();
            let (vfs, bucket) = (Arc::clone(&store.vfs), store.bucket);
            let unlinking =
                tokio::spawn(async move { vfs.unlink(&WHO, bucket, name.as_bytes()).await });
            store.vfs.release(handle).await;
            unlinking.await.unwrap().unwrap();
        }
        store.vfs.upkeep_round().await.unwrap();
        assert_eq!(store.vfs.report().unwrap().inodes, before, "inodes nobody can reach");
    });
}

/// truncate(2) by name holds the file open for a moment, too.
#[test]
fn a_cut_beside_the_unlink_leaves_no_orphan() {
    runtime().block_on(async {
        let store = Store::create().await;
        let before = store.vfs.report().unwrap().inodes;
        for round in 0..300 {
            let name = format!("f{round}");
            let (ino, handle) = create(&store, &name).await;
            close(&store.vfs, handle).await.unwrap();
            let vfs = Arc::clone(&store.vfs);
            let cut = AttrChange { size: Some(5), ..AttrChange::default() };
            let cutting = tokio::spawn(async move { vfs.setattr(&WHO, ino, cut).await });
            store.vfs.unlink(&WHO, store.bucket, name.as_bytes()).await.unwrap();
            assert!(matches!(cutting.await.unwrap(), Ok(_) | Err(Error::Stale)));
        }
        store.vfs.upkeep_round().await.unwrap();
        assert_eq!(store.vfs.report().unwrap().inodes, before, "inodes nobody can reach");
    });
}

/// > Nobody ever reads zeros in place of bytes that are missing
///
/// A reader fixed the body it reads, the body was replaced and freed, and the pieces that were not
/// found any more came as zeros.
#[test]
fn a_reader_never_gets_zeros_for_bytes_that_were_replaced() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        let bytes = vec![7; 300_000];
        store.vfs.write(&WHO, handle, 0, &bytes).await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        let reader = store.vfs.open(&WHO, ino, OpenFlags(libc::O_RDONLY)).await.unwrap().handle;
        let done = Arc::new(AtomicBool::new(false));
        let reading = {
            let (vfs, done) = (Arc::clone(&store.vfs), Arc::clone(&done));
            tokio::spawn(async move {
                let mut reads = 0_u64;
                while !done.load(Ordering::Acquire) {
                    let read = vfs.read(reader, 0, 300_000).await.unwrap();
                    let zero = read.iter().position(|&byte| byte == 0);
                    assert_eq!(zero, None, "of {} bytes", read.len());
                    reads += 1;
                    tokio::task::yield_now().await;
                }
                reads
            })
        };
        for _ in 0..100 {
            let opened = store.vfs.open(&WHO, ino, TRUNCATE).await.unwrap();
            store.vfs.write(&WHO, opened.handle, 0, &bytes).await.unwrap();
            close(&store.vfs, opened.handle).await.unwrap();
            store.vfs.upkeep_round().await.unwrap();
        }
        done.store(true, Ordering::Release);
        assert!(reading.await.unwrap() > 0);
    });
}

/// The writer was killed: its bytes are committed after its last handle, and the disk is full. Who
/// opens the file next is told.
#[test]
fn an_error_after_the_last_close_is_told_to_the_next_handle() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[7; 100_000]).await.unwrap();
        store.disk.set_capacity(0);
        store.vfs.release(handle).await;
        store.disk.set_capacity(1 << 40);
        let next = store.vfs.open(&WHO, ino, RDWR).await.unwrap().handle;
        let later = store.vfs.open(&WHO, ino, RDWR).await.unwrap().handle;
        assert!(matches!(store.vfs.flush(next).await, Err(Error::NoSpace)));
        assert!(store.vfs.flush(next).await.is_ok(), "told once");
        assert!(store.vfs.flush(later).await.is_ok(), "told to one");
    });
}
