//! Requests taken apart: paths, queries and JSON; what is malformed is answered in JSON too.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{Answer, Refused};
use super::state::Shared;
use crate::types::{BucketName, ObjectKey};

/// The query of a request.
pub(super) struct Asked<T>(pub T);

/// A bucket named by the path.
pub(super) struct Bucket(pub BucketName);

/// A bucket and a key named by the path.
pub(super) struct Place {
    pub bucket: BucketName,
    pub key: ObjectKey,
}

/// A body in JSON, as long as the listener takes.
pub(super) struct Body<T>(pub T);

#[derive(Deserialize)]
struct BucketPath {
    bucket: String,
}

#[derive(Deserialize)]
struct PlacePath {
    bucket: String,
    key: String,
}

async fn path<T: DeserializeOwned + Send>(parts: &mut Parts, shared: &Shared) -> Answer<T> {
    let path = Path::<T>::from_request_parts(parts, shared).await;
    path.map(|Path(path)| path).map_err(|error| Refused::malformed(error.body_text()))
}

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Answer<Self> {
        let query = Query::<T>::from_request_parts(parts, shared).await;
        query.map(|Query(query)| Self(query)).map_err(|error| Refused::malformed(error.body_text()))
    }
}

fn bucket(name: &str) -> Answer<BucketName> {
    BucketName::new(name).map_err(|error| Refused::malformed(error.to_string()))
}

impl FromRequestParts<Shared> for Bucket {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Answer<Self> {
        let found: BucketPath = path(parts, shared).await?;
        Ok(Self(bucket(&found.bucket)?))
    }
}

impl FromRequestParts<Shared> for Place {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Answer<Self> {
        let found: PlacePath = path(parts, shared).await?;
        let key = ObjectKey::new(&found.key).map_err(crate::error::Error::from)?;
        Ok(Self { bucket: bucket(&found.bucket)?, key })
    }
}

impl<T: DeserializeOwned> FromRequest<Shared> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, shared: &Shared) -> Answer<Self> {
        let bytes = Bytes::from_request(request, shared).await;
        let bytes = bytes.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => crate::error::Error::FileTooLarge.into(),
            _ => Refused::malformed(error.body_text()),
        })?;
        Json::from_bytes(&bytes)
            .map(|Json(body)| Self(body))
            .map_err(|error| Refused::malformed(error.body_text()))
    }
}
