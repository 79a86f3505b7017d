//! The kinds of messages, what each may weigh, and the bodies that are ours. Bodies are records as
//! in [`crate::meta::codec`]: version byte, payload, CRC-32C.
//!
//! | kind | path | body → answer |
//! |---|---|---|
//! | append | `/raft/append` | openraft's AppendEntries |
//! | vote | `/raft/vote` | openraft's RequestVote |
//! | snapshot part | `/raft/snapshot` | [`SnapshotPart`] → openraft's answer with the last part |
//! | propose | `/propose` | requests → [`Proposed`] |
//! | read index | `/read-index` | nothing → log index that a read has to wait for |
//! | alive | `/alive` | session and address of a node that lives |
//! | disk failed | `/disk-failed` | a node that lives says why it writes nothing any more |
//! | admit | `/admit` | address of a node that has joined → nothing, when it is a member |
//! | join | `/join` | secret of an invitation → [`Joined`] |
//! | census | `/census` | nothing → how all members are |
//! | about | `/about` | nothing → [`About`] |
//! | chunk … | `/chunk/…` | see `replication/copies/remote.rs` |

use serde::{Deserialize, Serialize};

use crate::chunk::SealedChunk;
use crate::meta::Outcome;
use crate::replication::copies::Range;
use crate::replication::types::{SnapshotMeta, Vote};
use crate::types::NodeId;
use crate::types::limits::MESSAGE_MAX;

/// The newest form of what is said between nodes that this one knows; 2 has `about`, 3 has
/// `disk failed`.
///
/// Each message says from which protocol its form is, and a node takes those up to its own: nodes of this
/// version and of those before are one cluster. What gets another form becomes another kind, and is
/// asked for the old way where the new one is refused.
pub const PROTOCOL: u16 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Append,
    Vote,
    SnapshotPart,
    Propose,
    ReadIndex,
    Alive,
    Admit,
    Join,
    Census,
    ChunkSend,
    ChunkRead,
    ChunkFetch,
    ChunkWhich,
    About,
    DiskFailed,
}

impl Kind {
    pub const ALL: [Self; 15] = [
        Self::Append,
        Self::Vote,
        Self::SnapshotPart,
        Self::Propose,
        Self::ReadIndex,
        Self::Alive,
        Self::Admit,
        Self::Join,
        Self::Census,
        Self::ChunkSend,
        Self::ChunkRead,
        Self::ChunkFetch,
        Self::ChunkWhich,
        Self::About,
        Self::DiskFailed,
    ];

    pub fn path(self) -> &'static str {
        match self {
            Self::Append => "/raft/append",
            Self::Vote => "/raft/vote",
            Self::SnapshotPart => "/raft/snapshot",
            Self::Propose => "/propose",
            Self::ReadIndex => "/read-index",
            Self::Alive => "/alive",
            Self::Admit => "/admit",
            Self::Join => "/join",
            Self::Census => "/census",
            Self::ChunkSend => "/chunk/send",
            Self::ChunkRead => "/chunk/read",
            Self::ChunkFetch => "/chunk/fetch",
            Self::ChunkWhich => "/chunk/which",
            Self::About => "/about",
            Self::DiskFailed => "/disk-failed",
        }
    }

    /// Whether it orders changes, or keeps its node's session: such messages are small, everybody waits
    /// for them, and they must not wait behind chunks.
    pub fn is_order(self) -> bool {
        matches!(self, Self::Append | Self::Vote | Self::Propose | Self::ReadIndex | Self::Alive)
    }

    /// Bytes that a message of this kind, or its answer, has at most.
    pub fn limit(self) -> usize {
        match self {
            Self::Append | Self::Propose | Self::SnapshotPart | Self::ChunkRead => MESSAGE_MAX,
            Self::ChunkSend | Self::ChunkFetch => SealedChunk::FILE_MAX as usize + 1,
            Self::ChunkWhich => IDS_MAX,
            Self::Vote
            | Self::ReadIndex
            | Self::Alive
            | Self::Admit
            | Self::Join
            | Self::Census
            | Self::About
            | Self::DiskFailed => SMALL_MAX,
        }
    }

    /// The first protocol that has it.
    pub fn since(self) -> u16 {
        match self {
            Self::About => 2,
            Self::DiskFailed => 3,
            _ => 1,
        }
    }

    /// Whether somebody without a certificate may send it.
    pub fn is_open(self) -> bool {
        self == Self::Join
    }
}

const SMALL_MAX: usize = 64 << 10;
/// `REAP_IDS_MAX` ids.
const IDS_MAX: usize = 256 << 10;
const _: () = assert!(Range::MAX as usize + SMALL_MAX < MESSAGE_MAX);

/// What a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    pub version: String,
    pub protocol: u16,
}

impl About {
    pub fn this() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").into(), protocol: PROTOCOL }
    }
}

/// Why a node did not do what it was asked, as far as the asker can do something about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denied {
    /// Ask this one, or somebody else when nobody is known.
    NotLeader(Option<NodeId>),
    /// It may be done later.
    Failed(String),
    NoSpace,
    /// It will not be done.
    Refused(String),
}

/// Requests that are in the log, in the order they were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposed {
    pub outcomes: Vec<Outcome>,
    /// All of them are applied where this log index is.
    pub index: u64,
}

/// Some bytes of a snapshot file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SnapshotPart {
    pub vote: Vote,
    pub meta: SnapshotMeta,
    pub offset: u64,
    pub bytes: Vec<u8>,
    /// The file ends here: install it.
    pub last: bool,
}

/// What a new node is told: from here on it can prove that it belongs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Joined {
    pub node: NodeId,
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// The cluster's certificate authority, PEM.
    pub authority: String,
    pub authority_key: String,
    /// Nodes that are members, with their addresses.
    pub members: Vec<(NodeId, String)>,
    /// Files that every node of the cluster has, beside the log.
    pub secrets: Vec<(String, Vec<u8>)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_different() {
        let paths: std::collections::BTreeSet<_> =
            Kind::ALL.iter().map(|kind| kind.path()).collect();
        assert_eq!(paths.len(), Kind::ALL.len());
    }

    #[test]
    fn strangers_may_only_ask_to_join() {
        let open: Vec<_> = Kind::ALL.into_iter().filter(|kind| kind.is_open()).collect();
        assert_eq!(open, [Kind::Join]);
    }
}
