//! Proposals: their order, their groups, and that each has one effect and one answer.

use std::sync::Arc;

use parking_lot::Mutex;

use super::*;
use crate::error::Error;
use crate::meta::{Change, Refusal};
use crate::replication::combiner::entry_limit;
use crate::types::{ChunkId, SessionId};

/// Those who wait for the disk share syncs; those who do not cause none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_durable_proposals_share_few_syncs() {
    let (disk, replica) = simulated(&memory()).await;
    replica.log.settle();
    let before = disk.syncs();
    for number in 0..50 {
        make_bucket(&replica, &format!("applied-{number}"), Wait::Applied).await;
    }
    assert_eq!(disk.syncs(), before);
    replica.sync().await.unwrap();
    assert_eq!(disk.syncs(), before + 1);

    let tasks: Vec<_> = (0..400)
        .map(|number| {
            let replica = Arc::clone(&replica);
            tokio::spawn(async move {
                make_bucket(&replica, &format!("durable-{number}"), Wait::Durable).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let syncs = disk.syncs() - before - 1;
    assert!((1..=200).contains(&syncs), "{syncs} syncs for 400 durable proposals");
    let disk = disk.crash(5);
    drop(replica);
    let options = Options { boot_id: "boot-2".into(), ..memory() };
    let replica = reopen(&options, &disk).await.unwrap();
    assert_eq!(buckets(&replica).len(), 450);
}

#[tokio::test]
async fn the_listener_hears_changes_with_their_origin() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    drop(replica);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    let listener = Box::new(move |changes: &[Change], origin: u32| {
        sink.lock().extend(changes.iter().map(|change| (change.clone(), origin)));
    });
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let opened = Replica::open(options, disk, clock(), &|_| {}, listener).await;
    let replica = opened.unwrap();
    heard.lock().clear();
    replica.propose(bucket("one"), Wait::Applied, 7).await.unwrap();
    let entry = Change::Entry { parent: Ino::ROOT, name: FileName::new(b"one").unwrap() };
    assert!(heard.lock().contains(&(entry, 7)), "{:?}", heard.lock());
    heard.lock().clear();
    replica.propose(bucket("one"), Wait::Applied, 7).await.unwrap_err();
    assert!(heard.lock().is_empty());
    replica.propose(bucket("two"), Wait::Applied, 0).await.unwrap();
    assert!(heard.lock().iter().all(|(_, origin)| *origin == 0));
}

/// > A change made twice has one effect and twice the same answer
///
/// The same request twice has one effect and twice the same answer.
#[tokio::test]
async fn a_repeated_request_is_answered_again_and_not_done_again() {
    let (_disk, replica) = simulated(&memory()).await;
    let request = replica.book().request(bucket("once"));
    let again = request.clone();
    let first = replica.proposer.submit(request, Wait::Applied).await.unwrap();
    let inodes = replica.table().view().superblock().unwrap().unwrap().inodes;
    let second = replica.proposer.submit(again, Wait::Applied).await.unwrap();
    assert_eq!(first.outcome, second.outcome);
    assert_eq!(replica.table().view().superblock().unwrap().unwrap().inodes, inodes);
}

async fn abort(replica: &Replica, sequence: u64) -> Outcome {
    let request = replica.book().request(Mutation::Abort { sequence });
    replica.proposer.submit(request, Wait::Applied).await.unwrap().outcome
}

/// Asked about a sequence that was never applied, `Abort` makes sure that it never is; asked about
/// one that was, it gives its answer.
#[tokio::test]
async fn an_abort_makes_the_fate_definite() {
    let (_disk, replica) = simulated(&memory()).await;
    let late = replica.book().request(bucket("late"));
    let aborted = abort(&replica, late.id.sequence).await;
    assert_eq!(aborted, Outcome::Refused(Refusal::Aborted));
    let arrived = replica.proposer.submit(late, Wait::Applied).await.unwrap();
    assert_eq!(arrived.outcome, Outcome::Refused(Refusal::Aborted));
    assert!(buckets(&replica).is_empty());

    // Keep an older sequence open, so that this one's outcome is not dropped.
    let open = replica.book().request(bucket("open"));
    let done = replica.book().request(bucket("done"));
    let sequence = done.id.sequence;
    let answered = replica.proposer.submit(done, Wait::Applied).await.unwrap();
    assert_eq!(abort(&replica, sequence).await, answered.outcome);
    replica.book().settle(open.id);
}

/// What is settled is dropped from the table and can never be applied again.
#[tokio::test]
async fn settled_outcomes_go_and_late_copies_are_fenced() {
    let (_disk, replica) = simulated(&memory()).await;
    let first = replica.book().request(bucket("first"));
    let copy = first.clone();
    replica.proposer.submit(first, Wait::Applied).await.unwrap();
    for number in 0..20 {
        make_bucket(&replica, &format!("next-{number}"), Wait::Applied).await;
    }
    let late = replica.proposer.submit(copy, Wait::Applied).await.unwrap();
    assert_eq!(late.outcome, Outcome::Refused(Refusal::Fenced));
    let outcomes = records(&replica).iter().filter(|(key, _)| key[0] == b'r').count();
    assert!(outcomes <= 2, "{outcomes} outcomes are kept");
}

#[tokio::test]
async fn ids_never_come_twice_and_old_sessions_are_ended() {
    let options = memory();
    let (disk, replica) = simulated(&options).await;
    let (session, chunk) = (replica.session(), replica.next_chunk());
    assert_eq!(chunk, ChunkId { session, counter: 1 });
    assert_ne!(replica.next_content(), replica.next_content());
    let late = replica.book().request(bucket("late"));
    let disk = disk.kill();
    drop(replica);

    let replica = reopen(&options, &disk).await.unwrap();
    assert!(replica.session() > session);
    let sessions: Vec<SessionId> =
        replica.table().view().sessions().unwrap().into_iter().map(|(id, _)| id).collect();
    assert_eq!(sessions, [replica.session()]);
    let fenced = replica.proposer.submit(late, Wait::Applied).await.unwrap();
    assert_eq!(fenced.outcome, Outcome::Refused(Refusal::Fenced));
    replica.close().await.unwrap();
    let closed = replica.propose(bucket("closed"), Wait::Applied, 0).await;
    assert!(closed.is_err());
}

#[tokio::test]
async fn a_change_that_no_entry_can_hold_is_refused_at_once() {
    let (_disk, replica) = simulated(&memory()).await;
    let limit = entry_limit(&replica.log);
    let open = |bytes| Mutation::OpenSession { node: 1, address: "x".repeat(bytes), nonce: 1 };
    let refused = replica.propose(open(limit), Wait::Applied, 0).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    // As large as can be: applied, and refused there.
    let refused = replica.propose(open(limit - 64), Wait::Applied, 0).await;
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    make_bucket(&replica, "small", Wait::Durable).await;
    let settled = replica.book().request(bucket("next"));
    assert_eq!(settled.settled, settled.id.sequence - 1, "nothing is left open");
}
