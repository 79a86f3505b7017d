//! Tags of objects, in JSON.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Who;
use super::error::{Answer, Problem, Refused};
use super::request::{Body, Place};
use crate::vfs::fits_xml;

/// The limits of S3, so that both views can show the same; "Categorizing your storage using tags"
/// of the Amazon S3 user guide.
const TAGS_MAX: usize = 10;
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 256;

/// Names and values: at most 10, of up to 128 and 256 characters.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tags {
    #[schema(example = json!({"project": "x"}))]
    tags: BTreeMap<String, String>,
}

/// The tags of an object.
#[utoipa::path(
    get,
    path = "/tags/{bucket}/{key}",
    tag = "tags",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    responses(
        (status = 200, body = Tags),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn get(who: Who, place: Place) -> Answer<Json<Tags>> {
    let vfs = &who.serving.served.vfs;
    let info = vfs.head_object(&who.caller, &place.bucket, &place.key).await?;
    Ok(Json(Tags { tags: info.headers.tags }))
}

/// Replace the tags of an object.
#[utoipa::path(
    put,
    path = "/tags/{bucket}/{key}",
    tag = "tags",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    request_body = Tags,
    responses(
        (status = 204, description = "They are on disk"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 503, body = Problem),
        (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn put(who: Who, place: Place, Body(new): Body<Tags>) -> Answer<StatusCode> {
    let fits = |(name, value): (&String, &String)| {
        (1..=NAME_MAX).contains(&name.chars().count())
            && value.chars().count() <= VALUE_MAX
            && fits_xml(name)
            && fits_xml(value)
    };
    if new.tags.len() > TAGS_MAX || !new.tags.iter().all(fits) {
        let limits = "at most 10 tags, with names of 1 to 128 and values of up to 256 characters, \
                      none of them a control character";
        return Err(Refused::malformed(limits));
    }
    set(&who, &place, &new.tags).await
}

/// Remove all tags of an object.
#[utoipa::path(
    delete,
    path = "/tags/{bucket}/{key}",
    tag = "tags",
    params(
        ("bucket" = String, Path, description = "The bucket"),
        ("key" = String, Path, description = "The key; slashes may stand in it"),
    ),
    responses(
        (status = 204, description = "They are gone, on disk too"),
        (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem), (status = 507, body = Problem),
    ),
    security(("bearer" = []))
)]
pub(super) async fn delete(who: Who, place: Place) -> Answer<StatusCode> {
    set(&who, &place, &BTreeMap::new()).await
}

async fn set(who: &Who, place: &Place, tags: &BTreeMap<String, String>) -> Answer<StatusCode> {
    let vfs = &who.serving.served.vfs;
    vfs.set_tags(&who.caller, &place.bucket, Some(&place.key), tags).await?;
    Ok(StatusCode::NO_CONTENT)
}
