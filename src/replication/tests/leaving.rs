//! Members that leave their cluster: drained, lost, before they were whole members; and what they
//! must not lose.

use std::path::PathBuf;

use super::cluster::{Cluster, PATIENCE};
use super::*;
use crate::error::Error;
use crate::meta::{NodeRecord, NodeState};
use crate::replication::MemberStatus;
use crate::replication::peers::Credentials;
use crate::replication::store::NodeFile;
use crate::types::NodeId;

/// A drained node leaves, leader or not; a learner takes its place; it has no say any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_voter_is_replaced() {
    for removes_leader in [false, true] {
        let cluster = Cluster::of(4).await;
        cluster.enlist(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let leaving = if removes_leader { leader } else { (leader + 1) % 3 };
        let ids = cluster.ids();
        let asked = cluster.nodes[3].replica();
        let refused = |result: Result<()>, why: &str| {
            let error = result.unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        };
        refused(asked.remove_node(ids[leaving], false).await, "first");
        refused(asked.remove_node(ids[3], false).await, "itself");
        refused(asked.remove_node(99, true).await, "no node 99");
        refused(asked.set_draining(99, NodeState::Draining).await, "no node 99");
        asked.set_draining(ids[leaving], NodeState::Draining).await.unwrap();
        refused(asked.set_draining(ids[3], NodeState::Draining).await, "join first");
        asked.remove_node(ids[leaving], false).await.unwrap();

        let left: Vec<NodeId> = ids.iter().copied().filter(|id| *id != ids[leaving]).collect();
        let others: Vec<usize> = (0..4).filter(|place| *place != leaving).collect();
        cluster.wait_for_members(3, &left).await;
        make_bucket(asked, "after", Wait::Durable).await;
        let gone = cluster.nodes[leaving].replica();
        // A leader may finish what it began before it steps down.
        cluster.leader(&others).await;
        let proposed = gone.propose(bucket("gone"), Wait::Durable, 0);
        let answered = tokio::time::timeout(Duration::from_secs(3), proposed).await;
        assert!(!matches!(answered, Ok(Ok(_))), "{removes_leader} {answered:?}");
        asked.barrier().await.unwrap();
        assert_eq!(buckets(asked), ["after"]);
        let told = tokio::time::timeout(PATIENCE, gone.until_removed()).await.unwrap();
        assert!(told.to_string().contains("was removed"), "{told}");
        refused(asked.set_draining(ids[leaving], NodeState::Active).await, "no node");
    }
}

/// A node that is lost is removed without being asked; one that answers is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_lost_node_is_removed() {
    let mut cluster = Cluster::of(3).await;
    cluster.enlist(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (lost, asked) = ((leader + 1) % 3, (leader + 2) % 3);
    let ids = cluster.ids();
    let heard = async {
        let is_heard = |member: &MemberStatus| member.node == ids[lost] && member.is_heard();
        while !cluster.nodes[asked].replica().cluster_status().await.members.iter().any(is_heard) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
    let refused = cluster.nodes[asked].replica().remove_node(ids[lost], true).await.unwrap_err();
    assert!(refused.to_string().contains("answers"), "{refused}");
    cluster.nodes[lost].kill();
    let asked = cluster.nodes[asked].replica();
    let removed = async {
        while asked.remove_node(ids[lost], true).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.unwrap();
    let left: Vec<NodeId> = ids.iter().copied().filter(|id| *id != ids[lost]).collect();
    cluster.wait_for_members(leader, &left).await;
    make_bucket(asked, "after", Wait::Durable).await;
}

/// A leader that was just elected has heard nobody yet: that is no proof that a node is lost. The
/// node that is asked cannot reach it either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_node_counts_as_lost_for_a_new_leader() {
    let mut cluster = Cluster::of(5).await;
    cluster.enlist(3).await;
    let old = cluster.leader(&[0, 1, 2, 3, 4]).await;
    cluster.nodes[old].kill();
    let left: Vec<usize> = (0..5).filter(|place| *place != old).collect();
    let new = cluster.leader(&left).await;
    let others: Vec<usize> = left.into_iter().filter(|place| *place != new).collect();
    let (asked, alive, ids) = (others[0], others[1], cluster.ids());
    cluster.wires.isolate(ids[alive], &[ids[asked]]);
    let refused = cluster.nodes[asked].replica().remove_node(ids[alive], true).await.unwrap_err();
    let refused = refused.to_string();
    assert!(refused.contains("ask again in 6 s") || refused.contains("answers"), "{refused}");
    cluster.wires.heal();
    let refused = cluster.nodes[asked].replica().remove_node(ids[alive], true).await.unwrap_err();
    assert!(refused.to_string().contains("answers"), "{refused}");
}

/// A machine dies after it has become a member and before it has enlisted: it can be removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_that_never_enlisted_is_removed() {
    let mut cluster = Cluster::of(3).await;
    cluster.enlist(3).await;
    cluster.join(7).await;
    let ids = cluster.ids();
    cluster.nodes[3].kill();
    let asked = cluster.nodes[0].replica();
    let removed = async {
        loop {
            match asked.remove_node(7, true).await {
                Ok(()) => return,
                Err(error) => assert!(!error.to_string().contains("no node"), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.unwrap();
    cluster.wait_for_members(0, &ids[..3]).await;
}

/// A member without its authority would make another one over it, which nobody else has.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_member_makes_no_authority_of_its_own() {
    let mut cluster = Cluster::of(3).await;
    let peers = PathBuf::from("/store/peers");
    for lost in ["authority.key", "authority.pem"] {
        let node = &mut cluster.nodes[2];
        node.kill();
        let kept = Credentials::load(&node.disk, Path::new("/store")).unwrap().unwrap();
        node.disk.remove(&peers.join(lost)).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(node.disk.clone());
        let refused = open(&node.options, &disk).await.map(|_| ()).unwrap_err();
        assert!(matches!(&refused, Error::Store(why) if why.contains("copy peers/")), "{refused}");
        assert!(Credentials::load(&node.disk, Path::new("/store")).unwrap().is_none());
        kept.save(&node.disk, Path::new("/store")).unwrap();
        node.start().await;
    }
}

/// Joining is interrupted wherever it can be: a store that counts as made has the cluster's secrets.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_has_joined_has_the_secrets_of_its_cluster() {
    let cluster = "0".repeat(32);
    let credentials = Credentials::generate(&cluster).unwrap();
    let secrets = [("secrets.key".to_owned(), b"what all nodes have".to_vec())];
    let mut interrupted = 0;
    for call in 1.. {
        let sim = SimDisk::new();
        sim.fail_call(call);
        let join = async |sim: &SimDisk| -> Result<NodeFile> {
            let (name, disk) = ((7, cluster.clone()), Arc::new(sim.clone()));
            let contacts = [(1, "wire:1".to_owned())];
            let made = Replica::init_joined(
                memory(),
                name,
                &credentials,
                &contacts,
                &secrets,
                disk,
                clock(),
            );
            made.await
        };
        let first = join(&sim).await;
        let has = |name: &str| {
            let found = sim.list(Path::new("/store")).unwrap_or_default();
            found.iter().any(|entry| entry.name == name)
        };
        if first.is_err() && !has("node.json") {
            interrupted += 1;
            join(&sim).await.unwrap();
        }
        assert!(has("node.json") && has("secrets.key"), "after a failure of call {call}");
        if first.is_ok() {
            break;
        }
    }
    assert!(interrupted > 20, "{interrupted}");
}

/// Whether its sender was removed is asked of each message. While a snapshot was loaded the answer had
/// to wait for the table, and with it all threads that messages come in on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_removed_is_known_while_a_snapshot_is_loaded() {
    let cluster = Cluster::of(3).await;
    cluster.enlist(3).await;
    let replica = Arc::clone(cluster.nodes[0].replica());
    let record = NodeRecord { state: NodeState::Gone, ..NodeRecord::enlisting("wire:9", "") };
    replica.propose(Mutation::SetNode { node: 9, record }, Wait::Applied, 0).await.unwrap();
    let (begun, begins) = std::sync::mpsc::channel();
    let (end, ends) = std::sync::mpsc::channel::<()>();
    let table = Arc::clone(replica.table());
    let loading = std::thread::spawn(move || {
        let mut records = std::iter::from_fn(|| {
            begun.send(()).unwrap();
            // Nobody sends anything: the other end is dropped.
            let _ = ends.recv();
            None
        });
        table.load(&mut records).unwrap();
    });
    begins.recv().unwrap();
    let asking = Arc::clone(&replica);
    let asked = std::thread::spawn(move || [9, 1].map(|node| asking.cluster.is_gone(node)));
    let limit = async {
        while !asked.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), limit).await;
    drop(end);
    loading.join().unwrap();
    in_time.expect("the answer waited for the snapshot");
    assert_eq!(asked.join().unwrap(), [true, false]);
}
