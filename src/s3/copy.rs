//! Copies: of objects by reference, of parts byte by byte.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::named_list;
use super::auth::check_owner;
use super::conditions::{self, Conditions};
use super::error::refuse;
use super::objects::{checksum_type, kept_headers, set_checksums};
use super::service::Door;
use super::words::{self, check_demands, check_version, time};
use crate::types::ByteRange;
use crate::vfs::{Caller, ObjectReader, Uploaded};

/// Bytes of a part that are copied at once.
const COPIED_AT_ONCE: u64 = 1 << 20;
const REDIRECT: &str = "website-redirect-location";

impl Door {
    async fn source(
        &self,
        who: &Caller,
        source: &CopySource,
        expected_owner: Option<&str>,
    ) -> S3Result<ObjectReader> {
        let CopySource::Bucket { bucket, key, version_id } = source else {
            return Err(s3_error!(NotImplemented, "access points"));
        };
        check_version(version_id.as_deref())?;
        if expected_owner.is_some() {
            check_owner(&self.vfs, bucket, expected_owner)?;
        }
        let (bucket, key) = (words::bucket(bucket)?, words::key(key)?);
        self.vfs.open_object(who, &bucket, &key).await.map_err(|error| refuse(&error))
    }

    pub(super) async fn copy(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_demands!(input);
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let reader = self
            .source(&who, &input.copy_source, input.expected_source_bucket_owner.as_deref())
            .await?;
        let conditions = Conditions {
            matches: input.copy_source_if_match,
            none_matches: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        conditions.check_source(&reader.info)?;
        let replaces = |directive: Option<&str>| directive == Some("REPLACE");
        let new_meta = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str));
        let new_tags = replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str));
        let acl = named_list!(input, None).list(who.uid, self.bucket_uid(&bucket)?)?;
        let given = kept_headers(
            [
                ("cache-control", input.cache_control),
                ("content-disposition", input.content_disposition),
                ("content-encoding", input.content_encoding),
                ("content-language", input.content_language),
                ("content-type", input.content_type),
                ("expires", input.expires),
                (REDIRECT, input.website_redirect_location),
            ],
            input.metadata,
            input.tagging.as_deref(),
        )?;
        let (redirect, class) = (given.standard.get(REDIRECT).cloned(), input.storage_class);
        let changes = new_meta || new_tags || redirect.is_some() || class.is_some();
        let onto_itself = matches!(&input.copy_source, CopySource::Bucket { bucket: from, key: name, .. }
            if **from == *input.bucket && **name == *input.key);
        if onto_itself && !changes {
            return Err(s3_error!(
                InvalidRequest,
                "a copy of an object to itself must change its metadata"
            ));
        }
        let mut headers = reader.info.headers.clone();
        // Access lists and redirects are not copied.
        headers.acl = acl;
        headers.standard.remove(REDIRECT);
        headers.standard.extend(redirect.map(|place| (REDIRECT.to_owned(), place)));
        if new_meta {
            (headers.standard, headers.meta) = (given.standard, given.meta);
        }
        if new_tags {
            headers.tags = given.tags;
        }
        let condition =
            conditions::of_write(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let copy = self.vfs.copy_object(&who, &reader, (&bucket, &key), Some(&headers), condition);
        let info = copy.await.map_err(|error| refuse(&error))?;
        let mut result = CopyObjectResult {
            e_tag: Some(words::etag(&info.etag)),
            last_modified: Some(time(info.modified)),
            checksum_type: checksum_type(&info),
            ..Default::default()
        };
        set_checksums!(result, &info.checksums);
        let output = CopyObjectOutput { copy_object_result: Some(result), ..Default::default() };
        Ok(S3Response::new(output))
    }

    pub(super) async fn copy_part(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let number = u16::try_from(input.part_number).unwrap_or(0);
        let place = (&bucket, &key, input.upload_id.as_str());
        let upload = self.vfs.upload_info(&who, &bucket, &key, &input.upload_id);
        let upload = upload.map_err(|error| refuse(&error))?;
        let reader = self
            .source(&who, &input.copy_source, input.expected_source_bucket_owner.as_deref())
            .await?;
        let conditions = Conditions {
            matches: input.copy_source_if_match,
            none_matches: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        conditions.check_source(&reader.info)?;
        let range = source_range(input.copy_source_range.as_deref(), reader.info.size)?;
        let kinds: Vec<_> = upload.checksum.into_iter().map(|(kind, _)| kind).collect();
        let uploaded =
            self.copied(reader, range, &bucket, &kinds).await.map_err(|error| refuse(&error))?;
        let part = self.vfs.put_part(&who, place, number, uploaded).await;
        let part = part.map_err(|error| refuse(&error))?;
        let mut result = CopyPartResult {
            e_tag: Some(words::etag(&part.etag)),
            last_modified: Some(time(part.stored_at)),
            ..Default::default()
        };
        set_checksums!(result, &part.checksums);
        let output = UploadPartCopyOutput { copy_part_result: Some(result), ..Default::default() };
        Ok(S3Response::new(output))
    }

    async fn copied(
        &self,
        reader: ObjectReader,
        range: ByteRange,
        bucket: &crate::types::BucketName,
        kinds: &[crate::types::ChecksumKind],
    ) -> Result<Uploaded, crate::error::Error> {
        let mut writer = self.vfs.upload_part(bucket, kinds);
        let mut at = range.start();
        while at < range.end() {
            let piece = ByteRange::between(at, range.end().min(at + COPIED_AT_ONCE));
            for bytes in reader.read(piece).await? {
                writer.write(&bytes).await?;
            }
            at = piece.end();
        }
        writer.finish().await
    }
}

/// `bytes=FIRST-LAST`, both within the object; the whole without.
fn source_range(text: Option<&str>, size: u64) -> S3Result<ByteRange> {
    let Some(text) = text else {
        return Ok(ByteRange::between(0, size));
    };
    let invalid = || s3_error!(InvalidArgument, "the range of a copied part");
    match Range::parse(text).map_err(|_| invalid())? {
        Range::Int { first, last: Some(last) } if first <= last && last < size => {
            Ok(ByteRange::between(first, last + 1))
        }
        Range::Int { last: Some(_), .. } => Err(s3_error!(InvalidRange)),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_range_lies_within_its_object() {
        assert_eq!(source_range(None, 5).unwrap(), ByteRange::between(0, 5));
        assert_eq!(source_range(Some("bytes=1-4"), 5).unwrap(), ByteRange::between(1, 5));
        for bad in ["bytes=1-5", "bytes=-3", "bytes=3-", "1-2"] {
            assert!(source_range(Some(bad), 5).is_err(), "{bad}");
        }
    }
}
