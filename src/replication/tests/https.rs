//! Clusters over the real transport: of nodes of this version and the one before, and of one that moves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::replication::peers::{About, Credentials, PROTOCOL, PeerSettings, Peers};
use crate::types::NodeId;

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

struct Member {
    disk: Arc<dyn Disk>,
    options: Options,
    replica: Arc<Replica>,
}

/// Of a node that listens there and knows messages up to `protocol`.
fn speaking(protocol: u16, listen: SocketAddr) -> Options {
    let peers = Peers::Https(PeerSettings { listen, address: None, protocol });
    Options { peers: Some(peers), ..memory() }
}

impl Member {
    async fn found(protocol: u16) -> Self {
        let (options, disk) =
            (speaking(protocol, ANYWHERE), Arc::new(SimDisk::new()) as Arc<dyn Disk>);
        init(&options, &disk).await.unwrap();
        let replica = open(&options, &disk).await.unwrap();
        Self { disk, options, replica }
    }

    async fn join(first: &Self, id: NodeId, protocol: u16) -> Self {
        let (options, disk) =
            (speaking(protocol, ANYWHERE), Arc::new(SimDisk::new()) as Arc<dyn Disk>);
        let credentials = Credentials::load(&*first.disk, &first.options.data_dir);
        let credentials = credentials.unwrap().unwrap();
        let name = first.replica.status().cluster;
        let contacts = [(first.replica.node(), first.replica.address().to_owned())];
        let own = Arc::clone(&disk);
        Replica::init_joined(
            options.clone(),
            (id, name),
            &credentials,
            &contacts,
            &[],
            own,
            clock(),
        )
        .await
        .unwrap();
        let replica = open(&options, &disk).await.unwrap();
        Self { disk, options, replica }
    }
}

async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no {what}"));
}

fn voters(replica: &Replica) -> usize {
    let metrics = replica.cluster.raft.metrics();
    let membership = &metrics.borrow().membership_config;
    membership.membership().voter_ids().count()
}

/// An old cluster is upgraded node by node: each version leads, follows, proposes and reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_of_this_version_and_of_the_one_before_are_one_cluster() {
    let old = PROTOCOL - 1;
    let mut first = Member::found(old).await;
    let second = Member::join(&first, 2, old).await;
    let third = Member::join(&first, 3, PROTOCOL).await;
    wait_for("three voters", || voters(&first.replica) == 3).await;
    for (member, name) in [(&first, "by-old"), (&second, "by-other"), (&third, "by-new")] {
        make_bucket(&member.replica, name, Wait::Durable).await;
    }
    for member in [&first, &second, &third] {
        member.replica.barrier().await.unwrap();
        assert_eq!(buckets(&member.replica), ["by-new", "by-old", "by-other"]);
    }
    // The old ones do not know the question.
    let known = third.replica.versions().await;
    assert_eq!(known.iter().map(|known| known.node).collect::<Vec<_>>(), [3]);
    assert_eq!(known[0].about, About::this());

    // The first, which leads, is stopped and comes back as the new version.
    assert!(first.replica.leads());
    let Member { disk, replica, .. } = first;
    let address = replica.address().to_owned();
    replica.stop().await.unwrap();
    drop(replica);
    wait_for("other leader", || second.replica.leads() || third.replica.leads()).await;
    make_bucket(&second.replica, "meanwhile", Wait::Durable).await;
    let options = speaking(PROTOCOL, address.parse().unwrap());
    let replica = open(&options, &disk).await.unwrap();
    first = Member { disk, options, replica };
    make_bucket(&first.replica, "upgraded", Wait::Durable).await;
    for member in [&first, &second, &third] {
        member.replica.barrier().await.unwrap();
        assert_eq!(buckets(&member.replica).len(), 5);
    }
    let known = third.replica.versions().await;
    assert_eq!(known.iter().filter(|known| known.node != 3).count(), 1);
}

/// A node that comes back at another address cannot be found by the leader: it tells the others where
/// it is, before it hears anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_moved_is_found_again() {
    let first = Member::found(PROTOCOL).await;
    let second = Member::join(&first, 2, PROTOCOL).await;
    let third = Member::join(&first, 3, PROTOCOL).await;
    wait_for("three voters", || voters(&first.replica) == 3).await;
    let mut moved = Vec::new();
    for Member { disk, replica, options } in [third, first] {
        let (id, before) = (replica.node(), replica.address().to_owned());
        replica.stop().await.unwrap();
        drop(replica);
        let options = Options { peers: speaking(PROTOCOL, ANYWHERE).peers, ..options };
        let replica = tokio::time::timeout(PATIENCE, open(&options, &disk)).await;
        let replica = replica.expect("it starts in time").unwrap();
        assert_ne!(replica.address(), before);
        make_bucket(&replica, &format!("of-{id}"), Wait::Durable).await;
        let found = (id, replica.address().to_owned());
        wait_for("new address", || second.replica.cluster.members().contains(&found)).await;
        moved.push(replica);
    }
}
