//! Copies: who has to have a chunk before it may be named, who misses it, and who may give it up.

use super::write::{K, commit, done, with_file, write};
use super::{Bench, SLOT, file_name};
use crate::meta::ChunkRecord;
use crate::meta::keys;
use crate::meta::mutation::{
    Change, Loss, Mutation, NewChunk, Outcome, Refusal, Rename, RenameMode, WriteOp,
};
use crate::meta::object::{ObjectBody, Part, PutObject};
use crate::meta::placement::{Placement, Survey};
use crate::meta::record::{Errand, NodeRecord, NodeState, Staged};
use crate::types::{ChunkId, ContentId, Ino, NodeId};

impl Bench {
    pub fn set_node(&mut self, node: NodeId, state: NodeState) {
        let record = NodeRecord { address: "here".into(), zone: "z".into(), weight: 1, state };
        assert_eq!(self.propose(Mutation::SetNode { node, record }), Outcome::Done);
    }

    fn with_nodes(nodes: &[NodeId]) -> (Self, Ino) {
        let (mut bench, ino) = with_file();
        nodes.iter().for_each(|node| bench.set_node(*node, NodeState::Active));
        bench.survey();
        (bench, ino)
    }

    pub fn placement(&self) -> Placement {
        self.read(keys::PLACEMENT).unwrap_or_default()
    }

    pub fn survey(&mut self) {
        let epoch = self.placement().epoch;
        while self.propose(Mutation::Survey { epoch }) == Outcome::More(true) {}
        assert_eq!(self.placement().survey, Survey::Done);
        self.check();
    }

    pub fn record(&self, id: ChunkId) -> ChunkRecord {
        self.read(&keys::chunk(id)).unwrap()
    }

    fn errand(&self, node: NodeId, id: ChunkId) -> Option<Errand> {
        self.read(&keys::errand(node, id))
    }

    fn chunk_on(&mut self, stored_on: &[NodeId]) -> NewChunk {
        NewChunk { stored_on: stored_on.to_vec(), ..self.new_chunk(K) }
    }

    /// A file of one chunk.
    fn file_on(&mut self, ino: Ino, stored_on: &[NodeId]) -> ChunkId {
        let chunk = self.chunk_on(stored_on);
        let (content, id) = (self.next_content(), chunk.id);
        let ops = vec![WriteOp::Outline { content }, write(0, &chunk)];
        done(self, ino, ops, vec![chunk]);
        id
    }

    fn relax(&mut self, ino: Ino) {
        let bucket = self.inode(ino).unwrap().parent;
        let relax = Mutation::SetQuorumRequired { bucket, is_required: false };
        assert_eq!(self.propose(relax), Outcome::Done);
    }

    fn stage(&mut self, content: ContentId, chunk: NewChunk, may_relax: bool) -> Outcome {
        let ops = vec![WriteOp::Append { len: chunk.len, chunk: chunk.id, chunk_offset: 0 }];
        self.propose(Mutation::Stage { content, ops, chunks: vec![chunk], may_relax })
    }
}

const TOO_FEW: Outcome = Outcome::Refused(Refusal::TooFewCopies);

/// What is acknowledged is on a quorum of the nodes that should have it: copies elsewhere do not
/// count, one is too few, and the writer may come again with more.
#[test]
fn a_commit_needs_a_quorum_of_the_places() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    for few in [&[][..], &[1], &[3, 8, 9]] {
        let chunk = bench.chunk_on(few);
        let content = bench.next_content();
        let ops = vec![WriteOp::Outline { content }, write(0, &chunk)];
        let mut mutation = commit(&mut bench, ino, ops, vec![chunk.clone()]);
        bench.refused(mutation.clone(), Refusal::TooFewCopies);
        if let Mutation::Commit(commit) = &mut mutation {
            commit.chunks[0].stored_on = vec![2, 3];
        }
        assert!(matches!(bench.propose(mutation), Outcome::Node { .. }));
        assert_eq!(bench.record(chunk.id).missing_on, [1]);
        assert_eq!(bench.errand(1, chunk.id), Some(Errand::Make));
        done(&mut bench, ino, vec![WriteOp::Reset], vec![]);
        assert_eq!(bench.errand(1, chunk.id), None, "garbage needs no copies");
        bench.check();
    }
}

#[test]
fn copies_that_are_made_are_no_errands_any_more() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    let id = bench.file_on(ino, &[1, 3]);
    let stored = |node| Mutation::Stored { node, ids: vec![id] };
    bench.refused(stored(77), Refusal::NodeGone);
    assert_eq!(bench.propose(stored(2)), Outcome::Reaped(vec![]));
    assert_eq!(bench.record(id).stored_on, [1, 2, 3]);
    assert!(bench.table.keys(keys::ERRAND).is_empty());
    let lost = |why| Mutation::Unstored { node: 3, ids: vec![id], why };
    assert_eq!(bench.propose(lost(Loss::Surplus)), Outcome::Reaped(vec![]), "it is none");
    assert_eq!(bench.propose(lost(Loss::Damaged)), Outcome::Reaped(vec![id]));
    assert_eq!(bench.errand(3, id), Some(Errand::Make));
    bench.check();
}

/// A word of a copy that came late: where none is wanted any more the file may be removed already.
#[test]
fn copies_that_nobody_wants_are_not_recorded() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3, 4]);
    let id = bench.file_on(ino, &[1, 2, 3, 4]);
    let (places, surplus) = (bench.placement().places(id), bench.record(id).surplus_on);
    for (node, why) in [(surplus[0], Loss::Surplus), (places[0], Loss::Damaged)] {
        bench.propose(Mutation::Unstored { node, ids: vec![id], why });
        bench.propose(Mutation::Stored { node, ids: vec![id] });
        assert_eq!(bench.record(id).stored_on.contains(&node), why == Loss::Damaged);
        let told = bench.changes.contains(&Change::Unwanted(node, vec![id]));
        assert_eq!(told, why == Loss::Surplus);
    }
    bench.check();
}

/// Each of them saw the other's copy when it proposed: one of them stays, for nobody would look for
/// what is left of the bytes on a node that is not recorded.
#[test]
fn two_nodes_that_lose_a_chunk_do_not_strike_the_last_copy() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2]);
    let id = bench.file_on(ino, &[1, 2]);
    let lost = |node| Mutation::Unstored { node, ids: vec![id], why: Loss::Damaged };
    assert_eq!(bench.propose(lost(1)), Outcome::Reaped(vec![id]));
    assert_eq!(bench.propose(lost(2)), Outcome::Reaped(vec![]));
    assert_eq!(bench.record(id).stored_on, [2]);
    bench.check();
}

/// A copy that lands after its chunk was freed is to be removed again; one that lands before the
/// commit that names it is not.
#[test]
fn late_copies_of_freed_chunks_may_go() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    let id = bench.file_on(ino, &[1, 2]);
    let to_come = bench.next_chunk();
    done(&mut bench, ino, vec![WriteOp::Reset], vec![]);
    bench.who.chunk_mark = id.counter;
    assert_eq!(bench.propose(Mutation::Reap { ids: vec![id] }), Outcome::Reaped(vec![id]));
    let stored = Mutation::Stored { node: 3, ids: vec![to_come, id] };
    assert_eq!(bench.propose(stored), Outcome::Reaped(vec![id]));
    assert!(bench.table.keys(keys::CHUNK).is_empty(), "it did not come back");
}

/// Growing from one node to three: what was written before is wanted on all; the table changes at
/// once for new commits.
#[test]
fn a_cluster_grows() {
    let (mut bench, ino) = Bench::with_nodes(&[]);
    let id = bench.file_on(ino, &[1]);
    assert!(bench.table.keys(keys::ERRAND).is_empty());
    (1..4).for_each(|node| bench.set_node(node, NodeState::Active));
    assert_eq!(bench.placement().epoch, 3);
    bench.check();
    let epoch = bench.placement().epoch;
    assert_eq!(bench.propose(Mutation::Survey { epoch: epoch - 1 }), Outcome::More(false));
    assert_ne!(bench.placement().survey, Survey::Done, "a late step ended another survey");
    bench.survey();
    assert_eq!(bench.record(id).missing_on, [2, 3]);
    // Bytes named long ago can be overwritten and cut, whatever copies they have.
    let chunk = bench.chunk_on(&[1, 2]);
    let over = WriteOp::Write { offset: 100, len: 10, chunk: chunk.id, chunk_offset: 0 };
    done(&mut bench, ino, vec![over], vec![chunk]);
    assert_eq!(bench.references(id), Some(2));
    // But not acknowledged anew.
    let parent = bench.inode(ino).unwrap().parent;
    let copy = bench.create(parent, "copy");
    let content = bench.next_content();
    let by_reference = WriteOp::Copy { from: ino, from_offset: 0, offset: 0, len: 50 };
    let ops = vec![WriteOp::Outline { content }, by_reference];
    let mutation = commit(&mut bench, copy, ops, vec![]);
    bench.refused(mutation.clone(), Refusal::TooFewCopies);
    bench.propose(Mutation::Stored { node: 3, ids: vec![id] });
    assert!(matches!(bench.propose(mutation), Outcome::Node { .. }));
    bench.check();
}

/// A node that drains gives its copies up when everybody else has them, not before.
#[test]
fn a_draining_node_empties_itself() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    let id = bench.file_on(ino, &[1, 2, 3]);
    bench.set_node(4, NodeState::Active);
    bench.set_node(1, NodeState::Draining);
    bench.survey();
    assert_eq!((bench.errand(4, id), bench.errand(1, id)), (Some(Errand::Make), None));
    let give_up = Mutation::Unstored { node: 1, ids: vec![id], why: Loss::Surplus };
    assert_eq!(bench.propose(give_up.clone()), Outcome::Reaped(vec![]));
    bench.propose(Mutation::Stored { node: 4, ids: vec![id] });
    assert_eq!((bench.errand(4, id), bench.errand(1, id)), (None, Some(Errand::Drop)));
    // It becomes a place again before it has given the copy up: then it keeps it.
    bench.set_node(1, NodeState::Active);
    bench.set_node(4, NodeState::Draining);
    assert_eq!(bench.propose(give_up.clone()), Outcome::Reaped(vec![]));
    bench.set_node(4, NodeState::Active);
    bench.set_node(1, NodeState::Draining);
    bench.survey();
    assert_eq!(bench.propose(give_up), Outcome::Reaped(vec![id]));
    assert_eq!(bench.record(id).stored_on, [2, 3, 4]);
    assert!(bench.table.keys(keys::ERRAND).is_empty());
    bench.check();
}

/// Of two that are drained at the same time the second is refused, when it would be one too many;
/// whoever drains already may say so again.
#[test]
fn as_many_nodes_as_copies_do_not_drain() {
    let (mut bench, _) = Bench::with_nodes(&[1, 2, 3, 4]);
    let drain = |node| {
        let (address, zone) = ("here".into(), "z".into());
        let record = NodeRecord { address, zone, weight: 1, state: NodeState::Draining };
        Mutation::SetNode { node, record }
    };
    assert_eq!(bench.propose(drain(1)), Outcome::Done);
    bench.refused(drain(2), Refusal::TooFewNodes);
    assert_eq!(bench.propose(drain(1)), Outcome::Done);
    bench.set_node(2, NodeState::Gone);
    assert_eq!(bench.propose(drain(1)), Outcome::Done);
    bench.refused(drain(3), Refusal::TooFewNodes);
    assert_eq!(bench.placement().members.len(), 2);
    bench.check();
}

#[test]
fn a_node_that_is_gone_has_nothing_and_stays_gone() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    let id = bench.file_on(ino, &[1, 2, 3]);
    bench.set_node(2, NodeState::Gone);
    bench.survey();
    assert_eq!(bench.record(id).stored_on, [1, 3]);
    bench.set_node(4, NodeState::Active);
    bench.survey();
    assert_eq!(bench.errand(4, id), Some(Errand::Make));
    let back = NodeRecord {
        weight: 1,
        state: NodeState::Active,
        address: String::new(),
        zone: String::new(),
    };
    bench.refused(Mutation::SetNode { node: 2, record: back.clone() }, Refusal::NodeGone);
    bench.refused(Mutation::SetNode { node: 0, record: back.clone() }, Refusal::Malformed);
    let long = NodeRecord { zone: "z".repeat(300), ..back };
    bench.refused(Mutation::SetNode { node: 5, record: long }, Refusal::Malformed);
    bench.refused(Mutation::SetReplicationFactor { factor: 0 }, Refusal::Malformed);
    assert_eq!(bench.propose(Mutation::SetReplicationFactor { factor: 2 }), Outcome::Done);
    bench.survey();
    assert_eq!(bench.placement().places(id).len(), 2);
}

/// A bucket that requires no quorum takes one durable copy, and none at all not even then.
#[test]
fn a_relaxed_bucket_takes_one_copy() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    bench.relax(ino);
    let id = bench.file_on(ino, &[9]);
    assert_eq!(bench.record(id).missing_on, [1, 2, 3]);
    let nowhere = bench.chunk_on(&[]);
    let mutation = commit(&mut bench, ino, vec![write(0, &nowhere)], vec![nowhere]);
    bench.refused(mutation, Refusal::TooFewCopies);
    bench.check();
}

/// What was made where one copy is enough was acknowledged with one for ever, wherever it was moved
/// or linked to.
#[test]
fn a_file_is_committed_as_the_bucket_asks_that_it_came_to() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    bench.relax(ino);
    let relaxed = bench.inode(ino).unwrap().parent;
    let strict = bench.mkdir(Ino::ROOT, "strict");
    let overwrite = |bench: &mut Bench, ino| {
        let (chunk, content) = (bench.chunk_on(&[1]), bench.next_content());
        let ops = vec![WriteOp::Reset, WriteOp::Outline { content }, write(0, &chunk)];
        let mutation = commit(bench, ino, ops, vec![chunk]);
        bench.propose(mutation)
    };
    let moves = |bench: &mut Bench, (parent, name), (new_parent, new_name)| {
        let (name, new_name) = (file_name(name), file_name(new_name));
        let (mode, at) = (RenameMode::Replace, bench.now());
        let rename = Rename { parent, name, new_parent, new_name, mode, held: false, at };
        assert_eq!(bench.propose(Mutation::Rename(rename)), Outcome::Done);
    };
    let moved = bench.create(relaxed, "moved");
    assert!(matches!(overwrite(&mut bench, moved), Outcome::Node { .. }));
    moves(&mut bench, (relaxed, "moved"), (strict, "moved"));
    assert_eq!(overwrite(&mut bench, moved), TOO_FEW);
    moves(&mut bench, (strict, "moved"), (relaxed, "back"));
    assert!(matches!(overwrite(&mut bench, moved), Outcome::Node { .. }));
    let linked = bench.create(relaxed, "linked");
    let (name, at) = (file_name("linked"), bench.now());
    bench.propose(Mutation::Link { ino: linked, parent: strict, name, at });
    assert_eq!(overwrite(&mut bench, linked), TOO_FEW);
    moves(&mut bench, (relaxed, "linked"), (relaxed, "aside"));
    assert_eq!(overwrite(&mut bench, linked), TOO_FEW, "it has a name in the other bucket");
    bench.check();
}

/// Contents staged with one copy go to such buckets only.
#[test]
fn what_was_staged_lightly_is_taken_lightly() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3]);
    let content = bench.next_content();
    let chunk = bench.chunk_on(&[1]);
    assert_eq!(bench.stage(content, chunk.clone(), false), TOO_FEW);
    assert_eq!(bench.stage(content, chunk.clone(), true), Outcome::Done);
    let ops = vec![WriteOp::Adopt { content, size: K.into() }];
    let adopt = commit(&mut bench, ino, ops, vec![]);
    bench.refused(adopt.clone(), Refusal::TooFewCopies);
    bench.refused(Mutation::Vouch { content }, Refusal::TooFewCopies);
    let bucket = bench.inode(ino).unwrap().parent;
    let body = ObjectBody::Staged { content, size: K.into() };
    let put = PutObject { body, ..bench.object(bucket, "k", "") };
    bench.refused(Mutation::PutObject(Box::new(put)), Refusal::TooFewCopies);
    let upload = bench.upload(bucket, "u");
    let (etag, stored_at) = (String::new(), bench.now());
    let (checksums, size) = (Vec::new(), K.into());
    let part = Part { content: Some(content), size, etag, checksums, stored_at };
    bench.refused(Mutation::PutPart { upload, number: 1, part }, Refusal::TooFewCopies);
    bench.relax(ino);
    assert!(matches!(bench.propose(adopt), Outcome::Node { .. }));
    bench.check();
}

/// One copy is enough, but not one on a node that is no more.
#[test]
fn what_only_a_gone_node_had_is_not_taken() {
    let (mut bench, ino) = Bench::with_nodes(&[1, 2, 3, 4]);
    bench.relax(ino);
    let content = bench.next_content();
    let staged = bench.chunk_on(&[4]);
    assert_eq!(bench.stage(content, staged.clone(), true), Outcome::Done);
    let chunk = bench.chunk_on(&[4]);
    bench.set_node(4, NodeState::Gone);
    let ops = vec![WriteOp::Outline { content: bench.next_content() }, write(0, &chunk)];
    let late = commit(&mut bench, ino, ops, vec![chunk]);
    bench.refused(late, Refusal::TooFewCopies);
    let bucket = bench.inode(ino).unwrap().parent;
    let body = ObjectBody::Staged { content, size: K.into() };
    let put = PutObject { body, ..bench.object(bucket, "k", "") };
    bench.refused(Mutation::PutObject(Box::new(put.clone())), Refusal::TooFewCopies);
    bench.refused(Mutation::Vouch { content }, Refusal::TooFewCopies);
    bench.propose(Mutation::Stored { node: 1, ids: vec![staged.id] });
    bench.propose(Mutation::Stored { node: 2, ids: vec![staged.id] });
    bench.propose(Mutation::Stored { node: 3, ids: vec![staged.id] });
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(false));
    assert!(matches!(bench.propose(Mutation::PutObject(Box::new(put))), Outcome::Put { .. }));
    bench.check();
}

/// Between staging and taking, one node became three: what has one copy only is not acknowledged as
/// if it had two.
#[test]
fn what_was_staged_before_the_cluster_grew_is_vouched_for() {
    let (mut bench, ino) = Bench::with_nodes(&[]);
    let content = bench.next_content();
    let chunk = bench.chunk_on(&[1]);
    assert_eq!(bench.stage(content, chunk.clone(), false), Outcome::Done);
    (1..4).for_each(|node| bench.set_node(node, NodeState::Active));
    let later = bench.chunk_on(&[1, 2]);
    assert_eq!(bench.stage(content, later, false), Outcome::Done);
    let ops = vec![WriteOp::Adopt { content, size: 2 * u64::from(K) }];
    let adopt = commit(&mut bench, ino, ops, vec![]);
    bench.refused(adopt.clone(), Refusal::TooFewCopies);
    bench.refused(Mutation::Vouch { content }, Refusal::TooFewCopies);
    bench.propose(Mutation::Stored { node: 2, ids: vec![chunk.id] });
    bench.refused(adopt.clone(), Refusal::TooFewCopies);
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(false));
    assert!(matches!(bench.propose(adopt), Outcome::Node { .. }));
    bench.check();
}

/// A large content is vouched for in steps, from the start again when the table changes under way.
#[test]
fn vouching_takes_bounded_steps() {
    let (mut bench, _) = Bench::with_nodes(&[]);
    let content = bench.next_content();
    let chunk = bench.chunk_on(&[1, 2, 3]);
    let write =
        |slot| WriteOp::Write { offset: slot * SLOT, len: 9, chunk: chunk.id, chunk_offset: 0 };
    let mut chunks = vec![chunk.clone()];
    for part in 0..2 {
        let ops = (part * 4096..(part + 1) * 4096).map(write).collect();
        let chunks = std::mem::take(&mut chunks);
        let stage = Mutation::Stage { content, ops, chunks, may_relax: false };
        assert_eq!(bench.propose(stage), Outcome::Done);
    }
    bench.set_node(1, NodeState::Active);
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(true));
    bench.set_node(2, NodeState::Active);
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(true));
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(true));
    assert_eq!(bench.propose(Mutation::Vouch { content }), Outcome::More(false));
    let staged: Staged = bench.read(&keys::staged(content)).unwrap();
    assert_eq!((staged.epoch, staged.vouched), (bench.placement().epoch, None));
}

/// More chunks than one step looks at.
#[test]
fn a_survey_takes_bounded_steps_and_misses_nobody() {
    let (mut bench, ino) = Bench::with_nodes(&[]);
    let content = bench.next_content();
    done(&mut bench, ino, vec![WriteOp::Outline { content }], vec![]);
    for batch in 0..3u64 {
        let chunks: Vec<_> = (0..1000).map(|_| bench.chunk_on(&[1])).collect();
        let at = |n: u64| (batch * 1000 + n) * 1024;
        let ops = (0..).zip(&chunks).map(|(n, chunk)| write(at(n), chunk)).collect();
        done(&mut bench, ino, ops, chunks);
    }
    bench.set_node(1, NodeState::Active);
    bench.set_node(2, NodeState::Active);
    let epoch = bench.placement().epoch;
    assert_eq!(bench.propose(Mutation::Survey { epoch }), Outcome::More(true));
    bench.check();
    // Written in the middle of it: noted at once, on this side or that.
    let chunk = bench.chunk_on(&[1, 2]);
    done(&mut bench, ino, vec![write(0, &chunk)], vec![chunk]);
    bench.survey();
    let wanted = (bench.table.keys(keys::ERRAND).len(), bench.table.keys(keys::CHUNK).len());
    assert_eq!(wanted, (2999, 3001));
}
