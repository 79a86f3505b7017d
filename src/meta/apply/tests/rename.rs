//! rename(2): replacement, flags, directories that move.

use super::{Bench, file_name, removed};
use crate::meta::keys;
use crate::meta::mutation::{Change, Mutation, Outcome, Refusal, Rename, RenameMode};
use crate::types::{FileKind, Ino};

fn rename(
    bench: &mut Bench,
    (parent, name): (Ino, &str),
    (new_parent, new_name): (Ino, &str),
    mode: RenameMode,
) -> Mutation {
    Mutation::Rename(Rename {
        parent,
        name: file_name(name),
        new_parent,
        new_name: file_name(new_name),
        mode,
        held: false,
        at: bench.now(),
    })
}

fn moved(bench: &mut Bench, from: (Ino, &str), to: (Ino, &str)) -> Outcome {
    let mutation = rename(bench, from, to, RenameMode::Replace);
    let outcome = bench.propose(mutation);
    bench.check();
    outcome
}

fn refused(bench: &mut Bench, from: (Ino, &str), to: (Ino, &str), refusal: Refusal) {
    let mutation = rename(bench, from, to, RenameMode::Replace);
    bench.refused(mutation, refusal);
}

#[test]
fn a_file_moves_and_everybody_is_told() {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    let ino = bench.create(bucket, "f");
    let mutation = rename(&mut bench, (bucket, "f"), (dir, "g"), RenameMode::Replace);
    assert_eq!(bench.propose(mutation), Outcome::Done);
    let told = [
        Change::Entry { parent: bucket, name: file_name("f") },
        Change::Unnamed(ino),
        Change::Attributes(bucket),
        Change::Entry { parent: dir, name: file_name("g") },
        Change::Attributes(dir),
        Change::Attributes(ino),
    ];
    assert_eq!(bench.changes, told);
    assert_eq!((bench.lookup(bucket, "f"), bench.lookup(dir, "g").unwrap().ino), (None, ino));
    let now = bench.clock;
    for changed in [bucket, dir, ino] {
        assert_eq!(bench.inode(changed).unwrap().ctime.seconds, now);
    }
    assert_eq!(bench.inode(bucket).unwrap().mtime.seconds, now);
    assert!(bench.inode(ino).unwrap().mtime.seconds < now);
    bench.check();
}

#[test]
fn a_replaced_file_loses_its_name() {
    let (mut bench, bucket) = Bench::new();
    let (old, new) = (bench.create(bucket, "old"), bench.create(bucket, "new"));
    let (gone, inode) = removed(moved(&mut bench, (bucket, "new"), (bucket, "old")));
    assert_eq!((gone, inode.nlink, bench.inode(old)), (old, 0, None));
    assert_eq!(bench.lookup(bucket, "old").unwrap().ino, new);
    assert_eq!(bench.inode(bucket).unwrap().size, 1);
    let held = bench.create(bucket, "held");
    let Mutation::Rename(mut change) =
        rename(&mut bench, (bucket, "old"), (bucket, "held"), RenameMode::Replace)
    else {
        unreachable!()
    };
    change.held = true;
    removed(bench.propose(Mutation::Rename(change)));
    assert!(bench.has(&keys::orphan(held)));
    bench.check();
}

#[test]
fn a_directory_takes_its_tree_along() {
    let (mut bench, bucket) = Bench::new();
    let (a, b) = (bench.mkdir(bucket, "a"), bench.mkdir(bucket, "b"));
    let inner = bench.mkdir(a, "inner");
    bench.create(inner, "f");
    assert_eq!(moved(&mut bench, (a, "inner"), (b, "moved")), Outcome::Done);
    assert_eq!(bench.inode(inner).unwrap().parent, b);
    assert_eq!((bench.inode(a).unwrap().nlink, bench.inode(b).unwrap().nlink), (2, 3));
    let empty = bench.mkdir(bucket, "empty");
    assert_eq!(removed(moved(&mut bench, (b, "moved"), (bucket, "empty"))).0, empty);
    assert_eq!((bench.inode(b).unwrap().nlink, bench.inode(bucket).unwrap().nlink), (2, 5));
}

#[test]
fn kinds_must_fit_and_directories_be_empty() {
    let (mut bench, bucket) = Bench::new();
    let (full, _) = (bench.mkdir(bucket, "full"), bench.mkdir(bucket, "empty"));
    bench.create(full, "f");
    bench.create(bucket, "file");
    let cases = [
        ("file", "empty", Refusal::IsADirectory),
        ("empty", "file", Refusal::NotADirectory),
        ("empty", "full", Refusal::NotEmpty),
        ("no", "file", Refusal::NotFound),
    ];
    for (from, to, refusal) in cases {
        refused(&mut bench, (bucket, from), (bucket, to), refusal);
    }
    refused(&mut bench, (bucket, "file"), (Ino(99), "x"), Refusal::Stale);
    let file = bench.lookup(bucket, "file").unwrap().ino;
    refused(&mut bench, (bucket, "empty"), (file, "x"), Refusal::NotADirectory);
}

#[test]
fn a_directory_does_not_move_below_itself() {
    let (mut bench, bucket) = Bench::new();
    let a = bench.mkdir(bucket, "a");
    let b = bench.mkdir(a, "b");
    let c = bench.mkdir(b, "c");
    for below in [a, b, c] {
        refused(&mut bench, (bucket, "a"), (below, "x"), Refusal::BelowItself);
    }
    let other = bench.mkdir(bucket, "other");
    let exchange = rename(&mut bench, (b, "c"), (bucket, "a"), RenameMode::Exchange);
    bench.refused(exchange, Refusal::BelowItself);
    let exchange = rename(&mut bench, (bucket, "a"), (b, "c"), RenameMode::Exchange);
    bench.refused(exchange, Refusal::BelowItself);
    assert_eq!(moved(&mut bench, (b, "c"), (other, "c")), Outcome::Done);
    assert_eq!(moved(&mut bench, (bucket, "a"), (c, "a")), Outcome::Done);
}

/// Very many nested directories were taken for parents that run in a circle, which stopped every
/// node for good.
#[test]
fn a_directory_cannot_move_too_deep() {
    let (mut bench, bucket) = Bench::new();
    bench.mkdir(bucket, "moved");
    let mut deep = bucket;
    for _ in 0..300 {
        deep = bench.mkdir(deep, "d");
    }
    refused(&mut bench, (bucket, "moved"), (deep, "x"), Refusal::TooMuch);
    bench.create(bucket, "file");
    assert_eq!(moved(&mut bench, (bucket, "file"), (deep, "x")), Outcome::Done);
    bench.check();
}

#[test]
fn two_names_of_one_file_both_stay() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "a");
    let at = bench.now();
    bench.propose(Mutation::Link { ino, parent: bucket, name: file_name("b"), at });
    let before = bench.inode(bucket);
    for mode in [RenameMode::Replace, RenameMode::Exchange] {
        for to in ["a", "b"] {
            let mutation = rename(&mut bench, (bucket, "a"), (bucket, to), mode);
            assert_eq!(bench.propose(mutation), Outcome::Done);
            assert!(bench.changes.is_empty());
        }
    }
    assert_eq!((bench.inode(bucket), bench.inode(ino).unwrap().nlink), (before, 2));
    let mutation = rename(&mut bench, (bucket, "a"), (bucket, "b"), RenameMode::NoReplace);
    bench.refused(mutation, Refusal::AlreadyExists);
}

#[test]
fn exchange_swaps_even_a_file_and_a_directory() {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    let (file, inner) = (bench.create(bucket, "f"), bench.mkdir(dir, "inner"));
    let mutation = rename(&mut bench, (bucket, "f"), (dir, "inner"), RenameMode::Exchange);
    assert_eq!(bench.propose(mutation), Outcome::Done);
    bench.check();
    let moved = bench.lookup(bucket, "f").unwrap();
    assert_eq!((moved.ino, moved.kind), (inner, FileKind::Directory));
    assert_eq!(bench.lookup(dir, "inner").unwrap().ino, file);
    assert_eq!(bench.inode(inner).unwrap().parent, bucket);
    assert_eq!((bench.inode(bucket).unwrap().nlink, bench.inode(dir).unwrap().nlink), (4, 2));
    let mutation = rename(&mut bench, (bucket, "f"), (dir, "no"), RenameMode::Exchange);
    bench.refused(mutation, Refusal::NotFound);
}

#[test]
fn buckets_keep_their_names_and_places() {
    let (mut bench, bucket) = Bench::new();
    bench.mkdir(Ino::ROOT, "other");
    bench.mkdir(bucket, "dir");
    for mode in [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange] {
        let cases = [
            ((Ino::ROOT, "bkt"), (Ino::ROOT, "renamed")),
            ((Ino::ROOT, "bkt"), (Ino::ROOT, "other")),
            ((Ino::ROOT, "other"), (bucket, "moved")),
            ((Ino::ROOT, "other"), (bucket, "dir")),
            ((bucket, "dir"), (Ino::ROOT, "dir")),
            ((bucket, "dir"), (Ino::ROOT, "other")),
        ];
        for (from, to) in cases {
            let mutation = rename(&mut bench, from, to, mode);
            bench.refused(mutation, Refusal::RootRule);
        }
    }
}
