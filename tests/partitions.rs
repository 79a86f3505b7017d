//! Three real nodes under load of which one is stopped, cut off, slowed or killed: the others go on, it says so itself, and
//! afterwards every node has everything that was acknowledged anywhere. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use support::cluster::{Cluster, contents};
use support::fio::Fio;
use support::links::Flow;
use support::mounts::own_namespace;
use support::rng::{Rng, number, seed};
use support::wait::{now, pause, until};
use support::writers::Writer;

const LIMIT: Duration = Duration::from_secs(120);
const NODES: usize = 3;
/// `replication_timeout` of these clusters, and what their answers may take beyond it on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5 + 10);

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

const FAULTS: [Fault; 6] =
    [Fault::CutOff, Fault::Stopped, Fault::Deaf, Fault::Mute, Fault::Slow, Fault::Killed];

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

/// Rounds of one fault each. The node it happens to is the leader every other time.
#[test]
fn a_fault_of_one_node_loses_nothing_and_heals() {
    own_namespace();
    let mut rng = Rng::new(seed(1));
    let mut cluster = Cluster::start_linked("partitions", NODES, &[]);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    fs::create_dir(cluster.path(0, "fio")).unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..number("BUCKETFS_PARTITIONS", FAULTS.len() as u64) as usize {
        let fault = FAULTS[round % FAULTS.len()];
        let leader = until("there is a leader", LIMIT, || cluster.leader(round % NODES));
        // Each fault has its turn at the leader.
        let victim = match (round + round / FAULTS.len()) % 2 {
            0 => leader,
            _ => rng.below(NODES as u64) as usize,
        };
        let mut load = Load::start(&cluster, round, victim);
        fault.begin(&mut cluster, victim);
        let paused = load.wait_for_others(victim);
        println!("round {round}, {fault:?}, node {victim}, leader {leader}: pause {paused:?}");
        if fault.is_noticed() {
            load.wait_for_refusal(victim);
        }
        fault.end(&mut cluster, victim);
        load.finish(fault, victim, &mut expected);
        compare(&cluster, round, &expected);
    }
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

    /// Returns when the nodes that nothing happens to write again, with the time that took.
    fn wait_for_others(&self, victim: usize) -> Duration {
        let counts = || self.writers.iter().map(|(_, writer)| writer.count()).collect::<Vec<_>>();
        let (begun, before) = (now(), counts());
        until("writes go on without it", LIMIT, || {
            let others = self.writers.iter().map(|(place, _)| *place != victim);
            let mut pairs = counts().into_iter().zip(&before).zip(others);
            pairs.all(|((now, before), is_other)| !is_other || now > before + 5).then_some(())
        });
        begun.elapsed()
    }

    fn wait_for_refusal(&self, victim: usize) {
        until("the node refuses what it cannot promise", LIMIT, || {
            pause(Duration::from_millis(20));
            (self.writers[victim].1.failed() > 0).then_some(())
        });
    }

    fn finish(&mut self, fault: Fault, victim: usize, expected: &mut BTreeMap<PathBuf, Vec<u8>>) {
        let jobs = self.fio.take().map(Fio::finish);
        println!("  fio: {jobs:?}");
        for (place, writer) in self.writers.drain(..) {
            let refused = writer.failed();
            let written = writer.finish();
            // A stopped node answers when it goes on.
            let counts = place != victim || fault.is_noticed();
            assert!(
                !counts || written.longest < PATIENCE,
                "{fault:?}: a file on node {place} took {:?}",
                written.longest
            );
            println!("  node {place}: {refused} refused, longest {:?}", written.longest);
            expected.extend(written.acknowledged);
        }
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
