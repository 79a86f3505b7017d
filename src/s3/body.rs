//! Bodies: uploads as they stream in, with the digests they must have, and downloads.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode};
use s3s::dto::StreamingBlob;
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{
    BodySizeLimitExceeded, S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error,
};

use super::error::refuse;
use super::words::{checksum_kind, checksum_name};
use crate::error::Error;
use crate::types::{ByteRange, ChecksumKind, base64, from_base64};
use crate::vfs::{ObjectReader, ObjectWriter, Uploaded};

/// Bodies up to this size are read before anything is sent; more of them in pieces that are read
/// ahead, so many at a time.
const READ: u64 = 1 << 20;
const READS_AHEAD: usize = 2;

/// Code and message; error responses of the Amazon S3 API reference.
const MISSING_TRAILER: (&str, &str) =
    ("MalformedTrailerError", "a checksum that was to follow the body is missing");
pub(super) const PAYLOAD_MISMATCH: (&str, &str) =
    ("XAmzContentSHA256Mismatch", "the body does not match x-amz-content-sha256");

const KINDS: [ChecksumKind; 5] = [
    ChecksumKind::Crc32,
    ChecksumKind::Crc32c,
    ChecksumKind::Crc64Nvme,
    ChecksumKind::Sha1,
    ChecksumKind::Sha256,
];

/// What a client says of the bytes it sends.
#[derive(Default)]
pub(super) struct Expected {
    md5: Option<String>,
    checksums: Vec<(ChecksumKind, String)>,
    /// To be computed, with or without a value to compare with.
    pub kinds: Vec<ChecksumKind>,
    /// Checksums that come behind the body.
    promised: Vec<ChecksumKind>,
}

fn header_name(kind: ChecksumKind) -> String {
    format!("x-amz-checksum-{}", checksum_name(kind).to_ascii_lowercase())
}

impl Expected {
    /// # Errors
    /// `InvalidDigest` and `InvalidRequest` for what is no digest; `NotImplemented` for kinds that
    /// would go unchecked.
    pub fn from_headers(headers: &HeaderMap) -> S3Result<Self> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut expected = Self::default();
        let sums =
            KINDS.into_iter().filter_map(|kind| Some((kind, text(&header_name(kind))?.into())));
        expected.add(text("content-md5"), sums.collect())?;
        let algorithm = text("x-amz-sdk-checksum-algorithm").or(text("x-amz-checksum-algorithm"));
        let trailers = text("x-amz-trailer").into_iter().flat_map(|names| names.split(','));
        let trailers = trailers.map(|name| name.trim().to_ascii_lowercase());
        let known = |name: &str| {
            checksum_kind(name).ok_or_else(|| s3_error!(NotImplemented, "this checksum"))
        };
        for name in trailers {
            if let Some(name) = name.strip_prefix("x-amz-checksum-") {
                expected.promised.push(known(name)?);
            }
        }
        expected.kinds.extend(algorithm.map(known).transpose()?);
        expected.kinds.extend(&expected.promised);
        let known = |name: &str| KINDS.iter().any(|kind| header_name(*kind) == name);
        let unknown = headers.keys().map(http::HeaderName::as_str).find(|name| {
            let is_value = name.starts_with("x-amz-checksum-")
                && !matches!(
                    *name,
                    "x-amz-checksum-algorithm" | "x-amz-checksum-type" | "x-amz-checksum-mode"
                );
            is_value && !known(name)
        });
        if unknown.is_some() {
            return Err(s3_error!(NotImplemented, "this checksum"));
        }
        expected.kinds.sort_unstable();
        expected.kinds.dedup();
        Ok(expected)
    }

    /// Takes a digest and checksums, as headers have them, or the fields of a form.
    ///
    /// # Errors
    /// As [`Self::from_headers`].
    pub fn add(&mut self, md5: Option<&str>, sums: Vec<(ChecksumKind, String)>) -> S3Result<()> {
        if let Some(md5) = md5 {
            let is_digest = from_base64(md5).is_some_and(|bytes| bytes.len() == 16);
            if !is_digest {
                return Err(s3_error!(InvalidDigest));
            }
            self.md5 = Some(md5.to_owned());
        }
        for (kind, value) in sums {
            if from_base64(&value).is_none() {
                return Err(s3_error!(InvalidRequest, "a checksum is not in base64"));
            }
            self.kinds.push(kind);
            self.checksums.push((kind, value));
        }
        if self
            .checksums
            .iter()
            .any(|(kind, _)| Some(kind) != self.checksums.first().map(|sum| &sum.0))
        {
            return Err(s3_error!(InvalidRequest, "only one kind of checksum can be given"));
        }
        self.kinds.sort_unstable();
        self.kinds.dedup();
        Ok(())
    }

    /// # Errors
    /// `MalformedTrailerError` when one that was promised has not come.
    fn add_trailers(&mut self, trailers: &HeaderMap) -> S3Result<()> {
        for kind in KINDS {
            let value = trailers.get(header_name(kind)).and_then(|value| value.to_str().ok());
            if value.is_none() && self.promised.contains(&kind) {
                return Err(bad_request(MISSING_TRAILER));
            }
            self.checksums.extend(value.map(|value| (kind, value.to_owned())));
        }
        Ok(())
    }

    /// # Errors
    /// `BadDigest`.
    pub fn check(&self, md5: &[u8; 16], checksums: &[(ChecksumKind, String)]) -> S3Result<()> {
        let mismatch = |what| Err(refuse(&Error::BadDigest(what)));
        if self.md5.as_ref().is_some_and(|given| *given != base64(md5)) {
            return mismatch("Content-MD5");
        }
        for sum in &self.checksums {
            if !checksums.contains(sum) {
                return mismatch("checksum");
            }
        }
        Ok(())
    }
}

/// Takes a whole upload and checks it.
pub(super) async fn receive(
    mut writer: ObjectWriter,
    body: Option<StreamingBlob>,
    mut expected: Expected,
    trailers: Option<TrailingHeaders>,
) -> S3Result<Uploaded> {
    if let Some(mut body) = body {
        while let Some(bytes) = writer.next(body.next()).await.map_err(|error| refuse(&error))? {
            let bytes = bytes.map_err(broken)?;
            writer.write(&bytes).await.map_err(|error| refuse(&error))?;
        }
    }
    let uploaded = writer.finish().await.map_err(|error| refuse(&error))?;
    let trailers = trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
    expected.add_trailers(&trailers)?;
    expected.check(&uploaded.md5, &uploaded.checksums)?;
    Ok(uploaded)
}

/// An error that s3s has no code for.
fn bad_request((word, message): (&'static str, &'static str)) -> S3Error {
    let mut error = S3Error::with_message(S3ErrorCode::Custom(word.into()), message);
    error.set_status_code(StatusCode::BAD_REQUEST);
    error
}

/// A body that ended before its end.
fn broken(error: StdError) -> S3Error {
    let mut cause: &(dyn std::error::Error + 'static) = &*error;
    loop {
        if let Some(error) = cause.downcast_ref::<AwsChunkedStreamError>() {
            match error {
                AwsChunkedStreamError::Underlying(_) => {}
                error => return S3Error::with_message(error.to_s3_error_code(), error.to_string()),
            }
        }
        if let Some(error) = cause.downcast_ref::<UploadStreamError>() {
            match error {
                UploadStreamError::Underlying(_) => {}
                UploadStreamError::Sha256Mismatch => return bad_request(PAYLOAD_MISMATCH),
                error => return S3Error::with_message(error.to_s3_error_code(), error.to_string()),
            }
        }
        if cause.is::<BodySizeLimitExceeded>() {
            return S3Error::new(S3ErrorCode::EntityTooLarge);
        }
        match cause.source() {
            Some(source) => cause = source,
            None => return s3_error!(IncompleteBody),
        }
    }
}

/// A range of an object as a body.
pub(super) async fn send(reader: ObjectReader, range: ByteRange) -> S3Result<StreamingBlob> {
    if range.len() <= READ {
        let bytes = reader.read_whole(range).await.map_err(|error| refuse(&error))?;
        return Ok(StreamingBlob::from_bytes(bytes));
    }
    Ok(StreamingBlob::wrap(stream(Arc::new(reader), range)))
}

fn stream(
    reader: Arc<ObjectReader>,
    range: ByteRange,
) -> impl Stream<Item = Result<Bytes, Error>> + Send + Sync + 'static {
    let reads = futures::stream::iter(range.slots(READ));
    let reads = reads.map(move |(_, piece)| read(Arc::clone(&reader), piece)).buffered(READS_AHEAD);
    reads.map_ok(|slices| futures::stream::iter(slices.into_iter().map(Ok))).try_flatten()
}

async fn read(reader: Arc<ObjectReader>, range: ByteRange) -> Result<Vec<Bytes>, Error> {
    // In a task of its own, so that several reads of one body run at the same time.
    let read = tokio::spawn(async move { reader.read(range).await });
    read.await.unwrap_or(Err(Error::ShuttingDown))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(headers: &[(&'static str, &str)]) -> S3Result<Expected> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        Expected::from_headers(&map)
    }

    #[test]
    fn what_cannot_be_checked_is_not_accepted() {
        let found = expected(&[
            ("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
            ("x-amz-sdk-checksum-algorithm", "SHA1"),
            ("x-amz-trailer", "X-Amz-Checksum-CRC32"),
        ]);
        let mut found = found.unwrap();
        assert_eq!(found.kinds, [ChecksumKind::Crc32, ChecksumKind::Sha1]);
        assert!(found.add_trailers(&HeaderMap::new()).is_err());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-amz-checksum-crc32", "NhCmhg==".parse().unwrap());
        assert!(found.add_trailers(&trailers).is_ok());
        let code =
            |headers: &[(&'static str, &str)]| expected(headers).err().unwrap().code().clone();
        assert_eq!(code(&[("content-md5", "short")]), S3ErrorCode::InvalidDigest);
        assert_eq!(code(&[("x-amz-checksum-crc32", "!")]), S3ErrorCode::InvalidRequest);
        assert_eq!(code(&[("x-amz-checksum-sha512", "AA==")]), S3ErrorCode::NotImplemented);
        let two = [("x-amz-checksum-crc32", "NhCmhg=="), ("x-amz-checksum-crc32c", "mnG7TA==")];
        assert_eq!(code(&two), S3ErrorCode::InvalidRequest);
        assert_eq!(code(&[("x-amz-sdk-checksum-algorithm", "XXH3")]), S3ErrorCode::NotImplemented);
    }
}
