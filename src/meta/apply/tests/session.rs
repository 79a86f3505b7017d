//! Sessions: a request has one effect and one answer, however often and late it comes.

use super::{Bench, Memory, SLOT, Speaker, file_name, node};
use crate::meta::keys;
use crate::meta::mutation::{Make, Mutation, NewChunk, Outcome, Refusal, Request, WriteOp};
use crate::meta::record::{Session, Superblock};
use crate::types::{ContentId, FileKind, Ino, RequestId, SessionId, Timestamp};

fn session(bench: &Bench, id: SessionId) -> Option<Session> {
    bench.read(&keys::session(id))
}

#[test]
fn a_store_is_born_once() {
    let (mut bench, _) = Bench::new();
    let before = bench.table.clone();
    let at = bench.now();
    let genesis = |chunk_size| Mutation::Genesis { cluster: 8, chunk_size, uid: 0, gid: 0, at };
    bench.refused(genesis(SLOT), Refusal::AlreadyExists);
    assert_eq!(bench.table, before);
    let superblock: Superblock = bench.superblock();
    assert_eq!((superblock.cluster, superblock.chunk_size), (7, SLOT));
    let root = bench.inode(Ino::ROOT).unwrap();
    assert_eq!((root.mode.bits(), root.uid, root.gid, root.explicit), (0o755, 1, 2, true));
    for bad in [0, SLOT - 1, SLOT + 1, SLOT / 2, u64::MAX, 1 << 40] {
        let id = RequestId { session: SessionId(0), sequence: 1 };
        let request = Request { id, settled: 0, chunk_mark: 0, mutation: genesis(bad) };
        let mut table = Memory::default();
        assert_eq!(table.apply(&request).outcome, Outcome::Refused(Refusal::Malformed));
        assert_eq!(table, Memory::default());
    }
}

#[test]
fn before_its_birth_a_store_takes_nothing() {
    let mut table = Memory::default();
    let open = Mutation::OpenSession { node: 1, address: String::new(), nonce: 1 };
    for (mutation, refusal) in [
        (open, Refusal::NotFound),
        (Mutation::ReleaseOrphans { inos: vec![Ino(1)] }, Refusal::Fenced),
    ] {
        let id = RequestId { session: SessionId(0), sequence: 1 };
        let request = Request { id, settled: 0, chunk_mark: 0, mutation };
        assert_eq!(table.apply(&request).outcome, Outcome::Refused(refusal));
    }
    assert_eq!(table, Memory::default());
}

#[test]
fn a_session_is_recognised_by_its_nonce() {
    let (mut bench, _) = Bench::new();
    let second = bench.open_session(2);
    assert_eq!(second, SessionId(2));
    let before = bench.table.clone();
    assert_eq!(bench.open_session(2), second);
    assert_eq!(bench.table, before);
    let open = Mutation::OpenSession { node: 1, address: String::new(), nonce: 3 };
    bench.refused(open, Refusal::Malformed);
    assert_eq!(session(&bench, second).unwrap().address, "here");
}

#[test]
fn a_repeated_request_gets_its_answer_again() {
    let (mut bench, bucket) = Bench::new();
    let make = bench.new_node(bucket, "f", FileKind::Regular);
    let request = bench.request(Mutation::Make(make));
    let first = bench.apply(&request);
    let after = bench.table.clone();
    assert_eq!(bench.apply(&request), first);
    assert!(bench.changes.is_empty() && bench.table == after);
    // A refusal is an answer too, even if by now it would succeed.
    let unlink = |name: &str| Mutation::Unlink {
        parent: bucket,
        name: file_name(name),
        held: false,
        at: Timestamp::default(),
    };
    let early = bench.request(unlink("g"));
    assert_eq!(bench.apply(&early), Outcome::Refused(Refusal::NotFound));
    bench.create(bucket, "g");
    assert_eq!(bench.apply(&early), Outcome::Refused(Refusal::NotFound));
}

#[test]
fn a_settled_request_never_comes_back() {
    let (mut bench, bucket) = Bench::new();
    let make = bench.new_node(bucket, "f", FileKind::Regular);
    let request = bench.request(Mutation::Make(make));
    bench.apply(&request);
    let never_came = bench.request(Mutation::ReleaseOrphans { inos: vec![Ino(1)] });
    bench.who.settled = never_came.id.sequence;
    bench.mkdir(bucket, "d");
    assert!(!bench.has(&keys::outcome(request.id.session, request.id.sequence)));
    let before = bench.table.clone();
    for late in [request, never_came] {
        assert_eq!(bench.apply(&late), Outcome::Refused(Refusal::Fenced));
        assert_eq!(bench.table, before);
    }
    bench.who.settled = bench.who.sequence + 1;
    bench.refused(Mutation::ReleaseOrphans { inos: vec![Ino(1)] }, Refusal::Malformed);
    assert_eq!(bench.table, before);
}

#[test]
fn marks_only_rise() {
    let (mut bench, _) = Bench::new();
    let step = |bench: &mut Bench, settled, chunk_mark| {
        (bench.who.settled, bench.who.chunk_mark) = (settled, chunk_mark);
        assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![Ino(1)] }), Outcome::Done);
        let session = session(bench, bench.who.session).unwrap();
        (session.settled, session.chunk_mark)
    };
    assert_eq!(step(&mut bench, 1, 9), (1, 9));
    assert_eq!(step(&mut bench, 0, 3), (1, 9));
    assert_eq!(step(&mut bench, 2, 3), (2, 9));
}

#[test]
fn an_abort_tells_what_was_or_forbids_it() {
    let (mut bench, bucket) = Bench::new();
    let make = bench.new_node(bucket, "f", FileKind::Regular);
    let made = bench.request(Mutation::Make(make));
    let first = bench.apply(&made);
    let make = bench.new_node(bucket, "late", FileKind::Regular);
    let late = bench.request(Mutation::Make(make));
    assert_eq!(bench.propose(Mutation::Abort { sequence: made.id.sequence }), first);
    bench.refused(Mutation::Abort { sequence: late.id.sequence }, Refusal::Aborted);
    assert_eq!(bench.apply(&late), Outcome::Refused(Refusal::Aborted));
    assert_eq!(bench.lookup(bucket, "late"), None);
    let own = bench.who.sequence + 1;
    bench.refused(Mutation::Abort { sequence: own }, Refusal::Malformed);
    bench.who.settled = late.id.sequence;
    bench.refused(Mutation::Abort { sequence: late.id.sequence }, Refusal::Fenced);
}

/// A second session with an unpublished file and a staged content.
fn with_second_session() -> (Bench, Speaker, Ino, ContentId) {
    let (mut bench, bucket) = Bench::new();
    let second = bench.open_session(2);
    let first = std::mem::replace(&mut bench.who, Speaker::new(second));
    let make = bench.new_node(bucket, "new", FileKind::Regular);
    let ino = bench.make(Make { published: false, ..make });
    let (content, chunk) = (bench.next_content(), bench.new_chunk(100));
    let ops = vec![WriteOp::Append { len: 100, chunk: chunk.id, chunk_offset: 0 }];
    let stage = Mutation::Stage { content, ops, chunks: vec![chunk], may_relax: false };
    assert_eq!(bench.propose(stage), Outcome::Done);
    let second = std::mem::replace(&mut bench.who, first);
    bench.check();
    (bench, second, ino, content)
}

#[test]
fn an_ended_session_leaves_nothing_half_done() {
    let (mut bench, second, ino, content) = with_second_session();
    let end = Mutation::EndSession { session: second.session };
    assert_eq!(bench.propose(end.clone()), Outcome::More(false));
    assert!(bench.inode(ino).unwrap().published);
    assert!(bench.has(&keys::doomed(content)) && !bench.has(&keys::staged(content)));
    assert_eq!(session(&bench, second.session), None);
    assert!(bench.table.keys(b'u').is_empty());
    bench.check();
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert_eq!(bench.propose(Mutation::FreeContent { content }), Outcome::More(false));
    assert!(bench.table.keys(b'm').is_empty());
    bench.check();
    // Nothing of it is applied any more, whatever the sequence.
    let first = std::mem::replace(&mut bench.who, second);
    let before = bench.table.clone();
    bench.refused(Mutation::ReleaseOrphans { inos: vec![ino] }, Refusal::Fenced);
    assert_eq!(bench.table, before);
    bench.who = first;
    assert_eq!(bench.open_session(2), SessionId(3));
}

#[test]
fn a_session_can_end_itself() {
    let (mut bench, second, ..) = with_second_session();
    bench.who = second;
    let end = Mutation::EndSession { session: bench.who.session };
    let request = bench.request(end.clone());
    assert_eq!(bench.apply(&request), Outcome::More(false));
    let after = bench.table.clone();
    assert!(bench.table.keys(b'r').iter().all(|key| keys::head_number(key) == Some(1)));
    assert_eq!(bench.apply(&request), Outcome::More(false));
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert_eq!(bench.table, after);
    bench.check();
}

#[test]
fn a_long_end_goes_in_steps_and_fences_with_the_first() {
    let (mut bench, bucket) = Bench::new();
    let second = Speaker::new(bench.open_session(2));
    let first = std::mem::replace(&mut bench.who, second);
    let mut last = Ino(0);
    for number in 0..1100 {
        let make = bench.new_node(bucket, &format!("f{number}"), FileKind::Regular);
        last = bench.make(Make { published: false, ..make });
        bench.who.settled = bench.who.sequence;
    }
    let second = std::mem::replace(&mut bench.who, first);
    let end = Mutation::EndSession { session: second.session };
    assert_eq!(bench.propose(end.clone()), Outcome::More(true));
    bench.check();
    assert!(!bench.inode(last).unwrap().published);
    let first = std::mem::replace(&mut bench.who, second);
    bench.refused(Mutation::ReleaseOrphans { inos: vec![last] }, Refusal::Fenced);
    let id = bench.who.session;
    bench.who = first;
    // It is no live session: nobody can hold the file for it.
    let unlink = Mutation::Unlink {
        parent: bucket,
        name: file_name("f1"),
        held: false,
        at: Timestamp::default(),
    };
    bench.propose(unlink);
    assert!(bench.table.keys(b'o').is_empty());
    assert_eq!(bench.propose(end), Outcome::More(false));
    assert!(bench.inode(last).unwrap().published && session(&bench, id).is_none());
    bench.check();
}

#[test]
fn another_session_may_publish_the_file() {
    let (mut bench, second, ino, _) = with_second_session();
    let at = bench.now();
    let commit = Mutation::Commit(crate::meta::Commit {
        ino,
        ops: vec![],
        chunks: vec![],
        expected_version: None,
        at,
        mtime: None,
        strip_privilege: false,
    });
    assert!(node(bench.propose(commit)).1.published);
    assert!(!bench.has(&keys::unpublished(second.session, ino)));
    bench.check();
}

#[test]
fn what_a_session_owns_is_its_own() {
    let (mut bench, _, ino, content) = with_second_session();
    let stage = |content| Mutation::Stage {
        content,
        ops: vec![],
        chunks: Vec::<NewChunk>::new(),
        may_relax: false,
    };
    bench.refused(stage(content), Refusal::UnknownChunk);
    bench.refused(Mutation::Unstage { content }, Refusal::UnknownChunk);
    let at = bench.now();
    let adopt = Mutation::Commit(crate::meta::Commit {
        ino,
        ops: vec![WriteOp::Adopt { content, size: 100 }],
        chunks: vec![],
        expected_version: None,
        at,
        mtime: None,
        strip_privilege: false,
    });
    bench.refused(adopt, Refusal::UnknownChunk);
}
