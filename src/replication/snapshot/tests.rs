//! Snapshots on a simulated disk: whole or not there, and never believed when they are bad.

use super::*;
use crate::env::{SimClock, SimDisk};
use crate::types::Timestamp;

const DIR: &str = "/snapshots";

fn snapshots(disk: &SimDisk) -> Snapshots {
    let clock = Arc::new(SimClock::new(1));
    Snapshots::new(Arc::new(disk.clone()), DIR.into(), clock)
}

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn head(index: u64) -> Head {
    let leader = openraft::CommittedLeaderId::new(3, 7);
    let last = Some(LogId::new(leader, index));
    let applied = AppliedState { last, ..AppliedState::default() };
    Head { applied, made_at: Timestamp { seconds: 5, nanos: 6 } }
}

fn pages(count: u64) -> Vec<Vec<frame::Pair>> {
    let page = |page: u64| {
        (0..500u64).map(|n| ((page * 500 + n).to_be_bytes().to_vec(), vec![n as u8; 300])).collect()
    };
    (0..count).map(page).collect()
}

fn write(snapshots: &Snapshots, index: u64, pages: &[Vec<frame::Pair>]) -> Result<()> {
    let mut pages = pages.iter().cloned();
    snapshots.write(&head(index), &mut || Ok(pages.next()))
}

fn read(snapshots: &Snapshots, path: &Path) -> Result<(Head, Vec<frame::Pair>)> {
    let reader = snapshots.open(path)?;
    let head = reader.head.clone();
    Records::new(reader, &|_| {}).collect::<Result<_>>().map(|pairs| (head, pairs))
}

#[test]
fn what_was_written_is_read_and_two_are_kept() {
    let disk = disk();
    let snapshots = snapshots(&disk);
    for index in [5, 90, 1000] {
        write(&snapshots, index, &pages(index % 7)).unwrap();
    }
    let found = snapshots.list().unwrap();
    assert_eq!(found.iter().map(|found| found.index).collect::<Vec<_>>(), [1000, 90]);
    for found in found {
        let (read_head, pairs) = read(&snapshots, &found.path).unwrap();
        assert_eq!(read_head, head(found.index));
        assert_eq!(pairs, pages(found.index % 7).concat());
    }
}

/// Every byte counts: a flipped bit anywhere makes the reader say so.
#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let disk = disk();
    let snapshots = snapshots(&disk);
    write(&snapshots, 1, &pages(2)).unwrap();
    let found = snapshots.list().unwrap().remove(0);
    let ((_, pairs), mut bit) = (read(&snapshots, &found.path).unwrap(), 3);
    while disk.flip_bit(&found.path, bit).is_ok() {
        match read(&snapshots, &found.path) {
            // In the zeros behind the last frame.
            Ok((_, read)) => assert!(bit / 8 > 316_000 && read == pairs, "bit {bit}"),
            Err(error) => assert!(matches!(error, Error::Damaged(_) | Error::Store(_))),
        }
        disk.flip_bit(&found.path, bit).unwrap();
        bit += 50_021;
    }
    assert!(bit > 8 * 300_000);
}

/// The power goes at every sync of a snapshot: the older one is whole, and the new one is whole or
/// has no name.
#[test]
fn a_crash_leaves_whole_snapshots_only() {
    let syncs = {
        let disk = disk();
        let snapshots = snapshots(&disk);
        write(&snapshots, 1, &pages(3)).unwrap();
        let before = disk.syncs();
        write(&snapshots, 2, &pages(4)).unwrap();
        disk.syncs() - before
    };
    for (stop, seed) in (0..=syncs).flat_map(|stop| [(stop, 1), (stop, 2), (stop, 3)]) {
        let disk = disk();
        write(&snapshots(&disk), 1, &pages(3)).unwrap();
        disk.stop_after_syncs(stop);
        let done = write(&snapshots(&disk), 2, &pages(4)).is_ok();
        let snapshots = snapshots(&disk.crash(seed));
        snapshots.clean().unwrap();
        let found = snapshots.list().unwrap();
        assert!(!done || found[0].index == 2, "sync {stop}, seed {seed}");
        assert_eq!(found.last().unwrap().index, 1);
        for found in found {
            let (_, pairs) = read(&snapshots, &found.path).unwrap();
            assert_eq!(pairs.len() as u64, 500 * (found.index + 2), "sync {stop}, seed {seed}");
        }
    }
}

#[test]
fn a_full_disk_leaves_nothing_behind() {
    let disk = disk();
    let snapshots = snapshots(&disk);
    write(&snapshots, 1, &pages(1)).unwrap();
    disk.set_capacity(400 << 10);
    assert!(matches!(write(&snapshots, 2, &pages(3)), Err(Error::NoSpace)));
    let names = disk.list(Path::new(DIR)).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    disk.set_capacity(4 << 20);
    write(&snapshots, 2, &pages(3)).unwrap();
}
