//! Sessions end when their node is silent, and only then: a leader that hears nobody because it was cut
//! off, or stood still, ends none.

use std::sync::Arc;

use super::cluster::{Cluster, PATIENCE};
use super::*;
use crate::env::SimClock;
use crate::types::SessionId;

/// Real time between two looks; four times as much passes for the nodes.
const STEP: Duration = Duration::from_millis(50);

async fn pass(clock: &SimClock, time: Duration) {
    for _ in 0..time.as_millis() / (4 * STEP).as_millis() {
        clock.advance(4 * STEP);
        tokio::time::sleep(STEP).await;
    }
}

fn sessions(cluster: &Cluster, of: &[usize]) -> Vec<SessionId> {
    of.iter().map(|place| cluster.nodes[*place].replica().session()).collect()
}

async fn cluster() -> (Arc<SimClock>, Cluster) {
    let clock = Arc::new(SimClock::new(1));
    let cluster = Cluster::of_with(3, memory(), clock.clone()).await;
    (clock, cluster)
}

/// What a leader decided about the others while it was cut off is not carried out by the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_was_cut_off_ends_no_session() {
    let (clock, cluster) = cluster().await;
    let (ids, leader) = (cluster.ids(), cluster.leader(&[0, 1, 2]).await);
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let before = sessions(&cluster, &others);
    cluster.wires.isolate(ids[leader], &ids);
    // The next leader begins to listen later, and does not end the session of the one before it yet.
    tokio::join!(cluster.leader(&others), pass(&clock, Duration::from_secs(14)));
    pass(&clock, Duration::from_secs(10)).await;
    cluster.wires.heal();
    let returned = cluster.nodes[leader].replica();
    while returned.propose(bucket("healed"), Wait::Durable, 0).await.is_err() {}
    for place in 0..3 {
        cluster.nodes[place].replica().barrier().await.unwrap();
    }
    pass(&clock, Duration::from_secs(4)).await;
    assert_eq!(sessions(&cluster, &others), before);
    let table = returned.table();
    for (id, session) in table.view().sessions().unwrap() {
        assert!(!before.contains(&id) || !session.is_ended(), "{id:?}");
    }
}

/// A leader whose messages arrive and that hears no answer was followed for as long as it lived: nothing was
/// acknowledged any more, to anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_that_hears_nobody_is_replaced() {
    let (_, cluster) = cluster().await;
    let (ids, leader) = (cluster.ids(), cluster.leader(&[0, 1, 2]).await);
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    cluster.wires.deafen(ids[leader], &ids);
    let next = cluster.leader(&others).await;
    make_bucket(cluster.nodes[next].replica(), "without", Wait::Durable).await;
    cluster.wires.heal();
    let healed = cluster.nodes[leader].replica();
    let heard = async {
        while healed.barrier().await.is_err() {}
        make_bucket(healed, "again", Wait::Durable).await;
    };
    tokio::time::timeout(PATIENCE, heard).await.unwrap();
}

/// All of them stand still, as on a machine that is moved: nobody was silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pause_of_all_ends_no_session() {
    let (clock, cluster) = cluster().await;
    let before = sessions(&cluster, &[0, 1, 2]);
    // Everybody is heard.
    pass(&clock, Duration::from_secs(12)).await;
    clock.advance(Duration::from_secs(25));
    pass(&clock, Duration::from_secs(12)).await;
    make_bucket(cluster.nodes[0].replica(), "after", Wait::Durable).await;
    assert_eq!(sessions(&cluster, &[0, 1, 2]), before);
}

/// One that is silent loses its session, as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_silent_node_loses_its_session() {
    let (clock, cluster) = cluster().await;
    let (ids, leader) = (cluster.ids(), cluster.leader(&[0, 1, 2]).await);
    let silent = (leader + 1) % 3;
    let lost = cluster.nodes[silent].replica().session();
    cluster.wires.isolate(ids[silent], &ids);
    let table = cluster.nodes[leader].replica().table();
    let lives = || {
        let sessions = table.view().sessions().unwrap();
        sessions.iter().any(|(id, session)| *id == lost && !session.is_ended())
    };
    assert!(lives());
    let ends = async {
        while lives() {
            pass(&clock, Duration::from_secs(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.unwrap();
}
