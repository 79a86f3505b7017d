//! What is freed, when, and what may never be.

use super::{Bench, SLOT, Speaker, file_name, node, removed};
use crate::meta::keys;
use crate::meta::mutation::{Change, Commit, Mutation, NewChunk, Outcome, Refusal, WriteOp};
use crate::meta::record::{Body, Piece};
use crate::types::limits::{PIECES_MAX, REAP_IDS_MAX, SLOTS_FREED_MAX};
use crate::types::{ChunkId, ContentId, Ino, SessionId};

/// Commits ops on a new file `name`; the first is an `Outline` of the content returned.
fn file(bench: &mut Bench, ops: Vec<WriteOp>, chunks: Vec<NewChunk>) -> (Ino, ContentId) {
    let bucket = bench.lookup(Ino::ROOT, "bkt").unwrap().ino;
    let ino = bench.create(bucket, &format!("f{}", bench.clock));
    let content = bench.next_content();
    let mut all = vec![WriteOp::Outline { content }];
    all.extend(ops);
    commit(bench, ino, all, chunks);
    (ino, content)
}

fn commit(bench: &mut Bench, ino: Ino, ops: Vec<WriteOp>, chunks: Vec<NewChunk>) {
    let at = bench.now();
    let (expected_version, mtime) = (None, None);
    let commit = Commit { ino, ops, chunks, expected_version, at, mtime, strip_privilege: false };
    node(bench.propose(Mutation::Commit(commit)));
}

fn write(offset: u64, len: u32, chunk: ChunkId) -> WriteOp {
    WriteOp::Write { offset, len, chunk, chunk_offset: 0 }
}

/// A file with `slots` slots of one byte each, all of one chunk.
fn long_file(bench: &mut Bench, slots: u64) -> (Ino, ContentId, ChunkId) {
    let chunk = bench.new_chunk(1);
    let id = chunk.id;
    let (ino, content) = file(bench, vec![], vec![chunk]);
    for first in (0..slots).step_by(4000) {
        let range = first..slots.min(first + 4000);
        let ops = range.map(|slot| write(slot * SLOT, 1, id)).collect();
        commit(bench, ino, ops, vec![]);
    }
    (ino, content, id)
}

#[test]
fn a_small_content_is_freed_at_once_a_big_one_in_steps() {
    let (mut bench, bucket) = Bench::new();
    let (small, content, chunk) = long_file(&mut bench, 64);
    commit(&mut bench, small, vec![WriteOp::Reset], vec![]);
    assert_eq!((bench.references(chunk), bench.has(&keys::doomed(content))), (Some(0), false));

    let slots = SLOTS_FREED_MAX as u64 + 1;
    let (big, content, chunk) = long_file(&mut bench, slots);
    let inode = bench.inode(big).unwrap();
    assert_eq!((inode.body, inode.allocated), (Body::Manifest(content), slots));
    let (from, to) = keys::dirents(bucket);
    let mut name = None;
    for (key, value) in bench.table.0.range(from..to) {
        let dirent: crate::meta::Dirent = crate::meta::codec::decode(value).unwrap();
        if dirent.ino == big {
            name = keys::dirent_name(key);
        }
    }
    let at = bench.now();
    let (name, _) = name.unwrap();
    removed(bench.propose(Mutation::Unlink { parent: bucket, name, held: false, at }));
    assert!(bench.inode(big).is_none() && bench.has(&keys::doomed(content)));
    assert_eq!(u64::from(bench.references(chunk).unwrap()), slots);
    bench.check();
    let free = Mutation::FreeContent { content };
    assert_eq!(bench.propose(free.clone()), Outcome::More(true));
    assert_eq!((bench.references(chunk), bench.superblock().data_bytes), (Some(1), 1));
    bench.check();
    assert_eq!(bench.propose(free.clone()), Outcome::More(false));
    assert_eq!((bench.references(chunk), bench.has(&keys::doomed(content))), (Some(0), false));
    assert_eq!(bench.propose(free), Outcome::More(false));
    bench.check();
}

#[test]
fn only_a_doomed_content_is_freed() {
    let (mut bench, _) = Bench::new();
    let (ino, content, _) = long_file(&mut bench, 3);
    let before = bench.inode(ino);
    assert_eq!(bench.propose(Mutation::FreeContent { content }), Outcome::More(false));
    assert_eq!(bench.inode(ino), before);
    assert_eq!(bench.slot(content, 0).pieces.len(), 1);
}

#[test]
fn slots_full_of_pieces_are_refused_and_freed_by_pieces() {
    let (mut bench, _) = Bench::new();
    let chunk = bench.new_chunk(1);
    let id = chunk.id;
    let (ino, content) = file(&mut bench, vec![], vec![chunk]);
    for slot in 0..70 {
        let ops = (0..PIECES_MAX as u64).map(|n| write(slot * SLOT + 2 * n, 1, id)).collect();
        commit(&mut bench, ino, ops, vec![]);
    }
    let at = bench.now();
    let refused = |op| {
        let (expected_version, mtime) = (None, None);
        let (ops, chunks) = (vec![op], vec![]);
        Mutation::Commit(Commit {
            ino,
            ops,
            chunks,
            expected_version,
            at,
            mtime,
            strip_privilege: false,
        })
    };
    let more = refused(write(2 * PIECES_MAX as u64, 1, id));
    bench.refused(more, Refusal::TooMuch);
    commit(&mut bench, ino, vec![WriteOp::Reset], vec![]);
    let mut steps = 1;
    while bench.propose(Mutation::FreeContent { content }) == Outcome::More(true) {
        steps += 1;
    }
    assert_eq!((steps, bench.references(id)), (5, Some(0)));
    bench.check();
}

/// A slot with the pieces 0..100 and 200..300, and a chunk for its compaction.
fn fragmented() -> (Bench, ContentId, Vec<Piece>, NewChunk) {
    let (mut bench, _) = Bench::new();
    let chunks = [bench.new_chunk(50), bench.new_chunk(50), bench.new_chunk(100)];
    let ops = vec![
        write(0, 50, chunks[0].id),
        write(50, 50, chunks[1].id),
        write(200, 100, chunks[2].id),
    ];
    let (_, content) = file(&mut bench, ops, chunks.to_vec());
    let pieces = bench.slot(content, 0).pieces;
    let chunk = bench.new_chunk(200);
    (bench, content, pieces, chunk)
}

fn piece(start: u32, len: u32, chunk: ChunkId, chunk_offset: u32) -> Piece {
    Piece { start, len, chunk, chunk_offset }
}

#[test]
fn a_compaction_changes_pieces_and_nothing_else() {
    let (mut bench, content, expected, chunk) = fragmented();
    let id = chunk.id;
    let pieces = vec![piece(0, 100, id, 0), piece(200, 100, id, 100)];
    let inodes = bench.table.keys(keys::INODE);
    let compact = Mutation::Compact {
        content,
        slot: 0,
        expected: expected.clone(),
        pieces: pieces.clone(),
        chunks: vec![chunk],
    };
    assert_eq!(bench.propose(compact.clone()), Outcome::Done);
    assert_eq!(bench.slot(content, 0).pieces, pieces);
    assert_eq!((bench.references(id), bench.references(expected[0].chunk)), (Some(2), Some(0)));
    assert_eq!((bench.table.keys(keys::INODE), bench.changes.len()), (inodes, 0));
    bench.check();
    bench.refused(compact, Refusal::Conflict);
}

#[test]
fn a_compaction_must_bring_the_same_bytes() {
    let (mut bench, content, expected, chunk) = fragmented();
    let id = chunk.id;
    let compact = |pieces: &[Piece], chunks: &[NewChunk]| Mutation::Compact {
        content,
        slot: 0,
        expected: expected.clone(),
        pieces: pieces.to_vec(),
        chunks: chunks.to_vec(),
    };
    let good = [piece(0, 100, id, 0), piece(200, 100, id, 100)];
    let new = [chunk];
    for bad in [
        &[piece(0, 300, id, 0)][..],
        &[piece(0, 100, id, 0)],
        &[],
        &[good[1], good[0]],
        &[good[0], piece(200, 100, id, 101)],
        &[good[0], piece(200, 100, id, u32::MAX)],
    ] {
        bench.refused(compact(bad, &new), Refusal::Malformed);
    }
    bench.refused(compact(&good, &[]), Refusal::UnknownChunk);
    let elsewhere =
        Mutation::Compact { content, slot: 1, expected: vec![], pieces: vec![], chunks: vec![] };
    bench.refused(elsewhere, Refusal::Conflict);
}

#[test]
fn a_chunk_is_reaped_when_nothing_can_name_it_again() {
    let (mut bench, _) = Bench::new();
    let chunks = [bench.new_chunk(10), bench.new_chunk(10)];
    let (garbage, used) = (chunks[0].id, chunks[1].id);
    let unsettled = bench.next_chunk();
    let ops = vec![write(0, 10, garbage), write(0, 10, used)];
    file(&mut bench, ops, chunks.to_vec());
    let future = ChunkId { session: SessionId(77), counter: 1 };
    let ids = vec![unsettled, garbage, used, future, garbage];
    let reap = Mutation::Reap { ids };
    let other = Speaker::new(bench.open_session(2));
    let owner = std::mem::replace(&mut bench.who, other);
    // Nothing is settled, as far as others know: a late request could still introduce any of them.
    assert_eq!(bench.propose(reap.clone()), Outcome::Reaped(vec![]));
    let other = std::mem::replace(&mut bench.who, owner);
    bench.who.chunk_mark = used.counter;
    let at = bench.now();
    // The mark comes along with whatever is proposed.
    bench.propose(Mutation::Unlink { parent: Ino::ROOT, name: file_name("no"), held: false, at });
    let owner = std::mem::replace(&mut bench.who, other);
    assert_eq!(bench.propose(reap.clone()), Outcome::Reaped(vec![garbage]));
    assert_eq!(bench.changes, [Change::Reaped(vec![garbage])]);
    assert_eq!(bench.references(garbage), None);
    assert!(!bench.has(&keys::garbage(garbage)));
    bench.check();
    bench.who = owner;
    // Given up without ever having been recorded.
    bench.who.chunk_mark = unsettled.counter;
    let expected = vec![garbage, unsettled];
    assert_eq!(bench.propose(reap), Outcome::Reaped(expected));
    for id in [garbage, unsettled] {
        let chunk = NewChunk { id, ..chunks[0].clone() };
        let content = bench.next_content();
        let stage = Mutation::Stage {
            content,
            ops: vec![write(0, 10, id)],
            chunks: vec![chunk],
            may_relax: false,
        };
        bench.refused(stage, Refusal::UnknownChunk);
    }
}

/// One number that is open for long, because a file is, kept all chunks with higher ones.
#[test]
fn a_session_vouches_for_its_own_chunks_above_its_mark() {
    let (mut bench, _) = Bench::new();
    let open = bench.next_chunk();
    let chunks = [bench.new_chunk(10), bench.new_chunk(10)];
    let (garbage, used) = (chunks[0].id, chunks[1].id);
    file(&mut bench, vec![write(0, 10, garbage), write(0, 10, used)], chunks.to_vec());
    let reap = Mutation::Reap { ids: vec![garbage, used] };
    assert_eq!(bench.who.chunk_mark, 0);
    assert_eq!(bench.propose(reap), Outcome::Reaped(vec![garbage]));
    assert_eq!((bench.references(garbage), bench.references(used)), (None, Some(1)));
    // What is open comes as if nothing had been.
    let late = NewChunk { id: open, ..chunks[0].clone() };
    file(&mut bench, vec![write(0, 10, open)], vec![late]);
    assert_eq!(bench.references(open), Some(1));
    bench.check();
}

#[test]
fn chunks_of_an_ended_session_are_reaped() {
    let (mut bench, _) = Bench::new();
    let second = bench.open_session(2);
    let stray = ChunkId { session: second, counter: 5 };
    let reap = Mutation::Reap { ids: vec![stray] };
    assert_eq!(bench.propose(reap.clone()), Outcome::Reaped(vec![]));
    assert_eq!(bench.propose(Mutation::EndSession { session: second }), Outcome::More(false));
    assert_eq!(bench.propose(reap), Outcome::Reaped(vec![stray]));
    let ids = vec![stray; REAP_IDS_MAX + 1];
    bench.refused(Mutation::Reap { ids }, Refusal::Malformed);
    let ids = (1..=REAP_IDS_MAX as u64).map(|counter| ChunkId { session: second, counter });
    let ids: Vec<_> = ids.collect();
    assert_eq!(bench.propose(Mutation::Reap { ids: ids.clone() }), Outcome::Reaped(ids));
}

#[test]
fn an_orphan_of_a_dead_node_is_freed_by_the_next() {
    let (mut bench, bucket) = Bench::new();
    let (ino, content, chunk) = long_file(&mut bench, 2);
    let at = bench.now();
    let name = file_name("link");
    bench.propose(Mutation::Link { ino, parent: bucket, name: name.clone(), at });
    let before = bench.inode(bucket).unwrap().size;
    let (from, to) = keys::dirents(bucket);
    let names: Vec<_> =
        bench.table.0.range(from..to).filter_map(|(key, _)| keys::dirent_name(key)).collect();
    for (name, _) in names {
        bench.propose(Mutation::Unlink { parent: bucket, name, held: true, at });
    }
    assert_eq!((before, bench.inode(bucket).unwrap().size), (2, 0));
    assert!(bench.has(&keys::orphan(ino)));
    bench.check();
    let next = Speaker::new(bench.open_session(2));
    let first = std::mem::replace(&mut bench.who, next).session;
    assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![ino] }), Outcome::Done);
    assert!(bench.inode(ino).is_some(), "only its holder lets it go");
    assert_eq!(bench.propose(Mutation::EndSession { session: first }), Outcome::More(false));
    assert!(bench.inode(ino).is_none() && !bench.has(&keys::slot(content, 0)));
    assert_eq!(bench.propose(Mutation::Reap { ids: vec![chunk] }), Outcome::Reaped(vec![chunk]));
    bench.check();
}
