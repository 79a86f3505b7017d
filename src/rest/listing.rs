//! Listings in JSON, page by page, in the order of the keys' bytes.

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::auth::Who;
use super::error::{Answer, Problem, Refused};
use super::request::{Asked, Bucket};
use crate::vfs::{ListQuery, ListedObject};

/// Keys and prefixes of one page.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    /// Only keys that begin with this
    #[serde(default)]
    prefix: String,
    /// Keys that have this after the prefix are rolled up into one prefix
    #[serde(default)]
    delimiter: Option<String>,
    /// Only keys and prefixes after this one: `next` of the page before
    #[serde(default, rename = "start-after")]
    #[param(rename = "start-after")]
    start_after: String,
    /// Keys and prefixes of the page
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// One page of a bucket's objects.
#[derive(Serialize, ToSchema)]
pub(super) struct Page {
    objects: Vec<Listed>,
    prefixes: Vec<String>,
    /// Where the next page starts, if there is one.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct Listed {
    #[schema(example = "photos/a.jpg")]
    key: String,
    /// Bytes.
    size: u64,
    etag: String,
    #[schema(example = "2026-01-02T03:04:05Z", format = DateTime)]
    modified: String,
    uid: u32,
}

impl From<ListedObject> for Listed {
    fn from(object: ListedObject) -> Self {
        let ListedObject { key, size, etag, modified, uid } = object;
        Self { key, size, etag, modified: modified.rfc3339(), uid }
    }
}

/// The objects of a bucket, in the order of their keys' bytes.
#[utoipa::path(
    get,
    path = "/objects/{bucket}",
    tag = "objects",
    params(("bucket" = String, Path, description = "The bucket"), Question),
    responses(
        (status = 200, body = Page),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn list(
    who: Who,
    Bucket(bucket): Bucket,
    Asked(question): Asked<Question>,
) -> Answer<Json<Page>> {
    let limit = question.limit.unwrap_or(PAGE_MAX);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Refused::malformed(format!("`limit` is 1 to {PAGE_MAX}")));
    }
    let Question { prefix, delimiter, start_after: after, .. } = question;
    let query = ListQuery { prefix, delimiter, after, limit, xml_only: false };
    let page = who.serving.served.vfs.list_objects(&who.caller, &bucket, &query).await?;
    let objects = page.objects.into_iter().map(Listed::from).collect();
    Ok(Json(Page { objects, prefixes: page.prefixes, next: page.next }))
}
