//! Forms: what a browser posts of a bucket's object, with a policy that somebody signed before.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};

const FORM: &[u8] = b"multipart/form-data";

/// Whether s3s may take a request for a form. It takes header values that are no ASCII too.
pub(super) fn may_be_form<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_form = kind.get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM));
    is_form && request.method() == Method::POST
}

/// Whether a form says nothing of its length. s3s reads such a form whole before it knows who sends
/// it, and hands others on as they come.
pub(super) fn is_of_any_length<B>(request: &Request<B>) -> bool {
    may_be_form(request) && !request.headers().contains_key(CONTENT_LENGTH)
}
