//! A check is worth what it finds: every record of a table is taken away or changed in turn.

use super::check;
use crate::meta::apply::tests::{Bench, Memory, SLOT, Speaker};
use crate::meta::mutation::{Commit, Make, Mutation, Outcome, WriteOp};
use crate::meta::placement::Placement;
use crate::meta::record::{
    AccessKey, Body, Dirent, Errand, Inode, KeyRole, KeyState, NodeRecord, NodeState, Orphan,
    Session, Slot, Staged, Superblock,
};
use crate::meta::{ChunkRecord, HeldLock, LockOwner, Locks, SetLock, codec, keys};
use crate::types::{ContentId, FileKind, FileName, Ino, SessionId};

/// A table with one record of each family at least.
fn table() -> Memory {
    let (mut bench, bucket) = Bench::new();
    let dir = bench.mkdir(bucket, "d");
    bench.mkdir(dir, "e");
    let ino = bench.create(dir, "f");
    let big = bench.create(dir, "big");
    let chunk = bench.new_chunk(100);
    let write =
        |slot| WriteOp::Write { offset: slot * SLOT, len: 50, chunk: chunk.id, chunk_offset: 50 };
    let content = bench.next_content();
    let mut ops = vec![WriteOp::Outline { content }];
    ops.extend((0..70).map(write));
    commit(&mut bench, big, ops, vec![chunk.clone()]);
    commit(&mut bench, big, vec![WriteOp::Reset], vec![]);
    let content = bench.next_content();
    let garbage = bench.new_chunk(50);
    let over = WriteOp::Write { offset: 0, len: 50, chunk: garbage.id, chunk_offset: 0 };
    let ops = vec![WriteOp::Outline { content }, over, write(0), write(1)];
    commit(&mut bench, ino, ops, vec![garbage]);
    let content = bench.next_content();
    let stage = Mutation::Stage { content, ops: vec![write(3)], chunks: vec![], may_relax: false };
    assert_eq!(bench.propose(stage), Outcome::Done);
    let make = bench.new_node(dir, "new", FileKind::Regular);
    let xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())];
    bench.make(Make { published: false, xattrs, ..make });
    bench.create(bucket, "orphan");
    let (name, at) = (FileName::new(b"orphan").unwrap(), bench.now());
    bench.propose(Mutation::Unlink { parent: bucket, name, held: true, at });
    bench.put_small(bucket, "o/k", "data");
    let lock = HeldLock { first: 0, last: 9, exclusive: true, pid: 1 };
    let owner = LockOwner { mount: 1, number: 2 };
    bench.propose(Mutation::SetLock(SetLock { ino, owner, lock, unlock: false }));
    let (open, ended) = (bench.upload(bucket, "u/a"), bench.upload(bucket, "u/b"));
    bench.part(&open, 1, 60);
    bench.part(&ended, 2, 60);
    assert_eq!(bench.propose(Mutation::AbortUpload { upload: ended }), Outcome::Done);
    let key = AccessKey {
        sealed_secret: vec![1],
        uid: 1,
        gid: 1,
        umask: 0,
        role: KeyRole::Granted,
        state: KeyState::Active,
        created_at: bench.now(),
        rotated_at: None,
    };
    let id = "BF234567ABCDEFGHIJKL".parse().unwrap();
    assert_eq!(bench.propose(Mutation::CreateKey { id, key }), Outcome::Done);
    bench.check();
    bench.set_node(1, NodeState::Active);
    bench.set_node(2, NodeState::Active);
    bench.survey();
    for family in keys::FAMILIES {
        assert!(!bench.table.keys(family).is_empty(), "{}", char::from(family));
    }
    bench.table
}

fn commit(bench: &mut Bench, ino: Ino, ops: Vec<WriteOp>, chunks: Vec<crate::meta::NewChunk>) {
    let (expected_version, mtime, at) = (None, None, bench.now());
    let commit = Commit { ino, ops, chunks, expected_version, at, mtime, strip_privilege: false };
    assert!(matches!(bench.propose(Mutation::Commit(commit)), Outcome::Node { .. }));
}

#[test]
fn every_missing_record_is_missed() {
    let table = table();
    for key in table.0.keys() {
        // What an outcome, an attribute, a sum or a key would be nobody else knows.
        if matches!(key[0], keys::OUTCOME | keys::XATTR | keys::SUMS | keys::ACCESS_KEY) {
            continue;
        }
        let mut less = table.clone();
        less.0.remove(key);
        assert!(!check(&less).unwrap().is_empty(), "{}", key.escape_ascii());
    }
}

#[test]
fn every_damaged_record_is_found() {
    let table = table();
    for (key, value) in table.0.iter().filter(|(_, value)| !value.is_empty()) {
        let mut damaged = table.clone();
        let mut bytes = value.clone();
        bytes[value.len() / 2] ^= 1;
        damaged.0.insert(key.clone(), bytes);
        let found = check(&damaged).unwrap();
        assert!(found.iter().any(|line| line.contains("checksum")), "{}", key.escape_ascii());
    }
}

#[test]
fn strangers_are_found() {
    let table = table();
    let id = ContentId { session: SessionId(1), counter: 77 };
    let chunk = crate::types::ChunkId { session: SessionId(1), counter: 77 };
    let strange = [
        b"Z".to_vec(),
        b"a1".to_vec(),
        b"SS".to_vec(),
        b"zz".to_vec(),
        keys::orphan(Ino(2)),
        keys::orphan(Ino(77)),
        keys::hold(SessionId(1), Ino(2)),
        keys::hold(SessionId(1), Ino(77)),
        keys::hold(SessionId(77), Ino(2)),
        keys::lock(Ino(2), SessionId(1), LockOwner { mount: 1, number: 1 }),
        keys::lock_of(SessionId(1), Ino(2), LockOwner { mount: 1, number: 1 }),
        keys::doomed(id),
        keys::garbage(chunk),
        keys::unpublished(SessionId(1), Ino(2)),
        keys::unpublished(SessionId(1), Ino(77)),
    ];
    for key in strange.into_iter().filter(|key| !table.0.contains_key(key)) {
        let mut more = table.clone();
        more.0.insert(key.clone(), Vec::new());
        // A doomed content may be empty: freeing it is the next step.
        let harmless = key[0] == keys::DOOMED;
        assert_eq!(check(&more).unwrap().is_empty(), harmless, "{}", key.escape_ascii());
    }
}

/// Changes all records of a family one by one; each change must be found.
fn each_change<T: serde::Serialize + serde::de::DeserializeOwned>(
    prefix: &[u8],
    changes: &[fn(&mut T)],
) {
    let table = table();
    let mut tried = 0;
    for (key, value) in table.0.iter().filter(|(key, _)| key.starts_with(prefix)) {
        for (number, change) in changes.iter().enumerate() {
            let mut record: T = codec::decode(value).unwrap();
            change(&mut record);
            let bytes = codec::encode(&record).unwrap();
            if bytes == *value {
                continue;
            }
            let mut changed = table.clone();
            changed.0.insert(key.clone(), bytes);
            tried += 1;
            let found = check(&changed).unwrap();
            assert!(!found.is_empty(), "change {number} of {}", key.escape_ascii());
        }
    }
    assert!(tried >= changes.len());
}

#[test]
fn wrong_counts_are_found() {
    each_change::<Superblock>(
        keys::SUPERBLOCK,
        &[
            |it| it.inodes += 1,
            |it| it.data_bytes -= 1,
            |it| it.next_ino = 3,
            |it| {
                it.next_session = 1;
            },
        ],
    );
    each_change::<ChunkRecord>(
        &[keys::CHUNK],
        &[
            |it| it.references += 1,
            |it| it.len = if it.references > 0 { 49 } else { it.len },
            |it| it.missing_on.push(77),
            |it| it.surplus_on.push(77),
            |it| it.missing_on.clear(),
        ],
    );
    each_change::<NodeRecord>(
        &[keys::NODE],
        &[|it| it.weight += 1, |it| it.zone.clear(), |it| it.state = NodeState::Gone],
    );
    each_change::<Placement>(
        keys::PLACEMENT,
        &[|it| it.replication_factor = 1, |it| it.gone.push(9), |it| it.members.clear()],
    );
    each_change::<Errand>(&[keys::ERRAND], &[|it| *it = Errand::Drop]);
    each_change::<Staged>(&[keys::STAGED], &[|it| it.size = 1, |it| it.allocated += 1]);
    each_change::<Session>(&[keys::SESSION], &[|it| it.settled = u64::MAX - 1]);
    each_change::<SessionId>(&[keys::NONCE], &[|it| it.0 += 1]);
    each_change::<Locks>(
        &[keys::LOCK],
        &[|it| it.held.clear(), |it| it.held[0].first = 10, |it| it.held.push(it.held[0])],
    );
    each_change::<Orphan>(&[keys::ORPHAN], &[|it| it.holders += 1, |it| it.holders = 0]);
}

#[test]
fn wrong_inodes_are_found() {
    each_change::<Inode>(
        &[keys::INODE],
        &[
            |it| it.nlink += 1,
            |it| it.allocated += 1,
            |it| it.kind = FileKind::Fifo,
            |it| it.published = !it.published,
            |it| it.body = Body::Symlink(b"elsewhere".to_vec()),
            |it| {
                if it.kind == FileKind::Directory {
                    it.size += 1;
                    return;
                }
                it.size = it.size.saturating_sub(SLOT);
            },
        ],
    );
    each_change::<Dirent>(
        &[keys::DIRENT],
        &[|it| it.ino = Ino(77), |it| it.ino = Ino(1), |it| it.kind = FileKind::Socket],
    );
}

#[test]
fn wrong_pieces_are_found() {
    each_change::<Slot>(
        &[keys::SLOT],
        &[
            |it| it.pieces[0].len -= 1,
            |it| it.pieces[0].chunk.counter += 1,
            |it| it.pieces[0].chunk_offset = 51,
            |it| it.pieces[0].start = SLOT as u32 - 1,
            |it| it.pieces.push(it.pieces[0]),
            |it| it.pieces.clear(),
        ],
    );
}

#[test]
fn a_circle_of_directories_is_found() {
    let (mut bench, bucket) = Bench::new();
    let a = bench.mkdir(bucket, "a");
    let b = bench.mkdir(a, "b");
    // a moves below b, unseen by anybody.
    let name = FileName::new(b"a").unwrap();
    let dirent = bench.table.0.remove(&keys::directory_dirent(bucket, &name)).unwrap();
    bench.table.0.insert(keys::directory_dirent(b, &name), dirent);
    for (ino, size, nlink, parent) in [(bucket, 0, 2, Ino::ROOT), (b, 1, 3, a), (a, 1, 3, b)] {
        let mut inode = bench.inode(ino).unwrap();
        (inode.size, inode.nlink, inode.parent) = (size, nlink, parent);
        bench.table.0.insert(keys::inode(ino), codec::encode(&inode).unwrap());
    }
    let found = check(&bench.table).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|line| line.ends_with("is not below the root")));
}

#[test]
fn the_list_is_bounded() {
    let mut table = Memory::default();
    assert_eq!(check(&table).unwrap(), ["there is no superblock"]);
    let (bench, _) = Bench::new();
    table.0.extend(bench.table.0);
    for number in 0..2000 {
        table.0.insert(keys::orphan(Ino(1000 + number)), Vec::new());
    }
    let found = check(&table).unwrap();
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1000], "and 1000 more");
}

#[test]
fn an_ended_session_may_keep_its_leftovers() {
    let (mut bench, bucket) = Bench::new();
    let second = Speaker::new(bench.open_session(2));
    let first = std::mem::replace(&mut bench.who, second);
    for number in 0..600 {
        let make = bench.new_node(bucket, &format!("f{number}"), FileKind::Regular);
        bench.make(Make { published: false, ..make });
    }
    let session = std::mem::replace(&mut bench.who, first).session;
    assert_eq!(bench.propose(Mutation::EndSession { session }), Outcome::More(true));
    bench.check();
}
