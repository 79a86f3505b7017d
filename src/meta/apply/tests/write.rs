//! Bytes: slots, inline bodies, sizes, versions, and the counts that follow them.

use super::{Bench, SLOT, node};
use crate::meta::keys;
use crate::meta::mutation::{Commit, Mutation, NewChunk, Outcome, Refusal, WriteOp};
use crate::meta::record::{Body, Inode, Piece};
use crate::types::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::types::{ChunkId, ContentId, FileKind, Ino, Mode, SessionId, Timestamp};

pub const K: u32 = 1024;

/// A bench with an empty file.
pub fn with_file() -> (Bench, Ino) {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    (bench, ino)
}

pub fn commit(bench: &mut Bench, ino: Ino, ops: Vec<WriteOp>, chunks: Vec<NewChunk>) -> Mutation {
    let at = bench.now();
    Mutation::Commit(Commit {
        ino,
        ops,
        chunks,
        expected_version: None,
        at,
        mtime: None,
        strip_privilege: false,
    })
}

pub fn done(bench: &mut Bench, ino: Ino, ops: Vec<WriteOp>, chunks: Vec<NewChunk>) -> Inode {
    let mutation = commit(bench, ino, ops, chunks);
    node(bench.propose(mutation)).1
}

pub fn refused(bench: &mut Bench, ino: Ino, ops: Vec<WriteOp>, refusal: Refusal) {
    let mutation = commit(bench, ino, ops, Vec::new());
    bench.refused(mutation, refusal);
}

pub fn write(offset: u64, chunk: &NewChunk) -> WriteOp {
    WriteOp::Write { offset, len: chunk.len, chunk: chunk.id, chunk_offset: 0 }
}

pub fn inline(offset: u64, data: &[u8]) -> WriteOp {
    WriteOp::Inline { offset, data: data.to_vec() }
}

/// A file whose manifest has `sizes` KiB written one after the other, a chunk each.
pub fn with_manifest(sizes: &[u32]) -> (Bench, Ino, ContentId, Vec<ChunkId>) {
    let (mut bench, ino) = with_file();
    let content = bench.next_content();
    let chunks: Vec<_> = sizes.iter().map(|size| bench.new_chunk(size * K)).collect();
    let mut ops = vec![WriteOp::Outline { content }];
    ops.extend(chunks.iter().map(|chunk| WriteOp::Append {
        len: chunk.len,
        chunk: chunk.id,
        chunk_offset: 0,
    }));
    let ids = chunks.iter().map(|chunk| chunk.id).collect();
    done(&mut bench, ino, ops, chunks);
    (bench, ino, content, ids)
}

pub fn piece(start: u32, len: u32, chunk: ChunkId, chunk_offset: u32) -> Piece {
    Piece { start, len, chunk, chunk_offset }
}

#[test]
fn a_write_is_cut_at_slots_and_counted() {
    let (mut bench, ino) = with_file();
    let content = bench.next_content();
    let chunk = bench.new_chunk(40 * K);
    let id = chunk.id;
    let offset = SLOT - 10;
    let ops = vec![WriteOp::Outline { content }, write(offset, &chunk)];
    let inode = done(&mut bench, ino, ops, vec![chunk]);
    assert_eq!(inode.body, Body::Manifest(content));
    assert_eq!((inode.size, inode.allocated), (offset + 40 * 1024, 40 * 1024));
    assert_eq!((inode.version, inode.published), (1, true));
    assert_eq!(bench.slot(content, 0).pieces, [piece(SLOT as u32 - 10, 10, id, 0)]);
    assert_eq!(bench.slot(content, 1).pieces, [piece(0, 40 * K - 10, id, 10)]);
    assert_eq!(bench.references(id), Some(2));
    assert_eq!(bench.superblock().data_bytes, 40 * 1024);
    assert!(!bench.has(&keys::garbage(id)));
}

#[test]
fn an_overwrite_splits_what_is_there_and_leaves_garbage() {
    let (mut bench, ino, content, ids) = with_manifest(&[32, 16]);
    let middle = bench.new_chunk(K);
    let id = middle.id;
    done(&mut bench, ino, vec![write(1024, &middle)], vec![middle]);
    let expected = [
        piece(0, K, ids[0], 0),
        piece(K, K, id, 0),
        piece(2 * K, 30 * K, ids[0], 2 * K),
        piece(32 * K, 16 * K, ids[1], 0),
    ];
    assert_eq!(bench.slot(content, 0).pieces, expected);
    assert_eq!(bench.references(ids[0]), Some(2));
    let all = bench.new_chunk(48 * K);
    let inode = done(&mut bench, ino, vec![write(0, &all)], vec![all]);
    assert_eq!((inode.size, inode.allocated), (48 * 1024, 48 * 1024));
    for gone in [ids[0], ids[1], id] {
        assert_eq!(bench.references(gone), Some(0));
        assert!(bench.has(&keys::garbage(gone)));
    }
    assert_eq!(bench.superblock().data_bytes, 48 * 1024);
}

#[test]
fn a_chunk_overwritten_within_its_commit_is_garbage_at_once() {
    let (mut bench, ino, _, _) = with_manifest(&[4]);
    let (first, second) = (bench.new_chunk(K), bench.new_chunk(K));
    let ids = (first.id, second.id);
    let ops = vec![write(0, &first), write(0, &second)];
    done(&mut bench, ino, ops, vec![first, second]);
    assert_eq!((bench.references(ids.0), bench.references(ids.1)), (Some(0), Some(1)));
    assert!(bench.has(&keys::garbage(ids.0)) && !bench.has(&keys::garbage(ids.1)));
}

#[test]
fn only_own_new_chunks_of_the_right_size_are_taken() {
    let (mut bench, ino, _, ids) = with_manifest(&[4]);
    let good = bench.new_chunk(K);
    let other = ChunkId { session: SessionId(99), counter: 1 };
    let cases = [
        (write(0, &good), None, Refusal::UnknownChunk),
        (write(0, &good), Some(NewChunk { id: other, ..good.clone() }), Refusal::UnknownChunk),
        (write(0, &good), Some(NewChunk { len: 0, ..good.clone() }), Refusal::Malformed),
        (
            write(0, &good),
            Some(NewChunk { len: SLOT as u32 + 1, ..good.clone() }),
            Refusal::Malformed,
        ),
        (
            write(0, &good),
            Some(NewChunk { id: ids[0], len: 4 * K, sha256: [0; 32], stored_on: vec![] }),
            Refusal::Malformed,
        ),
        (write(0, &good), Some(NewChunk { len: K - 1, ..good.clone() }), Refusal::Malformed),
        (
            WriteOp::Write { offset: 0, len: K, chunk: good.id, chunk_offset: u32::MAX },
            Some(good.clone()),
            Refusal::Malformed,
        ),
        (write(u64::MAX - 5, &good), Some(good.clone()), Refusal::Malformed),
        (write(FILE_SIZE_MAX - 5, &good), Some(good.clone()), Refusal::FileTooLarge),
    ];
    for (op, chunk, refusal) in cases {
        let mutation = commit(&mut bench, ino, vec![op], chunk.into_iter().collect());
        bench.refused(mutation, refusal);
    }
    // Below the mark: given up, so it must not come any more.
    bench.who.chunk_mark = good.id.counter;
    let mutation = commit(&mut bench, ino, vec![write(0, &good)], vec![good]);
    assert_eq!(bench.propose(mutation), Outcome::Refused(Refusal::UnknownChunk));
}

#[test]
fn a_known_chunk_named_again_gathers_its_nodes() {
    let (mut bench, ino, _, _) = with_manifest(&[4]);
    let chunk = bench.new_chunk(K);
    done(&mut bench, ino, vec![write(0, &chunk)], vec![chunk.clone()]);
    bench.who.chunk_mark = chunk.id.counter;
    let again = NewChunk { stored_on: vec![3, 2, 3], ..chunk.clone() };
    done(&mut bench, ino, vec![write(1024, &chunk)], vec![again]);
    let record: crate::meta::ChunkRecord = bench.read(&keys::chunk(chunk.id)).unwrap();
    assert_eq!((record.references, record.stored_on), (2, vec![1, 2, 3]));
}

#[test]
fn inline_bodies_grow_with_zeros() {
    let (mut bench, ino) = with_file();
    let inode = done(&mut bench, ino, vec![inline(3, b"abc")], vec![]);
    assert_eq!((inode.body, inode.size), (Body::Inline(b"\0\0\0abc".to_vec()), 6));
    let ops = vec![
        WriteOp::Truncate { size: 10 },
        WriteOp::AppendInline { data: b"x".to_vec() },
        WriteOp::Punch { offset: 4, len: 100 },
        inline(0, b"z"),
    ];
    let inode = done(&mut bench, ino, ops, vec![]);
    assert_eq!((inode.body, inode.size), (Body::Inline(b"z\0\0a\0\0\0\0\0\0\0".to_vec()), 11));
    let ops = vec![WriteOp::Truncate { size: 2 }, WriteOp::Extend { size: 5 }];
    let inode = done(&mut bench, ino, ops, vec![]);
    assert_eq!((inode.body, inode.size), (Body::Inline(b"z\0".to_vec()), 5));
    let inode = done(&mut bench, ino, vec![WriteOp::Reset], vec![]);
    assert_eq!((inode.body, inode.size, inode.allocated), (Body::Inline(vec![]), 0, 0));
}

#[test]
fn inline_bodies_have_a_limit() {
    let (mut bench, ino) = with_file();
    let end = INLINE_MAX as u64;
    refused(&mut bench, ino, vec![inline(end, b"x")], Refusal::Malformed);
    refused(&mut bench, ino, vec![inline(0, b"")], Refusal::Malformed);
    refused(&mut bench, ino, vec![inline(u64::MAX, b"x")], Refusal::Malformed);
    let inode = done(&mut bench, ino, vec![inline(end - 1, b"x")], vec![]);
    assert_eq!(inode.size, end);
    let op = WriteOp::AppendInline { data: b"x".to_vec() };
    refused(&mut bench, ino, vec![op], Refusal::Conflict);
    let (mut bench, ino, ..) = with_manifest(&[1]);
    refused(&mut bench, ino, vec![inline(0, b"x")], Refusal::Conflict);
    let op = WriteOp::AppendInline { data: b"x".to_vec() };
    refused(&mut bench, ino, vec![op], Refusal::Conflict);
}

#[test]
fn an_inline_body_is_outlined_only_with_all_its_bytes() {
    let (mut bench, ino) = with_file();
    done(&mut bench, ino, vec![inline(0, &[7; 3000])], vec![]);
    let content = bench.next_content();
    let (low, high) = (bench.new_chunk(2 * K), bench.new_chunk(K));
    let part = vec![WriteOp::Outline { content }, write(0, &low)];
    let mutation = commit(&mut bench, ino, part, vec![low.clone()]);
    bench.refused(mutation, Refusal::Conflict);
    let mutation = commit(&mut bench, ino, vec![write(0, &low)], vec![low.clone()]);
    bench.refused(mutation, Refusal::Conflict);
    let ops = vec![WriteOp::Outline { content }, write(2048, &high), write(0, &low)];
    let inode = done(&mut bench, ino, ops, vec![low, high]);
    assert_eq!((inode.body, inode.size), (Body::Manifest(content), 3072));
    // On a manifest it changes nothing, whatever the id.
    let again = WriteOp::Outline { content: ContentId { counter: 1 << 40, ..content } };
    assert_eq!(done(&mut bench, ino, vec![again], vec![]).body, Body::Manifest(content));
}

#[test]
fn a_content_id_is_used_once_and_by_its_session() {
    let (mut bench, bucket) = Bench::new();
    let (first, second) = (bench.create(bucket, "a"), bench.create(bucket, "b"));
    let content = bench.next_content();
    let chunk = bench.new_chunk(K);
    let ops = vec![WriteOp::Outline { content }, write(0, &chunk)];
    done(&mut bench, first, ops, vec![chunk]);
    refused(&mut bench, second, vec![WriteOp::Outline { content }], Refusal::UnknownChunk);
    let foreign = ContentId { session: SessionId(99), counter: 1 };
    let op = WriteOp::Outline { content: foreign };
    refused(&mut bench, second, vec![op], Refusal::UnknownChunk);
    let stage =
        |content| Mutation::Stage { content, ops: vec![], chunks: vec![], may_relax: false };
    bench.refused(stage(content), Refusal::UnknownChunk);
    bench.refused(stage(foreign), Refusal::UnknownChunk);
}

#[test]
fn truncation_cuts_pieces_and_extends_with_a_hole() {
    let (mut bench, ino, content, ids) = with_manifest(&[60, 60, 60]);
    let inode = done(&mut bench, ino, vec![WriteOp::Truncate { size: 70 * 1024 }], vec![]);
    assert_eq!((inode.size, inode.allocated), (70 * 1024, 70 * 1024));
    assert_eq!(bench.slot(content, 1).pieces, [piece(0, 6 * K, ids[1], 4 * K)]);
    assert!(!bench.has(&keys::slot(content, 2)));
    assert_eq!(bench.references(ids[2]), Some(0));
    let inode = done(&mut bench, ino, vec![WriteOp::Truncate { size: 1 << 40 }], vec![]);
    assert_eq!((inode.size, inode.allocated), (1 << 40, 70 * 1024));
    refused(&mut bench, ino, vec![WriteOp::Truncate { size: u64::MAX }], Refusal::FileTooLarge);
    refused(&mut bench, ino, vec![WriteOp::Extend { size: u64::MAX }], Refusal::FileTooLarge);
    let inode = done(&mut bench, ino, vec![WriteOp::Truncate { size: 0 }], vec![]);
    assert_eq!((inode.size, inode.allocated), (0, 0));
    assert_eq!(bench.superblock().data_bytes, 0);
}

#[test]
fn a_hole_is_punched_without_a_change_of_size() {
    let (mut bench, ino, content, ids) = with_manifest(&[60, 60]);
    let punch = WriteOp::Punch { offset: 1024, len: 80 * 1024 };
    let inode = done(&mut bench, ino, vec![punch], vec![]);
    assert_eq!((inode.size, inode.allocated), (120 * 1024, 40 * 1024));
    assert_eq!(bench.slot(content, 0).pieces, [piece(0, K, ids[0], 0)]);
    assert_eq!(bench.slot(content, 1).pieces, [piece(17 * K, 39 * K, ids[1], 21 * K)]);
    let beyond = WriteOp::Punch { offset: 1 << 50, len: (1 << 63) - 1 };
    assert_eq!(done(&mut bench, ino, vec![beyond], vec![]).size, 120 * 1024);
    for (offset, len) in [(0, 0), (2, u64::MAX)] {
        let op = WriteOp::Punch { offset, len };
        refused(&mut bench, ino, vec![op], Refusal::Malformed);
    }
}

#[test]
fn append_finds_its_offset_at_the_moment() {
    let (bench, ino, content, ids) = with_manifest(&[63, 4]);
    let expected = [piece(0, 63 * K, ids[0], 0), piece(63 * K, K, ids[1], 0)];
    assert_eq!(bench.slot(content, 0).pieces, expected);
    assert_eq!(bench.slot(content, 1).pieces, [piece(0, 3 * K, ids[1], K)]);
    assert_eq!(bench.inode(ino).unwrap().size, 67 * 1024);
}

#[test]
fn a_commit_sets_version_times_and_privilege() {
    let (mut bench, ino) = with_file();
    let mut inode = bench.inode(ino).unwrap();
    (inode.mode, inode.etag) = (Mode::new(0o6755), Some("abc".into()));
    bench.table.0.insert(keys::inode(ino), crate::meta::codec::encode(&inode).unwrap());
    let (at, mtime) = (Timestamp { seconds: 50, nanos: 1 }, Timestamp { seconds: 40, nanos: 2 });
    let commit = Commit {
        ino,
        ops: vec![inline(0, b"x")],
        chunks: vec![],
        expected_version: Some(0),
        at,
        mtime: Some(mtime),
        strip_privilege: true,
    };
    let inode = node(bench.propose(Mutation::Commit(commit.clone()))).1;
    assert_eq!((inode.mtime, inode.ctime, inode.committed_at), (mtime, at, at));
    assert_eq!((inode.version, inode.etag, inode.mode.bits()), (1, None, 0o755));
    bench.refused(Mutation::Commit(commit), Refusal::Conflict);
}

#[test]
fn an_empty_commit_publishes_and_leaves_the_times_alone() {
    let (mut bench, bucket) = Bench::new();
    let mut make = bench.new_node(bucket, "f", FileKind::Regular);
    make.published = false;
    let ino = bench.make(make);
    let key = keys::unpublished(bench.who.session, ino);
    assert!(bench.has(&key) && !bench.inode(ino).unwrap().published);
    let before = bench.inode(ino).unwrap();
    let after = done(&mut bench, ino, vec![], vec![]);
    assert!(after.published && !bench.has(&key));
    assert_eq!((after.mtime, after.ctime, after.version), (before.mtime, before.ctime, 0));
    assert!(after.committed_at > before.committed_at);
    let again = done(&mut bench, ino, vec![], vec![]);
    assert_eq!(again, after);
}

#[test]
fn only_regular_files_take_bytes() {
    let (mut bench, bucket) = Bench::new();
    let fifo = bench.new_node(bucket, "fifo", FileKind::Fifo);
    let fifo = bench.make(fifo);
    let cases = [
        (fifo, Refusal::NotARegularFile),
        (bucket, Refusal::IsADirectory),
        (Ino(99), Refusal::Stale),
    ];
    cases.into_iter().for_each(|(ino, refusal)| refused(&mut bench, ino, vec![], refusal));
}
