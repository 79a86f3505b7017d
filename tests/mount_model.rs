//! Random operations on a real mount, compared with a model written from POSIX.
//!
//! `BUCKETFS_SEED` replays a seed, `BUCKETFS_SEEDS` and `BUCKETFS_OPERATIONS` say how many of them, how long. The same runs on a plain
//! ext4 directory: what fails there is a fault of the model.

mod model;
mod support;

use model::run::Runner;
use support::rng::{number, seed};
use support::target::{Stage, Target};

/// Operations a seed.
const OPERATIONS: u64 = 2_500;
/// Operations between two restarts.
const RESTART: usize = 625;

fn compare(target: Target, first_seed: u64, seeds: u64) {
    let mut runner = Runner::new(Stage::new("model", target));
    let first_seed = seed(first_seed);
    let count = number("BUCKETFS_OPERATIONS", OPERATIONS) as usize;
    for seed in first_seed..first_seed + number("BUCKETFS_SEEDS", seeds) {
        println!("{target:?}: seed {seed}, {count} operations");
        runner.run(seed, count, RESTART);
    }
}

#[test]
fn a_plain_directory_does_what_the_model_says() {
    compare(Target::PlainDir, 1, 4);
}

#[test]
fn a_bucket_on_sled_does_what_the_model_says() {
    compare(Target::BucketFs("sled"), 1, 2);
}

#[test]
fn a_bucket_on_redb_does_what_the_model_says() {
    compare(Target::BucketFs("redb"), 101, 2);
}
