//! Story: the power goes at some sync. What fsync had answered for is there; whatever else is there
//! is the state of some later moment, whole: the log is one, so nothing overtakes anything.
//!
//! The same steps run again and again, each time with the power cut one sync later.

use super::model::State;
use super::store::{self, Store};
use super::words::Chance;
use super::workload::Workload;

async fn run_until_cut(seed: u64, steps: usize, cut: Option<u64>) -> (Workload, u64) {
    let store = Store::create().await;
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

#[test]
fn every_sync_is_a_point_to_cut_the_power() {
    let long = std::env::var("BUCKETFS_LONG").is_ok();
    let (seeds, steps) = if long { (20, 250) } else { (2, 120) };
    for seed in 0..seeds {
        let syncs = store::runtime().block_on(async { run_until_cut(seed, steps, None).await.1 });
        println!("seed {seed}: {syncs} syncs");
        let stride = if long { 1 } else { (syncs / 25).max(1) };
        for cut in (0..syncs).step_by(stride as usize) {
            store::runtime().block_on(async {
                let (work, _) = run_until_cut(seed, steps, Some(cut)).await;
                check(work, seed * 1000 + cut, &format!("seed {seed}, sync {cut}")).await;
            });
        }
    }
}
