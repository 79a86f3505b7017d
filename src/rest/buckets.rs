//! Buckets: listed, made, removed.

use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Who;
use super::error::{Answer, Problem};
use super::request::Bucket as Named;
use crate::vfs::BucketInfo;

#[derive(Serialize, ToSchema)]
pub(super) struct Bucket {
    name: String,
    #[schema(example = "2026-01-02T03:04:05Z", format = DateTime)]
    created: String,
    uid: u32,
    /// Files and directories right below it.
    entries: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Buckets {
    buckets: Vec<Bucket>,
}

impl From<BucketInfo> for Bucket {
    fn from(bucket: BucketInfo) -> Self {
        let BucketInfo { name, created_at, uid, entries, .. } = bucket;
        Self { name, created: created_at.rfc3339(), uid, entries }
    }
}

/// The buckets in which the access key has a right.
#[utoipa::path(
    get,
    path = "/buckets",
    tag = "buckets",
    responses(
        (status = 200, body = Buckets),
        (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn list(who: Who) -> Answer<Json<Buckets>> {
    let buckets = who.serving.served.vfs.buckets(&who.caller)?;
    Ok(Json(Buckets { buckets: buckets.into_iter().map(Bucket::from).collect() }))
}

/// What is known about a bucket.
#[utoipa::path(
    get,
    path = "/buckets/{bucket}",
    tag = "buckets",
    params(("bucket" = String, Path, description = "The bucket")),
    responses(
        (status = 200, body = Bucket),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn get(who: Who, Named(bucket): Named) -> Answer<Json<Bucket>> {
    Ok(Json(who.serving.served.vfs.bucket(&who.caller, &bucket)?.into()))
}

/// Make a bucket, which then belongs to the access key.
#[utoipa::path(
    put,
    path = "/buckets/{bucket}",
    tag = "buckets",
    params(("bucket" = String, Path, description = "The bucket")),
    responses(
        (status = 201, body = Bucket),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn create(who: Who, Named(bucket): Named) -> Answer {
    let made = who.serving.served.vfs.create_bucket(&who.caller, &bucket).await?;
    Ok((StatusCode::CREATED, Json(Bucket::from(made))).into_response())
}

/// Remove an empty bucket.
#[utoipa::path(
    delete,
    path = "/buckets/{bucket}",
    tag = "buckets",
    params(("bucket" = String, Path, description = "The bucket")),
    responses(
        (status = 204, description = "It is gone, on disk too"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn delete(who: Who, Named(bucket): Named) -> Answer<StatusCode> {
    who.serving.served.vfs.delete_bucket(&who.caller, &bucket).await?;
    Ok(StatusCode::NO_CONTENT)
}
