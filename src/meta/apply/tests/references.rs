//! Bytes that come without being sent again: copies by reference, contents staged before.

use super::SLOT;
use super::write::{K, done, inline, piece, refused, with_file, with_manifest, write};
use crate::meta::keys;
use crate::meta::mutation::{Mutation, Outcome, Refusal, WriteOp};
use crate::meta::record::{Body, Staged};
use crate::types::Ino;
use crate::types::limits::{FILE_SIZE_MAX, SLOTS_FREED_MAX};

#[test]
fn copies_are_by_reference_and_join_again() {
    let (mut bench, ino, _, ids) = with_manifest(&[60, 60]);
    let parent = bench.inode(ino).unwrap().parent;
    let copy = bench.create(parent, "copy");
    let content = bench.next_content();
    let copy_of = |offset: u64, to: u64, len: u64| WriteOp::Copy {
        from: ino,
        from_offset: offset * 1024,
        offset: to * 1024,
        len: len * 1024,
    };
    let ops = vec![WriteOp::Outline { content }, copy_of(0, 0, 30), copy_of(30, 30, 30)];
    let inode = done(&mut bench, copy, ops, vec![]);
    assert_eq!((inode.size, inode.allocated), (60 * 1024, 60 * 1024));
    assert_eq!(bench.slot(content, 0).pieces, [piece(0, 60 * K, ids[0], 0)]);
    assert_eq!(bench.references(ids[0]), Some(2));
    // Moved by one KiB: cut at other places; what was in the way is gone.
    done(&mut bench, copy, vec![copy_of(50, 1, 70)], vec![]);
    let expected = [
        piece(0, K, ids[0], 0),
        piece(K, 10 * K, ids[0], 50 * K),
        piece(11 * K, 53 * K, ids[1], 0),
    ];
    assert_eq!(bench.slot(content, 0).pieces, expected);
    assert_eq!(bench.slot(content, 1).pieces, [piece(0, 7 * K, ids[1], 53 * K)]);
}

#[test]
fn copies_within_a_file_do_not_overlap() {
    let (mut bench, ino, content, ids) = with_manifest(&[8]);
    let copy = |from_offset, offset, len| WriteOp::Copy { from: ino, from_offset, offset, len };
    refused(&mut bench, ino, vec![copy(0, 1024, 2048)], Refusal::Malformed);
    refused(&mut bench, ino, vec![copy(8192, 0, 1)], Refusal::Conflict);
    refused(&mut bench, ino, vec![copy(0, 1024, 0)], Refusal::Malformed);
    refused(&mut bench, ino, vec![copy(0, FILE_SIZE_MAX, 1)], Refusal::FileTooLarge);
    let inode = done(&mut bench, ino, vec![copy(0, 16384, 8192)], vec![]);
    assert_eq!(inode.size, 24576);
    let expected = [piece(0, 8 * K, ids[0], 0), piece(16 * K, 8 * K, ids[0], 0)];
    assert_eq!(bench.slot(content, 0).pieces, expected);
    // A copied hole is a hole.
    done(&mut bench, ino, vec![copy(8192, 0, 8192)], vec![]);
    assert_eq!(bench.slot(content, 0).pieces, expected[1..]);
}

#[test]
fn copies_to_and_from_inline_bodies_are_left_to_the_caller() {
    let (mut bench, ino, ..) = with_manifest(&[8]);
    let parent = bench.inode(ino).unwrap().parent;
    let small = bench.create(parent, "small");
    done(&mut bench, small, vec![inline(0, b"abc"), WriteOp::Extend { size: 100 }], vec![]);
    let copy = |from, from_offset, offset, len| WriteOp::Copy { from, from_offset, offset, len };
    refused(&mut bench, small, vec![copy(ino, 0, 0, 10)], Refusal::Conflict);
    refused(&mut bench, small, vec![copy(ino, 0, 10, 10)], Refusal::Conflict);
    refused(&mut bench, ino, vec![copy(small, 0, 0, 10)], Refusal::Conflict);
    refused(&mut bench, ino, vec![copy(parent, 0, 0, 10)], Refusal::NotARegularFile);
    refused(&mut bench, ino, vec![copy(Ino(99), 0, 0, 10)], Refusal::Stale);
    let inode = done(&mut bench, ino, vec![copy(small, 50, 0, 50)], vec![]);
    assert_eq!(inode.allocated, 8192 - 50);
    assert_eq!(done(&mut bench, small, vec![copy(small, 50, 200, 50)], vec![]).size, 250);
}

#[test]
fn a_staged_content_is_swapped_in_whole() {
    let (mut bench, ino, old, ids) = with_manifest(&[8]);
    let content = bench.next_content();
    for slot in 0..3 {
        let chunk = bench.new_chunk(SLOT as u32);
        let ops = vec![write(slot * SLOT, &chunk)];
        let outcome =
            bench.propose(Mutation::Stage { content, ops, chunks: vec![chunk], may_relax: false });
        assert_eq!(outcome, Outcome::Done);
    }
    let staged: Staged = bench.read(&keys::staged(content)).unwrap();
    assert_eq!((staged.size, staged.allocated), (3 * SLOT, 3 * SLOT));
    let adopt = |size| vec![WriteOp::Adopt { content, size }];
    refused(&mut bench, ino, adopt(3 * SLOT - 1), Refusal::Malformed);
    refused(&mut bench, ino, adopt(u64::MAX), Refusal::FileTooLarge);
    let inode = done(&mut bench, ino, adopt(3 * SLOT + 5), vec![]);
    assert_eq!(inode.body, Body::Manifest(content));
    assert_eq!((inode.size, inode.allocated), (3 * SLOT + 5, 3 * SLOT));
    assert!(!bench.has(&keys::staged(content)) && !bench.has(&keys::slot(old, 0)));
    assert_eq!(bench.references(ids[0]), Some(0));
    assert_eq!(bench.superblock().data_bytes, 3 * SLOT);
    refused(&mut bench, ino, adopt(3 * SLOT), Refusal::UnknownChunk);
}

#[test]
fn a_staged_content_can_be_given_up() {
    let (mut bench, _) = with_file();
    let content = bench.next_content();
    let chunk = bench.new_chunk(K);
    let (id, ops) = (chunk.id, vec![write(0, &chunk)]);
    bench.propose(Mutation::Stage { content, ops, chunks: vec![chunk], may_relax: false });
    for op in [WriteOp::Reset, inline(0, b"x"), WriteOp::Adopt { content, size: 1 }] {
        let stage = Mutation::Stage { content, ops: vec![op], chunks: vec![], may_relax: false };
        bench.refused(stage, Refusal::Malformed);
    }
    assert_eq!(bench.propose(Mutation::Unstage { content }), Outcome::Done);
    assert_eq!((bench.references(id), bench.has(&keys::staged(content))), (Some(0), false));
    bench.refused(Mutation::Unstage { content }, Refusal::NotFound);
}

#[test]
fn one_mutation_walks_over_a_bounded_number_of_slots() {
    let (mut bench, ino) = with_file();
    let content = bench.next_content();
    let chunk = bench.new_chunk(SLOT as u32);
    let id = chunk.id;
    let slots = SLOTS_FREED_MAX as u64 + 10;
    let mut chunks = vec![chunk];
    for first in (0..slots).step_by(1000) {
        let range = first..slots.min(first + 1000);
        let slot =
            |slot| WriteOp::Write { offset: slot * SLOT, len: 1, chunk: id, chunk_offset: 0 };
        let ops = range.map(slot).collect();
        let outcome = bench.propose(Mutation::Stage { content, ops, chunks, may_relax: false });
        assert_eq!(outcome, Outcome::Done);
        chunks = Vec::new();
    }
    let size = slots * SLOT;
    let adopt = WriteOp::Adopt { content, size };
    done(&mut bench, ino, vec![adopt], vec![]);
    let (all, half) = (WriteOp::Truncate { size: 0 }, WriteOp::Truncate { size: size / 2 });
    refused(&mut bench, ino, vec![all.clone()], Refusal::TooMuch);
    refused(&mut bench, ino, vec![half.clone(), all.clone()], Refusal::TooMuch);
    let punch = WriteOp::Punch { offset: 0, len: size };
    refused(&mut bench, ino, vec![punch], Refusal::TooMuch);
    let copy = WriteOp::Copy { from: ino, from_offset: 0, offset: size, len: size };
    refused(&mut bench, ino, vec![copy], Refusal::TooMuch);
    done(&mut bench, ino, vec![half], vec![]);
    assert_eq!(done(&mut bench, ino, vec![all], vec![]).allocated, 0);
    assert_eq!((bench.references(id), bench.superblock().data_bytes), (Some(0), 0));
}
