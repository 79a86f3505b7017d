//! Forms: what a browser posts of a bucket's object, with a policy that somebody signed before.

use std::sync::Arc;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderValue, Method, Request, StatusCode};
use s3s::config::{S3Config, S3ConfigProvider};
use s3s::dto::*;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::requests::{Answer, fields, is_form, refusal};
use super::service::Door;
use super::words::url_encoded;

const FORM: &[u8] = b"multipart/form-data";
/// How long before it is sent a form may have been signed, in seconds: its policy says until when it
/// is good. As long as a presigned URL can be.
const SIGNED_BEFORE: u32 = 7 * 24 * 60 * 60;

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

/// Whether a form's own fields are all that can say who sends it: no other signature may be old.
pub(super) fn is_signed_within<B>(request: &Request<B>) -> bool {
    let has_other =
        request.headers().contains_key(AUTHORIZATION) || request.uri().query().is_some();
    may_be_form(request) && !has_other
}

/// The settings of s3s. It holds the date of a form against the clock, as that of any request.
pub(super) struct Settings {
    usual: Arc<S3Config>,
    of_forms: Arc<S3Config>,
}

impl Settings {
    pub fn new(usual: S3Config) -> Self {
        let mut of_forms = usual.clone();
        of_forms.presigned_url_max_skew_time_secs = SIGNED_BEFORE;
        Self { usual: Arc::new(usual), of_forms: Arc::new(of_forms) }
    }
}

impl S3ConfigProvider for Settings {
    fn snapshot(&self) -> Arc<S3Config> {
        Arc::clone(if is_form() { &self.of_forms } else { &self.usual })
    }
}

/// Puts what a form holds by s3s' own way from a form to a PUT, which it keeps for itself.
struct Plain(Door);

#[async_trait::async_trait]
impl S3 for Plain {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        self.0.put(request).await
    }
}

impl Door {
    pub(super) async fn post(
        &self,
        mut request: S3Request<PostObjectInput>,
    ) -> S3Result<S3Response<PostObjectOutput>> {
        let fields = fields(&request.headers).await?;
        let input = &mut request.input;
        input.acl =
            once(input.acl.take(), fields.acl.map(ObjectCannedACL::from), "an access list")?;
        input.tagging = once(input.tagging.take(), fields.tagging, "tags")?;
        let bucket = self.place(&request);
        let place = format!("{}/{}", bucket.trim_end_matches('/'), url_encoded(&request.input.key));
        let redirects = request.input.success_action_redirect.is_some();
        let mut response = Plain(self.clone()).post_object(request).await?;
        // s3s tells the tag without its quotes, in an address and in a document, and has no headers.
        let etag = response.output.e_tag.take().map(|etag| format!("\"{}\"", etag.value()));
        let place = Some(place).filter(|_| !redirects);
        for (name, text) in [(ETAG, etag.as_deref()), (LOCATION, place.as_deref())] {
            if let Some(Ok(value)) = text.map(HeaderValue::from_str) {
                response.headers.insert(name, value);
            }
        }
        response.output.e_tag = etag.map(ETag::Strong);
        Ok(response)
    }
}

/// What is named by one of two fields.
fn once<T>(header: Option<T>, field: Option<T>, what: &str) -> S3Result<Option<T>> {
    match (header, field) {
        (Some(_), Some(_)) => Err(s3_error!(InvalidArgument, "two fields name {what}")),
        (one, other) => Ok(one.or(other)),
    }
}

/// How s3s begins to tell of a condition of a policy that a form does not meet. It has one code for
/// that and for policies that are none, and nobody else is told which it was.
const UNMET: &[u8] = b"<Code>InvalidPolicyDocument</Code><Message>Policy condition ";

/// The answer of Amazon S3 to a form that does not meet its policy.
pub(super) fn refused_by_policy(answer: Answer) -> Answer {
    if answer.status() != StatusCode::BAD_REQUEST {
        return answer;
    }
    let document = answer.body().bytes().unwrap_or_default();
    if !document.windows(UNMET.len()).any(|part| part == UNMET) {
        return answer;
    }
    let message = "Invalid according to Policy: Policy Condition failed";
    refusal(StatusCode::FORBIDDEN, "AccessDenied", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_with_another_signature_is_no_old_form() {
        let of = |uri: &str, headers: &[(&str, &str)]| {
            let mut request =
                Request::post(uri).header("content-type", "multipart/form-data; boundary=b");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            is_signed_within(&request.body(()).unwrap())
        };
        assert!(of("/b", &[]));
        assert!(!of("/b", &[("authorization", "AWS4-HMAC-SHA256 x")]));
        assert!(!of("/b?delete", &[]) && !of("/b?X-Amz-Signature=x", &[]));
        assert!(!is_signed_within(&Request::post("/b").body(()).unwrap()));
    }
}
