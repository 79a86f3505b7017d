//! Numbers that name things. An id is never reused within one cluster's life.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One store's place in the cluster. A wiped disk comes back under a new id.
pub type NodeId = u64;

/// The lease under which one running node writes; given out by the log, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// An inode number. 1 is the root; others are given out by the log, rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ino(pub u64);

impl Ino {
    /// The directory whose children are the buckets; FUSE_ROOT_ID.
    pub const ROOT: Ino = Ino(1);
}

/// Names one proposal: `(session, sequence)`. Proposing it again has no second effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId {
    pub session: SessionId,
    /// From 1, rising by one per proposal of the session.
    pub sequence: u64,
}

macro_rules! session_scoped_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            pub session: SessionId,
            /// Counts within the session, from 1.
            pub counter: u64,
        }

        impl $name {
            /// 16 bytes, big-endian, session first: byte order is id order.
            pub fn to_bytes(self) -> [u8; 16] {
                let mut bytes = [0; 16];
                bytes[..8].copy_from_slice(&self.session.0.to_be_bytes());
                bytes[8..].copy_from_slice(&self.counter.to_be_bytes());
                bytes
            }

            /// The inverse of [`Self::to_bytes`].
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                let number = u128::from_be_bytes(bytes);
                Self {
                    session: SessionId((number >> 64) as u64),
                    counter: number as u64,
                }
            }
        }

        /// `SESSION-COUNTER`, both as 16 hexadecimal digits.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}-{:016x}", self.session.0, self.counter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (session, counter) = text.split_once('-').unwrap_or((text, ""));
                Ok(Self {
                    session: SessionId(u64::from_str_radix(session, 16)?),
                    counter: u64::from_str_radix(counter, 16)?,
                })
            }
        }
    };
}

session_scoped_id! {
    /// An immutable piece of file data and the file that holds it. Made by the writing node
    /// without asking anybody: a session never comes twice, so neither does its counter.
    ChunkId
}

session_scoped_id! {
    /// What a file's bytes are at one time: the owner of a manifest. An inode names its current one.
    ContentId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_bytes_and_text() {
        let id = ChunkId { session: SessionId(7), counter: u64::MAX };
        assert_eq!(ChunkId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_string().parse::<ChunkId>().unwrap(), id);
        assert!("nonsense".parse::<ChunkId>().is_err());
        assert!("12".parse::<ChunkId>().is_err());
    }

    #[test]
    fn byte_order_is_id_order() {
        let early = ContentId { session: SessionId(1), counter: u64::MAX };
        let late = ContentId { session: SessionId(2), counter: 0 };
        assert!(early < late && early.to_bytes() < late.to_bytes());
    }
}
