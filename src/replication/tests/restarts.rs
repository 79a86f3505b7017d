//! A leader that was killed and is back before anybody misses it leads on in the same term.

use super::cluster::{Cluster, PATIENCE, large_directory};
use super::*;
use crate::replication::peers::Kind;

/// It does not know what it has answered: a read elsewhere has to see it all the same.
///
/// The last change is on the leader and on one other node. That one is gone when the leader comes back, so
/// that it is confirmed by the third, which has all but that change.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_barrier_sees_what_a_killed_leader_had_answered() {
    let mut cluster = Cluster::of(3).await;
    let ids = cluster.ids();
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (witness, reader) = ((leader + 1) % 3, (leader + 2) % 3);
    let parent = make_bucket(cluster.nodes[leader].replica(), "bucket", Wait::Durable).await;
    cluster.nodes[reader].replica().barrier().await.unwrap();

    cluster.wires.isolate(ids[reader], &ids);
    let replica = cluster.nodes[leader].replica();
    replica.propose(large_directory(parent, 1), Wait::Durable, 0).await.unwrap();
    cluster.nodes[leader].kill();
    cluster.wires.isolate(ids[witness], &ids);
    cluster.wires.reconnect(ids[reader], ids[leader]);
    cluster.wires.hold_long(Kind::Append, 30_000);
    let returned = tokio::spawn(cluster.nodes[leader].opening());

    let replica = cluster.nodes[reader].replica().clone();
    let read = tokio::spawn(async move {
        replica.barrier().await.unwrap();
        replica.table().view().children(parent, None, 9).unwrap().len()
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    cluster.wires.hold(None);
    assert_eq!(tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap(), 1);
    cluster.wires.heal();
    tokio::time::timeout(PATIENCE, returned).await.unwrap().unwrap().unwrap();
}
