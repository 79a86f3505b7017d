//! Scrubbing finds each damaged file, in portions, and nothing else.

use super::*;
use crate::chunk::names::chunk_path;

fn damaged(found: &Scrubbed) -> Vec<ChunkId> {
    found.damaged.iter().map(|(id, _)| *id).collect()
}

#[test]
fn damaged_files_are_listed_in_portions() {
    let disk = disk();
    let store = open(&disk).unwrap();
    for counter in 1..=10 {
        write(&store, id(1, counter), 70_000).unwrap();
    }
    for counter in [3, 10] {
        disk.flip_bit(&chunk_path(Path::new(ROOT), id(1, counter)), 69_999 * 8).unwrap();
    }
    for (budget, portions) in [(0, 10), (1, 10), (80_000, 5), (1 << 30, 0)] {
        let (mut after, mut bad, mut files, mut resumed) = (None, Vec::new(), 0, 0);
        loop {
            let found = scrub(&store, after, budget).unwrap();
            bad.extend(damaged(&found));
            files += found.files;
            assert_eq!(found.bytes, found.files * 77_824);
            after = found.next;
            if after.is_none() {
                break;
            }
            resumed += 1;
        }
        assert_eq!((bad, files, resumed), (vec![id(1, 3), id(1, 10)], 10, portions), "{budget}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_damaged_and_the_rest_goes_on() {
    let disk = disk();
    let store = open(&disk).unwrap();
    (1..=3).for_each(|counter| write(&store, id(1, counter), 10).unwrap());
    // Three directories are listed before the first file is opened.
    disk.fail_call(4);
    let found = scrub(&store, None, 1 << 30).unwrap();
    assert!(matches!(found.damaged[..], [(_, Error::Io { .. })]), "{found:?}");
    assert_eq!((damaged(&found), found.files), (vec![id(1, 1)], 3));
    disk.fail_call(2);
    assert!(scrub(&store, None, 1 << 30).is_err(), "a directory that cannot be read is an error");
}

#[test]
fn a_file_just_being_written_is_not_damage() {
    let disk = disk();
    let store = open(&disk).unwrap();
    write(&store, id(1, 1), 10).unwrap();
    let path = chunk_path(Path::new(ROOT), id(1, 1));
    let flip = || disk.flip_bit(&path, 0).unwrap();
    let turn = store.turns.take(id(1, 1));
    flip();
    std::thread::scope(|scope| {
        let before = disk.calls();
        let scrubber = scope.spawn(|| scrub(&store, None, 1 << 30).unwrap());
        // Three lists, then open, size, the footer and the data: it has seen the damage.
        while disk.calls() < before + 7 {
            std::thread::yield_now();
        }
        (0..1000).for_each(|_| std::thread::yield_now());
        flip();
        drop(turn);
        let found = scrubber.join().unwrap();
        assert_eq!((damaged(&found), found.files), (vec![], 1));
    });
}

/// `status` listed each copy that somebody read while it was being written, for ever.
#[test]
fn a_file_just_being_written_is_not_called_damaged() {
    let disk = disk();
    let store = open(&disk).unwrap();
    write(&store, id(1, 1), 100_000).unwrap();
    disk.flip_bit(&chunk_path(Path::new(ROOT), id(1, 1)), 0).unwrap();
    let turn = store.turns.take(id(1, 1));
    // Nobody waits for the writer: other nodes have it.
    assert!(matches!(read(&store, id(1, 1), 0, 10), Err(Error::Damaged(_))));
    assert!(matches!(store.slices(id(1, 1), 0, 10), Err(Error::Damaged(_))));
    assert!(matches!(store.load(id(1, 1)), Err(Error::Damaged(_))));
    assert!(store.damaged().is_empty());
    drop(turn);
    assert!(matches!(read(&store, id(1, 1), 0, 10), Err(Error::Damaged(_))));
    assert_eq!(store.damaged().len(), 1);
    assert_eq!(store.take_suspects(), [id(1, 1)].into());
}

#[test]
fn scrubbing_among_writers_and_deletions_finds_nothing() {
    let disk = disk();
    let store = open(&disk).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..100 {
                write(&store, id(1, round % 5), 1 + round as usize % 5 * 30_000).unwrap();
                store.delete(id(1, (round + 2) % 5)).unwrap();
            }
        });
        while !writer.is_finished() {
            let found = scrub(&store, None, 1 << 30).unwrap();
            assert_eq!(damaged(&found), [], "{found:?}");
        }
    });
}
