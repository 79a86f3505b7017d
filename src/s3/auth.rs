//! Who asks: access keys, and what their holders are on the mounts.

use std::sync::Arc;

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::error::refuse;
use super::words;
use crate::vfs::{Caller, Vfs};

const EXPECTED_OWNER: &str = "x-amz-expected-bucket-owner";

/// The keys of the store, asked at each request: a change counts from the next one on.
#[derive(Clone)]
pub(super) struct Keys(Arc<Vfs>);

impl Keys {
    pub fn new(vfs: Arc<Vfs>) -> Self {
        Self(vfs)
    }

    /// # Errors
    /// `InvalidAccessKeyId`; requests without a signature are anybody's.
    pub fn caller(&self, credentials: Option<&Credentials>) -> S3Result<Caller> {
        let Some(credentials) = credentials else { return Ok(Caller::anonymous()) };
        self.0.key_caller(&credentials.access_key).map_err(|error| refuse(&error))
    }
}

/// The library compares signatures in constant time, and refuses old and future ones.
#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let secret = self.0.key_secret(access_key).map_err(|error| refuse(&error))?;
        Ok(SecretKey::from(secret))
    }
}

/// Requests without a signature go on: access lists decide what they may. Those that expect another
/// owner of their bucket do not.
pub(super) struct Anybody(pub Arc<Vfs>);

#[async_trait::async_trait]
impl S3Access for Anybody {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let expected = context.headers().get(EXPECTED_OWNER);
        let (Some(expected), Some(bucket)) = (expected, context.s3_path().get_bucket_name()) else {
            return Ok(());
        };
        check_owner(&self.0, bucket, expected.to_str().ok())
    }
}

/// # Errors
/// `AccessDenied` when a bucket is not whose it is expected to be.
pub(super) fn check_owner(vfs: &Vfs, bucket: &str, expected: Option<&str>) -> S3Result<()> {
    let uid = vfs.bucket_uid(&words::bucket(bucket)?).map_err(|error| refuse(&error))?;
    if words::owner(uid).id.as_deref() == expected { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}
