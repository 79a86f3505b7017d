//! Every key of the table. Numbers are big-endian, so byte order is number order.
//!
//! | prefix | record | key after the prefix | value |
//! |---|---|---|---|
//! | `S` | superblock | – | [`super::Superblock`] |
//! | `A` | applied position | – | replication's: log id and membership |
//! | `P` | placement | – | [`super::Placement`] |
//! | `D` | digest | – | the table's own: count and sum of all other records |
//! | `a` | access key | key id (20) | [`super::AccessKey`] |
//! | `b` | bucket | ino of its directory (8) | [`super::Bucket`] |
//! | `c` | chunk | chunk id (16) | [`super::ChunkRecord`] |
//! | `d` | dirent | parent ino (8), name, `/` for a directory | [`super::Dirent`] |
//! | `e` | node | node id (8) | [`super::NodeRecord`] |
//! | `f` | errand | node id (8), chunk id (16) | [`super::Errand`] |
//! | `g` | garbage chunk | chunk id (16) | empty |
//! | `h` | hold | session (8), ino (8) of an orphan | empty |
//! | `i` | inode | ino (8) | [`super::Inode`] |
//! | `k` | sums | ino (8) | [`super::Sums`] |
//! | `j` | lock by session | session (8), ino (8), owner (12) | empty |
//! | `l` | lock | ino (8), session (8), owner: mount (4), number (8) | [`super::Locks`] |
//! | `m` | manifest slot | content id (16), slot (8) | [`super::Slot`] |
//! | `o` | orphan | ino (8) | [`super::Orphan`] |
//! | `p` | part | upload id (16), number (2) | [`super::Part`] |
//! | `q` | doomed content | content id (16) | empty |
//! | `r` | outcome | session (8), sequence (8) | [`super::Outcome`] |
//! | `s` | session | session (8) | [`super::Session`] |
//! | `n` | session by nonce | nonce (8) | [`crate::types::SessionId`] |
//! | `t` | staged content | content id (16) | [`super::Staged`] |
//! | `u` | unpublished file | session (8), ino (8) | empty |
//! | `v` | ended upload | upload id (16) | empty |
//! | `w` | upload | bucket ino (8), key, NUL, upload id (16) | [`super::Upload`] |
//! | `x` | xattr | ino (8), name | value with codec |
//!
//! The `/` after a directory's name makes key order equal to S3's listing order.

use super::lock::LockOwner;
use crate::types::{ChunkId, ContentId, FileName, Ino, KeyId, NodeId, SessionId};

pub const SUPERBLOCK: &[u8] = b"S";
pub const APPLIED: &[u8] = b"A";
pub const PLACEMENT: &[u8] = b"P";
/// Not part of the state: no transaction, snapshot or reader sees it.
pub(super) const DIGEST: &[u8] = b"D";
/// Beyond all keys.
pub const END: &[u8] = &[u8::MAX];
pub const ACCESS_KEY: u8 = b'a';
pub const NODE: u8 = b'e';
pub const ERRAND: u8 = b'f';
pub const GARBAGE: u8 = b'g';
pub const HOLD: u8 = b'h';
pub const ORPHAN: u8 = b'o';
pub const DOOMED: u8 = b'q';
pub const STAGED: u8 = b't';
pub const SESSION: u8 = b's';
pub const NONCE: u8 = b'n';
pub const CHUNK: u8 = b'c';
pub const INODE: u8 = b'i';
pub const LOCK: u8 = b'l';
pub const LOCK_OF: u8 = b'j';
pub const BUCKET: u8 = b'b';
pub const DIRENT: u8 = b'd';
pub const SLOT: u8 = b'm';
pub const OUTCOME: u8 = b'r';
pub const UNPUBLISHED: u8 = b'u';
pub const XATTR: u8 = b'x';
pub const SUMS: u8 = b'k';
pub const PART: u8 = b'p';
pub const ENDED_UPLOAD: u8 = b'v';
pub const UPLOAD: u8 = b'w';
/// The prefixes of all keys but the four that stand alone, in order.
pub const FAMILIES: [u8; 24] = [
    ACCESS_KEY,
    BUCKET,
    CHUNK,
    DIRENT,
    NODE,
    ERRAND,
    GARBAGE,
    HOLD,
    INODE,
    LOCK_OF,
    SUMS,
    LOCK,
    SLOT,
    NONCE,
    ORPHAN,
    PART,
    DOOMED,
    OUTCOME,
    SESSION,
    STAGED,
    UNPUBLISHED,
    ENDED_UPLOAD,
    UPLOAD,
    XATTR,
];

fn key(prefix: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + parts.iter().map(|part| part.len()).sum::<usize>());
    key.push(prefix);
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

pub fn access_key(id: KeyId) -> Vec<u8> {
    key(ACCESS_KEY, &[id.as_str().as_bytes()])
}

/// The id in an access key's key.
pub fn access_key_id(key: &[u8]) -> Option<KeyId> {
    std::str::from_utf8(key.get(1..)?).ok()?.parse().ok()
}

pub fn bucket(ino: Ino) -> Vec<u8> {
    key(BUCKET, &[&ino.0.to_be_bytes()])
}

pub fn chunk(id: ChunkId) -> Vec<u8> {
    key(CHUNK, &[&id.to_bytes()])
}

/// The key of a name that is no directory.
pub fn file_dirent(parent: Ino, name: &FileName) -> Vec<u8> {
    key(DIRENT, &[&parent.0.to_be_bytes(), name.as_bytes()])
}

pub fn directory_dirent(parent: Ino, name: &FileName) -> Vec<u8> {
    key(DIRENT, &[&parent.0.to_be_bytes(), name.as_bytes(), b"/"])
}

/// All entries of a directory: `from..to`.
pub fn dirents(parent: Ino) -> (Vec<u8>, Vec<u8>) {
    let from = key(DIRENT, &[&parent.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

/// The name in a dirent's key, and whether it is a directory's; `None` for other keys.
pub fn dirent_name(key: &[u8]) -> Option<(FileName, bool)> {
    let (DIRENT, rest) = key.split_first().map(|(prefix, rest)| (*prefix, rest))? else {
        return None;
    };
    let name = rest.get(8..)?;
    match name.strip_suffix(b"/") {
        Some(directory) => Some((FileName::new(directory).ok()?, true)),
        None => Some((FileName::new(name).ok()?, false)),
    }
}

pub fn node(node: NodeId) -> Vec<u8> {
    key(NODE, &[&node.to_be_bytes()])
}

pub fn errand(node: NodeId, id: ChunkId) -> Vec<u8> {
    key(ERRAND, &[&node.to_be_bytes(), &id.to_bytes()])
}

/// All errands of a node: `from..to`.
pub fn errands(node: NodeId) -> (Vec<u8>, Vec<u8>) {
    let from = key(ERRAND, &[&node.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

pub fn garbage(id: ChunkId) -> Vec<u8> {
    key(GARBAGE, &[&id.to_bytes()])
}

pub fn inode(ino: Ino) -> Vec<u8> {
    key(INODE, &[&ino.0.to_be_bytes()])
}

pub fn slot(content: ContentId, slot: u64) -> Vec<u8> {
    key(SLOT, &[&content.to_bytes(), &slot.to_be_bytes()])
}

/// All slots of a content from `first` on: `from..to`.
pub fn slots(content: ContentId, first: u64) -> (Vec<u8>, Vec<u8>) {
    (slot(content, first), after(&key(SLOT, &[&content.to_bytes()])))
}

/// The slot number in a manifest key.
pub fn slot_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(17..25)?.try_into().ok()?))
}

pub fn orphan(ino: Ino) -> Vec<u8> {
    key(ORPHAN, &[&ino.0.to_be_bytes()])
}

/// A session may still use an orphan.
pub fn hold(session: SessionId, ino: Ino) -> Vec<u8> {
    key(HOLD, &[&session.0.to_be_bytes(), &ino.0.to_be_bytes()])
}

/// All holds of a session: `from..to`.
pub fn holds_of(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = key(HOLD, &[&session.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

fn owner(owner: LockOwner) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&owner.mount.to_be_bytes());
    bytes[4..].copy_from_slice(&owner.number.to_be_bytes());
    bytes
}

/// The owner at the end of a lock's key.
fn tail_owner(key: &[u8]) -> Option<LockOwner> {
    let bytes = key.last_chunk::<12>()?;
    let (mount, number) = (bytes.first_chunk::<4>()?, bytes.last_chunk::<8>()?);
    Some(LockOwner { mount: u32::from_be_bytes(*mount), number: u64::from_be_bytes(*number) })
}

/// What one owner has locked of a file.
pub fn lock(ino: Ino, session: SessionId, of: LockOwner) -> Vec<u8> {
    key(LOCK, &[&ino.0.to_be_bytes(), &session.0.to_be_bytes(), &owner(of)])
}

/// All locks of a file: `from..to`.
pub fn locks(ino: Ino) -> (Vec<u8>, Vec<u8>) {
    let from = key(LOCK, &[&ino.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

/// Who has the lock with this key.
pub fn locker(key: &[u8]) -> Option<(SessionId, LockOwner)> {
    let session = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
    Some((SessionId(session), tail_owner(key)?))
}

/// Finds the locks of a session.
pub fn lock_of(session: SessionId, ino: Ino, of: LockOwner) -> Vec<u8> {
    key(LOCK_OF, &[&session.0.to_be_bytes(), &ino.0.to_be_bytes(), &owner(of)])
}

/// All locks of a session: `from..to`.
pub fn locks_of(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = key(LOCK_OF, &[&session.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

/// What is locked, and by which owner of the session, in a key of [`locks_of`].
pub fn locked(key: &[u8]) -> Option<(Ino, LockOwner)> {
    let ino = u64::from_be_bytes(key.get(9..17)?.try_into().ok()?);
    Some((Ino(ino), tail_owner(key)?))
}

pub fn doomed(content: ContentId) -> Vec<u8> {
    key(DOOMED, &[&content.to_bytes()])
}

pub fn staged(content: ContentId) -> Vec<u8> {
    key(STAGED, &[&content.to_bytes()])
}

/// All staged contents of a session: `from..to`.
pub fn staged_by(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = key(STAGED, &[&session.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

pub fn outcome(session: SessionId, sequence: u64) -> Vec<u8> {
    key(OUTCOME, &[&session.0.to_be_bytes(), &sequence.to_be_bytes()])
}

/// All outcomes of a session: `from..to`.
pub fn outcomes_of(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = key(OUTCOME, &[&session.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

pub fn session(session: SessionId) -> Vec<u8> {
    key(SESSION, &[&session.0.to_be_bytes()])
}

pub fn session_nonce(nonce: u64) -> Vec<u8> {
    key(NONCE, &[&nonce.to_be_bytes()])
}

pub fn unpublished(session: SessionId, ino: Ino) -> Vec<u8> {
    key(UNPUBLISHED, &[&session.0.to_be_bytes(), &ino.0.to_be_bytes()])
}

/// All unpublished files of a session: `from..to`.
pub fn unpublished_by(session: SessionId) -> (Vec<u8>, Vec<u8>) {
    let from = key(UNPUBLISHED, &[&session.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

pub fn sums(ino: Ino) -> Vec<u8> {
    key(SUMS, &[&ino.0.to_be_bytes()])
}

pub fn part(upload: ContentId, number: u16) -> Vec<u8> {
    key(PART, &[&upload.to_bytes(), &number.to_be_bytes()])
}

/// The parts of an upload from `first` on: `from..to`.
pub fn parts(upload: ContentId, first: u16) -> (Vec<u8>, Vec<u8>) {
    (part(upload, first), after(&key(PART, &[&upload.to_bytes()])))
}

/// The number in a part's key.
pub fn part_number(key: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*key.last_chunk::<2>()?))
}

pub fn ended_upload(upload: ContentId) -> Vec<u8> {
    key(ENDED_UPLOAD, &[&upload.to_bytes()])
}

/// `object` has no NUL: the key of an object ends before its uploads' ids.
pub fn upload(bucket: Ino, object: &str, upload: ContentId) -> Vec<u8> {
    key(UPLOAD, &[&bucket.0.to_be_bytes(), object.as_bytes(), &[0], &upload.to_bytes()])
}

/// A bucket's uploads, of objects at or after `object` in key order: `from..to`.
pub fn uploads(bucket: Ino, object: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let all = key(UPLOAD, &[&bucket.0.to_be_bytes()]);
    (key(UPLOAD, &[&bucket.0.to_be_bytes(), object]), after(&all))
}

/// The object's key in an upload's key.
pub fn upload_object(key: &[u8]) -> Option<&[u8]> {
    key.get(9..key.len().checked_sub(17)?)
}

pub fn xattr(ino: Ino, name: &[u8]) -> Vec<u8> {
    key(XATTR, &[&ino.0.to_be_bytes(), name])
}

/// All xattrs of an inode: `from..to`.
pub fn xattrs(ino: Ino) -> (Vec<u8>, Vec<u8>) {
    let from = key(XATTR, &[&ino.0.to_be_bytes()]);
    let to = after(&from);
    (from, to)
}

/// The directory in a dirent's key.
pub fn dirent_parent(key: &[u8]) -> Option<Ino> {
    head_number(key).map(Ino)
}

/// The 8-byte number after the prefix of a key.
pub fn head_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(1..9)?.try_into().ok()?))
}

/// The content in a manifest key.
pub fn slot_content(key: &[u8]) -> Option<ContentId> {
    Some(ContentId::from_bytes(key.get(1..17)?.try_into().ok()?))
}

/// All keys with a one-byte prefix: `from..to`.
pub fn family(prefix: u8) -> (Vec<u8>, Vec<u8>) {
    (vec![prefix], vec![prefix + 1])
}

/// The 8-byte number at the end of a key.
pub fn tail_number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*key.last_chunk::<8>()?))
}

/// The 16-byte id at the end of a key.
pub fn tail_id(key: &[u8]) -> Option<[u8; 16]> {
    key.last_chunk::<16>().copied()
}

/// The first key after all keys that begin with `prefix`.
pub fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![u8::MAX; 32]
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every parser takes every key: those of other records, cut ones, any bytes.
        #[test]
        fn any_key_is_parsed_or_refused(bytes in vec(any::<u8>(), 0..64), prefix in 0..FAMILIES.len()) {
            for key in [&bytes[..], &key(FAMILIES[prefix], &[&bytes])] {
                let _ = (access_key_id(key), dirent_parent(key), slot_number(key), locker(key));
                let _ = (locked(key), part_number(key), upload_object(key), head_number(key));
                let _ = (slot_content(key), tail_number(key), tail_id(key));
                if let Some((name, is_directory)) = dirent_name(key) {
                    let parent = dirent_parent(key).unwrap();
                    let make = if is_directory { directory_dirent } else { file_dirent };
                    prop_assert_eq!(make(parent, &name), key);
                }
                prop_assert!(after(key) > key.to_vec());
            }
        }

        #[test]
        fn a_key_says_what_it_was_made_of(
            (ino, session, mount, number) in any::<(u64, u64, u32, u64)>(),
            content in any::<[u8; 16]>(),
            object in "[^\\x00]{0,40}",
        ) {
            let (ino, session) = (Ino(ino), SessionId(session));
            let of = LockOwner { mount, number };
            prop_assert_eq!(locker(&lock(ino, session, of)), Some((session, of)));
            prop_assert_eq!(locked(&lock_of(session, ino, of)), Some((ino, of)));
            let content = ContentId::from_bytes(content);
            prop_assert_eq!(slot_content(&slot(content, number)), Some(content));
            prop_assert_eq!(slot_number(&slot(content, number)), Some(number));
            prop_assert_eq!(part_number(&part(content, number as u16)), Some(number as u16));
            let upload = upload(ino, &object, content);
            prop_assert_eq!(upload_object(&upload), Some(object.as_bytes()));
            prop_assert_eq!(tail_id(&upload), Some(content.to_bytes()));
        }
    }
}
