//! Objects by key and multipart uploads, step by step, and random puts and deletes against a map.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::attributes::keep;
use super::*;
use crate::meta::mutation::{SetAttr, WriteOp};
use crate::meta::object::{
    Chosen, Condition, DeleteObject, Expected, ObjectBody, ObjectPath, Part, PutObject,
    RenameObject, Sums, Upload, UploadRef,
};
use crate::meta::record::Body;

fn path(bucket: Ino, key: &str) -> ObjectPath {
    let names = key.split('/').filter(|name| !name.is_empty()).map(file_name).collect();
    ObjectPath { bucket, names, is_directory: key.ends_with('/') }
}

impl Bench {
    pub fn object(&mut self, bucket: Ino, key: &str, data: &str) -> PutObject {
        PutObject {
            path: path(bucket, key),
            body: ObjectBody::Inline(data.into()),
            etag: Some(format!("tag of {data}")),
            sums: Sums::default(),
            xattrs: vec![(b"user.s3.meta.a".to_vec(), data.into())],
            uid: 30,
            gid: 40,
            mode: Mode::new(0o640),
            directory_mode: Mode::new(0o750),
            chosen: Chosen::default(),
            condition: Condition::Always,
            held: false,
            at: self.now(),
        }
    }

    fn put(&mut self, bucket: Ino, key: &str, data: &str) -> Outcome {
        let put = self.object(bucket, key, data);
        self.propose(Mutation::PutObject(Box::new(put)))
    }

    pub fn put_small(&mut self, bucket: Ino, key: &str, data: &str) {
        put_ino(self.put(bucket, key, data));
    }

    fn put_if(&mut self, bucket: Ino, key: &str, condition: Condition) -> Outcome {
        let put = PutObject { condition, ..self.object(bucket, key, "conditional") };
        self.propose(Mutation::PutObject(Box::new(put)))
    }

    fn delete_if(&mut self, bucket: Ino, key: &str, expected: Expected) -> Outcome {
        let at = self.now();
        let delete = DeleteObject { path: path(bucket, key), expected, held: false, at };
        self.propose(Mutation::DeleteObject(delete))
    }

    fn delete(&mut self, bucket: Ino, key: &str) -> Outcome {
        self.delete_if(bucket, key, Expected::default())
    }

    fn rename(&mut self, bucket: Ino, from: &str, to: &str) -> Outcome {
        self.rename_if(bucket, (from, Condition::Always), (to, Condition::Always))
    }

    fn rename_if(
        &mut self,
        bucket: Ino,
        (from, from_condition): (&str, Condition),
        (to, to_condition): (&str, Condition),
    ) -> Outcome {
        let rename = RenameObject {
            from: path(bucket, from),
            from_condition,
            to: path(bucket, to),
            to_condition,
            uid: 3,
            gid: 4,
            directory_mode: Mode::new(0o755),
            held: false,
            at: self.now(),
        };
        self.propose(Mutation::RenameObject(Box::new(rename)))
    }

    fn all_keys(&self, bucket: Ino) -> Vec<String> {
        let mut keys = Vec::new();
        self.listed(bucket, "", &mut keys);
        keys
    }

    /// All keys below a directory in key order, as S3 lists them.
    fn listed(&self, directory: Ino, prefix: &str, keys: &mut Vec<String>) {
        let (from, to) = keys::dirents(directory);
        for (key, value) in self.table.0.range(from..to) {
            let (name, _) = keys::dirent_name(key).unwrap();
            let dirent: Dirent = codec::decode(value).unwrap();
            let inode = self.inode(dirent.ino).unwrap();
            let below = dirent.kind == FileKind::Directory;
            let path = format!("{prefix}{name}{}", if below { "/" } else { "" });
            if inode.is_object() {
                keys.push(path.clone());
            }
            if below {
                self.listed(dirent.ino, &path, keys);
            }
        }
    }
}

fn put_ino(outcome: Outcome) -> (Ino, Inode, bool) {
    match outcome {
        Outcome::Put { ino, inode, replaced } => (ino, *inode, replaced.is_some()),
        other => panic!("not put: {other:?}"),
    }
}

fn refused(outcome: Outcome, refusal: Refusal) {
    assert_eq!(outcome, Outcome::Refused(refusal));
}

/// A replaced object is a new inode that keeps owner, mode and ACL, and nothing else, of the old.
#[test]
fn a_put_replaces_the_inode_and_keeps_its_access() {
    let (mut bench, bucket) = Bench::new();
    let (first, inode, replaced) = put_ino(bench.put(bucket, "a/b/c", "one"));
    assert!(!replaced && inode.uid == 30 && inode.body == Body::Inline(b"one".to_vec()));
    let directory = bench.lookup(bucket, "a").unwrap().ino;
    assert!(!bench.inode(directory).unwrap().explicit);
    assert_eq!(bench.inode(directory).unwrap().mode, Mode::new(0o750));
    let acl = crate::meta::SetXattr {
        ino: first,
        name: b"system.posix_acl_access".to_vec(),
        value: b"acl".to_vec(),
        mode: crate::meta::XattrMode::Any,
        permissions: Some(Mode::new(0o777)),
        at: bench.now(),
    };
    assert_eq!(bench.propose(Mutation::SetXattr(acl)), Outcome::Done);
    let private = keys::xattr(first, b"user.private");
    let second = PutObject { uid: 99, ..bench.object(bucket, "a/b/c", "two") };
    let (second, inode, replaced) = put_ino(bench.propose(Mutation::PutObject(Box::new(second))));
    assert!(replaced && second != first && bench.inode(first).is_none());
    assert_eq!((inode.uid, inode.gid, inode.mode), (30, 40, Mode::new(0o777)));
    assert!(bench.has(&keys::xattr(second, b"system.posix_acl_access")) && !bench.has(&private));
    assert_eq!(bench.superblock().inodes, 5);
}

/// As after write(2) by the unprivileged: whoever may put an object must not get a program that runs
/// as the owner of the one before.
#[test]
fn a_put_over_a_privileged_file_takes_its_privilege() {
    let (mut bench, bucket) = Bench::new();
    for (before, after) in [(0o4755, 0o755), (0o6711, 0o711), (0o2644, 0o2644), (0o1600, 0o1600)] {
        bench.put_small(bucket, "k", "a program");
        let ino = bench.lookup(bucket, "k").unwrap().ino;
        let change = SetAttr { mode: Some(Mode::new(before)), ..keep(&mut bench, ino) };
        bench.propose(Mutation::SetAttr(change));
        let (_, inode, replaced) = put_ino(bench.put(bucket, "k", "another"));
        assert!(replaced && inode.mode == Mode::new(after), "{before:o} became {:?}", inode.mode);
    }
}

/// rclone and s3fs name owner and mode; they hold for a file that was there before as well.
#[test]
fn a_put_may_choose_owner_and_mode() {
    let (mut bench, bucket) = Bench::new();
    bench.put_small(bucket, "d/k", "one");
    let chosen = Chosen { uid: Some(5), gid: None, mode: Some(Mode::new(0o600)) };
    for key in ["d/k", "d/new", "e/"] {
        let put = PutObject { chosen, ..bench.object(bucket, key, "two") };
        let (ino, inode, _) = put_ino(bench.propose(Mutation::PutObject(Box::new(put))));
        assert_eq!((inode.uid, inode.gid, inode.mode), (5, 40, Mode::new(0o600)), "{key}");
        assert_eq!(bench.inode(ino).map(|inode| inode.uid), Some(5));
    }
    bench.check();
}

/// An open handle goes on with what it has opened.
#[test]
fn what_is_held_becomes_an_orphan() {
    let (mut bench, bucket) = Bench::new();
    let (first, ..) = put_ino(bench.put(bucket, "k", "one"));
    let put = PutObject { held: true, ..bench.object(bucket, "k", "two") };
    let outcome = bench.propose(Mutation::PutObject(Box::new(put)));
    assert!(matches!(outcome, Outcome::Put { replaced: Some((old, _)), .. } if old == first));
    assert!(bench.has(&keys::orphan(first)));
    assert_eq!(bench.inode(first).unwrap().body, Body::Inline(b"one".to_vec()));
}

#[test]
fn conditions_are_decided_where_the_change_is_made() {
    let (mut bench, bucket) = Bench::new();
    refused(bench.put_if(bucket, "k", Condition::Present), Refusal::NotFound);
    refused(bench.put_if(bucket, "k", Condition::ETag("x".into())), Refusal::NotFound);
    put_ino(bench.put_if(bucket, "k", Condition::Absent));
    refused(bench.put_if(bucket, "k", Condition::Absent), Refusal::PreconditionFailed);
    refused(bench.put_if(bucket, "k", Condition::ETag("x".into())), Refusal::PreconditionFailed);
    put_ino(bench.put_if(bucket, "k", Condition::ETag("tag of conditional".into())));
    let same = || Condition::NotETag("tag of conditional".into());
    refused(bench.put_if(bucket, "k", same()), Refusal::PreconditionFailed);
    put_ino(bench.put_if(bucket, "k", Condition::NotETag("x".into())));
    put_ino(bench.put_if(bucket, "new", same()));
    let modified = bench.inode(bench.lookup(bucket, "k").unwrap().ino).unwrap().committed_at;
    let right = Expected {
        etag: Some("tag of conditional".into()),
        size: Some(11),
        modified: Some(modified.seconds),
    };
    let wrong = [
        Expected { etag: Some("x".into()), ..right.clone() },
        Expected { size: Some(12), ..right.clone() },
        Expected { modified: Some(modified.seconds + 1), ..right.clone() },
    ];
    for expected in wrong {
        refused(bench.delete_if(bucket, "k", expected), Refusal::PreconditionFailed);
    }
    // What is to go is not there: that is what was wanted.
    assert_eq!(bench.delete_if(bucket, "other", right.clone()), Outcome::Done);
    removed(bench.delete_if(bucket, "k", right));
    assert_eq!(bench.delete(bucket, "k"), Outcome::Done);
    // A file that no commit has shown yet is not there for S3.
    let hidden = Make { published: false, ..bench.new_node(bucket, "h", FileKind::Regular) };
    bench.make(hidden);
    refused(bench.put_if(bucket, "h", Condition::Present), Refusal::NotFound);
    put_ino(bench.put_if(bucket, "h", Condition::Absent));
}

#[test]
fn a_file_and_a_directory_cannot_share_a_key() {
    let (mut bench, bucket) = Bench::new();
    put_ino(bench.put(bucket, "a", "file"));
    refused(bench.put(bucket, "a/b", "below"), Refusal::InTheWay);
    refused(bench.put(bucket, "a/", ""), Refusal::InTheWay);
    put_ino(bench.put(bucket, "d/e", "below"));
    refused(bench.put(bucket, "d", "file"), Refusal::InTheWay);
    let make = bench.new_node(bucket, "pipe", FileKind::Fifo);
    bench.make(make);
    refused(bench.put(bucket, "pipe", "file"), Refusal::InTheWay);
    assert_eq!(bench.delete(bucket, "pipe"), Outcome::Done);
    assert!(bench.lookup(bucket, "pipe").is_some());
}

/// A directory never vanishes under a mount's feet; one that only keys have made leaves with them.
#[test]
fn implicit_directories_leave_with_their_last_key() {
    let (mut bench, bucket) = Bench::new();
    put_ino(bench.put(bucket, "a/b/c", "x"));
    removed(bench.delete(bucket, "a/b/c"));
    assert!(bench.lookup(bucket, "a").is_none());
    put_ino(bench.put(bucket, "a/b/c", "x"));
    let a = bench.lookup(bucket, "a").unwrap().ino;
    bench.create(a, "made-by-mount");
    let (parent, name) = (a, file_name("made-by-mount"));
    let at = bench.now();
    removed(bench.propose(Mutation::Unlink { parent, name, held: false, at }));
    removed(bench.delete(bucket, "a/b/c"));
    let there = |bench: &Bench| bench.all_keys(bucket);
    assert_eq!(there(&bench), ["a/"]);
    put_ino(bench.put(bucket, "a/", "body"));
    put_ino(bench.put(bucket, "a/k", "x"));
    assert_eq!(there(&bench), ["a/", "a/k"]);
    assert_eq!(bench.delete(bucket, "a/"), Outcome::Done);
    assert_eq!(there(&bench), ["a/k"]);
    removed(bench.delete(bucket, "a/k"));
    assert!(bench.lookup(bucket, "a").is_none());
    assert_eq!(bench.superblock().inodes, 2);
}

/// One step: no moment without either key, and no directory left that only the old key had made.
#[test]
fn objects_and_whole_directories_get_other_keys() {
    let (mut bench, bucket) = Bench::new();
    put_ino(bench.put(bucket, "a/b/one", "1"));
    let ino = bench.lookup(bench.lookup(bucket, "a").unwrap().ino, "b").map(|found| found.ino);
    let one = bench.lookup(ino.unwrap(), "one").unwrap().ino;
    assert_eq!(bench.rename(bucket, "a/b/one", "c/d/two"), Outcome::Done);
    assert_eq!(bench.all_keys(bucket), ["c/d/two"]);
    assert!(bench.lookup(bucket, "a").is_none());
    let d = bench.lookup(bench.lookup(bucket, "c").unwrap().ino, "d").unwrap().ino;
    assert_eq!(bench.lookup(d, "two").unwrap().ino, one);

    put_ino(bench.put(bucket, "k", "old"));
    let renamed = bench.rename(bucket, "c/d/two", "k");
    assert!(matches!(renamed, Outcome::Removed { ref inode, .. } if inode.nlink == 0));
    assert_eq!(
        (bench.all_keys(bucket), bench.lookup(bucket, "k").unwrap().ino),
        (vec!["k".into()], one)
    );
    assert_eq!(bench.rename(bucket, "k", "k"), Outcome::Done);

    put_ino(bench.put(bucket, "dir/x/y", "deep"));
    assert_eq!(bench.rename(bucket, "dir/", "moved/to/"), Outcome::Done);
    assert_eq!(bench.all_keys(bucket), ["k", "moved/to/x/y"]);
    refused(bench.rename(bucket, "moved/", "moved/to/x/"), Refusal::BelowItself);
    put_ino(bench.put(bucket, "full/z", "z"));
    refused(bench.rename(bucket, "full/", "moved/"), Refusal::NotEmpty);
    refused(bench.rename(bucket, "k", "moved"), Refusal::InTheWay);
    refused(bench.rename(bucket, "k", "full/z/below"), Refusal::InTheWay);
    refused(bench.rename(bucket, "none", "other"), Refusal::NotFound);
    refused(bench.rename(bucket, "k", "d/"), Refusal::Malformed);
    let (put, absent) = (Condition::ETag("x".into()), Condition::Absent);
    let always = Condition::Always;
    refused(bench.rename_if(bucket, ("k", put), ("n", always)), Refusal::PreconditionFailed);
    let to = ("full/z", absent);
    refused(bench.rename_if(bucket, ("k", Condition::Present), to), Refusal::PreconditionFailed);
    assert_eq!(bench.all_keys(bucket), ["full/z", "k", "moved/to/x/y"]);
}

impl Bench {
    pub fn staged(&mut self, len: u32) -> (ContentId, ChunkId) {
        let (content, chunk) = (self.next_content(), self.new_chunk(len));
        let id = chunk.id;
        let ops = vec![WriteOp::Write { offset: 0, len, chunk: id, chunk_offset: 0 }];
        let stage = Mutation::Stage { content, ops, chunks: vec![chunk], may_relax: false };
        assert_eq!(self.propose(stage), Outcome::Done);
        (content, id)
    }

    pub fn upload(&mut self, bucket: Ino, key: &str) -> UploadRef {
        let upload = UploadRef { bucket, key: key.into(), id: self.next_content() };
        let started_at = self.now();
        let record = Upload { xattrs: Vec::new(), checksum: None, uid: 1, gid: 2, started_at };
        let create = Mutation::CreateUpload { upload: upload.clone(), record };
        assert_eq!(self.propose(create), Outcome::Done);
        upload
    }

    pub fn part(
        &mut self,
        upload: &UploadRef,
        number: u16,
        len: u32,
    ) -> (Outcome, ContentId, ChunkId) {
        let (content, chunk) = self.staged(len);
        let part = Part {
            content: Some(content),
            size: len.into(),
            etag: "e".into(),
            checksums: Vec::new(),
            stored_at: self.now(),
        };
        let outcome = self.propose(Mutation::PutPart { upload: upload.clone(), number, part });
        (outcome, content, chunk)
    }
}

/// Parts in any order and twice become one object by reference; afterwards only it has the chunks.
#[test]
fn an_upload_is_completed_by_reference() {
    let (mut bench, bucket) = Bench::new();
    let upload = bench.upload(bucket, "big");
    let (_, second, two) = bench.part(&upload, 2, 100);
    let (_, _, lost) = bench.part(&upload, 1, 50);
    let (done, first, one) = bench.part(&upload, 1, SLOT as u32);
    assert_eq!(done, Outcome::Done);
    assert_eq!(bench.references(lost), Some(0));
    let content = bench.next_content();
    let copy = |from, offset, len| WriteOp::CopyContent { from, from_offset: 0, offset, len };
    let ops = vec![copy(first, 0, SLOT), copy(second, SLOT, 100)];
    let stage = Mutation::Stage { content, ops, chunks: Vec::new(), may_relax: false };
    assert_eq!(bench.propose(stage), Outcome::Done);
    let size = SLOT + 100;
    let body = ObjectBody::Staged { content, size };
    let put = Box::new(PutObject { body, ..bench.object(bucket, "big", "") });
    let complete = Mutation::CompleteUpload { upload: upload.clone(), put };
    let (_, inode, _) = put_ino(bench.propose(complete.clone()));
    assert_eq!((inode.size, inode.allocated), (size, size));
    bench.refused(complete, Refusal::NoUpload);
    let late = bench.part(&upload, 3, 10).0;
    refused(late, Refusal::NoUpload);
    assert_eq!((bench.references(one), bench.references(two)), (Some(2), Some(2)));
    assert_eq!(bench.propose(Mutation::FreeUpload { upload: upload.id }), Outcome::More(false));
    assert_eq!((bench.references(one), bench.references(two)), (Some(1), Some(1)));
    assert!(!bench.has(&keys::ended_upload(upload.id)) && !bench.has(&keys::part(upload.id, 1)));
}

/// A part that was replaced while an upload is being put together must not become zeros.
#[test]
fn bytes_that_are_gone_are_not_copied_as_holes() {
    let (mut bench, bucket) = Bench::new();
    let upload = bench.upload(bucket, "big");
    let (_, first, _) = bench.part(&upload, 1, 100);
    bench.part(&upload, 1, 100);
    let content = bench.next_content();
    let ops = vec![WriteOp::CopyContent { from: first, from_offset: 0, offset: 0, len: 100 }];
    bench.refused(
        Mutation::Stage { content, ops, chunks: Vec::new(), may_relax: false },
        Refusal::Conflict,
    );
}

#[test]
fn uploads_end_with_abort_and_with_their_bucket() {
    let (mut bench, bucket) = Bench::new();
    let (kept, dropped) = (bench.upload(bucket, "k"), bench.upload(bucket, "k"));
    let (_, _, chunk) = bench.part(&dropped, 1, 10);
    let abort = Mutation::AbortUpload { upload: dropped.clone() };
    assert_eq!(bench.propose(abort.clone()), Outcome::Done);
    bench.refused(abort, Refusal::NoUpload);
    bench.propose(Mutation::FreeUpload { upload: dropped.id });
    assert_eq!(bench.references(chunk), Some(0));
    let (parent, name, at) = (Ino::ROOT, file_name("bkt"), bench.now());
    removed(bench.propose(Mutation::Rmdir { parent, name, held: false, at }));
    assert!(bench.has(&keys::ended_upload(kept.id)));
    refused(bench.part(&kept, 1, 10).0, Refusal::NoUpload);
}

fn some_key() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec!["a", "b", "a b", "a-b", "a.b", "a0"]);
    (prop::collection::vec(name, 1..4), any::<bool>())
        .prop_map(|(names, slash)| names.join("/") + if slash { "/" } else { "" })
}

/// Whether a key of the map is in the way of `key`.
fn blocked(map: &BTreeMap<String, String>, key: &str) -> bool {
    let bare = key.trim_end_matches('/');
    let parents = bare.match_indices('/').map(|(at, _)| &bare[..at]);
    let file_above = parents.into_iter().any(|parent| map.contains_key(parent));
    let other_kind = match key.ends_with('/') {
        true => map.contains_key(bare),
        false => map.keys().any(|other| other.starts_with(&format!("{bare}/"))),
    };
    file_above || other_kind
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// S3's view of the tree is a flat map of keys, in byte order.
    #[test]
    fn keys_behave_as_a_flat_map(
        steps in prop::collection::vec((some_key(), any::<bool>()), 1..60)
    ) {
        let (mut bench, bucket) = Bench::new();
        let mut map = BTreeMap::new();
        for (index, (key, put)) in steps.into_iter().enumerate() {
            let data = format!("{index}");
            if !put {
                bench.delete(bucket, &key);
                map.remove(&key);
            } else if blocked(&map, &key) {
                refused(bench.put(bucket, &key, &data), Refusal::InTheWay);
            } else {
                put_ino(bench.put(bucket, &key, &data));
                map.insert(key, data);
            }
            let mut listed = Vec::new();
            bench.listed(bucket, "", &mut listed);
            prop_assert_eq!(&listed, &map.keys().cloned().collect::<Vec<_>>());
        }
        let directories: BTreeSet<&str> = map
            .keys()
            .flat_map(|key| key.match_indices('/').map(move |(at, _)| &key[..=at]))
            .collect();
        let files = map.keys().filter(|key| !key.ends_with('/')).count();
        let inodes = 2 + directories.len() + files;
        prop_assert_eq!(bench.superblock().inodes, inodes as u64);
    }
}
