//! The HTTP status, code and advice of each error.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Class, Error};
use crate::web::current;

/// Every answer that is not what was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Problem {
    /// Made for programs: one word, the same for ever.
    #[schema(example = "no_object")]
    code: &'static str,
    /// What went wrong, in one sentence.
    #[schema(example = "no such file, directory or bucket")]
    message: String,
    /// What to do about it.
    #[schema(example = "Look at the key and the bucket.")]
    action: &'static str,
}

/// An error on its way out.
#[derive(Debug)]
pub(super) struct Refused {
    status: StatusCode,
    problem: Problem,
}

pub(super) type Answer<T = Response> = Result<T, Refused>;

/// Instead of what is wrong with the node, which may name its paths and disks.
const INTERNAL: &str = "the node cannot do this; its log says why, by the id in X-Request-Id";
const LOOK: &str = "Look at the bucket and the key.";
const CHANGE: &str = "Change the request; it will never be answered otherwise.";
const AGAIN: &str = "Try again in a moment.";
const OPERATOR: &str = "Ask the operator to look at the node's log.";
const TOKEN: &str = "Send `Authorization: Bearer KEY.SECRET` with an access key that is active.";

impl Refused {
    pub fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        action: &'static str,
    ) -> Self {
        Self { status, problem: Problem { code, message: message.into(), action } }
    }

    /// A request that has no meaning here.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", message, CHANGE)
    }

    pub fn precondition() -> Self {
        Error::PreconditionFailed.into()
    }

    pub fn no_token() -> Self {
        let message = "there is no bearer token in the request";
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", message, TOKEN)
    }

    /// The node is not ready for requests yet, or not any more.
    pub fn not_serving(message: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_serving", message, AGAIN)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        let (status, code, action) = entry(&error);
        let id = current();
        match error.class() {
            Class::Caller => log::debug!("REST request {id}: {code}: {error}"),
            Class::Retry => log::warn!("REST request {id}: {code}: {error}"),
            Class::Operator => log::error!("REST request {id}: {code}: {error}"),
        }
        let message = match error.class() {
            Class::Caller | Class::Retry => error.to_string(),
            Class::Operator => INTERNAL.to_owned(),
        };
        Self::new(status, code, message, action)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status;
        let mut response = (status, Json(self.problem)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

fn entry(error: &Error) -> (StatusCode, &'static str, &'static str) {
    use StatusCode as S;
    match error {
        Error::NotFound | Error::Stale => (S::NOT_FOUND, "no_object", LOOK),
        Error::NoBucket => (S::NOT_FOUND, "no_bucket", LOOK),
        Error::NoUpload => (S::NOT_FOUND, "no_upload", "Begin another upload."),
        Error::NoAttribute => (S::NOT_FOUND, "no_attribute", LOOK),
        Error::NoKey => (S::NOT_FOUND, "no_key", "Look at the access key's id."),
        Error::WrongSecret => (S::UNAUTHORIZED, "unauthenticated", TOKEN),
        Error::KeyDisabled => (S::FORBIDDEN, "key_disabled", "Use another access key."),
        Error::AccessDenied(_) => {
            (S::FORBIDDEN, "access_denied", "Ask the owner of the bucket for a grant.")
        }
        Error::NotPermitted(_) => (S::FORBIDDEN, "not_permitted", CHANGE),
        Error::AlreadyExists => (S::CONFLICT, "already_exists", "Use what is there."),
        Error::BucketTaken => (S::CONFLICT, "bucket_taken", "Choose another name."),
        Error::NotEmpty => (S::CONFLICT, "not_empty", "Remove what is in it first."),
        Error::InTheWay(_) | Error::NotADirectory | Error::IsADirectory => {
            (S::CONFLICT, "in_the_way", "Choose another key, or remove what is in its way.")
        }
        Error::Conflict => (S::CONFLICT, "conflict", AGAIN),
        Error::PreconditionFailed => {
            (S::PRECONDITION_FAILED, "precondition_failed", "Read the object again.")
        }
        Error::BadDigest(_) => (S::BAD_REQUEST, "bad_digest", "Send the bytes again."),
        Error::NoPart(_) => (S::BAD_REQUEST, "no_part", "Name the parts as they were answered."),
        Error::PartTooSmall(_) => (S::BAD_REQUEST, "part_too_small", "Send parts of 5 MiB."),
        Error::WrongSize => (S::BAD_REQUEST, "wrong_size", "Look at the sizes of the parts."),
        Error::NameTooLong => (S::BAD_REQUEST, "name_too_long", CHANGE),
        Error::InvalidArgument(_) | Error::NoSuchOffset => (S::BAD_REQUEST, "malformed", CHANGE),
        Error::FileTooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "Send less."),
        Error::AttributeTooLarge => (S::BAD_REQUEST, "metadata_too_large", "Send less metadata."),
        Error::NotSupported(_) => (S::NOT_IMPLEMENTED, "not_supported", CHANGE),
        Error::NoSpace => (S::INSUFFICIENT_STORAGE, "no_space", "Remove objects, or add disks."),
        Error::TooFewCopies => (S::SERVICE_UNAVAILABLE, "too_few_copies", AGAIN),
        Error::Unreachable(_) => (S::SERVICE_UNAVAILABLE, "unreachable", AGAIN),
        Error::Timeout(_) => (S::SERVICE_UNAVAILABLE, "timeout", AGAIN),
        Error::NoQuorum(_) => (S::SERVICE_UNAVAILABLE, "no_quorum", AGAIN),
        Error::ShuttingDown => (S::SERVICE_UNAVAILABLE, "shutting_down", AGAIN),
        Error::DiskFailed(_) => (S::SERVICE_UNAVAILABLE, "disk_failed", OPERATOR),
        Error::Damaged(_) => (S::INTERNAL_SERVER_ERROR, "damaged", OPERATOR),
        Error::TooManyLinks
        | Error::BadHandle
        | Error::TextBusy
        | Error::CrossDevice
        | Error::Io { .. }
        | Error::Config(_)
        | Error::Store(_) => (S::INTERNAL_SERVER_ERROR, "internal", OPERATOR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_status_clients_act_on() {
        let table = [
            (Error::NotFound, 404, "no_object"),
            (Error::NoBucket, 404, "no_bucket"),
            (Error::WrongSecret, 401, "unauthenticated"),
            (Error::AccessDenied("x"), 403, "access_denied"),
            (Error::InTheWay(String::new()), 409, "in_the_way"),
            (Error::PreconditionFailed, 412, "precondition_failed"),
            (Error::FileTooLarge, 413, "too_large"),
            (Error::NoSpace, 507, "no_space"),
            (Error::ShuttingDown, 503, "shutting_down"),
            (Error::damaged("x"), 500, "damaged"),
        ];
        for (error, status, code) in table {
            let refused = Refused::from(error);
            assert_eq!((refused.status.as_u16(), refused.problem.code), (status, code));
        }
        let refused = Refused::from(Error::damaged("chunk 7 of /data"));
        assert_eq!(refused.problem.message, INTERNAL);
        let headers = Refused::from(Error::ShuttingDown).into_response();
        assert!(headers.headers().contains_key("retry-after"));
    }
}
