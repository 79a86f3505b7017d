//! What surrounds each request: an id in header, error and log, and an end to clients that send
//! nothing any more.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, EXPECT, RANGE};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
};
use http_body::{Body, Frame, SizeHint};
use s3s::service::S3Service;
use s3s::{S3Result, StdError};
use tokio::time::{Instant, Sleep};

use super::document::{Document, Fault};
use super::fields::{Fields, Head};
use super::forms;
use super::ignored::drop_unreadable;
use super::part::WHOLE;
use super::words::query_pairs;
use crate::vfs::fits_xml;
use crate::web::{RequestId, Service};

/// How long a client may send nothing within a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const ID_HEADER: HeaderName = HeaderName::from_static("x-amz-request-id");
const XML_END: &[u8] = b"</Error>";

tokio::task_local! {
    static CURRENT: Current;
}

/// What is known of the request that is being answered.
#[derive(Clone)]
struct Current {
    is_form: bool,
    watched: Watched,
}

/// What is read of a body while it comes in.
#[derive(Clone)]
struct Watched {
    document: Arc<Document>,
    head: Arc<Head>,
}

/// Whether it is a form, and signed as one if at all.
pub(super) fn is_form() -> bool {
    CURRENT.try_with(|current| current.is_form).unwrap_or(false)
}

/// Its body is a document, which has to be what its headers say.
///
/// # Errors
/// As [`Document::begin`].
pub(super) fn expect_document(operation: &str, headers: &HeaderMap) -> S3Result<()> {
    let begin = |current: &Current| current.watched.document.begin(operation, headers);
    CURRENT.try_with(begin).unwrap_or(Ok(()))
}

/// The fields of the form it is that s3s leaves out.
///
/// # Errors
/// As [`Head::fields`].
pub(super) async fn fields(headers: &HeaderMap) -> S3Result<Fields> {
    let head = CURRENT.try_with(|current| Arc::clone(&current.watched.head));
    match head {
        Ok(head) => head.fields(headers).await,
        Err(_) => Ok(Fields::default()),
    }
}

impl Watched {
    /// As [`Document::take`].
    fn take(&self, bytes: &[u8]) -> bool {
        self.head.take(bytes);
        self.document.take(bytes)
    }
}

/// The S3 service with what surrounds its requests.
#[derive(Clone)]
pub(super) struct Requests {
    service: S3Service,
}

pub(super) type Answer = Response<s3s::Body>;

impl Requests {
    pub fn new(service: S3Service) -> Self {
        Self { service }
    }

    async fn answer<B>(self, mut request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError>,
    {
        let id = request.extensions().get().copied().unwrap_or(RequestId(0));
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let closes = is_answered_early(&request);
        if forms::is_of_any_length(&request) {
            return named(length_required(), id, None);
        }
        let may_be_form = forms::may_be_form(&request);
        let head = Arc::new(Head::new(may_be_form));
        let watched = Watched { document: Arc::default(), head };
        let (is_form, document) =
            (forms::is_signed_within(&request), Arc::clone(&watched.document));
        let current = Current { is_form, watched: watched.clone() };
        drop_unreadable(&mut request);
        let range = request.headers().get(RANGE).cloned();
        let fell_silent = Arc::new(AtomicBool::new(false));
        let request = request.map(|body| body_of(body, &fell_silent, watched));
        let answered = CURRENT.scope(current, self.service.call(request)).await;
        let mut answer = match answered {
            _ if fell_silent.load(Ordering::Relaxed) => request_timeout(&method),
            _ if document.fault().is_some() => unlike_its_digest(&method, document.fault()),
            Ok(answer) if may_be_form => forms::refused_by_policy(answer),
            Ok(answer) => answer,
            Err(error) if cannot_be_repeated(&uri) => {
                log::debug!("request {id}: {error:?}");
                unrepeatable(&method)
            }
            Err(error) => {
                log::error!("request {id}: {error:?}");
                status(StatusCode::INTERNAL_SERVER_ERROR)
            }
        };
        if method == Method::HEAD && answer.headers().contains_key(CONTENT_RANGE) {
            tell_partial(&mut answer);
        }
        if closes {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        named(answer, id, range.as_ref())
    }
}

impl<B> Service<Request<B>> for Requests
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<B>) -> Self::Future {
        let requests = self.clone();
        Box::pin(async move { Ok(requests.answer(request).await) })
    }
}

/// Whether a client that expects 100 (Continue) gets its answer without, because there is no body to
/// wait for. awscli 1.46 believes from then on that every answer of the connection has come already.
fn is_answered_early<B: Body>(request: &Request<B>) -> bool {
    let expects = request.headers().contains_key(EXPECT);
    expects && request.body().is_end_stream() && request.version() <= Version::HTTP_11
}

fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(s3s::Body::empty());
    *answer.status_mut() = status;
    answer
}

/// Error responses of the Amazon S3 API reference: `RequestTimeout` is a 400.
fn request_timeout(method: &Method) -> Answer {
    bad_request(method, "RequestTimeout", "the client sent nothing for too long")
}

/// Whether a query holds what XML cannot. s3s repeats it when it refuses it, and fails at that.
fn cannot_be_repeated(uri: &Uri) -> bool {
    let pairs = uri.query().and_then(query_pairs).unwrap_or_default();
    pairs.iter().any(|(name, value)| !fits_xml(name) || !fits_xml(value))
}

fn unrepeatable(method: &Method) -> Answer {
    bad_request(method, "InvalidRequest", "a control character in the query")
}

fn unlike_its_digest(method: &Method, fault: Option<Fault>) -> Answer {
    let (word, message) = fault.unwrap_or_default();
    bad_request(method, word, message)
}

fn bad_request(method: &Method, word: &str, message: &str) -> Answer {
    match *method == Method::HEAD {
        true => status(StatusCode::BAD_REQUEST),
        false => refusal(StatusCode::BAD_REQUEST, word, message),
    }
}

fn length_required() -> Answer {
    let message = "a form has to say its length";
    refusal(StatusCode::LENGTH_REQUIRED, "MissingContentLength", message)
}

pub(super) fn refusal(code: StatusCode, word: &str, message: &str) -> Answer {
    let mut answer = status(code);
    let text = format!("<Error><Code>{word}</Code><Message>{message}</Message></Error>");
    *answer.body_mut() = s3s::Body::from(text);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

/// An answer that names its request.
fn named(mut answer: Answer, id: RequestId, range: Option<&HeaderValue>) -> Answer {
    if answer.status().is_client_error() || answer.status().is_server_error() {
        let missed = range.and_then(|range| missed(&answer, range)).unwrap_or_default();
        answer = with_details(answer, &format!("{missed}<RequestId>{id}</RequestId>"));
    }
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        answer.headers_mut().insert(ID_HEADER, value);
    }
    answer
}

/// s3s has a status for parts of objects on GET alone.
fn tell_partial(answer: &mut Answer) {
    if answer.status() == StatusCode::OK {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
}

/// What an error says of a range that the object does not have.
fn missed(answer: &Answer, range: &HeaderValue) -> Option<String> {
    let size = answer.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix(WHOLE)?;
    let range = range.to_str().ok().filter(|text| !text.contains(['<', '>', '&']))?;
    let range = format!("<RangeRequested>{range}</RangeRequested>");
    Some(format!("{range}<ActualObjectSize>{size}</ActualObjectSize>"))
}

/// An error whose document has more elements at its end.
fn with_details(answer: Answer, more: &str) -> Answer {
    let (mut parts, body) = answer.into_parts();
    let document = body.bytes().filter(|bytes| bytes.ends_with(XML_END));
    let body = match document {
        Some(bytes) => {
            let head = &bytes[..bytes.len() - XML_END.len()];
            parts.headers.remove(CONTENT_LENGTH);
            s3s::Body::from([head, more.as_bytes(), XML_END].concat())
        }
        None => body,
    };
    Response::from_parts(parts, body)
}

fn body_of<B>(body: B, fell_silent: &Arc<AtomicBool>, watched: Watched) -> s3s::Body
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError>,
{
    if body.is_end_stream() {
        return s3s::Body::empty();
    }
    let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
    let (fell_silent, is_waiting) = (Arc::clone(fell_silent), false);
    s3s::Body::http_body_unsync(Patient { inner: body, silence, is_waiting, fell_silent, watched })
}

/// A body that ends with an error when nothing comes for [`SILENCE_MAX`], and in place of the end of a
/// document that is not what was sent.
struct Patient<B> {
    inner: B,
    silence: Pin<Box<Sleep>>,
    is_waiting: bool,
    fell_silent: Arc<AtomicBool>,
    watched: Watched,
}

impl<B> Body for Patient<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.is_waiting = false;
            let fits = match &frame {
                Some(Ok(frame)) => frame.data_ref().is_none_or(|bytes| this.watched.take(bytes)),
                Some(Err(_)) => true,
                None => this.watched.document.end(),
            };
            if !fits {
                return Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::InvalidData).into())));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        if !this.is_waiting {
            this.is_waiting = true;
            this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        }
        ready!(this.silence.as_mut().poll(cx));
        this.fell_silent.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_request() {
        let mut answer = status(StatusCode::NOT_FOUND);
        *answer.body_mut() = s3s::Body::from("<Error><Code>X</Code></Error>".to_owned());
        let mut named = named(answer, RequestId(255), None);
        let bytes = named.body_mut().bytes().unwrap();
        let expected = b"<Error><Code>X</Code><RequestId>00000000000000FF</RequestId></Error>";
        assert_eq!(&bytes[..], &expected[..]);
        let mut other = super::named(request_timeout(&Method::HEAD), RequestId(1), None);
        assert!(other.body_mut().bytes().is_none_or(|bytes| bytes.is_empty()));
    }
}
