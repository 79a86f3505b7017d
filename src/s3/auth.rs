//! Who asks: access keys, and what their holders are on the mounts.

use std::sync::Arc;

use http::Method;
use http::header::CONTENT_LENGTH;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{Credentials, S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::error::refuse;
use super::requests::expect_document;
use super::words;
use crate::types::Right;
use crate::vfs::{Caller, Vfs};

/// A document that comes without a signature: a list of everybody's grants fits.
const UNSIGNED_MAX: u64 = 64 << 10;
/// What is put or posted without a document, as s3s names the operations.
const WITHOUT_DOCUMENT: [&str; 7] = [
    "CopyObject",
    "CreateMultipartUpload",
    "PostObject",
    "PutObject",
    "RenameObject",
    "UploadPart",
    "UploadPartCopy",
];
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
        // Asked once a request, before anything else is looked up.
        pass_barrier(&self.0).await?;
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
        if context.credentials().is_none() {
            pass_barrier(&self.0).await?;
        }
        if brings_document(context) {
            self.check_document(context)?;
            expect_document(context.s3_op().name(), context.headers())?;
        }
        let expected = context.headers().get(EXPECTED_OWNER);
        let (Some(expected), Some(bucket)) = (expected, context.s3_path().get_bucket_name()) else {
            return Ok(());
        };
        check_owner(&self.0, bucket, expected.to_str().ok())
    }
}

impl Anybody {
    /// Documents are read whole, before an operation looks at who asks.
    ///
    /// # Errors
    /// `AccessDenied`, or that it is too long, for a document without a signature that could not
    /// count.
    fn check_document(&self, context: &S3AccessContext<'_>) -> S3Result<()> {
        let operation = context.s3_op().name();
        if context.credentials().is_some() {
            return Ok(());
        }
        if let ("CompleteMultipartUpload" | "DeleteObjects", Some(bucket)) =
            (operation, context.s3_path().get_bucket_name())
        {
            let allowed =
                self.0.require(&Caller::anonymous(), &words::bucket(bucket)?, Right::Write);
            return allowed.map_err(|error| refuse(&error));
        }
        let length = context.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        match length.and_then(|text| text.parse::<u64>().ok()) {
            None => Err(s3_error!(MissingContentLength)),
            Some(length) if length > UNSIGNED_MAX => Err(s3_error!(MaxMessageLengthExceeded)),
            Some(_) => Ok(()),
        }
    }
}

fn brings_document(context: &S3AccessContext<'_>) -> bool {
    let is_sent = *context.method() == Method::PUT || *context.method() == Method::POST;
    is_sent && !WITHOUT_DOCUMENT.contains(&context.s3_op().name())
}

/// What a request asks for was acknowledged before it, by whatever node: keys, buckets, uploads.
///
/// # Errors
/// `ServiceUnavailable` when no quorum says what that is.
async fn pass_barrier(vfs: &Vfs) -> S3Result<()> {
    vfs.barrier().await.map_err(|error| refuse(&error))
}

/// # Errors
/// `AccessDenied` when a bucket is not whose it is expected to be.
pub(super) fn check_owner(vfs: &Vfs, bucket: &str, expected: Option<&str>) -> S3Result<()> {
    let uid = vfs.bucket_uid(&words::bucket(bucket)?).map_err(|error| refuse(&error))?;
    if words::owner(uid).id.as_deref() == expected { Ok(()) } else { Err(s3_error!(AccessDenied)) }
}
