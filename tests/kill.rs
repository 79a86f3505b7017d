//! The real program is killed (SIGKILL) under load, again and again: what it acknowledged is there afterwards.
//!
//! `BUCKETFS_ROUNDS` and `BUCKETFS_SEED` choose how often and which. The load itself is checked on a plain directory,
//! where nothing is ever lost, and by losing something on purpose.

mod crash;
mod support;

use crash::rounds::Rounds;
use std::time::Duration;
use support::rng::{number, seed};
use support::target::{Stage, Target};
use support::wait::until;

/// What was left over when it was killed is removed beside the work that follows.
const REMOVED_WITHIN: Duration = Duration::from_secs(30);

#[test]
fn the_load_finds_all_it_wrote_in_a_plain_directory() {
    let mut rounds = Rounds::new(Stage::new("kill", Target::PlainDir), seed(1));
    for round in 0..3 {
        let calls = rounds.round(round);
        assert!(calls > 100, "only {calls} calls in a round: the load does not load");
    }
}

#[test]
#[should_panic(expected = "neither state fits")]
fn a_lost_byte_is_noticed() {
    let mut rounds = Rounds::new(Stage::new("kill", Target::PlainDir), seed(1));
    rounds.round(0);
    let replaced = rounds.stage.root().join("replace/r0");
    let bytes = std::fs::read(&replaced).expect("a file the load has replaced");
    std::fs::write(&replaced, &bytes[..bytes.len() - 1]).expect("cutting it");
    rounds.compare(1);
}

/// Rounds of kill and comparison, the store checked at the end and every tenth time.
fn survives(engine: &'static str, first_seed: u64, rounds: u64) {
    let mut load = Rounds::new(Stage::new("kill", Target::BucketFs(engine)), seed(first_seed));
    let count = number("BUCKETFS_ROUNDS", rounds);
    let mut calls = 0;
    for round in 1..=count {
        calls += load.round(round);
        if round % 10 == 0 || round == count {
            until("nothing is left over", REMOVED_WITHIN, || {
                (load.stage.check()["left_over_files"] == 0).then_some(())
            });
        }
    }
    println!("{engine}: {count} rounds, {calls} calls acknowledged, none lost");
    load.stage.restart();
    load.compare(count + 1);
}

/// > A `close()` or `fsync()` that returned is on disk: no kill of the program takes it away
#[test]
fn a_killed_program_on_sled_keeps_what_it_acknowledged() {
    survives("sled", 1, 25);
}

#[test]
fn a_killed_program_on_redb_keeps_what_it_acknowledged() {
    survives("redb", 2, 25);
}
