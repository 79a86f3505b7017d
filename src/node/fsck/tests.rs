//! A store is harmed in every way a check must notice, one at a time.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::config::Config;
use crate::env::AlignedBuf;
use crate::meta::KvRead;
use crate::node::progress::Phase;
use crate::node::store::{Store, chunks_dir};
use crate::node::{init, runtime};
use crate::types::{BucketName, ChunkId, SessionId};
use crate::vfs::{Caller, OpenFlags};

const DATA: usize = 300_000;

/// A closed store with the files `photos/one` and `photos/deep/two`, one chunk each, and
/// `photos/tiny` without any.
pub fn made() -> (TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = Some(dir.path().join("data"));
    let config = Config { data_dir, ..Config::default() };
    init(&config, false).unwrap();
    with_store(&config, async |store| {
        let who = Caller { umask: 0o022, ..Caller::default() };
        let bucket = store.vfs.create_bucket(&who, &BucketName::new("photos").unwrap()).await;
        let bucket = bucket.unwrap().ino;
        let directory =
            crate::vfs::NewNode { kind: crate::types::FileKind::Directory, mode: 0o755, rdev: 0 };
        let deep = store.vfs.mknod(&who, bucket, b"deep", directory).await.unwrap().ino;
        for (parent, name, len) in [(bucket, "one", DATA), (deep, "two", DATA), (bucket, "tiny", 9)]
        {
            let flags = OpenFlags(libc::O_RDWR);
            let name = name.as_bytes();
            let (_, opened) = store.vfs.create(&who, parent, name, 0o644, flags).await.unwrap();
            store.vfs.write(&who, opened.handle, 0, &vec![7; len]).await.unwrap();
            store.vfs.flush(opened.handle).await.unwrap();
            store.vfs.release(opened.handle).await;
        }
    });
    (dir, config)
}

pub fn with_store<T>(config: &Config, work: impl AsyncFnOnce(&Store) -> T) -> T {
    runtime().unwrap().block_on(async {
        let store = Store::open(config, Arc::new(|_| {})).await.unwrap();
        let done = work(&store).await;
        store.close().await.unwrap();
        done
    })
}

fn checked(config: &Config, left_over: LeftOver) -> Report {
    with_store(config, async |store| store.fsck(left_over, None).run(&mut |_| Ok(())).unwrap())
}

/// The chunk files, in the order of their ids.
pub fn chunk_files(config: &Config) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&chunks_dir(config.data_dir().unwrap()), &mut found);
    found.sort();
    found
}

#[test]
fn a_good_store_is_sound() {
    let (_dir, config) = made();
    let report = checked(&config, LeftOver::Keep);
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.good_chunks, report.good_bytes), (2, 2 * DATA as u64));
    assert_eq!(report.left_over_files, 0);
    assert!(report.to_string().ends_with("the store is sound"));
}

/// One flipped bit is found, and the file named whose bytes it harms; the others stay good.
#[test]
fn a_flipped_bit_is_found_with_the_file_it_harms() {
    let (_dir, config) = made();
    let file = chunk_files(&config)[1].clone();
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[100_000] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let report = checked(&config, LeftOver::Remove);
    assert!(!report.is_sound());
    assert_eq!((report.damaged.len(), report.good_chunks), (1, 1));
    assert_eq!(report.damaged[0].files, ["photos/deep/two"]);
    assert!(report.to_string().ends_with("damage was found"));
    assert!(file.exists(), "a repair removes no data");
}

#[test]
fn a_missing_and_a_cut_file_are_found() {
    let (_dir, config) = made();
    let files = chunk_files(&config);
    std::fs::remove_file(&files[0]).unwrap();
    let bytes = std::fs::read(&files[1]).unwrap();
    std::fs::write(&files[1], &bytes[..bytes.len() - 4096]).unwrap();
    let report = checked(&config, LeftOver::Keep);
    assert_eq!((report.damaged.len(), report.good_chunks), (2, 0));
    assert_eq!(report.damaged[0].files, ["photos/one"]);
    assert!(report.damaged[0].what.contains("missing"), "{report}");
}

/// A good chunk file under the number of another: its own checksums hold, the record's do not.
#[test]
fn a_file_that_is_another_chunk_is_found() {
    let (_dir, config) = made();
    let files = chunk_files(&config);
    std::fs::copy(&files[0], &files[1]).unwrap();
    let report = checked(&config, LeftOver::Keep);
    assert_eq!((report.damaged.len(), report.good_chunks), (1, 1));
}

/// What a crash leaves between the chunk's file and its record is no damage; it goes only when
/// asked. What a live session is writing right now is not left over at all, nor is what came from
/// a session that this node has not heard of yet: its commits may count with this very copy.
#[test]
fn left_over_files_go_only_when_asked() {
    let (_dir, config) = made();
    with_store(&config, async |store| {
        let own = store.replica.next_chunk();
        let next = store.replica.table().view().superblock().unwrap().unwrap().next_session;
        let to_come = ChunkId { session: SessionId(next), counter: 1 };
        let ended = ChunkId { session: SessionId(own.session.0 - 1), counter: 1 << 40 };
        for id in [own, to_come, ended] {
            let header = crate::chunk::ChunkHeader {
                id,
                content: store.replica.next_content(),
                bucket: crate::types::Ino(2),
                extents: vec![crate::chunk::ChunkExtent { file_offset: 0, len: 5 }],
            };
            store.chunks.write(&header, &AlignedBuf::from(&b"stray"[..])).unwrap();
        }
        let look = |left_over| store.fsck(left_over, None).run(&mut |_| Ok(())).unwrap();
        let kept = look(LeftOver::Keep);
        assert!(kept.is_sound());
        assert_eq!((kept.left_over_files, kept.removed_files), (1, 0));
        let removed = look(LeftOver::Remove);
        assert_eq!((removed.left_over_files, removed.removed_files), (1, 1));
        assert_eq!(look(LeftOver::Keep).left_over_files, 0);
        for id in [own, to_come] {
            store.chunks.verify(id).unwrap();
        }
        assert!(matches!(store.chunks.verify(ended), Err(crate::error::Error::NotFound)));
    });
}

#[test]
fn a_check_tells_how_far_it_is_and_can_be_stopped() {
    let (_dir, config) = made();
    with_store(&config, async |store| {
        let mut seen = Vec::new();
        let mut on_check = |progress: crate::node::Progress| {
            seen.push(progress.phase);
            Ok(())
        };
        store.fsck(LeftOver::Keep, None).run(&mut on_check).unwrap();
        assert!(seen.contains(&Phase::Chunks) && seen.contains(&Phase::Files));
        let mut refuse = |_| Err(crate::error::Error::ShuttingDown);
        let stopped = store.fsck(LeftOver::Keep, None).run(&mut refuse);
        assert!(matches!(stopped, Err(crate::error::Error::ShuttingDown)));
    });
}

/// Records that do not fit together are found, in the table itself and in a copy of it; the copy
/// leaves nothing behind.
#[test]
fn records_that_contradict_each_other_are_found() {
    let (dir, config) = made();
    with_store(&config, async |store| {
        let mut records = Vec::new();
        let keep = &mut |key: &[u8], value: &[u8]| {
            records.push(Ok((key.to_vec(), value.to_vec())));
            Ok(true)
        };
        store.replica.table().view().scan(&[], &[u8::MAX; 32], keep).unwrap();
        let dirent = |pair: &crate::error::Result<crate::meta::Pair>| {
            pair.as_ref().unwrap().0.starts_with(b"d")
        };
        let lost = records.iter().position(dirent).unwrap();
        drop(records.remove(lost));
        let table = Table::memory().unwrap();
        table.load(&mut records.into_iter()).unwrap();

        let scratch = dir.path().join("scratch");
        std::fs::create_dir_all(scratch.join("left from before")).unwrap();
        for scratch in [None, Some(scratch.as_path())] {
            let (chunks, left_over) = (&*store.chunks, LeftOver::Keep);
            let node = store.replica.node();
            let fsck = Fsck { node, table: &table, chunks, left_over, scratch };
            let report = fsck.run(&mut |_| Ok(())).unwrap();
            assert!(!report.contradictions.is_empty());
            assert!(!report.is_sound());
        }
        assert!(!scratch.exists());
    });
}
