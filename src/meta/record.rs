//! The stored records. Field order is the stored form: new fields mean a new format version.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::{
    Attr, ChunkId, ContentId, FileKind, Ino, KeyId, Mode, NodeId, Right, Rights, SessionId,
    Timestamp,
};

/// One per store: what the cluster agreed on at its birth, and the counters the log hands out from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    pub cluster: u128,
    /// Bytes of a manifest slot and most of a chunk; a power of two, fixed for the cluster's life.
    pub chunk_size: u64,
    pub next_ino: u64,
    pub next_session: u64,
    /// Inodes that exist.
    pub inodes: u64,
    /// Bytes that manifests reference, once each piece.
    pub data_bytes: u64,
}

/// A name in a directory. The key tells a directory (`name/`) from the rest (`name`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dirent {
    pub ino: Ino,
    pub kind: FileKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inode {
    pub kind: FileKind,
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    /// 2 + subdirectories for a directory; 0 while unlinked but open.
    pub nlink: u32,
    /// Bytes; entries for a directory.
    pub size: u64,
    /// Bytes that the pieces of the manifest cover.
    pub allocated: u64,
    pub rdev: u32,
    pub atime: Timestamp,
    pub mtime: Timestamp,
    pub ctime: Timestamp,
    pub crtime: Timestamp,
    /// The directory that holds a directory. Of other kinds one that has, or had, a name of it: its
    /// bucket says how many copies are asked for.
    pub parent: Ino,
    pub body: Body,
    /// Committed changes of the bytes, from 0.
    pub version: u64,
    /// When the bytes were last committed; S3's Last-Modified.
    pub committed_at: Timestamp,
    /// `Some` when an upload gave the content its own ETag; else it is made of content and version.
    pub etag: Option<String>,
    /// S3 shows it: false from an open(O_CREAT) until the first commit.
    pub published: bool,
    /// A directory somebody asked for, not only one implied by a key below it.
    pub explicit: bool,
}

/// What an inode's bytes are. Bytes not covered read as zeros up to the inode's size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Directories, devices, fifos, sockets.
    None,
    /// The first bytes of a file, at most `INLINE_MAX`, never more than its size.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The slots under this content id.
    Manifest(ContentId),
    Symlink(#[serde(with = "serde_bytes")] Vec<u8>),
}

/// A run of bytes of one slot, kept in a chunk. Offsets and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Piece {
    /// From the start of the slot.
    pub start: u32,
    pub len: u32,
    pub chunk: ChunkId,
    /// From the start of the chunk file's data.
    pub chunk_offset: u32,
}

impl Piece {
    pub fn end(&self) -> u32 {
        self.start + self.len
    }
}

/// One slot of a manifest: pieces sorted by `start`, disjoint, within `chunk_size`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    pub pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRecord {
    /// Bytes of data in the chunk file.
    pub len: u32,
    pub sha256: [u8; 32],
    /// Pieces that name the chunk. At 0 the chunk is garbage.
    pub references: u32,
    /// Nodes that have it on disk. Rising.
    pub stored_on: Vec<NodeId>,
    /// Nodes that have to get it; an errand each. None while it is garbage. Rising.
    pub missing_on: Vec<NodeId>,
    /// Nodes that may give it up, once nobody misses it; an errand each.
    pub surplus_on: Vec<NodeId>,
}

/// A node of the cluster; the record. Its id never comes back once it is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Where its peers reach it.
    pub address: String,
    pub zone: String,
    /// Its share of the copies; 0: it gets none.
    pub weight: u32,
    pub state: NodeState,
}

/// Share of the copies of a node that nothing else is said about.
const NODE_WEIGHT: u32 = 100;

impl NodeRecord {
    /// Of a node that enlists, or has yet to.
    pub fn enlisting(address: &str, zone: &str) -> Self {
        let (address, zone) = (address.to_owned(), zone.to_owned());
        Self { address, zone, weight: NODE_WEIGHT, state: NodeState::Active }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Takes copies.
    Active,
    /// What it has is copied elsewhere; until then it is read from.
    Draining,
    /// It will never be seen again, nor what only it had.
    Gone,
}

/// What a node has to do about a chunk; the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// Get a copy.
    Make,
    /// All places have it: this copy may go.
    Drop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub node: NodeId,
    pub address: String,
    /// Sequences up to here have their final answer; they are never applied again.
    pub settled: u64,
    /// Chunk counters up to here are recorded or given up; no new chunk may use them.
    pub chunk_mark: u64,
}

impl Session {
    /// The `settled` and `chunk_mark` of a session that has ended; its record stays until all that
    /// hangs on it is cleared away.
    pub const ENDED: u64 = u64::MAX;

    pub fn is_ended(&self) -> bool {
        self.settled == Self::ENDED
    }
}

/// An inode without a name that somebody may still have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Sessions with a hold on it, at least one: the last to let go takes the inode along.
    pub holders: u32,
}

/// A content that no inode names yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// End of what was staged so far: the least size it can be adopted with.
    pub size: u64,
    /// Bytes that its pieces cover.
    pub allocated: u64,
    /// The placement under which all its chunks were seen to have their quorum.
    pub epoch: u64,
    /// While they are seen to again: under which placement, and through which slot.
    pub vouched: Option<(u64, u64)>,
    /// Some chunk had no quorum: only a bucket that requires none may take it.
    pub is_relaxed: bool,
}

/// What a top-level directory is besides a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    pub created_at: Timestamp,
    pub quorum_required: bool,
    /// The access key that made it; none when a mount or the operator did.
    pub owner: Option<KeyId>,
    /// Sorted by key; none of them empty. The key may be gone: ids are never used again.
    pub grants: Vec<(KeyId, Rights)>,
}

impl Bucket {
    /// What a key may do with the bucket, as its owner or because of a grant.
    pub fn rights(&self, key: KeyId) -> Rights {
        let granted = self.grants.iter().find(|(holder, _)| *holder == key);
        let granted = granted.map_or(Rights::NONE, |(_, rights)| *rights);
        if self.owner == Some(key) { granted.with(Right::Owner) } else { granted }
    }
}

/// An access key. Its secret is sealed with a key that is not part of the metadata.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    pub sealed_secret: Vec<u8>,
    /// Owner, group and umask of what the key creates.
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub role: KeyRole,
    pub state: KeyState,
    pub created_at: Timestamp,
    /// When it last got a new secret, if ever.
    pub rotated_at: Option<Timestamp>,
}

/// What a key may do besides what buckets grant it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyRole {
    /// Nothing.
    Granted,
    /// Read the metrics and the state of the cluster.
    Monitor,
    /// Make buckets, which are then its own.
    Creator,
    /// Everything, in all buckets.
    Administrator,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    Active,
    Disabled,
}

/// Without the secret, sealed as it is.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccessKey({:?}, {:?}, {}:{})", self.role, self.state, self.uid, self.gid)
    }
}

impl Inode {
    /// The attributes as stat(2) tells them.
    pub fn attr(&self, ino: Ino) -> Attr {
        let allocated = match &self.body {
            Body::Inline(data) => data.len() as u64,
            Body::Symlink(_) | Body::None | Body::Manifest(_) => self.allocated,
        };
        Attr {
            ino,
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            size: self.size,
            allocated,
            rdev: self.rdev,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            crtime: self.crtime,
        }
    }
}

/// The session a chunk or content belongs to has the only right to introduce it.
impl ChunkRecord {
    pub fn belongs_to(id: ChunkId, session: SessionId) -> bool {
        id.session == session
    }
}
