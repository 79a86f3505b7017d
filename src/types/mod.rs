//! The words every layer shares: ids, names, ranges, times, attributes and limits; pure values.

mod access;
mod acl;
mod attr;
mod base64;
mod checksum;
mod hex;
mod id;
mod key;
pub mod limits;
mod name;
mod quorum;
mod range;
mod time;

pub use access::{AccessError, KEY_ID_LEN, KeyId, Right, Rights};
pub use acl::{ACL_GRANTS_MAX, Acl, Grantee, Permission as AclPermission};
pub use attr::{Attr, FileKind, Mode};
pub use base64::{base64, from_base64};
pub use checksum::{ChecksumKind, crc32c};
pub use hex::hex;
pub use id::{ChunkId, ContentId, Ino, NodeId, RequestId, SessionId};
pub use key::ObjectKey;
pub use name::{BucketName, FileName, NameError};
pub use quorum::quorum;
pub use range::ByteRange;
pub use time::Timestamp;
