//! Whole nodes over a simulated disk, clock and network, in one thread and by a seed: what one seed does it does
//! again. `BUCKETFS_SEED=N` replays one and tells what happens; `BUCKETFS_SIMULATIONS=N` runs so many, of
//! `BUCKETFS_SIMULATED_MS=N` milliseconds under faults each.

mod checks;
mod clients;
mod faults;
mod ledger;
mod machine;
mod members;
mod net;
mod node;
mod world;

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use bucketfs::env::SimThreads;
use parking_lot::Mutex;
use world::World;

const SIMULATIONS: u64 = 200;
/// Milliseconds of work under faults.
const WORK: u64 = 2_000;
/// Leaders killed.
const FAILOVERS: u64 = 20;
/// Milliseconds.
const FAILOVER_MAX: u64 = 4_000;
const TEST: &str = "nothing_that_was_acknowledged_is_lost";

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

fn work() -> u64 {
    number("BUCKETFS_SIMULATED_MS").unwrap_or(WORK)
}

/// A simulation in this process, told on stdout. In a thread of its own, with nothing before it: what a
/// thread, and tokio for the process, keeps for itself is part of the seed's world.
fn simulate(seed: u64) {
    let run = move || {
        machine::seed(seed);
        let _threads = SimThreads::new(seed);
        World::new(seed).run(work())
    };
    let outcome = thread::spawn(run).join().expect("a simulation");
    println!("{}", outcome.summary());
    assert!(outcome.violations.is_empty(), "{:#?}", outcome.violations);
}

/// What a process of its own made of a seed.
struct Replayed {
    text: String,
    is_sound: bool,
}

impl Replayed {
    fn of(seed: u64) -> Self {
        let child = Command::new(std::env::current_exe().expect("this program"))
            .args([TEST, "--exact", "--nocapture"])
            .env("BUCKETFS_SEED", seed.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("a process");
        let mut text = String::from_utf8_lossy(&child.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&child.stderr));
        Self { text, is_sound: child.status.success() }
    }

    /// The line that sums it up, and the numbers in it.
    fn summary(&self) -> (&str, Vec<u64>) {
        let line = self.text.lines().find(|line| line.starts_with("trace ")).unwrap_or_default();
        let numbers = line.split_whitespace().filter_map(|word| word.parse().ok());
        (line, numbers.collect())
    }
}

#[test]
fn nothing_that_was_acknowledged_is_lost() {
    if let Some(seed) = number("BUCKETFS_SEED") {
        return simulate(seed);
    }
    let count = number("BUCKETFS_SIMULATIONS").unwrap_or(SIMULATIONS);
    let next = AtomicU64::new(1);
    let (total, failures) = (Mutex::new(vec![0; 4]), Mutex::new(Vec::new()));
    let one_after_the_other = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > count {
                return;
            }
            let replayed = Replayed::of(seed);
            let (_, numbers) = replayed.summary();
            total
                .lock()
                .iter_mut()
                .zip(numbers.get(1..).unwrap_or_default())
                .for_each(|(sum, more)| *sum += more);
            if !replayed.is_sound {
                println!("BUCKETFS_SEED={seed} BUCKETFS_SIMULATED_MS={}:", work());
                println!("{}", replayed.text);
                failures.lock().push(seed);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(one_after_the_other)));
    });
    let total = total.lock();
    let (acknowledged, failed, compared, ticks) = (total[0], total[1], total[2], total[3]);
    println!(
        "{count} seeds, {} s: {acknowledged} acknowledged, {failed} failed, {compared} compared",
        ticks / 1000
    );
    assert!(failures.lock().is_empty(), "seeds {:?} failed: replay each", failures.lock());
    assert!(acknowledged > 20 * count, "hardly anything was done");
}

#[test]
fn a_seed_does_the_same_again() {
    let [first, again, other] = [7, 7, 8].map(Replayed::of);
    assert!(first.is_sound && first.summary().0.starts_with("trace "), "{}", first.text);
    assert_eq!(first.summary(), again.summary());
    assert_ne!(first.summary(), other.summary());
}

/// > A killed leader is replaced within five seconds
///
/// In each of so many worlds the leader is killed, or loses its power, while all nodes write.
#[test]
fn a_killed_leader_is_replaced_soon() {
    if let Some(seed) = number("BUCKETFS_SEED") {
        return println!("failover {}", fail_over(seed));
    }
    let count = number("BUCKETFS_FAILOVERS").unwrap_or(FAILOVERS);
    let mut pauses: Vec<(u64, u64)> = (1..=count).map(|seed| (fail_over(seed), seed)).collect();
    pauses.sort_unstable();
    let at = |percent: usize| pauses[(pauses.len() - 1) * percent / 100];
    println!(
        "{count} leaders killed: half within {:?}, nine of ten {:?}, all {:?}",
        at(50),
        at(90),
        at(100)
    );
    assert!(
        at(100).0 <= FAILOVER_MAX,
        "the slowest: {:?}",
        &pauses[pauses.len().saturating_sub(9)..]
    );
}

/// Milliseconds without a leader in the world of this seed.
fn fail_over(seed: u64) -> u64 {
    let run = move || {
        machine::seed(seed);
        let _threads = SimThreads::new(seed);
        World::new(seed).fail_over()
    };
    thread::spawn(run).join().expect("a simulation")
}
