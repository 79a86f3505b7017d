//! Clusters over the real transport: of nodes of this version and the one before, of one that moves, of one
//! that was removed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::*;
use crate::error::Error;
use crate::meta::NodeRecord;
use crate::replication::peers::{
    self, About, Credentials, Denied, Kind, PROTOCOL, PeerSettings, Peers, Transport,
};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_of_this_version_and_of_the_one_before_are_one_cluster() {
    upgrade_from(PROTOCOL - 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nodes_of_this_version_and_of_the_first_are_one_cluster() {
    upgrade_from(1).await;
}

/// An old cluster is upgraded node by node: each version leads, follows, proposes and reads.
async fn upgrade_from(old: u16) {
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
    // Those of the first version do not know the question.
    let is_known = old >= Kind::About.since();
    let known = third.replica.versions().await;
    assert_eq!(known.len(), if is_known { 3 } else { 1 });
    let own = known.iter().find(|known| known.node == 3);
    assert_eq!(own.map(|own| &own.about), Some(&About::this()));

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
    assert_eq!(known.len(), if is_known { 3 } else { 2 });
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

/// What node `id` can still say when somebody has its disk.
async fn voice_of(id: NodeId, disk: &dyn Disk, others: &[&Member]) -> Arc<dyn Transport> {
    let credentials = Credentials::load(disk, Path::new("/store")).unwrap().unwrap();
    let cluster = others[0].replica.status().cluster;
    let peers = speaking(PROTOCOL, ANYWHERE).peers.unwrap();
    let transport = peers.plug(&cluster, id, &credentials).await.unwrap().transport;
    for other in others {
        transport.learn(other.replica.node(), other.replica.address());
    }
    transport
}

/// Its certificate is good for ever: it is by its number that a node that was removed is refused, by each
/// of the others. Only what a leader has begun to order is taken, so that it can step down.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removed_node_is_refused_by_the_others() {
    const WITHIN: Duration = Duration::from_secs(10);
    let first = Member::found(PROTOCOL).await;
    let second = Member::join(&first, 2, PROTOCOL).await;
    let third = Member::join(&first, 3, PROTOCOL).await;
    wait_for("three voters", || voters(&first.replica) == 3).await;
    // It is silent when it is gone, not when it has stopped.
    let Member { disk, replica, .. } = third;
    replica.stop().await.unwrap();
    drop(replica);
    let others = [&first, &second];
    let voice = voice_of(3, &*disk, &others).await;
    let ask = async |to: &Member, kind| -> Result<Result<(), Denied>> {
        let asked: Result<Result<About, Denied>> =
            peers::call(&*voice, to.replica.node(), kind, &(), WITHIN).await;
        asked.map(|answer| answer.map(|_| ()))
    };
    for other in others {
        assert_eq!(ask(other, Kind::About).await.unwrap(), Ok(()), "it is a member");
    }
    let mut refusal = String::new();
    let removed = async {
        while let Err(error) = first.replica.remove_node(3, true).await {
            refusal = error.to_string();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let removed = tokio::time::timeout(PATIENCE, removed).await;
    assert!(removed.is_ok(), "it is not removed: {refusal}");
    for other in others {
        other.replica.barrier().await.unwrap();
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Append) {
            match ask(other, kind).await {
                Ok(Err(Denied::Refused(why))) | Err(Error::Unreachable(why)) => {
                    assert!(why.contains("was removed from the cluster"), "{kind:?}: {why}");
                }
                answered => panic!("{kind:?} was answered: {answered:?}"),
            }
        }
    }
}

/// The table of nodes says where a node was when it enlisted. Asked whether it is lost, the others
/// learned that address anew, and did not reach it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_moved_is_not_forgotten_when_it_is_called_lost() {
    let first = Member::found(PROTOCOL).await;
    let second = Member::join(&first, 2, PROTOCOL).await;
    let third = Member::join(&first, 3, PROTOCOL).await;
    wait_for("three voters", || voters(&first.replica) == 3).await;
    let record = NodeRecord::enlisting(third.replica.address(), "");
    let enlist = Mutation::SetNode { node: 3, record };
    third.replica.propose(enlist, Wait::Durable, 0).await.unwrap();
    let Member { disk, replica, options } = third;
    let before = replica.address().to_owned();
    replica.stop().await.unwrap();
    drop(replica);
    let options = Options { peers: speaking(PROTOCOL, ANYWHERE).peers, ..options };
    let third = open(&options, &disk).await.unwrap();
    assert_ne!(third.address(), before);
    let found = (3, third.address().to_owned());
    wait_for("new address", || second.replica.cluster.members().contains(&found)).await;
    second.replica.barrier().await.unwrap();
    let refused = second.replica.remove_node(3, true).await.unwrap_err();
    assert!(refused.to_string().contains("answers"), "{refused}");
    let way = &*second.replica.cluster.transport;
    let told: Result<Result<About, Denied>> =
        peers::call(way, 3, Kind::About, &(), Duration::from_secs(5)).await;
    assert_eq!(told.unwrap(), Ok(About::this()));
}
