//! chmod, chown, utimens, and extended attributes.

use super::{Bench, node};
use crate::meta::keys;
use crate::meta::mutation::{
    Change, Make, Mutation, Outcome, Refusal, SetAttr, SetXattr, XattrMode,
};
use crate::types::limits::{XATTR_NAME_MAX, XATTR_VALUE_MAX};
use crate::types::{FileKind, Ino, Mode, Timestamp};

pub fn keep(bench: &mut Bench, ino: Ino) -> SetAttr {
    SetAttr {
        ino,
        mode: None,
        uid: None,
        gid: None,
        atime: None,
        mtime: None,
        strip_privilege: false,
        at: bench.now(),
    }
}

fn set(bench: &mut Bench, ino: Ino, name: &[u8], value: &[u8]) -> SetXattr {
    let (name, value, at) = (name.to_vec(), value.to_vec(), bench.now());
    SetXattr { ino, name, value, mode: XattrMode::Any, permissions: None, at }
}

#[test]
fn what_is_not_named_stays() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    let before = bench.inode(ino).unwrap();
    let change = keep(&mut bench, ino);
    let at = change.at;
    let after = node(bench.propose(Mutation::SetAttr(change))).1;
    assert_eq!(after, crate::meta::Inode { ctime: at, ..before });
    assert_eq!(bench.changes, [Change::Attributes(ino)]);
    let old = Timestamp { seconds: -1, nanos: 999_999_999 };
    let change = SetAttr {
        mode: Some(Mode::new(0o4711)),
        uid: Some(5),
        gid: Some(6),
        atime: Some(old),
        mtime: Some(old),
        ..keep(&mut bench, ino)
    };
    let after = node(bench.propose(Mutation::SetAttr(change))).1;
    assert_eq!((after.mode.bits(), after.uid, after.gid), (0o4711, 5, 6));
    assert_eq!((after.atime, after.mtime, after.version), (old, old, 0));
}

#[test]
fn privilege_is_stripped_of_files_only() {
    let (mut bench, bucket) = Bench::new();
    let (file, dir) = (bench.create(bucket, "f"), bench.mkdir(bucket, "d"));
    for (ino, left) in [(file, 0o755), (dir, 0o6755)] {
        let mode = Some(Mode::new(0o6755));
        let change = SetAttr { mode, strip_privilege: true, ..keep(&mut bench, ino) };
        assert_eq!(node(bench.propose(Mutation::SetAttr(change))).1.mode.bits(), left);
    }
}

#[test]
fn a_time_has_less_than_a_second_of_nanos() {
    let (mut bench, bucket) = Bench::new();
    let bad = Timestamp { seconds: 0, nanos: Timestamp::NANOS_PER_SECOND };
    let change = SetAttr { mtime: Some(bad), ..keep(&mut bench, bucket) };
    bench.refused(Mutation::SetAttr(change), Refusal::Malformed);
    let change = keep(&mut bench, Ino(99));
    bench.refused(Mutation::SetAttr(change), Refusal::Stale);
}

#[test]
fn an_attribute_comes_and_goes_with_the_time_of_change() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    let change = set(&mut bench, ino, b"user.a", b"1");
    let at = change.at;
    assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
    let inode = bench.inode(ino).unwrap();
    assert_eq!((inode.ctime, inode.mtime < at), (at, true));
    assert_eq!(bench.read::<Vec<u8>>(&keys::xattr(ino, b"user.a")).unwrap(), b"1");
    let at = bench.now();
    let remove = Mutation::RemoveXattr { ino, name: b"user.a".to_vec(), at };
    assert_eq!(bench.propose(remove.clone()), Outcome::Done);
    assert!(!bench.has(&keys::xattr(ino, b"user.a")));
    bench.refused(remove, Refusal::NoAttribute);
    let empty = Mutation::RemoveXattr { ino, name: Vec::new(), at };
    bench.refused(empty, Refusal::NoAttribute);
}

#[test]
fn create_and_replace_ask_what_is_there() {
    let (mut bench, ino) = Bench::new();
    let (create, replace) = (XattrMode::Create, XattrMode::Replace);
    let change = SetXattr { mode: replace, ..set(&mut bench, ino, b"user.a", b"1") };
    bench.refused(Mutation::SetXattr(change), Refusal::NoAttribute);
    let change = SetXattr { mode: create, ..set(&mut bench, ino, b"user.a", b"1") };
    assert_eq!(bench.propose(Mutation::SetXattr(change.clone())), Outcome::Done);
    bench.refused(Mutation::SetXattr(change), Refusal::AlreadyExists);
    let change = SetXattr { mode: replace, ..set(&mut bench, ino, b"user.a", b"2") };
    assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
}

#[test]
fn an_acl_sets_the_mode_in_the_same_change() {
    let (mut bench, ino) = Bench::new();
    let permissions = Some(Mode::new(0o1750));
    let change = SetXattr { permissions, ..set(&mut bench, ino, b"system.posix_acl_access", b"x") };
    assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
    assert_eq!(bench.inode(ino).unwrap().mode.bits(), 0o1750);
}

#[test]
fn attributes_have_limits() {
    let (mut bench, bucket) = Bench::new();
    let ino = bench.create(bucket, "f");
    for (name, value) in [
        (vec![], vec![]),
        (vec![b'x'; XATTR_NAME_MAX + 1], vec![]),
        (b"a\0b".to_vec(), vec![]),
        (b"user.a".to_vec(), vec![0; XATTR_VALUE_MAX + 1]),
    ] {
        let change = set(&mut bench, ino, &name, &value);
        bench.refused(Mutation::SetXattr(change), Refusal::Malformed);
    }
    let change = set(&mut bench, ino, &[b'x'; XATTR_NAME_MAX], &[1; XATTR_VALUE_MAX]);
    assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
    // Each name takes 256 bytes of the list listxattr(2) can give: 64 KiB.
    for number in 1..256 {
        let name = format!("{number:0255}");
        let change = set(&mut bench, ino, name.as_bytes(), b"");
        assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
    }
    let change = set(&mut bench, ino, b"y", b"");
    bench.refused(Mutation::SetXattr(change), Refusal::TooManyAttributes);
    let change = set(&mut bench, ino, &[b'x'; XATTR_NAME_MAX], b"changed");
    assert_eq!(bench.propose(Mutation::SetXattr(change)), Outcome::Done);
}

#[test]
fn inherited_attributes_come_and_go_with_the_inode() {
    let (mut bench, bucket) = Bench::new();
    let make = bench.new_node(bucket, "d", FileKind::Directory);
    let xattrs = vec![(b"system.acl".to_vec(), b"x".to_vec())];
    let ino = bench.make(Make { xattrs, ..make.clone() });
    assert!(bench.has(&keys::xattr(ino, b"system.acl")));
    let at = bench.now();
    let name = make.name.clone();
    bench.propose(Mutation::Rmdir { parent: bucket, name, held: false, at });
    assert!(bench.table.keys(keys::XATTR).is_empty());
    let xattrs = vec![(Vec::new(), Vec::new())];
    bench.refused(Mutation::Make(Make { xattrs, ..make }), Refusal::Malformed);
    bench.check();
}
