//! A node of three is down for a while, and comes back while the others go on writing. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use support::cluster::Cluster;
use support::mounts::own_namespace;
use support::rng::number;
use support::wait::{now, pause, until};
use support::writers::Writer;

const LIMIT: Duration = Duration::from_secs(120);
const NODES: usize = 3;
/// Entries and copies that a node without a fault may be late by while others write.
const ALMOST: u64 = 100;

/// > A node that was away for long catches up by itself while the others go on writing
///
/// With `BUCKETFS_AWAY=600` it is away for ten minutes, in which the log is cut: it gets a snapshot.
#[test]
fn a_node_that_was_away_catches_up_under_load() {
    own_namespace();
    let mut cluster = Cluster::start("away", NODES);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    let leader = until("there is a leader", LIMIT, || cluster.leader(0));
    let away = (leader + 1) % NODES;
    cluster.kill(away);
    let others = || (0..NODES).filter(|place| *place != away);
    let writer = |place| Writer::start_over(cluster.mount(place), place, 500);
    let writers: Vec<Writer> = others().map(writer).collect();
    let count = || writers.iter().map(Writer::count).sum::<u64>();
    let time = Duration::from_secs(number("BUCKETFS_AWAY", 3));
    pause(time);
    let (missed, begun) = (count(), now());
    cluster.restart(away);
    let mut told = Duration::ZERO;
    until("the node has caught up under load", LIMIT + time, || {
        pause(Duration::from_millis(100));
        let (lag, wanting) = behind(&cluster, leader, away)?;
        if begun.elapsed() > told + Duration::from_secs(5) {
            told = begun.elapsed();
            println!("  {told:.0?}: {lag} entries behind, {wanting} copies wanting");
        }
        (lag < ALMOST && wanting < ALMOST).then_some(())
    });
    let (meanwhile, caught_up) = (count() - missed, begun.elapsed());
    println!(
        "away for {time:?} and {missed} files, back within {caught_up:?} and {meanwhile} files"
    );
    assert!(meanwhile > 10, "the others wrote {meanwhile} files while it caught up");
    let mut acknowledged = BTreeMap::new();
    for writer in writers {
        assert_eq!(writer.failed(), 0, "nothing has happened to them");
        acknowledged.extend(writer.finish().acknowledged);
    }
    (0..NODES).for_each(|place| cluster.require(place, &acknowledged));
    until("every copy is made", LIMIT, || {
        pause(Duration::from_millis(100));
        (behind(&cluster, leader, away)?.1 == 0).then_some(())
    });
}

/// By how many entries the node `place` is behind, and how many copies it wants, as `asked` sees it.
fn behind(cluster: &Cluster, asked: usize, place: usize) -> Option<(u64, u64)> {
    let (status, id) = (cluster.status(asked), cluster.id(place)?);
    let of = |list: &str, what: &str| {
        let all = status[list].as_array()?.iter();
        all.filter(|one| one["node"] == id).find_map(|one| one[what].as_u64())
    };
    Some((of("members", "lag")?, of("places", "wanting")?))
}
