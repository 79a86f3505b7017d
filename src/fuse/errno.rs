//! The errno of each error; errno(3), and the man page of the call where it says more.

use fuser::Errno;

use crate::error::{Class, Error};

/// The number the caller of the system call sees.
pub(super) fn errno(error: &Error) -> Errno {
    match error {
        Error::NotFound | Error::NoBucket => Errno::ENOENT,
        Error::AlreadyExists => Errno::EEXIST,
        Error::NotEmpty => Errno::ENOTEMPTY,
        Error::NotADirectory => Errno::ENOTDIR,
        Error::IsADirectory => Errno::EISDIR,
        // Makes the kernel look the path up again, once; path_openat() in fs/namei.c.
        Error::Stale => Errno::ESTALE,
        Error::NoAttribute => Errno::NO_XATTR,
        Error::BadHandle => Errno::EBADF,
        Error::TextBusy => Errno::ETXTBSY,
        Error::NotPermitted(_) => Errno::EPERM,
        Error::AccessDenied(_) => Errno::EACCES,
        Error::InvalidArgument(_) | Error::Config(_) => Errno::EINVAL,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::TooManyLinks => Errno::EMLINK,
        Error::FileTooLarge => Errno::EFBIG,
        Error::AttributeTooLarge => Errno::E2BIG,
        Error::CrossDevice => Errno::EXDEV,
        // Never ENOSYS: the kernel would not ask again for the life of the mount.
        Error::NotSupported(_) => Errno::EOPNOTSUPP,
        Error::NoSuchOffset => Errno::ENXIO,
        Error::NoSpace => Errno::ENOSPC,
        Error::Conflict => Errno::EAGAIN,
        // The mount asks for nothing of this.
        Error::BucketTaken
        | Error::NoKey
        | Error::KeyDisabled
        | Error::WrongSecret
        | Error::PreconditionFailed
        | Error::NoUpload
        | Error::BadDigest(_)
        | Error::NoPart(_)
        | Error::PartTooSmall(_)
        | Error::WrongSize => Errno::EINVAL,
        Error::InTheWay(_) => Errno::EEXIST,
        Error::ShuttingDown => Errno::ESHUTDOWN,
        Error::Timeout(_)
        | Error::NoQuorum(_)
        | Error::TooFewCopies
        | Error::Unreachable(_)
        | Error::Damaged(_)
        | Error::DiskFailed(_)
        | Error::Io { .. }
        | Error::Store(_) => Errno::EIO,
    }
}

/// [`errno`] of an error that ends a request. The log keeps what the number cannot say, and leaves
/// out what it can: a full disk fails thousands of requests a second.
pub(super) fn report(operation: &'static str, error: &Error) -> Errno {
    match (error, error.class()) {
        (Error::NoSpace | Error::ShuttingDown, _) | (_, Class::Caller) => {
            log::debug!("{operation}: {error}");
        }
        (_, Class::Retry) => log::warn!("{operation}: {error}"),
        (_, Class::Operator) => log::error!("{operation}: {error}"),
    }
    errno(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::every_word;

    /// The number that each word must have: what errno(3) and the manual pages of the calls give. Neither
    /// this table nor `errno` has a wildcard, so a new word does not compile until both have answered; this
    /// says the answers are meant.
    fn number(error: &Error) -> i32 {
        match error {
            Error::NotFound | Error::NoBucket => libc::ENOENT,
            Error::AlreadyExists | Error::InTheWay(_) => libc::EEXIST,
            Error::NotEmpty => libc::ENOTEMPTY,
            Error::NotADirectory => libc::ENOTDIR,
            Error::IsADirectory => libc::EISDIR,
            Error::Stale => libc::ESTALE,
            Error::NoAttribute => libc::ENODATA,
            Error::BadHandle => libc::EBADF,
            Error::TextBusy => libc::ETXTBSY,
            Error::NotPermitted(_) => libc::EPERM,
            Error::AccessDenied(_) => libc::EACCES,
            Error::NameTooLong => libc::ENAMETOOLONG,
            Error::TooManyLinks => libc::EMLINK,
            Error::FileTooLarge => libc::EFBIG,
            Error::AttributeTooLarge => libc::E2BIG,
            Error::CrossDevice => libc::EXDEV,
            Error::NotSupported(_) => libc::EOPNOTSUPP,
            Error::NoSuchOffset => libc::ENXIO,
            Error::NoSpace => libc::ENOSPC,
            Error::Conflict => libc::EAGAIN,
            Error::ShuttingDown => libc::ESHUTDOWN,
            Error::InvalidArgument(_)
            | Error::Config(_)
            | Error::BucketTaken
            | Error::NoKey
            | Error::KeyDisabled
            | Error::WrongSecret
            | Error::PreconditionFailed
            | Error::NoUpload
            | Error::BadDigest(_)
            | Error::NoPart(_)
            | Error::PartTooSmall(_)
            | Error::WrongSize => libc::EINVAL,
            Error::Timeout(_)
            | Error::NoQuorum(_)
            | Error::TooFewCopies
            | Error::Unreachable(_)
            | Error::Damaged(_)
            | Error::DiskFailed(_)
            | Error::Io { .. }
            | Error::Store(_) => libc::EIO,
        }
    }

    #[test]
    fn every_error_has_the_number_its_manual_page_gives() {
        for error in every_word() {
            assert_eq!(errno(&error).code(), number(&error), "{error:?}");
            assert_eq!(report("test", &error).code(), number(&error));
        }
    }
}
