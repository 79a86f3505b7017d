//! Multipart uploads: parts in any order, made an object by reference.

use axum::Json;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Who;
use super::error::{Answer, Problem, Refused};
use super::objects::Stored;
use super::request::{Asked, Body, Place};
use super::{body, conditions, headers};
use crate::vfs::{self, NamedPart, NewUpload, PartInfo};

/// Parts of one page.
const PAGE_MAX: usize = 1000;

/// An upload that was begun.
#[derive(Serialize, ToSchema)]
pub(super) struct Begun {
    upload: String,
}

/// A part that is there.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    #[schema(minimum = 1, maximum = 10000)]
    number: u16,
    /// Bytes.
    size: u64,
    etag: String,
    #[schema(example = "2026-01-02T03:04:05Z", format = DateTime)]
    stored: String,
}

impl From<PartInfo> for Part {
    fn from(part: PartInfo) -> Self {
        let PartInfo { number, size, etag, stored_at, .. } = part;
        Self { number, size, etag, stored: stored_at.rfc3339() }
    }
}

/// One page of an upload's parts.
#[derive(Serialize, ToSchema)]
pub(super) struct Parts {
    parts: Vec<Part>,
    /// `after` of the next page, if there is one.
    next: Option<u16>,
}

/// The parts an object is made of, in their order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Completion {
    parts: Vec<Named>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Named {
    #[schema(minimum = 1, maximum = 10000)]
    number: u16,
    /// As it was answered.
    etag: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The upload
    upload: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichPart {
    /// The upload
    upload: String,
    /// The part's number
    #[param(minimum = 1, maximum = 10000)]
    part: u16,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichParts {
    /// The upload
    upload: String,
    /// Only parts with larger numbers
    #[serde(default)]
    after: u16,
}

/// Begin an upload; the headers are those of the object it will make.
#[utoipa::path(
    post,
    path = "/uploads/{bucket}/{key}",
    tag = "uploads",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    responses(
        (status = 201, body = Begun),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 501, body = Problem), (status = 503, body = Problem),
        (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn begin(who: Who, place: Place, request: Request) -> Answer {
    let new = NewUpload { headers: headers::kept(request.headers())?, checksum: None };
    let vfs = &who.serving.served.vfs;
    let upload = vfs.create_upload(&who.caller, &place.bucket, &place.key, &new).await?;
    Ok((StatusCode::CREATED, Json(Begun { upload })).into_response())
}

/// Store a part, in place of one of the same number.
#[utoipa::path(
    put,
    path = "/uploads/{bucket}/{key}",
    tag = "uploads",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        WhichPart,
        ("Content-MD5" = Option<String>, Header, description = "The md5 of the body, in base64"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = Part),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 408, body = Problem), (status = 413, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn part(
    who: Who,
    place: Place,
    Asked(WhichPart { upload, part }): Asked<WhichPart>,
    request: Request,
) -> Answer<Json<Part>> {
    let md5 = body::expected_md5(request.headers())?;
    let vfs = &who.serving.served.vfs;
    vfs.upload_info(&who.caller, &place.bucket, &place.key, &upload)?;
    let writer = vfs.upload_part(&place.bucket, &[]);
    let uploaded = body::receive(writer, request.into_body(), md5).await?;
    let target = (&place.bucket, &place.key, upload.as_str());
    let part = vfs.put_part(&who.caller, target, part, uploaded).await?;
    Ok(Json(part.into()))
}

/// The parts that are there.
#[utoipa::path(
    get,
    path = "/uploads/{bucket}/{key}",
    tag = "uploads",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        WhichParts,
    ),
    responses(
        (status = 200, body = Parts),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn parts(
    who: Who,
    place: Place,
    Asked(WhichParts { upload, after }): Asked<WhichParts>,
) -> Answer<Json<Parts>> {
    let target = (&place.bucket, &place.key, upload.as_str());
    let vfs = &who.serving.served.vfs;
    let mut found = vfs.list_parts(&who.caller, target, after, PAGE_MAX + 1)?;
    let more = found.len() > PAGE_MAX;
    found.truncate(PAGE_MAX);
    let next = found.last().filter(|_| more).map(|part| part.number);
    Ok(Json(Parts { parts: found.into_iter().map(Part::from).collect(), next }))
}

/// Make the object of the parts named; asked again, it is answered again.
#[utoipa::path(
    post,
    path = "/completions/{bucket}/{key}",
    tag = "uploads",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        Which,
        ("If-Match" = Option<String>, Header, description = "Only in place of this version; or `*`"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only when there is none"),
    ),
    request_body = Completion,
    responses(
        (status = 200, body = Stored),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem),
        (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn complete(
    who: Who,
    place: Place,
    Asked(Which { upload }): Asked<Which>,
    asked: axum::http::HeaderMap,
    Body(Completion { parts }): Body<Completion>,
) -> Answer<Response> {
    let condition = conditions::of_write(&asked)?;
    if parts.is_empty() || !parts.is_sorted_by(|one, two| one.number < two.number) {
        return Err(Refused::malformed("the parts are to be named in the order of their numbers"));
    }
    let named = |Named { number, etag }| NamedPart { number, etag, checksums: Vec::new() };
    let parts = parts.into_iter().map(named).collect();
    let completion = vfs::Completion { parts, ..vfs::Completion::default() };
    let target = (&place.bucket, &place.key, upload.as_str());
    let vfs = &who.serving.served.vfs;
    let info = vfs.complete_upload(&who.caller, target, &completion, condition).await?;
    Ok(Stored::answer(&place, &info).into_response())
}

/// End an upload without an object.
#[utoipa::path(
    delete,
    path = "/uploads/{bucket}/{key}",
    tag = "uploads",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
        Which,
    ),
    responses(
        (status = 204, description = "It has ended"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn abort(
    who: Who,
    place: Place,
    Asked(Which { upload }): Asked<Which>,
) -> Answer<StatusCode> {
    let vfs = &who.serving.served.vfs;
    vfs.abort_upload(&who.caller, &place.bucket, &place.key, &upload).await?;
    Ok(StatusCode::NO_CONTENT)
}
