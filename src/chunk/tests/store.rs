//! The chunk store on a real directory: what is written is read, and nothing else is.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::*;
use crate::chunk::names::{chunk_path, session_dir};
use crate::env::{AlignedBuf, RealDisk};
use crate::error::Error;
use crate::types::SessionId;

#[test]
fn what_is_written_is_read_at_every_offset() {
    let Fixture { store, .. } = fixture();
    for (counter, len) in (1..).zip([1, 4095, 4096, 65_536, 65_537, 300_000, 3 << 20]) {
        let (id, data) = (id(1, counter), pattern(len, 3));
        store.write(&header(id, len), &data).unwrap();
        store.sync_names().unwrap();
        let interesting = [0, 1, 4095, 65_535, 65_536, 131_073, 1 << 20, len - 1, len / 2];
        for from in interesting.into_iter().filter(|&from| from <= len) {
            for count in [0, 1, 4096, 65_536, 1 << 20, len].map(|count| count.min(len - from)) {
                let read = read(&store, id, from as u32, count as u32).unwrap();
                assert!(read == data[from..from + count], "{count} at {from} of {len}");
                let slices = store.slices(id, from as u32, count as u32).unwrap();
                assert!(slices.concat() == data[from..from + count], "{count} at {from} of {len}");
            }
        }
        let beyond = store.slices(id, 1, len as u32);
        assert!(matches!(beyond, Err(Error::Damaged(_))), "{beyond:?}");
        let beyond = read(&store, id, 1, len as u32);
        assert!(matches!(beyond, Err(Error::Damaged(_))), "{beyond:?}");
        assert_eq!(store.verify(id).unwrap().header, header(id, len));
        assert_eq!(store.info(id).unwrap().len, len as u32);
    }
}

#[test]
fn the_hash_is_that_of_the_data() {
    let Fixture { store, .. } = fixture();
    let hash = store.write(&header(id(1, 1), 3), &AlignedBuf::from(&b"abc"[..])).unwrap();
    // FIPS 180-2 B.1.
    let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(crate::types::hex(&hash), known);
}

/// Whoever has sent a chunk counts on it, also where there was a file of it that nobody needed.
#[test]
fn what_has_arrived_is_not_discarded() {
    let Fixture { store, .. } = fixture();
    let id = id(1, 7);
    let chunk = sealed(id, 100_000);
    store.keep(&chunk).unwrap();
    store.accept(&chunk).unwrap();
    assert!(!store.discard(id).unwrap());
    store.verify(id).unwrap();
    assert_eq!(store.take_arrivals(), [id]);
    store.arrived(id);
    assert!(!store.discard(id).unwrap());
    assert_eq!(store.take_arrivals(), [id]);
    assert!(store.discard(id).unwrap() && !store.discard(id).unwrap());
    assert!(matches!(store.verify(id), Err(Error::NotFound)));
}

#[test]
fn an_id_written_again_is_the_same_chunk_or_refused() {
    let Fixture { store, root, .. } = fixture();
    let (id, data) = (id(1, 5), pattern(100_000, 1));
    let hash = store.write(&header(id, 100_000), &data).unwrap();
    assert_eq!(store.write(&header(id, 100_000), &data).unwrap(), hash);
    let other = store.write(&header(id, 100_000), &pattern(100_000, 2));
    assert!(matches!(other, Err(Error::InvalidArgument(_))), "{other:?}");
    assert!(read(&store, id, 0, 100_000).unwrap() == data[..]);

    // Damage is repaired by the same call, also under the eyes of a reader.
    let file = std::fs::OpenOptions::new().write(true).open(chunk_path(&root, id)).unwrap();
    file.write_all_at(b"x", 70_000).unwrap();
    assert!(matches!(read(&store, id, 65_536, 10), Err(Error::Damaged(_))));
    assert!(read(&store, id, 0, 65_536).unwrap() == data[..65_536]);
    assert_eq!(store.write(&header(id, 100_000), &data).unwrap(), hash);
    assert!(read(&store, id, 0, 100_000).unwrap() == data[..]);
}

#[test]
fn what_is_missing_is_not_found() {
    let Fixture { store, .. } = fixture();
    assert!(matches!(read(&store, id(1, 1), 0, 1), Err(Error::NotFound)));
    assert!(matches!(store.verify(id(1, 1)), Err(Error::NotFound)));
    assert!(!store.delete(id(1, 1)).unwrap());
}

#[test]
fn a_file_in_another_ones_place_is_damage() {
    let Fixture { store, root, .. } = fixture();
    store.write(&header(id(1, 1), 10), &pattern(10, 0)).unwrap();
    std::fs::rename(chunk_path(&root, id(1, 1)), chunk_path(&root, id(1, 2))).unwrap();
    assert!(matches!(read(&store, id(1, 2), 0, 1), Err(Error::Damaged(_))));
}

#[test]
fn chunks_are_visited_by_rising_id_from_anywhere() {
    let Fixture { store, root, .. } = fixture();
    let all = [id(1, 1), id(1, 4095), id(1, 4096), id(2, 0), id(0x10, 1), id(u64::MAX, u64::MAX)];
    for &id in all.iter().rev() {
        store.write(&header(id, 10), &pattern(10, 0)).unwrap();
    }
    std::fs::write(session_dir(&root, SessionId(1)).join("stray"), "").unwrap();
    std::fs::write(root.join("stray"), "").unwrap();
    assert_eq!(ids(&store, None), all);
    for n in 0..all.len() {
        assert_eq!(ids(&store, Some(all[n])), all[n + 1..], "after {}", all[n]);
    }
    let mut first = Vec::new();
    let visited = store.visit(&mut |id, len| {
        first.push((id, len));
        Ok(first.len() < 2)
    });
    visited.unwrap();
    assert_eq!(first, [(all[0], 8192), (all[1], 8192)]);
}

#[test]
fn deleting_takes_emptied_directories_along() {
    let Fixture { store, root, .. } = fixture();
    let all = [id(1, 1), id(1, 2), id(1, 5000), id(2, 1)];
    for id in all {
        store.write(&header(id, 10), &pattern(10, 0)).unwrap();
    }
    read(&store, id(1, 1), 0, 10).unwrap();
    for id in all {
        assert!(store.delete(id).unwrap());
        assert!(matches!(read(&store, id, 0, 10), Err(Error::NotFound)));
    }
    assert!(!session_dir(&root, SessionId(1)).exists());
    assert!(session_dir(&root, SessionId(2)).exists(), "still written to");
    store.sync_names().unwrap();
    store.write(&header(id(1, 1), 10), &pattern(10, 0)).unwrap();
    store.sync_names().unwrap();
    assert_eq!(ids(&store, None), [id(1, 1)]);
}

#[test]
fn a_damaged_file_is_replaced_by_a_good_one() {
    let Fixture { store, root, .. } = fixture();
    let path = chunk_path(&root, id(1, 1));
    let good = sealed(id(1, 1), 10);
    for bad in [b"one", b"two"] {
        store.keep(&good).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bad, 0).unwrap();
        assert!(matches!(read(&store, id(1, 1), 0, 10), Err(Error::Damaged(_))));
        store.renew(&good).unwrap();
        assert!(store.damaged().is_empty());
        check(&store, id(1, 1), 10).unwrap();
    }
    // Whoever has mended it before needs no second time.
    store.renew(&good).unwrap();
    store.delete(id(1, 1)).unwrap();
    store.renew(&good).unwrap();
    check(&store, id(1, 1), 10).unwrap();
    assert_eq!(ids(&store, None), [id(1, 1)]);
}

#[test]
fn many_threads_write_the_same_and_other_ids() {
    let Fixture { store, .. } = fixture();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for counter in [1, 2, 3 + n] {
                    let data = pattern(70_000, counter as usize);
                    store.write(&header(id(1, counter), 70_000), &data).unwrap();
                    store.sync_names().unwrap();
                    assert!(read(store, id(1, counter), 0, 70_000).unwrap() == data[..]);
                }
            });
        }
    });
    assert_eq!(ids(&store, None).len(), 10);
}

#[test]
fn a_store_without_direct_files_says_so_and_works() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = Arc::new(RealDisk::new());
    let store = ChunkStore::open(disk.clone(), dir.path(), 1 << 20).unwrap();
    store.write(&header(id(1, 1), 10), &pattern(10, 0)).unwrap();
    store.verify(id(1, 1)).unwrap();
    let again = ChunkStore::open(disk, dir.path(), 1 << 20).unwrap();
    assert_eq!(again.is_direct(), store.is_direct());
    again.verify(id(1, 1)).unwrap();
    assert!(again.space().unwrap().total > 0);
}
