//! Flipped bits, full disks, failing calls and failing syncs.

use super::*;
use crate::chunk::names::{Names, chunk_path};
use crate::env::Disk;

fn path(id: ChunkId) -> PathBuf {
    chunk_path(Path::new(ROOT), id)
}

/// Whoever waited while another synced found nothing left to be synced after the failure, and
/// acknowledged names that were never on disk.
#[test]
fn names_stay_unsynced_for_all_who_wait_for_a_sync_that_fails() {
    let disk = disk();
    let names = Names::new(PathBuf::from(ROOT));
    [id(1, 1), id(1, 2)].into_iter().for_each(|id| {
        disk.create_dir_all(path(id).parent().unwrap()).unwrap();
        names.add(id);
    });
    disk.fail_sync(1);
    // By turns, as those who wait come to it.
    for _ in 0..2 {
        let failed = names.sync(&disk).unwrap_err();
        assert_eq!(failed.kind(), std::io::Error::from_raw_os_error(libc::EIO).kind());
    }
}

#[test]
fn every_flipped_bit_of_a_file_is_found() {
    let disk = disk();
    let store = open(&disk).unwrap();
    let id = id(1, 1);
    write(&store, id, 100).unwrap();
    for bit in 0..8192 * 8 {
        disk.flip_bit(&path(id), bit).unwrap();
        let found = store.verify(id);
        assert!(matches!(found, Err(Error::Damaged(_))), "bit {bit}: {found:?}");
        disk.flip_bit(&path(id), bit).unwrap();
    }
    check(&store, id, 100).unwrap();
}

/// EIO for the range that is damaged, and for no other.
#[test]
fn a_flipped_bit_hurts_its_own_block_only() {
    let disk = disk();
    let store = open(&disk).unwrap();
    let (id, len) = (id(1, 1), 300_000);
    write(&store, id, len).unwrap();
    for flipped in 0..5u32 {
        disk.flip_bit(&path(id), flipped as usize * 65_536 * 8 + 77).unwrap();
        for block in 0..5u32 {
            let count = 65_536.min(len as u32 - block * 65_536);
            let result = read(&store, id, block * 65_536, count);
            assert_eq!(result.is_err(), block == flipped, "{block} of {flipped}");
        }
        assert!(matches!(read(&store, id, 0, len as u32), Err(Error::Damaged(_))));
        assert!(matches!(store.slices(id, 0, len as u32), Err(Error::Damaged(_))));
        assert_eq!(store.slices(id, 0, 131_072).is_err(), flipped < 2, "{flipped}");
        disk.flip_bit(&path(id), flipped as usize * 65_536 * 8 + 77).unwrap();
    }
    check(&store, id, len).unwrap();
}

/// Blocks in memory were checked when they were read; those not there are read from the disk.
#[test]
fn slices_come_from_memory_while_it_lasts() {
    let disk = disk();
    let store = open(&disk).unwrap();
    let (a, b, len) = (id(1, 1), id(1, 2), 700_000);
    [a, b].into_iter().for_each(|id| write(&store, id, len).unwrap());
    let slices = |id: ChunkId| store.slices(id, 100, 600_000).map(|slices| slices.concat());
    let wanted = |id: ChunkId| pattern(len, id.counter as usize)[100..600_100].to_vec();
    assert!(slices(a).unwrap() == wanted(a));
    disk.flip_bit(&path(a), 77).unwrap();
    assert!(slices(a).unwrap() == wanted(a));
    assert!(slices(b).unwrap() == wanted(b), "b's block drives out a's");
    assert!(matches!(store.slices(a, 0, 600_000), Err(Error::Damaged(_))));
    assert_eq!(store.damaged().len(), 1);
    disk.flip_bit(&path(a), 77).unwrap();
    assert!(slices(a).unwrap() == wanted(a));
}

#[test]
fn files_cut_short_or_grown_are_damaged() {
    let disk = disk();
    let store = open(&disk).unwrap();
    for (counter, len) in (1..).zip([0, 1, 4096, 8192, 73_727, 77_824, 81_920]) {
        let id = id(1, counter);
        write(&store, id, 70_000).unwrap();
        read(&store, id, 0, 10).unwrap();
        let file = disk.open(&path(id), crate::env::Access::Write, false).unwrap();
        assert_eq!(file.size().unwrap(), 77_824);
        file.set_len(len).unwrap();
        let whole = len == 77_824;
        assert_eq!(store.verify(id).is_ok(), whole, "{len}");
        // The open file is known to be whole up to what is read of it.
        if len < 65_536 {
            assert!(matches!(read(&store, id, 0, 65_536), Err(Error::Damaged(_))), "{len}");
        }
    }
}

#[test]
fn a_full_disk_refuses_whole_chunks_and_recovers() {
    let disk = disk();
    let store = open(&disk).unwrap();
    write(&store, id(1, 1), 100_000).unwrap();
    let before = store.space().unwrap();
    for room in [0, 4096, 65_536, 102_400] {
        disk.set_capacity(before.total - before.available + room);
        let refused = write(&store, id(1, 2), 100_000);
        assert!(matches!(refused, Err(Error::NoSpace)), "{room}: {refused:?}");
        assert_eq!(ids(&store, None), [id(1, 1)]);
        assert_eq!(store.space().unwrap().available, room);
        check(&store, id(1, 1), 100_000).unwrap();
    }
    store.sync_names().unwrap();
    store.delete(id(1, 1)).unwrap();
    write(&store, id(1, 2), 100_000).unwrap();
    store.sync_names().unwrap();
    check(&store, id(1, 2), 100_000).unwrap();
}

#[test]
fn any_failing_call_fails_the_write_cleanly() {
    for n in 1.. {
        let disk = disk();
        let store = open(&disk).unwrap();
        let before = disk.calls();
        disk.fail_call(n);
        let result = write(&store, id(1, 1), 70_000);
        if disk.calls() - before < n {
            assert!(n > 5, "{n} calls");
            return result.unwrap();
        }
        assert!(result.is_err(), "call {n}");
        assert_eq!(ids(&store, None), [], "call {n}");
        // Unless it was the sync that failed, the next attempt succeeds.
        match result {
            Err(Error::DiskFailed(_)) => {}
            _ => write(&store, id(1, 1), 70_000).unwrap(),
        }
    }
}

/// One read at most; bytes that a second look can read are not called damaged.
#[test]
fn a_failing_call_fails_one_read() {
    let disk = disk();
    let store = open(&disk).unwrap();
    write(&store, id(1, 1), 70_000).unwrap();
    for (n, wanted) in [(1, 1), (2, 1), (3, 0), (4, 0)] {
        disk.fail_call(n);
        let mut results = (0..2).map(|_| read(&store, id(1, 1), 0, 70_000));
        let failed = results.by_ref().filter(|result| result.is_err()).count();
        assert_eq!(failed, wanted, "call {n}");
        check(&store, id(1, 1), 70_000).unwrap();
        assert!(store.damaged().is_empty());
        // Forget the open file, so that each call of opening and reading has its turn.
        store.delete(id(1, 1)).unwrap();
        write(&store, id(1, 1), 70_000).unwrap();
    }
}

/// A new file never takes a bad one's place by halves: any call may fail, and what could be read of
/// the chunk before can be read afterwards.
#[test]
fn a_failing_call_leaves_what_can_be_read_of_a_bad_file() {
    for n in 1.. {
        let disk = disk();
        let store = open(&disk).unwrap();
        write(&store, id(1, 1), 200_000).unwrap();
        disk.flip_bit(&path(id(1, 1)), 0).unwrap();
        let before = disk.calls();
        disk.fail_call(n);
        let renewed = store.renew(&sealed(id(1, 1), 200_000));
        if disk.calls() - before < n {
            assert!(n > 8 && renewed.is_ok(), "{n} calls");
            disk.fail_call(u64::from(u32::MAX));
            return check(&store, id(1, 1), 200_000).unwrap();
        }
        assert!(read(&store, id(1, 1), 65_536, 134_464).is_ok(), "call {n}");
        if let Err(Error::DiskFailed(_)) = renewed {
            continue;
        }
        store.renew(&sealed(id(1, 1), 200_000)).unwrap();
        check(&store, id(1, 1), 200_000).unwrap();
    }
}

/// What the disk cannot read is as bad as wrong bytes, and told as such.
#[test]
fn an_unreadable_range_is_damage() {
    let disk = disk();
    let store = open(&disk).unwrap();
    write(&store, id(1, 1), 200_000).unwrap();
    disk.unreadable(&path(id(1, 1)), 70_000..70_512).unwrap();
    read(&store, id(1, 1), 0, 65_536).unwrap();
    assert!(store.damaged().is_empty());
    assert!(matches!(read(&store, id(1, 1), 65_536, 1), Err(Error::Damaged(_))));
    assert!(matches!(store.load(id(1, 1)), Err(Error::Damaged(_))));
    assert!(matches!(store.verify(id(1, 1)), Err(Error::Damaged(_))));
    assert_eq!(store.damaged().len(), 1);
    store.renew(&sealed(id(1, 1), 200_000)).unwrap();
    check(&store, id(1, 1), 200_000).unwrap();
    assert!(store.damaged().is_empty());
}

/// After a failed sync nobody knows what is on the disk, whatever later syncs say.
#[test]
fn a_failed_sync_is_final_for_writes_and_leaves_reads() {
    for n in 1..=4 {
        let disk = disk();
        let store = open(&disk).unwrap();
        write(&store, id(1, 1), 70_000).unwrap();
        disk.fail_sync(n);
        let result = write(&store, id(1, 2), 70_000).and_then(|()| store.sync_names());
        assert!(matches!(result, Err(Error::DiskFailed(_))), "sync {n}: {result:?}");
        assert_eq!(ids(&store, None).len(), if n == 1 { 1 } else { 2 });
        assert!(matches!(write(&store, id(1, 3), 10), Err(Error::DiskFailed(_))));
        assert!(matches!(store.sync_names(), Err(Error::DiskFailed(_))));
        check(&store, id(1, 1), 70_000).unwrap();
        store.delete(id(1, 1)).unwrap();
    }
}

#[test]
fn one_sync_serves_all_names_since_the_last() {
    let disk = disk();
    let store = open(&disk).unwrap();
    let synced = || {
        let before = disk.syncs();
        store.sync_names().unwrap();
        disk.syncs() - before
    };
    assert_eq!(synced(), 0);
    (1..10).for_each(|counter| write(&store, id(1, counter), 10).unwrap());
    assert_eq!(synced(), 3, "the shard, its session and the root");
    write(&store, id(1, 10), 10).unwrap();
    assert_eq!((synced(), synced()), (1, 0));
    write(&store, id(1, 1), 10).unwrap();
    assert_eq!(synced(), 1, "the name may be another process's, never synced");
}

#[test]
fn a_disk_without_direct_files_serves_too() {
    let disk = SimDisk::buffered();
    let store = open(&disk).unwrap();
    assert!(!store.is_direct());
    write(&store, id(1, 1), 70_000).unwrap();
    check(&store, id(1, 1), 70_000).unwrap();
    assert!(open(&self::disk()).unwrap().is_direct());
}
