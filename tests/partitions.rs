//! Three real nodes under load of which one is stopped, cut off, slowed or killed: the others go on, it says so itself, and
//! afterwards every node has everything that was acknowledged anywhere. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, contents};
use support::fio::{Fio, Jobs};
use support::links::Flow;
use support::mounts::own_namespace;
use support::rng::{Rng, number, seed};
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
    fs::create_dir(cluster.path(0, "fio")).unwrap();
    let (mut expected, mut fio) = (BTreeMap::new(), Jobs::default());
    for round in 0..number("BUCKETFS_PARTITIONS", FAULTS.len() as u64) as usize {
        let fault = FAULTS[round % FAULTS.len()];
        let leader = until("there is a leader", LIMIT, || cluster.leader(round % NODES));
        // Each fault has its turn at the leader.
        let victim = match (round + round / FAULTS.len()) % 2 {
            0 => leader,
            _ => rng.below(NODES as u64) as usize,
        };
        let mut load = Load::start(&cluster, round, victim);
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
        let jobs = load.finish(fault, victim, &mut expected);
        println!("  fio: {jobs:?}");
        (fio.done, fio.refused) = (fio.done + jobs.done, fio.refused + jobs.refused);
        compare(&cluster, round, &expected);
    }
    assert!(fio.done > 0, "no job of fio has read what it wrote: {fio:?}");
}

/// A writer on each node, one through the S3 endpoint of one of them, and fio beside it where nothing happens.
struct Load {
    /// By place.
    writers: Vec<(usize, Writer)>,
    fio: Option<Fio>,
}

impl Load {
    /// Returns when all write.
    fn start(cluster: &Cluster, round: usize, victim: usize) -> Self {
        let writer = |place| (place, Writer::start(cluster.mount(place), place + 10 * round));
        let mut writers: Vec<(usize, Writer)> = (0..NODES).map(writer).collect();
        let by_s3 = round / 2 % NODES;
        writers.push((by_s3, Writer::start_s3(cluster.s3(by_s3), 10 * round)));
        let calm = (victim + 1) % NODES;
        let fio = Fio::start(cluster.path(calm, &format!("fio/{round}")));
        until("the writers have begun", LIMIT, || {
            pause(Duration::from_millis(20));
            writers.iter().all(|(_, writer)| writer.count() > 3).then_some(())
        });
        Self { writers, fio: Some(fio) }
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

    fn finish(
        &mut self,
        fault: Fault,
        victim: usize,
        expected: &mut BTreeMap<PathBuf, Vec<u8>>,
    ) -> Jobs {
        let jobs = self.fio.take().map(Fio::finish).unwrap_or_default();
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
            expected.extend(written.acknowledged);
        }
        jobs
    }
}

/// Every node has every byte that was acknowledged on any.
fn compare(cluster: &Cluster, round: usize, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    for place in 0..NODES {
        until("the node is a member again", LIMIT, || {
            pause(Duration::from_millis(100));
            (cluster.status(place)["healthy"] == true).then_some(())
        });
        let found = contents(&cluster.mount(place));
        for (name, bytes) in expected {
            let there = found.get(name).map(Vec::len);
            assert!(
                found.get(name) == Some(bytes),
                "round {round}, node {place}: {} has {there:?} bytes",
                name.display()
            );
        }
    }
}
