//! Objects: put, get, head, delete.

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Who;
use super::conditions::{self, Verdict};
use super::error::{Answer, Problem, Refused};
use super::range::{self, Part};
use super::request::Place;
use super::{body, headers};
use crate::error::Error;
use crate::types::ByteRange;
use crate::vfs::ObjectInfo;

/// An object that was stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    bucket: String,
    #[schema(example = "photos/a.jpg")]
    key: String,
    /// Bytes.
    size: u64,
    #[schema(example = "9a0364b9e99bb480dd25e1f0284c8555")]
    etag: String,
    #[schema(example = "2026-01-02T03:04:05Z", format = DateTime)]
    modified: String,
}

impl Stored {
    pub fn answer(place: &Place, info: &ObjectInfo) -> Json<Self> {
        Json(Self {
            bucket: place.bucket.to_string(),
            key: place.key.as_str().to_owned(),
            size: info.size,
            etag: info.etag.clone(),
            modified: info.modified.rfc3339(),
        })
    }
}

/// Store an object, in place of one there may be.
///
/// It is on disk when this is answered. Headers `Content-Type`, `Cache-Control`,
/// `Content-Disposition`, `Content-Encoding`, `Content-Language`, `Expires` and `X-Meta-*` are kept.
#[utoipa::path(
    put,
    path = "/objects/{bucket}/{key}",
    tag = "objects",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        ("If-Match" = Option<String>, Header, description = "Only in place of this version; or `*`"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none"),
        ("Content-MD5" = Option<String>, Header, description = "The md5 of the body, in base64"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Stored),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 408, body = Problem), (status = 409, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn put(who: Who, place: Place, request: Request) -> Answer {
    let vfs = &who.serving.served.vfs;
    let asked = request.headers();
    if asked.contains_key(CONTENT_RANGE) {
        // RFC 9110, section 14.5: a part of an object is not taken for the whole.
        return Err(Refused::malformed("an object is stored whole: no `Content-Range`"));
    }
    let condition = conditions::of_write(asked)?;
    let (kept, md5) = (headers::kept(asked)?, body::expected_md5(asked)?);
    let target = (&place.bucket, &place.key);
    vfs.require_put(&who.caller, target)?;
    let writer = vfs.upload(&place.bucket, &[]);
    let uploaded = body::receive(writer, request.into_body(), md5).await?;
    let info = vfs.put_object(&who.caller, target, uploaded, &kept, condition).await?;
    Ok(Stored::answer(&place, &info).into_response())
}

/// As PUT.
#[utoipa::path(
    post,
    path = "/objects/{bucket}/{key}",
    tag = "objects",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Stored),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 408, body = Problem), (status = 409, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn post(who: Who, place: Place, request: Request) -> Answer {
    put(who, place, request).await
}

/// The bytes of an object, or a range of them.
///
/// One version is sent, or the body breaks off.
#[utoipa::path(
    get,
    path = "/objects/{bucket}/{key}",
    tag = "objects",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        ("Range" = Option<String>, Header, description = "`bytes=FIRST-LAST`, `bytes=FIRST-`, `bytes=-COUNT`"),
        ("If-Match" = Option<String>, Header, description = "Tags of versions, or `*`"),
        ("If-None-Match" = Option<String>, Header, description = "Tags of versions, or `*`"),
        ("If-Modified-Since" = Option<String>, Header, description = "A date"),
        ("If-Unmodified-Since" = Option<String>, Header, description = "A date"),
        ("If-Range" = Option<String>, Header, description = "A tag or a date"),
    ),
    responses(
        (status = 200, description = "The object", content_type = "*/*", body = Vec<u8>),
        (status = 206, description = "The range", content_type = "*/*", body = Vec<u8>),
        (status = 304, description = "Not modified"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 412, body = Problem), (status = 416, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn get(who: Who, place: Place, asked: HeaderMap) -> Answer {
    let vfs = &who.serving.served.vfs;
    let reader = vfs.open_object(&who.caller, &place.bucket, &place.key).await?;
    let mut head = match described(&asked, &place, &reader.info)? {
        Described::NotModified(response) => return Ok(response),
        Described::Part(head) => head,
    };
    *head.response.body_mut() = body::send(reader, head.range, who.serving.clone()).await?;
    Ok(head.response)
}

/// What there is to know of an object without its bytes.
#[utoipa::path(
    head,
    path = "/objects/{bucket}/{key}",
    tag = "objects",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    responses(
        (status = 200, description = "As GET without the body"),
        (status = 206, description = "As GET without the body"),
        (status = 304, description = "Not modified"),
        (status = 400, description = "As GET"), (status = 401, description = "As GET"),
        (status = 403, description = "As GET"), (status = 404, description = "As GET"),
        (status = 412, description = "As GET"), (status = 416, description = "As GET"),
        (status = 503, description = "As GET"),
    ),
    security(("bearer" = []))
)]
pub(super) async fn head(who: Who, place: Place, asked: HeaderMap) -> Answer {
    let vfs = &who.serving.served.vfs;
    let info = vfs.head_object(&who.caller, &place.bucket, &place.key).await?;
    match described(&asked, &place, &info)? {
        Described::NotModified(response) => Ok(response),
        Described::Part(Head { response, .. }) => Ok(response),
    }
}

/// Remove an object; what is not there may be removed again.
#[utoipa::path(
    delete,
    path = "/objects/{bucket}/{key}",
    tag = "objects",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        ("If-Match" = Option<String>, Header, description = "Only this version; or `*`"),
    ),
    responses(
        (status = 204, description = "It is not there any more, on disk too"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn delete(who: Who, place: Place, asked: HeaderMap) -> Answer<StatusCode> {
    let condition = conditions::of_removal(&asked)?;
    let must_be_there = condition.is_some();
    let vfs = &who.serving.served.vfs;
    let expected = condition.unwrap_or_default();
    match vfs.delete_object(&who.caller, &place.bucket, &place.key, expected).await? {
        false if must_be_there => Err(Error::NotFound.into()),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

/// An answer without its body.
struct Head {
    response: Response,
    range: ByteRange,
}

enum Described {
    NotModified(Response),
    Part(Head),
}

fn described(asked: &HeaderMap, place: &Place, info: &ObjectInfo) -> Answer<Described> {
    let told = headers::told(place.key.as_str(), info);
    if conditions::check(asked, info)? == Verdict::NotModified {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        *response.headers_mut() = told;
        return Ok(Described::NotModified(response));
    }
    let part = match conditions::allow_range(asked, info) {
        true => range::asked(asked, info.size),
        false => Part::Whole,
    };
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = told;
    let range = match part {
        Part::Whole => ByteRange::between(0, info.size),
        Part::Range(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{}", range.start(), range.end() - 1, info.size);
            if let Ok(value) = HeaderValue::from_str(&text) {
                response.headers_mut().insert(CONTENT_RANGE, value);
            }
            range
        }
        Part::Unsatisfiable => return Err(unsatisfiable(info.size)),
    };
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(range.len()));
    Ok(Described::Part(Head { response, range }))
}

fn unsatisfiable(size: u64) -> Refused {
    Refused::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "no_such_range",
        format!("the range lies behind the end: the object has {size} bytes"),
        "Ask for a range within the object.",
    )
}
