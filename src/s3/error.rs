//! The S3 code of each error; "Error responses" of the Amazon S3 API reference.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode};

use crate::error::{Class, Error};
use crate::web::current;

/// Instead of what is wrong with the node, which may name its paths and disks.
const INTERNAL: &str = "the node cannot do this; its log says why, by the id of the request";

/// What the client is told. Where the words of the domain say more than S3's, they are the message.
pub(super) fn refuse(error: &Error) -> S3Error {
    let code = code(error);
    let message = match error.class() {
        Class::Caller | Class::Retry => error.to_string(),
        Class::Operator => INTERNAL.to_owned(),
    };
    match error.class() {
        Class::Caller => log::debug!("request {}: {}: {error}", current(), code.as_str()),
        Class::Retry => log::warn!("request {}: {}: {error}", current(), code.as_str()),
        Class::Operator => log::error!("request {}: {}: {error}", current(), code.as_str()),
    }
    let status = match error {
        Error::InTheWay(_) => Some(StatusCode::CONFLICT),
        Error::NoSpace => Some(StatusCode::INSUFFICIENT_STORAGE),
        _ => None,
    };
    let mut answer = S3Error::with_message(code, message);
    if let Some(status) = status {
        answer.set_status_code(status);
    }
    answer
}

fn code(error: &Error) -> S3ErrorCode {
    match error {
        Error::NotFound | Error::Stale => S3ErrorCode::NoSuchKey,
        Error::NoBucket => S3ErrorCode::NoSuchBucket,
        Error::AlreadyExists => S3ErrorCode::BucketAlreadyOwnedByYou,
        Error::NotEmpty => S3ErrorCode::BucketNotEmpty,
        Error::InTheWay(_) | Error::NotADirectory | Error::IsADirectory => {
            S3ErrorCode::Custom("KeyInTheWay".into())
        }
        Error::PreconditionFailed => S3ErrorCode::PreconditionFailed,
        Error::NoUpload => S3ErrorCode::NoSuchUpload,
        Error::BadDigest(_) => S3ErrorCode::BadDigest,
        Error::NoPart(_) => S3ErrorCode::InvalidPart,
        Error::PartTooSmall(_) => S3ErrorCode::EntityTooSmall,
        Error::WrongSize => S3ErrorCode::InvalidRequest,
        Error::NameTooLong => S3ErrorCode::KeyTooLongError,
        Error::FileTooLarge => S3ErrorCode::EntityTooLarge,
        Error::AttributeTooLarge => S3ErrorCode::MetadataTooLarge,
        Error::InvalidArgument(_) | Error::NoAttribute | Error::NoSuchOffset => {
            S3ErrorCode::InvalidArgument
        }
        Error::NotPermitted(_) | Error::AccessDenied(_) => S3ErrorCode::AccessDenied,
        Error::BucketTaken => S3ErrorCode::BucketAlreadyExists,
        // As Amazon has it for keys that are switched off.
        Error::WrongSecret => S3ErrorCode::SignatureDoesNotMatch,
        Error::NoKey | Error::KeyDisabled => S3ErrorCode::InvalidAccessKeyId,
        Error::NotSupported(_) => S3ErrorCode::NotImplemented,
        Error::Conflict => S3ErrorCode::OperationAborted,
        Error::NoSpace => S3ErrorCode::Custom("InsufficientStorage".into()),
        Error::Timeout(_)
        | Error::NoQuorum(_)
        | Error::TooFewCopies
        | Error::Unreachable(_)
        | Error::ShuttingDown
        | Error::DiskFailed(_) => S3ErrorCode::ServiceUnavailable,
        Error::TooManyLinks
        | Error::BadHandle
        | Error::TextBusy
        | Error::CrossDevice
        | Error::Damaged(_)
        | Error::Io { .. }
        | Error::Config(_)
        | Error::Store(_) => S3ErrorCode::InternalError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_node_is_not_told() {
        let io = |text: &str| Error::io(text, std::io::Error::from_raw_os_error(libc::EIO));
        for error in
            [io("reading /data/x"), Error::damaged("chunk 7"), Error::DiskFailed("/x".into())]
        {
            assert_eq!(refuse(&error).message(), Some(INTERNAL));
        }
        let taken = refuse(&Error::InTheWay("`a`".into()));
        assert!(taken.message().is_some_and(|text| text.contains("taken by `a`")));
    }

    #[test]
    fn errors_have_the_status_clients_act_on() {
        let table = [
            (Error::NotFound, "NoSuchKey", 404),
            (Error::NoBucket, "NoSuchBucket", 404),
            (Error::NotEmpty, "BucketNotEmpty", 409),
            (Error::InTheWay(String::new()), "KeyInTheWay", 409),
            (Error::PreconditionFailed, "PreconditionFailed", 412),
            (Error::NoUpload, "NoSuchUpload", 404),
            (Error::BadDigest("md5"), "BadDigest", 400),
            (Error::NameTooLong, "KeyTooLongError", 400),
            (Error::NoSpace, "InsufficientStorage", 507),
            (Error::ShuttingDown, "ServiceUnavailable", 503),
            (Error::TooFewCopies, "ServiceUnavailable", 503),
            (Error::Conflict, "OperationAborted", 409),
            (Error::damaged("x"), "InternalError", 500),
        ];
        for (error, code, status) in table {
            let answer = refuse(&error);
            assert_eq!(answer.code().as_str(), code);
            let found = answer.status_code().or_else(|| answer.code().status_code());
            assert_eq!(found.map(|status| status.as_u16()), Some(status), "{code}");
        }
    }
}
