//! Three real nodes under load of which one is stopped, cut off, slowed or killed: the others go on, it says so itself, and
//! afterwards every node has everything that was acknowledged anywhere. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::cluster::Cluster;
use support::jobs::{Jobs, Working, copy, fio, marks, plant};
use support::links::Flow;
use support::mounts::{own_namespace, scratch};
use support::rng::{Rng, number, seed};
use support::tree::{differing, look};
use support::wait::{now, pause, until};
use support::writers::{Calls, Writer};

const LIMIT: Duration = Duration::from_secs(120);
const NODES: usize = 3;
/// What is promised: a call that cannot be answered is refused within `replication_timeout` and a second. These
/// clusters have 5 s.
const PROMISED: Duration = Duration::from_secs(5 + 1);
/// What all of it may wait for a processor besides, where three nodes, four writers and fio share two.
const BUSY: Duration = Duration::from_secs(2);
/// From the kill of the leader until each of the others writes again.
const FAIL_OVER: Duration = Duration::from_secs(5);

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP: silent, and goes on later as if nothing had been.
    Stopped,
    /// Nothing reaches it and nothing leaves it.
    CutOff,
    /// Nothing reaches it.
    Deaf,
    /// Nothing leaves it.
    Mute,
    /// All it says and hears is late.
    Slow,
}

/// Those at even places happen to the leader first.
const FAULTS: [Fault; 6] =
    [Fault::CutOff, Fault::Stopped, Fault::Deaf, Fault::Mute, Fault::Killed, Fault::Slow];

impl Fault {
    fn begin(self, cluster: &mut Cluster, victim: usize) {
        let (hears, says) = match self {
            Self::Killed => return cluster.kill(victim),
            Self::Stopped => return cluster.node(victim).signal(libc::SIGSTOP),
            Self::CutOff => (Flow::Cut, Flow::Cut),
            Self::Deaf => (Flow::Cut, Flow::Open),
            Self::Mute => (Flow::Open, Flow::Cut),
            Self::Slow => [Flow::Slow(Duration::from_millis(30)); 2].into(),
        };
        for other in (0..NODES).filter(|other| *other != victim) {
            cluster.links().set(other, victim, hears);
            cluster.links().set(victim, other, says);
        }
    }

    fn end(self, cluster: &mut Cluster, victim: usize) {
        match self {
            Self::Killed => cluster.restart(victim),
            Self::Stopped => cluster.node(victim).signal(libc::SIGCONT),
            _ => cluster.links().heal(),
        }
    }

    /// Whether the node itself has to notice, and to refuse what it cannot promise.
    fn is_noticed(self) -> bool {
        matches!(self, Self::CutOff | Self::Deaf | Self::Mute)
    }
}

/// > A node that is cut off in one or both directions, stopped or slow loses nothing and stops
/// > nobody; it refuses within `replication_timeout` what it cannot promise, and heals by itself
///
/// Rounds of one fault each. The node it happens to is the leader every other time.
#[test]
fn a_fault_of_one_node_loses_nothing_and_heals() {
    own_namespace();
    let mut rng = Rng::new(seed(1));
    let mut cluster = Cluster::start_linked("partitions", NODES, &[]);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    fs::create_dir(cluster.path(0, "jobs")).unwrap();
    let original = scratch("original");
    plant(original.path());
    let (mut acknowledged, mut all) = (BTreeMap::new(), [Jobs::default(), Jobs::default()]);
    for round in 0..number("BUCKETFS_PARTITIONS", FAULTS.len() as u64) as usize {
        let fault = FAULTS[round % FAULTS.len()];
        let leader = until("there is a leader", LIMIT, || cluster.leader(round % NODES));
        // Each fault has its turn at the leader.
        let victim = match (round + round / FAULTS.len()) % 2 {
            0 => leader,
            _ => rng.below(NODES as u64) as usize,
        };
        let mut load = Load::start(&cluster, round, victim, original.path());
        let begun = now();
        fault.begin(&mut cluster, victim);
        let paused = load.wait_for_others(victim, begun);
        println!("round {round}, {fault:?}, node {victim}, leader {leader}: pause {paused:?}");
        assert!(
            (fault, victim) != (Fault::Killed, leader) || paused < FAIL_OVER + BUSY,
            "the leader was killed, and not all of the others wrote for {paused:?}"
        );
        if fault.is_noticed() {
            load.wait_for_refusal(victim);
        }
        fault.end(&mut cluster, victim);
        let (jobs, written) = load.finish(fault, victim);
        println!("  {}: {jobs:?}", if copies(round) { "copies" } else { "fio" });
        (0..NODES).for_each(|place| cluster.require(place, &written));
        acknowledged.extend(written);
        if copies(round) {
            compare_copies(&cluster, round, &jobs, original.path());
        }
        all[usize::from(copies(round))].add(jobs);
    }
    // What was right after its round is right after all others.
    cluster.require(0, &acknowledged);
    assert!(all.iter().all(|jobs| !jobs.done.is_empty()), "no job has come to its end: {all:?}");
}

/// Whether cp(1) and rsync(1) work beside a round, or fio(1).
fn copies(round: usize) -> bool {
    round % 2 == 1
}

/// A writer on each node, one through the S3 endpoint of one of them, and other people's programs beside it where
/// nothing happens.
struct Load {
    /// By place.
    writers: Vec<(usize, Writer)>,
    jobs: Option<Working>,
}

impl Load {
    /// Returns when all write.
    fn start(cluster: &Cluster, round: usize, victim: usize, original: &Path) -> Self {
        let writer = |place| (place, Writer::start(cluster.mount(place), place + 10 * round));
        let mut writers: Vec<(usize, Writer)> = (0..NODES).map(writer).collect();
        let by_s3 = round / 2 % NODES;
        writers.push((by_s3, Writer::start_s3(cluster.s3(by_s3), 10 * round)));
        let calm = (victim + 1) % NODES;
        let (dir, original) = (cluster.path(calm, &jobs_of(round)), original.to_owned());
        let jobs = match copies(round) {
            true => Working::start(dir, move |dir, number| copy(&original, dir, number)),
            false => Working::start(dir, fio),
        };
        until("the writers have begun", LIMIT, || {
            pause(Duration::from_millis(20));
            writers.iter().all(|(_, writer)| writer.count() > 3).then_some(())
        });
        Self { writers, jobs: Some(jobs) }
    }

    /// Returns when the nodes that nothing happens to write again, with the time from `begun`, when the
    /// fault began, until each of them had written one file more.
    fn wait_for_others(&self, victim: usize, begun: Instant) -> Duration {
        let counts = || self.writers.iter().map(|(_, writer)| writer.count()).collect::<Vec<_>>();
        let before = counts();
        let wait_for_more = |than| {
            until("writes go on without it", LIMIT, || {
                let others = self.writers.iter().map(|(place, _)| *place != victim);
                let mut pairs = counts().into_iter().zip(&before).zip(others);
                pairs.all(|((now, before), other)| !other || now > before + than).then_some(())
            });
            begun.elapsed()
        };
        let paused = wait_for_more(0);
        wait_for_more(5);
        paused
    }

    fn wait_for_refusal(&self, victim: usize) {
        until("the node refuses what it cannot promise", LIMIT, || {
            pause(Duration::from_millis(20));
            (self.writers[victim].1.failed() > 0).then_some(())
        });
    }

    /// Ends all of it; what was acknowledged.
    fn finish(&mut self, fault: Fault, victim: usize) -> (Jobs, BTreeMap<PathBuf, Vec<u8>>) {
        let mut acknowledged = BTreeMap::new();
        let jobs = self.jobs.take().map(Working::finish).unwrap_or_default();
        for (number, (place, writer)) in self.writers.drain(..).enumerate() {
            let refused = writer.failed();
            let written = writer.finish();
            println!("  node {place}: {refused} refused, {:?}", written.calls);
            // A killed node answers nothing, a stopped one when it goes on.
            let is_timed = place != victim || fault.is_noticed() || fault == Fault::Slow;
            let is_there = place != victim || fault != Fault::Killed;
            let code = if number < NODES { libc::EIO } else { 503 };
            let Calls { longest, refusals, broken } = &written.calls;
            assert!(
                !is_timed || *longest < PROMISED + BUSY,
                "{fault:?}: a call on node {place} took {longest:?}"
            );
            assert!(
                !is_there || *broken == 0 && refusals.iter().all(|refusal| *refusal == code),
                "{fault:?}: node {place} refused with {refusals:?}, {broken} without an answer"
            );
            acknowledged.extend(written.acknowledged);
        }
        (jobs, acknowledged)
    }
}

fn jobs_of(round: usize) -> String {
    format!("jobs/{round}")
}

/// Every node has every copy that a program has made without an error, with its permissions and times.
fn compare_copies(cluster: &Cluster, round: usize, jobs: &Jobs, original: &Path) {
    let (bytes, stats) = (look(original).expect("reading the original"), marks(original));
    for place in 0..NODES {
        let dir = cluster.path(place, &jobs_of(round));
        for number in &jobs.done {
            let copy = dir.join(number.to_string());
            let found = look(&copy).unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
            let others = differing(&bytes, &found);
            assert!(others.is_empty(), "{}: {others:?}", copy.display());
            assert_eq!(marks(&copy), stats, "{}", copy.display());
        }
    }
}
