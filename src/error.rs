//! The one error language of the product, and what a caller does about each word of it.

use std::io;
use std::sync::Arc;

use crate::types::{AccessError, NameError};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in words of the domain. Each door has one exhaustive table from these to its
/// protocol's codes (errno, S3 code, HTTP status); no table has a wildcard arm.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("no such file, directory or bucket")]
    NotFound,
    #[error("the name exists already")]
    AlreadyExists,
    #[error("the directory is not empty")]
    NotEmpty,
    #[error("not a directory")]
    NotADirectory,
    #[error("is a directory")]
    IsADirectory,
    /// The inode behind a number is gone: look the name up again.
    #[error("the file was removed or replaced since it was looked up")]
    Stale,
    #[error("no such attribute")]
    NoAttribute,
    #[error("no such handle")]
    BadHandle,
    #[error("the program is running")]
    TextBusy,
    /// The rules of the product forbid it, whoever asks.
    #[error("not permitted: {0}")]
    NotPermitted(&'static str),
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    #[error("name too long")]
    NameTooLong,
    #[error("too many links to one file")]
    TooManyLinks,
    #[error("the file would be too large")]
    FileTooLarge,
    #[error("the value is too large for an attribute")]
    AttributeTooLarge,
    /// A rename or link would cross from one mounted tree to another.
    #[error("source and destination are on different mounts")]
    CrossDevice,
    #[error("not supported: {0}")]
    NotSupported(&'static str),
    /// SEEK_DATA or SEEK_HOLE beyond the end of the file.
    #[error("no data or hole at or after that offset")]
    NoSuchOffset,
    #[error("no space left: the store is at its reserve")]
    NoSpace,
    /// Somebody else changed what this change was based on; the vfs tries again.
    #[error("the file changed at the same time")]
    Conflict,
    #[error("no such bucket")]
    NoBucket,
    /// Somebody else's, who asks may not even look at it.
    #[error("the bucket's name is taken by somebody else")]
    BucketTaken,
    /// Who asks has not the right; the text says which.
    #[error("access denied: {0}")]
    AccessDenied(&'static str),
    #[error("no such access key")]
    NoKey,
    #[error("the access key is disabled")]
    KeyDisabled,
    /// Which of the two is wrong is not told.
    #[error("there is no such access key, or its secret is another")]
    WrongSecret,
    /// The object is not as the request demands.
    #[error("the object is not as the request demands")]
    PreconditionFailed,
    #[error("no such upload: it was completed, aborted, or never begun")]
    NoUpload,
    /// A file and a directory cannot both have one name. The key that has it, where that is known.
    #[error("a part of the key is taken by {0}, which is no object, or no directory")]
    InTheWay(String),
    /// What arrived is not what its sender has sent.
    #[error("the bytes do not match the {0} they were sent with")]
    BadDigest(&'static str),
    /// A part that an upload is to be completed with is not there, or not the one that is meant.
    #[error("part {0} is not there, or is another than the one named")]
    NoPart(u16),
    #[error("part {0} is too small for any but the last one")]
    PartTooSmall(u16),
    #[error("the parts have another size in all than the one named")]
    WrongSize,
    /// Unknown until settled: no answer in time.
    #[error("no answer within the replication timeout: {0}")]
    Timeout(&'static str),
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// Chunks have to be on more nodes before a change may name them; the vfs sends them there.
    #[error("too few nodes have the data on disk")]
    TooFewCopies,
    /// One peer did not answer, or nobody knows the way to it.
    #[error("a peer cannot be reached: {0}")]
    Unreachable(String),
    /// Stored bytes fail their checksum or break the format; there is no good copy.
    #[error("damaged: {0}")]
    Damaged(String),
    /// A sync failed before: this node cannot vouch for its disk any more.
    #[error("the disk failed a sync ({0}); writes are refused until the node is restarted")]
    DiskFailed(String),
    #[error("{context}: {source}")]
    Io { context: String, source: Arc<io::Error> },
    #[error("the node is shutting down")]
    ShuttingDown,
    #[error("{0}")]
    Config(String),
    /// The store cannot be opened as it is; the text says why and what to do.
    #[error("{0}")]
    Store(String),
}

/// What the caller does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Change the call: it will never succeed as it is.
    Caller,
    /// The same call may succeed later.
    Retry,
    /// A person has to look at the node.
    Operator,
}

impl Error {
    /// An I/O error with what was being done to what; a full disk becomes [`Error::NoSpace`].
    pub fn io(context: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { context: context.into(), source: Arc::new(source) },
        }
    }

    pub fn invalid(what: impl Into<String>) -> Self {
        Self::InvalidArgument(what.into())
    }

    pub fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    pub fn class(&self) -> Class {
        match self {
            Self::NotFound
            | Self::AlreadyExists
            | Self::NotEmpty
            | Self::NotADirectory
            | Self::IsADirectory
            | Self::Stale
            | Self::NoAttribute
            | Self::BadHandle
            | Self::TextBusy
            | Self::NotPermitted(_)
            | Self::InvalidArgument(_)
            | Self::NameTooLong
            | Self::TooManyLinks
            | Self::FileTooLarge
            | Self::AttributeTooLarge
            | Self::CrossDevice
            | Self::NotSupported(_)
            | Self::NoSuchOffset
            | Self::NoBucket
            | Self::BucketTaken
            | Self::AccessDenied(_)
            | Self::NoKey
            | Self::KeyDisabled
            | Self::WrongSecret
            | Self::PreconditionFailed
            | Self::NoUpload
            | Self::InTheWay(_)
            | Self::BadDigest(_)
            | Self::NoPart(_)
            | Self::PartTooSmall(_)
            | Self::WrongSize
            | Self::Config(_) => Class::Caller,
            Self::NoSpace
            | Self::Conflict
            | Self::Timeout(_)
            | Self::NoQuorum(_)
            | Self::TooFewCopies
            | Self::Unreachable(_)
            | Self::ShuttingDown => Class::Retry,
            Self::Damaged(_) | Self::DiskFailed(_) | Self::Io { .. } | Self::Store(_) => {
                Class::Operator
            }
        }
    }
}

impl From<AccessError> for Error {
    fn from(error: AccessError) -> Self {
        Self::InvalidArgument(error.to_string())
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        match error {
            NameError::TooLong => Self::NameTooLong,
            NameError::Forbidden | NameError::NotABucket => {
                Self::InvalidArgument(error.to_string())
            }
        }
    }
}

/// Each word once, for the tests of the doors' tables.
#[cfg(test)]
pub fn every_word() -> Vec<Error> {
    vec![
        Error::NotFound,
        Error::AlreadyExists,
        Error::NotEmpty,
        Error::NotADirectory,
        Error::IsADirectory,
        Error::Stale,
        Error::NoAttribute,
        Error::BadHandle,
        Error::TextBusy,
        Error::NotPermitted(""),
        Error::InvalidArgument(String::new()),
        Error::NameTooLong,
        Error::TooManyLinks,
        Error::FileTooLarge,
        Error::AttributeTooLarge,
        Error::CrossDevice,
        Error::NotSupported(""),
        Error::NoSuchOffset,
        Error::NoSpace,
        Error::Conflict,
        Error::NoBucket,
        Error::BucketTaken,
        Error::AccessDenied(""),
        Error::NoKey,
        Error::KeyDisabled,
        Error::WrongSecret,
        Error::PreconditionFailed,
        Error::NoUpload,
        Error::InTheWay(String::new()),
        Error::BadDigest(""),
        Error::NoPart(1),
        Error::PartTooSmall(1),
        Error::WrongSize,
        Error::Timeout(""),
        Error::NoQuorum(String::new()),
        Error::TooFewCopies,
        Error::Unreachable(String::new()),
        Error::Damaged(String::new()),
        Error::DiskFailed(String::new()),
        Error::io("", io::ErrorKind::PermissionDenied.into()),
        Error::ShuttingDown,
        Error::Config(String::new()),
        Error::Store(String::new()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five words were in no table of a test: what is listed by hand is held against the declaration.
    #[test]
    fn every_word_is_every_word() {
        let source = include_str!("error.rs");
        let declared =
            source.split_once("pub enum Error {").unwrap().1.split_once("\n}").unwrap().0;
        let name = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric()).collect()
        };
        let declared = declared.lines().map(name).filter(|name| !name.is_empty());
        let listed = every_word().into_iter().map(|word| name(&format!("{word:?}")));
        assert_eq!(declared.collect::<Vec<_>>(), listed.collect::<Vec<_>>());
    }

    #[test]
    fn a_full_disk_is_its_own_word() {
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(matches!(Error::io("writing", full), Error::NoSpace));
        let other = Error::io("writing /x", io::Error::from_raw_os_error(libc::EIO));
        assert_eq!(other.class(), Class::Operator);
        assert!(other.to_string().starts_with("writing /x: "));
    }
}
