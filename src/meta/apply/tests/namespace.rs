//! Names: what POSIX says of links, sizes and times, what S3 says of the root.

use super::{Bench, file_name, node, removed};
use crate::meta::keys;
use crate::meta::mutation::{Change, Make, Mutation, Outcome, Refusal};
use crate::meta::record::{Body, Bucket};
use crate::types::limits::{LINK_MAX, SYMLINK_MAX};
use crate::types::{FileKind, Ino, Mode, Timestamp};

fn unlink(bench: &mut Bench, parent: Ino, name: &str, held: bool) -> Mutation {
    Mutation::Unlink { parent, name: file_name(name), held, at: bench.now() }
}

fn rmdir(bench: &mut Bench, parent: Ino, name: &str, held: bool) -> Mutation {
    Mutation::Rmdir { parent, name: file_name(name), held, at: bench.now() }
}

fn link(bench: &mut Bench, ino: Ino, parent: Ino, name: &str) -> Mutation {
    Mutation::Link { ino, parent, name: file_name(name), at: bench.now() }
}

#[test]
fn a_new_file_is_counted_in_its_directory() {
    let (mut bench, bucket) = Bench::new();
    let before = bench.inode(bucket).unwrap();
    let make = bench.new_node(bucket, "f", FileKind::Regular);
    let at = make.at;
    let (ino, file) = node(bench.propose(Mutation::Make(make)));
    assert_eq!(bench.inode(ino), Some(file.clone()));
    assert_eq!((file.nlink, file.size, file.uid, file.gid), (1, 0, 10, 20));
    assert_eq!((file.mtime, file.crtime, file.parent, file.explicit), (at, at, bucket, false));
    assert_eq!(file.body, Body::Inline(Vec::new()));
    let after = bench.inode(bucket).unwrap();
    assert_eq!((after.size, after.nlink), (before.size + 1, before.nlink));
    assert_eq!((after.mtime, after.ctime, after.atime), (at, at, before.atime));
    assert_eq!(bench.superblock().inodes, 3);
    let entry = Change::Entry { parent: bucket, name: file_name("f") };
    assert_eq!(bench.changes, [entry, Change::Attributes(bucket)]);
}

#[test]
fn a_name_is_taken_in_both_spellings() {
    let (mut bench, bucket) = Bench::new();
    bench.create(bucket, "a");
    bench.mkdir(bucket, "b");
    for (name, kind) in [("a", FileKind::Directory), ("b", FileKind::Regular)] {
        let make = bench.new_node(bucket, name, kind);
        bench.refused(Mutation::Make(make), Refusal::AlreadyExists);
    }
    let ino = bench.lookup(bucket, "a").unwrap().ino;
    let mutation = link(&mut bench, ino, bucket, "b");
    bench.refused(mutation, Refusal::AlreadyExists);
}

#[test]
fn only_buckets_live_at_the_root() {
    let (mut bench, bucket) = Bench::new();
    let record: Bucket = bench.read(&keys::bucket(bucket)).unwrap();
    assert!(record.quorum_required);
    let make = bench.new_node(Ino::ROOT, "file", FileKind::Regular);
    bench.refused(Mutation::Make(make), Refusal::RootRule);
    let make = bench.new_node(Ino::ROOT, "Not_A_Bucket", FileKind::Directory);
    bench.refused(Mutation::Make(make), Refusal::Malformed);
    let ino = bench.create(bucket, "f");
    let mutation = link(&mut bench, ino, Ino::ROOT, "link");
    bench.refused(mutation, Refusal::RootRule);
    let mutation = rmdir(&mut bench, Ino::ROOT, "bkt", false);
    bench.refused(mutation, Refusal::NotEmpty);
    let mutation = unlink(&mut bench, bucket, "f", false);
    removed(bench.propose(mutation));
    let mutation = rmdir(&mut bench, Ino::ROOT, "bkt", false);
    assert_eq!(removed(bench.propose(mutation)).1.nlink, 0);
    assert!(!bench.has(&keys::bucket(bucket)));
    assert_eq!(bench.inode(Ino::ROOT).unwrap().nlink, 2);
    assert_eq!(bench.superblock().inodes, 1);
}

#[test]
fn a_parent_must_be_a_directory_that_is_there() {
    let (mut bench, bucket) = Bench::new();
    let file = bench.create(bucket, "f");
    let dir = bench.mkdir(bucket, "d");
    let mutation = rmdir(&mut bench, bucket, "d", true);
    removed(bench.propose(mutation));
    let cases =
        [(file, Refusal::NotADirectory), (dir, Refusal::NotFound), (Ino(99), Refusal::Stale)];
    for (parent, refusal) in cases {
        let make = bench.new_node(parent, "x", FileKind::Regular);
        bench.refused(Mutation::Make(make), refusal);
        for mutation in
            [unlink(&mut bench, parent, "x", false), link(&mut bench, file, parent, "x")]
        {
            bench.refused(mutation, refusal);
        }
    }
}

#[test]
fn a_set_group_id_directory_hands_down_its_group() {
    let (mut bench, bucket) = Bench::new();
    let mut shared = bench.new_node(bucket, "shared", FileKind::Directory);
    (shared.mode, shared.gid) = (Mode::new(0o2775), 77);
    let shared = bench.make(shared);
    let file = bench.create(shared, "f");
    let dir = bench.mkdir(shared, "d");
    let (file, dir) = (bench.inode(file).unwrap(), bench.inode(dir).unwrap());
    assert_eq!((file.gid, file.mode.bits()), (77, 0o644));
    assert_eq!((dir.gid, dir.mode.bits()), (77, 0o2644));
}

#[test]
fn special_files_carry_what_belongs_to_their_kind() {
    let (mut bench, bucket) = Bench::new();
    let with = |bench: &mut Bench, name: &str, kind, rdev, target: &[u8]| {
        let make = bench.new_node(bucket, name, kind);
        Mutation::Make(Make { rdev, target: target.to_vec(), ..make })
    };
    let device = with(&mut bench, "dev", FileKind::CharDevice, 259, b"");
    assert_eq!(node(bench.propose(device)).1.rdev, 259);
    let fifo = with(&mut bench, "fifo", FileKind::Fifo, 259, b"");
    let fifo = node(bench.propose(fifo)).1;
    assert_eq!((fifo.rdev, fifo.body), (0, Body::None));
    let symlink = with(&mut bench, "sym", FileKind::Symlink, 0, b"to/there");
    let symlink = node(bench.propose(symlink)).1;
    assert_eq!((symlink.size, symlink.body), (8, Body::Symlink(b"to/there".to_vec())));
    for (kind, target) in [
        (FileKind::Symlink, vec![]),
        (FileKind::Symlink, vec![b'x'; SYMLINK_MAX + 1]),
        (FileKind::Regular, vec![b'x']),
    ] {
        let mutation = with(&mut bench, "bad", kind, 0, &target);
        bench.refused(mutation, Refusal::Malformed);
    }
}

#[test]
fn links_are_counted_until_the_last_is_gone() {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    let ino = bench.create(bucket, "a");
    let mutation = link(&mut bench, ino, dir, "b");
    let linked = node(bench.propose(mutation)).1;
    assert_eq!((linked.nlink, linked.ctime.seconds, linked.parent), (2, bench.clock, bucket));
    let mutation = unlink(&mut bench, bucket, "a", false);
    let (gone, left) = removed(bench.propose(mutation));
    assert_eq!((gone, left.nlink, left.ctime.seconds), (ino, 1, bench.clock));
    assert_eq!(bench.inode(ino), Some(left));
    let mutation = unlink(&mut bench, dir, "b", false);
    assert_eq!(removed(bench.propose(mutation)).1.nlink, 0);
    assert_eq!(bench.inode(ino), None);
    assert!(bench.changes.contains(&Change::Gone(ino)));
    let mutation = link(&mut bench, ino, dir, "b");
    bench.refused(mutation, Refusal::Stale);
}

#[test]
fn links_have_a_limit_and_no_directories() {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    let mutation = link(&mut bench, dir, bucket, "e");
    bench.refused(mutation, Refusal::IsADirectory);
    let ino = bench.create(bucket, "f");
    let mut inode = bench.inode(ino).unwrap();
    inode.nlink = LINK_MAX;
    let bytes = crate::meta::codec::encode(&inode).unwrap();
    bench.table.0.insert(keys::inode(ino), bytes);
    let mutation = link(&mut bench, ino, bucket, "g");
    bench.refused(mutation, Refusal::TooManyLinks);
}

#[test]
fn an_unlinked_file_stays_while_it_is_held() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    let mutation = unlink(&mut bench, bucket, "f", true);
    let (_, orphan) = removed(bench.propose(mutation));
    assert_eq!((orphan.nlink, bench.has(&keys::orphan(ino))), (0, true));
    assert_eq!(bench.inode(ino), Some(orphan));
    let mutation = link(&mut bench, ino, bucket, "again");
    bench.refused(mutation, Refusal::NotFound);
    assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![ino] }), Outcome::Done);
    assert_eq!((bench.inode(ino), bench.has(&keys::orphan(ino))), (None, false));
    assert_eq!(bench.changes, [Change::Gone(ino)]);
    assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![ino] }), Outcome::Done);
    assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![bucket] }), Outcome::Done);
    assert!(bench.inode(bucket).is_some() && bench.changes.is_empty());
}

#[test]
fn with_two_sessions_the_other_may_hold_it() {
    let (mut bench, bucket) = Bench::new();
    let other = bench.open_session(2);
    let ino = bench.create(bucket, "f");
    let mutation = unlink(&mut bench, bucket, "f", false);
    removed(bench.propose(mutation));
    assert!(bench.inode(ino).is_some() && bench.has(&keys::hold(other, ino)));
    assert_eq!(bench.propose(Mutation::EndSession { session: other }), Outcome::More(false));
    assert!(bench.inode(ino).is_some() && !bench.has(&keys::hold(other, ino)));
    assert_eq!(bench.propose(Mutation::ReleaseOrphans { inos: vec![ino] }), Outcome::Done);
    assert!(bench.inode(ino).is_none() && !bench.has(&keys::orphan(ino)));
    let ino = bench.create(bucket, "f");
    let mutation = unlink(&mut bench, bucket, "f", false);
    removed(bench.propose(mutation));
    assert!(bench.inode(ino).is_none());
}

#[test]
fn the_wrong_call_for_the_kind_is_refused() {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    bench.create(bucket, "f");
    bench.create(dir, "inner");
    let cases = [
        (unlink(&mut bench, bucket, "d", false), Refusal::IsADirectory),
        (rmdir(&mut bench, bucket, "f", false), Refusal::NotADirectory),
        (rmdir(&mut bench, bucket, "d", false), Refusal::NotEmpty),
        (rmdir(&mut bench, bucket, "no", false), Refusal::NotFound),
        (unlink(&mut bench, bucket, "no", false), Refusal::NotFound),
    ];
    cases.into_iter().for_each(|(mutation, refusal)| bench.refused(mutation, refusal));
}

#[test]
fn times_come_from_the_mutation() {
    let (mut bench, bucket) = Bench::new();
    bench.create(bucket, "f");
    let at = Timestamp { seconds: -5, nanos: 9 };
    let mutation = Mutation::Unlink { parent: bucket, name: file_name("f"), held: false, at };
    removed(bench.propose(mutation));
    let bucket = bench.inode(bucket).unwrap();
    assert_eq!((bucket.mtime, bucket.ctime), (at, at));
}
