//! A disk that fails, and one that is full.

use super::cluster::{Cluster, PATIENCE, large_directory};
use super::*;
use crate::chunk::{ChunkExtent, ChunkHeader, ChunkStore};
use crate::env::AlignedBuf;
use crate::error::{Class, Error};
use crate::meta::Request;
use crate::replication::copies::ChunkServer;
use crate::replication::members::ClusterStatus;
use crate::replication::peers::{Denied, Kind, Proposed, call};

/// > A failed sync is final: nothing is written after it
///
/// One failed sync and the node vouches for nothing more until it is started again.
#[tokio::test]
async fn a_failed_sync_is_final() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    make_bucket(&replica, "before", Wait::Durable).await;
    replica.log.settle();
    disk.fail_sync(1);
    let failed = replica.propose(bucket("during"), Wait::Durable, 0).await.unwrap_err();
    assert!(matches!(failed, Error::DiskFailed(_)), "{failed}");
    for wait in [Wait::Applied, Wait::Durable] {
        let refused = replica.propose(bucket("after"), wait, 0).await.unwrap_err();
        assert!(matches!(refused, Error::DiskFailed(_)), "{refused}");
        assert_eq!(refused.class(), Class::Operator);
    }
    assert!(matches!(replica.sync().await, Err(Error::DiskFailed(_))));
    assert!(replica.close().await.is_err());
    assert!(replica.status().disk_failed.is_some());
    // It can still be read.
    assert!(buckets(&replica).contains(&"before".to_string()));

    let disk = disk.crash(1);
    drop(replica);
    let replica = reopen(&Options { boot_id: "boot-2".into(), ..options }, &disk).await.unwrap();
    assert!(buckets(&replica).contains(&"before".to_string()));
    assert!(!buckets(&replica).contains(&"after".to_string()));
    make_bucket(&replica, "again", Wait::Durable).await;
}

#[tokio::test]
async fn a_failed_write_is_final() {
    let (disk, replica) = simulated(&memory()).await;
    replica.log.settle();
    disk.fail_write(1);
    let failed = replica.propose(bucket("lost"), Wait::Applied, 0).await.unwrap_err();
    assert!(matches!(failed, Error::DiskFailed(_)), "{failed}");
    assert!(matches!(replica.sync().await, Err(Error::DiskFailed(_))));
}

/// What fails below the chunks is as final as what fails below the log, and nobody was told.
#[tokio::test]
async fn a_failed_sync_of_a_chunk_is_a_failed_disk() {
    let (disk, replica) = simulated(&memory()).await;
    let own: Arc<dyn Disk> = Arc::new(disk.clone());
    let chunks = Arc::new(ChunkStore::open(own, Path::new("/data/chunks"), 0).unwrap());
    replica.serve_chunks(ChunkServer::new(Arc::clone(&chunks), Arc::clone(replica.table())));
    replica.log.settle();
    assert_eq!(replica.status().disk_failed, None);
    disk.fail_sync(1);
    let header = ChunkHeader {
        id: replica.next_chunk(),
        content: replica.next_content(),
        bucket: Ino(2),
        extents: vec![ChunkExtent { file_offset: 0, len: 9 }],
    };
    let failed = chunks.write(&header, &AlignedBuf::with_room(b"some text", 9)).unwrap_err();
    assert!(matches!(failed, Error::DiskFailed(_)), "{failed}");
    assert_eq!(replica.status().disk_failed, Some(failed.to_string()));
}

/// A member whose disk failed answers, and counted as healthy.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failed_disk_of_a_member_is_told_by_all() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (failing, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let until_told = async |cluster: &Cluster, is_so: &dyn Fn(&ClusterStatus) -> bool| {
        let told = async {
            loop {
                let status = cluster.nodes[other].replica().cluster_status().await;
                if is_so(&status) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap()
    };
    until_told(&cluster, &|status| status.healthy).await;
    cluster.nodes[failing].replica().log.settle();
    cluster.nodes[failing].disk.fail_sync(1);
    make_bucket(cluster.nodes[leader].replica(), "bucket", Wait::Durable).await;
    let names_it = format!("node {} at", cluster.nodes[failing].id);
    let told = until_told(&cluster, &|status| status.health.contains("the disk failed")).await;
    assert!(!told.healthy && told.health.contains(&names_it), "{}", told.health);
    // What it asks the others for it would never see.
    let replica = cluster.nodes[failing].replica();
    assert!(matches!(replica.barrier().await, Err(Error::DiskFailed(_))));
    let refused = replica.propose(bucket("refused"), Wait::Applied, 0).await.unwrap_err();
    assert!(matches!(refused, Error::DiskFailed(_)), "{refused}");
    cluster.nodes[failing].kill();
    cluster.nodes[failing].start().await;
    assert_eq!(buckets(cluster.nodes[failing].replica()), ["bucket"]);
    until_told(&cluster, &|status| status.healthy).await;
}

/// Without room for more log, changes are refused before they are made; with room, they go on.
#[tokio::test]
async fn a_full_disk_refuses_changes_and_recovers() {
    let (disk, replica) = simulated(&memory()).await;
    replica.log.settle();
    disk.set_capacity(1);
    let mut made = 0;
    let refused = loop {
        match replica.propose(bucket(&format!("bucket-{made}")), Wait::Applied, 0).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace), "{refused}");
    assert!(made > 100, "{made}");
    assert_eq!(buckets(&replica).len(), made);
    replica.sync().await.unwrap();
    disk.set_capacity(1 << 30);
    // The segment that could not be made is being made.
    while replica.propose(bucket("with-room"), Wait::Durable, 0).await.is_err() {}
    assert_eq!(buckets(&replica).len(), made + 1);
}

/// Whatever call fails while a store is opened: it says so, and opens the next time.
#[tokio::test]
async fn a_failing_start_breaks_nothing() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    make_bucket(&replica, "kept", Wait::Durable).await;
    drop(replica);
    let mut call = 1;
    loop {
        let disk = disk.kill();
        disk.fail_call(call);
        let before = disk.calls();
        let opened = reopen(&options, &disk).await;
        let over = opened.is_ok() && disk.calls() < before + call;
        drop(opened);
        let replica = reopen(&options, &disk.kill()).await.unwrap();
        assert_eq!(buckets(&replica), ["kept"], "call {call}");
        if over {
            break;
        }
        call += 1;
    }
    assert!(call > 30, "{call} calls");
}

/// A member without room for more log says so, and goes on when it has room; the others do without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_of_a_member_stops_nobody_for_good() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (replica, full) = (cluster.nodes[leader].replica(), &cluster.nodes[(leader + 1) % 3]);
    let parent = make_bucket(replica, "bucket", Wait::Durable).await;
    full.replica().barrier().await.unwrap();
    full.replica().log.settle();
    full.disk.set_capacity(1);
    // More than the segment that is written and the next one, which is there.
    for number in 0..40 {
        replica.propose(large_directory(parent, number), Wait::Durable, 0).await.unwrap();
    }
    assert_eq!(full.replica().status().disk_failed, None);
    full.disk.set_capacity(1 << 40);
    full.replica().barrier().await.unwrap();
    assert_eq!(records(full.replica()).len(), records(replica).len());
    make_bucket(full.replica(), "after", Wait::Durable).await;
    assert_eq!(full.replica().status().disk_failed, None);
}

/// What a node proposes in one message may go into several entries of the leader's log, of which only some
/// have room. It is told that nothing was done only when nothing was.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_room_is_told_of_what_was_not_done() {
    let cluster = Cluster::of(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (replica, asks) =
        (cluster.nodes[leader].replica(), cluster.nodes[(leader + 1) % 3].replica());
    let parent = make_bucket(replica, "bucket", Wait::Durable).await;
    replica.log.settle();
    cluster.nodes[leader].disk.set_capacity(1);
    let mut refused = 0;
    for message in 0..20 {
        // Three entries, which take more than a segment.
        let names: Vec<usize> = (0..8).map(|place| message * 8 + place).collect();
        let requests: Vec<Request> =
            names.iter().map(|name| asks.book().request(large_directory(parent, *name))).collect();
        let (transport, to) = (&*asks.cluster.transport, cluster.nodes[leader].id);
        let within = Duration::from_secs(9);
        let asked: Result<std::result::Result<Proposed, Denied>> =
            call(transport, to, Kind::Propose, &requests, within).await;
        if matches!(asked.unwrap(), Err(Denied::NoSpace)) {
            let made = replica.table().view().children(parent, None, 999).unwrap();
            let is_there =
                |name: &usize| made.iter().any(|(it, _)| it.to_string() == name.to_string());
            assert!(!names.iter().any(is_there), "message {message}");
            refused += 1;
        }
    }
    assert!(refused > 0);
}
