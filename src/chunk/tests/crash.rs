//! Power cuts and killed processes at every sync point: what was acknowledged is there and whole;
//! of the rest each file is whole, visibly damaged or not there, and can be written again.

use std::collections::BTreeMap;

use super::*;
use crate::chunk::names::chunk_path;
use crate::env::Seeded;

const IDS: [(u64, usize); 5] =
    [(1, 100), (2, 70_000), (4096, 4096), (4097, 140_000), (9000, 65_536)];

/// Writes some chunks and returns those acknowledged before the disk stopped.
fn workload(disk: &SimDisk, acknowledged: &mut Vec<(ChunkId, usize)>) -> Result<()> {
    let store = open(disk)?;
    for (n, (counter, len)) in IDS.into_iter().enumerate() {
        write(&store, id(1, counter), len)?;
        if n % 2 == 0 {
            store.sync_names()?;
            acknowledged.extend(IDS[..=n].iter().map(|&(counter, len)| (id(1, counter), len)));
        }
    }
    Ok(())
}

fn crash_points(cut: impl Fn(&SimDisk, u64) -> SimDisk) {
    for syncs in 0.. {
        let mut done = false;
        for seed in 0..10 {
            let disk = disk();
            disk.stop_after_syncs(syncs);
            let mut acknowledged = Vec::new();
            done = workload(&disk, &mut acknowledged).is_ok();
            let after = cut(&disk, seed);
            recover(&after, &acknowledged);
            recover(&after.crash(seed), &IDS.map(|(counter, len)| (id(1, counter), len)));
        }
        if done {
            assert!(syncs > 10, "the workload has many sync points, not {syncs}");
            return;
        }
    }
}

/// Checks what is there, then writes everything again, durably.
fn recover(disk: &SimDisk, acknowledged: &[(ChunkId, usize)]) {
    let store = open(disk).unwrap();
    for &(id, len) in acknowledged {
        check(&store, id, len).unwrap();
    }
    for (counter, len) in IDS {
        let id = id(1, counter);
        match check(&store, id, len) {
            Ok(()) | Err(Error::NotFound | Error::Damaged(_)) => {}
            Err(error) => panic!("{id}: {error}"),
        }
        write(&store, id, len).unwrap();
        check(&store, id, len).unwrap();
    }
    store.sync_names().unwrap();
}

#[test]
fn a_power_cut_at_any_sync_point_loses_nothing_acknowledged() {
    crash_points(SimDisk::crash);
}

/// The files of a killed process look whole, but neither they nor their names need be on disk:
/// writing them again makes them so.
#[test]
fn after_a_killed_process_the_next_one_makes_its_files_durable() {
    crash_points(|disk, _| disk.kill());
}

/// The bad file was set aside first: after a cut there was none, nor what could still be read of it.
#[test]
fn a_cut_while_a_file_is_renewed_leaves_the_bad_one_or_the_good_one() {
    for seed in 0..60 {
        let disk = disk();
        let store = open(&disk).unwrap();
        write(&store, id(1, 1), 200_000).unwrap();
        store.sync_names().unwrap();
        disk.flip_bit(&chunk_path(Path::new(ROOT), id(1, 1)), 0).unwrap();
        disk.stop_after_syncs(seed % 3);
        let renewed = store.renew(&sealed(id(1, 1), 200_000));
        assert_eq!(renewed.is_ok(), seed % 3 > 0);
        let store = open(&disk.crash(seed)).unwrap();
        assert!(read(&store, id(1, 1), 65_536, 134_464).is_ok(), "seed {seed}");
        store.renew(&sealed(id(1, 1), 200_000)).unwrap();
        check(&store, id(1, 1), 200_000).unwrap();
    }
}

#[test]
fn a_cut_inside_a_write_leaves_no_file_that_passes_for_whole() {
    let mut seen = BTreeMap::new();
    for seed in 0..300 {
        let disk = disk();
        let store = open(&disk).unwrap();
        write(&store, id(1, 2), 1).unwrap();
        store.sync_names().unwrap();
        disk.stop_after_syncs(0);
        assert!(matches!(write(&store, id(1, 1), 150_000), Err(Error::DiskFailed(_))));
        let after = disk.crash(seed);
        let outcome = match check(&open(&after).unwrap(), id(1, 1), 150_000) {
            Ok(()) => "whole",
            Err(Error::NotFound) => "none",
            Err(Error::Damaged(what)) if what.contains("unfinished") => "no footer",
            Err(Error::Damaged(_)) => "torn",
            Err(error) => panic!("{error}"),
        };
        *seen.entry(outcome).or_insert(0) += 1;
    }
    let all = ["no footer", "none", "torn", "whole"];
    assert!(seen.keys().eq(all.iter()), "{seen:?}");
}

/// Random writes, reads, deletions, kills and cuts against a map of what has to be there.
#[test]
fn random_histories_agree_with_a_model() {
    for seed in 0..60 {
        let mut history = History::new(seed);
        for _ in 0..80 {
            history.step();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// Acknowledged.
    Durable,
    /// Written or deleted, but a power cut may undo it.
    Fresh,
    /// There whole, damaged or not at all.
    Maybe,
}

struct History {
    random: Seeded,
    disk: SimDisk,
    store: ChunkStore,
    /// What is known of the chunks that were ever written, with their lengths.
    chunks: BTreeMap<u64, (Expected, usize)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let disk = disk();
        let store = open(&disk).unwrap();
        Self { random: Seeded::new(seed), disk, store, chunks: BTreeMap::new() }
    }

    fn step(&mut self) {
        let counter = self.random.below(6) * 2047;
        match self.random.below(10) {
            0..3 => self.write(counter),
            3..5 => self.sync(),
            5..7 => self.read_all(),
            7 => self.delete(counter),
            8 => self.restart(SimDisk::crash),
            _ => self.restart(|disk, _| disk.kill()),
        }
    }

    fn write(&mut self, counter: u64) {
        let len = 1 + self.random.below(150_000) as usize;
        let len = self.chunks.get(&counter).map_or(len, |(_, len)| *len);
        write(&self.store, id(1, counter), len).unwrap();
        let entry = self.chunks.entry(counter).or_insert((Expected::Fresh, len));
        if entry.0 == Expected::Maybe {
            entry.0 = Expected::Fresh;
        }
    }

    fn sync(&mut self) {
        self.store.sync_names().unwrap();
        for (expected, _) in self.chunks.values_mut().filter(|(e, _)| *e == Expected::Fresh) {
            *expected = Expected::Durable;
        }
    }

    fn read_all(&mut self) {
        for (&counter, &(expected, len)) in &self.chunks {
            match check(&self.store, id(1, counter), len) {
                Ok(()) => {}
                Err(Error::NotFound | Error::Damaged(_)) if expected == Expected::Maybe => {}
                Err(error) => panic!("{counter}, {expected:?}: {error}"),
            }
        }
    }

    fn delete(&mut self, counter: u64) {
        let removed = self.store.delete(id(1, counter)).unwrap();
        assert!(matches!(self.store.info(id(1, counter)), Err(Error::NotFound)));
        if let Some((expected, _)) = self.chunks.get_mut(&counter) {
            assert!(removed || *expected == Expected::Maybe);
            *expected = Expected::Maybe;
        }
    }

    fn restart(&mut self, stop: impl Fn(&SimDisk, u64) -> SimDisk) {
        let seed = self.random.draw();
        self.disk = stop(&self.disk, seed);
        self.store = open(&self.disk).unwrap();
        // A killed process loses nothing, but its unsynced names are nobody's promise any more.
        for (expected, _) in self.chunks.values_mut().filter(|(e, _)| *e == Expected::Fresh) {
            *expected = Expected::Maybe;
        }
        self.read_all();
    }
}
