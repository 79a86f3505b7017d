//! Counts requests, and how long their answers took to begin; gives each a number that the client
//! is told and the log has.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::header::{HeaderName, HeaderValue};
use hyper::service::Service;
use hyper::{Method, Request, Response, StatusCode};

use crate::metrics::Meter;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static CURRENT: RequestId;
}

/// The request that is being answered by this task.
pub fn current() -> RequestId {
    CURRENT.try_with(|id| *id).unwrap_or(RequestId(0))
}

/// Where the requests of all doors are counted: by door, method and kind of status.
pub type RequestMeter = Meter<3>;

/// Counts the requests of one door.
#[derive(Clone)]
pub struct Requests {
    pub meter: RequestMeter,
    pub ids: RequestIds,
    pub door: &'static str,
}

/// Names one request in its answer and in the log; an extension of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016X}", self.0)
    }
}

/// Numbers the requests of a node, from a random start.
#[derive(Clone)]
pub struct RequestIds(Arc<AtomicU64>);

impl RequestIds {
    pub fn new(random: u64) -> Self {
        Self(Arc::new(AtomicU64::new(random)))
    }

    fn next(&self) -> RequestId {
        RequestId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub(super) struct Counted<S> {
    inner: S,
    requests: Requests,
}

impl<S> Counted<S> {
    pub fn new(inner: S, requests: Requests) -> Self {
        Self { inner, requests }
    }
}

impl<S, Q, B> Service<Request<Q>> for Counted<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn call(&self, mut request: Request<Q>) -> Self::Future {
        let requests = self.requests.clone();
        let (method, id) = (method(request.method()), requests.ids.next());
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(id);
        let begun = requests.meter.begin();
        let answer = CURRENT.scope(id, self.inner.call(request));
        Box::pin(async move {
            let mut answer = answer.await;
            let status = answer.as_ref().map_or("broken off", |answer| kind(answer.status()));
            let labels = [("door", requests.door), ("method", method), ("status", status)];
            requests.meter.count(&labels, begun);
            if let Ok(answer) = &mut answer {
                let (door, status) = (requests.door, answer.status());
                match status == StatusCode::INTERNAL_SERVER_ERROR {
                    true => log::warn!("{door} request {id}: {method} {path}: {status}"),
                    false => log::debug!("{door} request {id}: {method} {path}: {status}"),
                }
                if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
                    answer.headers_mut().insert(REQUEST_ID, value);
                }
            }
            answer
        })
    }
}

/// Methods are a client's to invent: few are told apart.
fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "PUT" => "PUT",
        "POST" => "POST",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}
