//! Story: the power goes at some sync. What fsync and close had answered for is there; whatever else is there
//! is the state of some later moment, whole: the log is one, so nothing overtakes anything.
//!
//! The same steps run again and again, each time with the power cut one sync later.

use std::path::Path;

use bucketfs::error::Result;
use bucketfs::vfs::{Caller, OpenFlags};

use super::model::State;
use super::store::{self, Store};
use super::words::Chance;
use super::workload::Workload;

async fn run_until_cut(
    seed: u64,
    steps: usize,
    cut: Option<u64>,
    lies: fn(&Path) -> bool,
) -> (Workload, u64) {
    let store = Store::create().await;
    store.disk.lie(lies);
    let before = store.disk.syncs();
    if let Some(cut) = cut {
        store.disk.stop_after_syncs(cut);
    }
    let mut work = Workload::start(store);
    let mut chance = Chance::new(seed);
    for _ in 0..steps {
        if work.run(chance.step()).await.is_err() {
            break;
        }
    }
    let syncs = work.store.disk.syncs() - before;
    (work, syncs)
}

async fn check(work: Workload, crash_seed: u64, what: &str) {
    let Workload { store, model, .. } = work;
    let store = store.power_cut(crash_seed).await;
    store.assert_consistent();
    let found: State = store.state().await;
    let allowed = &model.history[model.durable..];
    assert!(
        allowed.contains(&found),
        "{what}: after the cut there is {found:#?}, which is none of the {} states from \
         {:#?} to {:#?}",
        allowed.len(),
        allowed.first(),
        allowed.last()
    );
}

/// > Nor does a power cut at any sync of any file
#[test]
fn every_sync_is_a_point_to_cut_the_power() {
    let long = std::env::var("BUCKETFS_LONG").is_ok();
    let (seeds, steps) = if long { (20, 250) } else { (2, 120) };
    for seed in 0..seeds {
        cut_everywhere(seed, steps, if long { u64::MAX } else { 25 }, |_| false);
    }
}

/// Cuts the power at so many syncs of one run; the disk leaves out the syncs that `lies` picks.
fn cut_everywhere(seed: u64, steps: usize, cuts: u64, lies: fn(&Path) -> bool) {
    let syncs = store::runtime().block_on(async { run_until_cut(seed, steps, None, lies).await.1 });
    println!("seed {seed}: {syncs} syncs");
    let stride = (syncs / cuts).max(1);
    for cut in (0..syncs).step_by(stride as usize) {
        store::runtime().block_on(async {
            let (work, _) = run_until_cut(seed, steps, Some(cut), lies).await;
            check(work, seed * 1000 + cut, &format!("seed {seed}, sync {cut}")).await;
        });
    }
}

const CRUMBED: &str = "crumbed";
const SLOT: usize = 64 << 10;
const SLOTS: usize = 6;
/// Bytes of each slot that a round writes, one by one: more pieces than a slot may have.
const CRUMBS: usize = 300;

/// A file by what an fsync answered for, and by what was written since.
struct Crumbed {
    durable: Vec<u8>,
    written: Vec<u8>,
}

/// Rounds of scattered bytes, until the power goes. What an early cut leaves is no file.
async fn crumble(store: &Store, file: &mut Option<Crumbed>) -> Result<()> {
    let (who, vfs) = (Caller::default(), &store.vfs);
    let flags = OpenFlags(libc::O_RDWR);
    let made = vfs.create(&who, store.bucket, CRUMBED.as_bytes(), 0o644, flags).await?;
    let handle = made.1.handle;
    let mut bytes = vec![1; SLOT * SLOTS];
    vfs.write(&who, handle, 0, &bytes).await?;
    vfs.fsync(handle).await?;
    let file = file.insert(Crumbed { durable: bytes.clone(), written: bytes.clone() });
    for round in 2..5 {
        for at in (0..SLOTS * CRUMBS).map(|n| n / CRUMBS * SLOT + n % CRUMBS * 200 + round) {
            bytes[at] = round as u8;
            file.written[at] = round as u8;
            vfs.write(&who, handle, at as u64, &bytes[at..=at]).await?;
        }
        vfs.fsync(handle).await?;
        file.durable.clone_from(&bytes);
    }
    Ok(())
}

/// Crowded slots are written whole, by several entries of the log of which one sync answers for all:
/// whichever of them the power cuts off, what was answered for is there, and no byte is another than
/// was written.
#[test]
fn crowded_slots_are_cut_at_every_sync() {
    let mut cut = 0;
    loop {
        let done = store::runtime().block_on(async {
            let store = Store::create().await;
            store.disk.stop_after_syncs(cut);
            let mut file = None;
            let done = crumble(&store, &mut file).await.is_ok();
            let store = store.power_cut(cut).await;
            store.assert_consistent();
            if let Some(Crumbed { durable, written }) = file {
                let found = store.read_whole(CRUMBED).await.unwrap();
                assert_eq!(found.len(), durable.len(), "sync {cut}");
                let lost = (0..found.len())
                    .find(|&at| found[at] != durable[at] && found[at] != written[at]);
                assert_eq!(lost, None, "sync {cut}");
            }
            done
        });
        if done {
            break;
        }
        cut += 1;
    }
    println!("{cut} syncs");
    assert!(cut > 10, "{cut} syncs: the load does not load");
}

/// What acknowledges before its log is on disk loses something here.
#[test]
#[should_panic(expected = "which is none of the")]
fn a_log_that_is_not_synced_is_noticed() {
    cut_everywhere(0, 120, 25, |path| path.starts_with("/store/log"));
}

/// What acknowledges before its chunks are on disk is not sound here.
#[test]
#[should_panic(expected = "the store is not sound")]
fn chunks_that_are_not_synced_are_noticed() {
    cut_everywhere(0, 120, 25, |path| path.starts_with("/store/chunks"));
}
