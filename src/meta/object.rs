//! The changes of whole objects by key, and of multipart uploads: what S3 and REST do to the tree.

use serde::{Deserialize, Serialize};

use super::record::{Body, Inode};
use crate::types::{ChecksumKind, ContentId, FileKind, FileName, Ino, Mode, SessionId, Timestamp};

/// Begins the names of the extended attributes that S3 shows; a PUT replaces all of them.
pub const S3_XATTRS: &[u8] = b"user.s3.";
/// Parts of one upload; also the largest part number.
pub const PARTS_MAX: u16 = 10_000;

/// A key below a bucket, as the names it leads through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectPath {
    /// The bucket's directory.
    pub bucket: Ino,
    /// At least one.
    pub names: Vec<FileName>,
    /// The key ends with a slash.
    pub is_directory: bool,
}

/// What must hold of the object of the moment for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    Always,
    /// `If-None-Match: *`; else `Refused(PreconditionFailed)`.
    Absent,
    /// `If-Match: *`; else `Refused(NotFound)`.
    Present,
    /// `If-Match: "…"`, without quotes; else `Refused(PreconditionFailed)`, or `NotFound`.
    ETag(String),
    /// `If-None-Match: "…"`, without quotes; else `Refused(PreconditionFailed)`.
    NotETag(String),
}

/// What must hold of an object, if it is there, for its deletion; else
/// `Refused(PreconditionFailed)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// `If-Match`: any object at all, or the one with this entity tag, without quotes.
    pub etag: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// Seconds since 1970 of the last modification.
    pub modified: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ObjectBody {
    /// At most `INLINE_MAX`.
    Inline(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The proposer's staged content.
    Staged { content: ContentId, size: u64 },
}

impl ObjectBody {
    /// The session it was staged in.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Inline(_) => None,
            Self::Staged { content, .. } => Some(content.session),
        }
    }
}

/// What an upload said of an inode's bytes; stands while the inode is of this version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    pub version: u64,
    /// Base64, as S3 shows them.
    pub checksums: Vec<(ChecksumKind, String)>,
    /// The checksums are over the checksums of the parts.
    pub composite: bool,
    /// Sizes of the parts of a multipart upload as (size, how many in a row).
    pub parts: Vec<(u64, u32)>,
    /// The parts' own checksums one after the other, of the kind of `checksums`; empty when they
    /// are not known, or too many.
    pub part_sums: Vec<u8>,
}

/// Puts an object in place of whatever file has the key. Makes the directories on the way.
/// → [`super::Outcome::Put`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PutObject {
    pub path: ObjectPath,
    pub body: ObjectBody,
    /// `None`: made of inode and version.
    pub etag: Option<String>,
    pub sums: Sums,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Of what is new; a file that is replaced hands down its own.
    pub uid: u32,
    pub gid: u32,
    pub mode: Mode,
    pub directory_mode: Mode,
    pub chosen: Chosen,
    pub condition: Condition,
    /// The proposer has the replaced file open.
    pub held: bool,
    pub at: Timestamp,
}

/// What the object's own inode gets, be it new or not; directories on the way do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Takes the place of a replaced file's access ACL too.
    pub mode: Option<Mode>,
}

/// Removes an object and the implicit directories that it leaves empty; the key of a directory
/// only stops being listed. → [`super::Outcome::Removed`], or `Done` without a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeleteObject {
    pub path: ObjectPath,
    pub expected: Expected,
    pub held: bool,
    pub at: Timestamp,
}

/// Gives a file another key in the same bucket, in place of what has it. Makes the directories on
/// the way, and removes the implicit ones it leaves empty. → [`super::Outcome::Removed`] with the
/// file that was replaced, else `Done`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenameObject {
    pub from: ObjectPath,
    pub from_condition: Condition,
    pub to: ObjectPath,
    pub to_condition: Condition,
    /// Of directories that are new.
    pub uid: u32,
    pub gid: u32,
    pub directory_mode: Mode,
    /// The proposer has the replaced file open.
    pub held: bool,
    pub at: Timestamp,
}

/// Removes an inode's attributes that begin with `prefix` and puts `xattrs`. → `Done`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplaceXattrs {
    pub ino: Ino,
    pub prefix: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub at: Timestamp,
}

/// Names an upload: where it will go, and its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadRef {
    pub bucket: Ino,
    pub key: String,
    pub id: ContentId,
}

/// An upload in the making; the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What checksum the object is to have, and whether it is composite.
    pub checksum: Option<(ChecksumKind, bool)>,
    pub uid: u32,
    pub gid: u32,
    pub started_at: Timestamp,
}

/// A part; the record. Its bytes are in no name until the upload is completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `None` without bytes.
    pub content: Option<ContentId>,
    pub size: u64,
    pub etag: String,
    pub checksums: Vec<(ChecksumKind, String)>,
    pub stored_at: Timestamp,
}

impl Part {
    /// What a record of this number can be named by.
    pub fn is_number(number: u16) -> bool {
        (1..=PARTS_MAX).contains(&number)
    }
}

impl Inode {
    /// The entity tag, without quotes: what an upload gave, else one that every commit changes and
    /// that no client takes for an md5.
    pub fn entity_tag(&self, ino: Ino) -> String {
        match &self.etag {
            Some(etag) => etag.clone(),
            None => format!("{:016x}-{:x}", ino.0, self.version),
        }
    }

    /// Bytes that S3 shows.
    pub fn object_size(&self) -> u64 {
        match (&self.body, self.kind) {
            (Body::Inline(data), FileKind::Directory) => data.len() as u64,
            (_, FileKind::Directory) => 0,
            _ => self.size,
        }
    }

    /// S3 shows it under its name.
    pub fn is_object(&self) -> bool {
        match self.kind {
            FileKind::Regular => self.published,
            FileKind::Directory => self.explicit,
            _ => false,
        }
    }
}
