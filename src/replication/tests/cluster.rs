//! Several replicas that are one cluster: they join, agree, fail over, catch up.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::Poll;

use super::wires::Wires;
use super::*;
use crate::error::Error;
use crate::meta::{NodeRecord, NodeState};
use crate::replication::log::Log;
use crate::replication::peers::{Credentials, Kind};
use crate::replication::start::Starter;
use crate::replication::types::Vote;
use crate::types::NodeId;

/// Longest wait for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Cluster {
    pub wires: Wires,
    pub nodes: Vec<Node>,
    base: Options,
    clock: Arc<dyn Clock>,
}

pub struct Node {
    pub id: NodeId,
    pub disk: SimDisk,
    pub options: Options,
    replica: Option<Arc<Replica>>,
    clock: Arc<dyn Clock>,
}

impl Node {
    pub fn replica(&self) -> &Arc<Replica> {
        self.replica.as_ref().unwrap()
    }

    pub async fn start(&mut self) {
        self.replica = Some(self.opening().await.unwrap());
    }

    pub fn opening(&self) -> impl Future<Output = Result<Arc<Replica>>> + Send + 'static {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (options, clock) = (self.options.clone(), Arc::clone(&self.clock));
        async move { open_at(&options, &disk, clock).await }
    }

    /// As SIGKILL: what was written is there, nothing else happens.
    pub fn kill(&mut self) {
        self.disk = self.disk.kill();
        self.replica = None;
    }
}

impl Cluster {
    /// One node, which others may join.
    async fn of_one() -> Self {
        Self::of_one_with(memory(), clock()).await
    }

    async fn of_one_with(base: Options, clock: Arc<dyn Clock>) -> Self {
        let wires = Wires::new();
        let options = Options { peers: Some(wires.peers()), ..base.clone() };
        let sim = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        init(&options, &disk).await.unwrap();
        let mut node = Node { id: 0, disk: sim, options, replica: None, clock: clock.clone() };
        node.start().await;
        node.id = node.replica().node();
        Self { wires, nodes: vec![node], base, clock }
    }

    pub async fn of(count: usize) -> Self {
        Self::of_with(count, memory(), clock()).await
    }

    /// All of them with these options, but for where they are found.
    pub async fn of_with(count: usize, base: Options, clock: Arc<dyn Clock>) -> Self {
        let mut cluster = Self::of_one_with(base, clock).await;
        for id in 1..count as u64 {
            cluster.join(id).await;
        }
        let voters = if count.is_multiple_of(2) { count - 1 } else { count };
        cluster.wait_for_voters(voters).await;
        cluster
    }

    pub async fn join(&mut self, id: NodeId) {
        let options = Options { peers: Some(self.wires.peers()), ..self.base.clone() };
        let sim = SimDisk::new();
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let first = &self.nodes[0];
        let name = first.replica().status().cluster;
        let credentials = Credentials::generate(&name).unwrap();
        let contacts = [(first.id, format!("wire:{}", first.id))];
        Replica::init_joined(
            options.clone(),
            (id, name),
            &credentials,
            &contacts,
            &[],
            disk,
            clock(),
        )
        .await
        .unwrap();
        let clock = Arc::clone(&self.clock);
        let mut node = Node { id, disk: sim, options, replica: None, clock };
        node.start().await;
        self.nodes.push(node);
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    async fn wait_for_voters(&self, count: usize) {
        let mut metrics = self.nodes[0].replica().cluster.raft.metrics();
        let enough = metrics.wait_for(|metrics| {
            let membership = metrics.membership_config.membership();
            membership.get_joint_config().len() == 1 && membership.voter_ids().count() == count
        });
        tokio::time::timeout(PATIENCE, enough).await.unwrap().unwrap();
    }

    /// The leader that most nodes know, by its place.
    pub async fn leader(&self, among: &[usize]) -> usize {
        let look = async {
            loop {
                let leads = |place: &&usize| self.nodes[**place].replica().leads();
                if let Some(place) = among.iter().find(leads) {
                    return *place;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }
}

/// > Growing from one node to three keeps all data and changes the voters in one step
///
/// Growing from one to three keeps all data, changes the voters in one step and replicates to all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_grows_to_three_and_all_see_the_same() {
    let mut cluster = Cluster::of_one().await;
    make_bucket(cluster.nodes[0].replica(), "before", Wait::Applied).await;
    assert!(cluster.nodes[0].replica().is_alone());
    cluster.join(1).await;
    assert!(!cluster.nodes[0].replica().is_alone());
    cluster.join(2).await;
    cluster.wait_for_voters(3).await;
    for (place, node) in cluster.nodes.iter().enumerate() {
        make_bucket(node.replica(), &format!("from-{place}"), Wait::Durable).await;
        // A node sees its own change at once.
        assert!(buckets(node.replica()).contains(&format!("from-{place}")));
    }
    for node in &cluster.nodes {
        node.replica().barrier().await.unwrap();
        assert_eq!(buckets(node.replica()), ["before", "from-0", "from-1", "from-2"]);
    }
    let sessions = cluster.nodes[0].replica().table().view().sessions().unwrap();
    assert_eq!(sessions.len(), 3);
}

/// > A read barrier on any node includes what was acknowledged on any other before it
///
/// A barrier on any node includes what was acknowledged on any other before it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_barrier_sees_what_was_acknowledged_elsewhere() {
    let cluster = Cluster::of(3).await;
    for round in 0..60 {
        let writer = cluster.nodes[round % 3].replica();
        let reader = cluster.nodes[(round + 1 + round / 3 % 2) % 3].replica();
        let name = format!("round-{round}");
        make_bucket(writer, &name, Wait::Applied).await;
        reader.barrier().await.unwrap();
        assert!(buckets(reader).contains(&name), "{name}");
    }
}

/// > A killed leader is replaced, and catches up when it returns
///
/// The leader dies: the others choose a new one, lose nothing, go on; it comes back and catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_leader_is_replaced_and_comes_back() {
    let mut cluster = Cluster::of(3).await;
    make_bucket(cluster.nodes[1].replica(), "before", Wait::Durable).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.nodes[leader].kill();
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    cluster.leader(&others).await;
    for place in &others {
        make_bucket(cluster.nodes[*place].replica(), &format!("without-{place}"), Wait::Durable)
            .await;
    }
    cluster.nodes[leader].start().await;
    let returned = cluster.nodes[leader].replica();
    returned.barrier().await.unwrap();
    assert_eq!(buckets(returned).len(), 3);
    make_bucket(returned, "again", Wait::Durable).await;
}

/// > Without a quorum nothing is acknowledged, and the answer comes in time
///
/// A node that is cut off acknowledges nothing and answers within its time; healed it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_minority_refuses_and_heals() {
    let mut cluster = Cluster::of(3).await;
    for node in &mut cluster.nodes {
        node.options.timeout = Duration::from_secs(3);
    }
    let ids = cluster.ids();
    let leader = cluster.leader(&[0, 1, 2]).await;
    cluster.nodes[leader].kill();
    cluster.nodes[leader].start().await;
    let cut = cluster.nodes[leader].replica();
    cluster.wires.isolate(ids[leader], &ids);
    let refused = cut.propose(bucket("cut-off"), Wait::Durable, 0).await.unwrap_err();
    assert!(matches!(refused, Error::NoQuorum(_) | Error::Timeout(_)), "{refused}");
    assert!(cut.barrier().await.is_err());
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let other = cluster.leader(&others).await;
    make_bucket(cluster.nodes[other].replica(), "majority", Wait::Durable).await;

    cluster.wires.heal();
    while cut.propose(bucket("healed"), Wait::Durable, 0).await.is_err() {}
    cut.barrier().await.unwrap();
    let found = buckets(cut);
    assert!(found.contains(&"majority".into()) && found.contains(&"healed".into()), "{found:?}");
    for node in &cluster.nodes {
        node.replica().barrier().await.unwrap();
        assert_eq!(buckets(node.replica()), buckets(cut));
    }
}

/// A directory whose record takes 40 kB in the log.
pub fn large_directory(parent: Ino, number: usize) -> Mutation {
    let mut directory = make(parent, &number.to_string(), FileKind::Directory);
    if let Mutation::Make(make) = &mut directory {
        make.xattrs = vec![(b"user.large".to_vec(), vec![number as u8; 40_000])];
    }
    directory
}

/// A snapshot that newer ones replace while it is sent is sent to its end, and harms nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_snapshot_is_replaced_while_it_is_sent() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let away = (leader + 1) % 3;
    cluster.nodes[away].kill();
    let replica = Arc::clone(cluster.nodes[leader].replica());
    let parent = make_bucket(&replica, "large", Wait::Applied).await;
    // More than one part.
    for number in 0..250 {
        replica.propose(large_directory(parent, number), Wait::Applied, 0).await.unwrap();
    }
    let snapshot = async |name: &str| {
        make_bucket(&replica, name, Wait::Durable).await;
        replica.machine.take_snapshot(&replica.log, &|| true).unwrap();
    };
    snapshot("one").await;
    snapshot("two").await;
    cluster.purge(&replica).await;
    cluster.wires.hold(Some(Kind::SnapshotPart));
    let disk: Arc<dyn Disk> = Arc::new(cluster.nodes[away].disk.clone());
    let options = cluster.nodes[away].options.clone();
    let returned = tokio::spawn(async move { open(&options, &disk).await.unwrap() });
    while cluster.wires.held() == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    snapshot("three").await;
    snapshot("four").await;
    cluster.wires.hold(None);
    let returned = tokio::time::timeout(PATIENCE, returned).await.unwrap().unwrap();
    returned.barrier().await.unwrap();
    make_bucket(&returned, "after", Wait::Durable).await;
    replica.barrier().await.unwrap();
    assert!(replica.cluster.raft.metrics().borrow().running_state.is_ok());
    assert_eq!(records(&returned).len(), records(&replica).len());
}

/// The leader gets no further than to the joint step of a change of voters: somebody finishes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_of_voters_that_stopped_half_way_is_finished() {
    let cluster = Cluster::of(4).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let raft = cluster.nodes[leader].replica().cluster.raft.clone();
    let ids = cluster.ids();
    let mut wanted: BTreeSet<NodeId> = [ids[leader], ids[3]].into();
    wanted.extend(ids.iter().take(3).copied().filter(|id| *id != ids[leader]).take(1));
    let sets = |metrics: &openraft::RaftMetrics<NodeId, openraft::BasicNode>| {
        metrics.membership_config.membership().get_joint_config().clone()
    };
    {
        // The second step is asked for when the first is done; nobody waits for that here.
        let mut change = Box::pin(raft.change_membership(wanted.clone(), false));
        let poll = poll_fn(|context| Poll::Ready(change.as_mut().poll(context).is_pending()));
        assert!(poll.await);
        let mut metrics = raft.metrics();
        let joint = metrics.wait_for(|metrics| sets(metrics).len() == 2);
        tokio::time::timeout(PATIENCE, joint).await.unwrap().unwrap();
    }
    let mut metrics = raft.metrics();
    let done = metrics.wait_for(|metrics| sets(metrics) == [wanted.clone()]);
    tokio::time::timeout(PATIENCE, done).await.unwrap().unwrap();
}

/// A change of the members that nobody answers is given up: what else the leader does for the others goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_of_members_waits_not_for_ever() {
    let cluster = Cluster::of(3).await;
    let (ids, leader) = (cluster.ids(), cluster.leader(&[0, 1, 2]).await);
    cluster.wires.isolate(ids[leader], &ids);
    let members = &cluster.nodes[leader].replica().cluster;
    let changed = members.set_address(ids[leader], "wire:elsewhere");
    assert!(tokio::time::timeout(Duration::from_secs(30), changed).await.unwrap().is_err());
}

/// Much at once over links of 64 Mbit/s: it takes its time and comes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_link_is_enough() {
    // Entries as large as they are outside of tests.
    let log = LogOptions { direct: false, ..LogOptions::DEFAULT };
    let cluster = Cluster::of_with(3, Options { log, ..memory() }, clock()).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let replica = cluster.nodes[leader].replica();
    let bucket = make_bucket(replica, "bucket", Wait::Durable).await;
    cluster.wires.slow_down(8_000_000);
    let mut all = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (replica, file) = (Arc::clone(replica), large_directory(bucket, number));
        all.spawn(async move { replica.propose(file, Wait::Durable, 0).await });
    }
    for answer in all.join_all().await {
        answer.unwrap();
    }
}

/// The machine of a node that follows goes down and comes back: it has no vote that would depose the
/// leader. One that led has: ids it gave out may be gone. Who was elected after it stays the leader.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_who_led_has_a_higher_vote_after_its_machine_went_down() {
    let mut cluster = Cluster::of(3).await;
    make_bucket(cluster.nodes[0].replica(), "bucket", Wait::Durable).await;
    for node in &mut cluster.nodes {
        node.kill();
        node.options.boot_id = "boot-2".into();
    }
    for node in &cluster.nodes {
        let dir = StoreDir::new(Arc::new(node.disk.clone()), &node.options);
        let vote = || {
            let log = Log::open(Arc::clone(&dir.disk), &dir.log(), node.options.log, None);
            log.unwrap().ends().vote.unwrap()
        };
        let before = vote().leader_id;
        let (options, clock) = (&node.options, clock());
        let starter = Starter { dir: &dir, options, clock: &clock, progress: &|_| {} };
        starter.open(Box::new(|_: &[_], _| {})).unwrap();
        let led = u64::from(before.node_id == node.id);
        assert_eq!(vote().leader_id.term, before.term + led);
        if led == 1 {
            for successor in [node.id - 1, node.id + 1] {
                assert!(Vote::new_committed(before.term + 1, successor) > vote());
            }
        }
    }
}

impl Cluster {
    /// Cuts a leader's log behind the older of its two snapshots.
    pub async fn purge(&self, replica: &Replica) {
        let upto = replica.machine.purgeable().unwrap().unwrap();
        replica.machine.announce();
        replica.cluster.raft.trigger().snapshot().await.unwrap();
        let mut metrics = replica.cluster.raft.metrics();
        let known = metrics.wait_for(|metrics| metrics.snapshot.is_some_and(|at| at.index >= upto));
        tokio::time::timeout(PATIENCE, known).await.unwrap().unwrap();
        replica.cluster.raft.trigger().purge_log(upto).await.unwrap();
        let purged = metrics.wait_for(|metrics| metrics.purged.is_some());
        tokio::time::timeout(PATIENCE, purged).await.unwrap().unwrap();
    }

    /// Puts all nodes into the log, as they do themselves when they have their chunks.
    pub async fn enlist(&self, factor: u8) {
        let first = self.nodes[0].replica();
        let set = Mutation::SetReplicationFactor { factor };
        first.propose(set, Wait::Applied, 0).await.unwrap();
        for node in self.ids() {
            let (address, zone) = (format!("wire:{node}"), String::new());
            let record = NodeRecord { address, zone, weight: 1, state: NodeState::Active };
            first.propose(Mutation::SetNode { node, record }, Wait::Applied, 0).await.unwrap();
        }
    }

    /// Until exactly these are members, and all of them voters.
    pub async fn wait_for_members(&self, seen_by: usize, wanted: &[NodeId]) {
        let wanted = std::collections::BTreeSet::from_iter(wanted.iter().copied());
        let mut metrics = self.nodes[seen_by].replica().cluster.raft.metrics();
        let changed = metrics.wait_for(|metrics| {
            let membership = metrics.membership_config.membership();
            membership.get_joint_config() == std::slice::from_ref(&wanted)
                && membership.nodes().count() == wanted.len()
        });
        tokio::time::timeout(PATIENCE, changed).await.unwrap().unwrap();
    }
}
