//! Copies: of objects by reference, of parts byte by byte.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::named_list;
use super::auth::check_owner;
use super::conditions::{self, Conditions};
use super::error::refuse;
use super::multipart::number;
use super::objects::{checksum_type, kept_headers, set_checksums};
use super::service::Door;
use super::words::{self, check_demands, check_no_key, check_version, time};
use crate::error::Error;
use crate::types::{BucketName, ByteRange, ChecksumKind};
use crate::vfs::{Caller, Digests, ObjectHeaders, ObjectReader, Uploaded};

/// Bytes of a part that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;
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
        check_no_key(
            input.copy_source_sse_customer_algorithm.as_deref(),
            input.copy_source_sse_customer_key.as_deref(),
        )?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let mut reader = self
            .source(&who, &input.copy_source, input.expected_source_bucket_owner.as_deref())
            .await?;
        let conditions = Conditions {
            matches: input.copy_source_if_match,
            none_matches: input.copy_source_if_none_match,
            modified_since: input.copy_source_if_modified_since,
            unmodified_since: input.copy_source_if_unmodified_since,
        };
        conditions.check_source(&reader.info)?;
        let new_meta = replaces(input.metadata_directive.as_ref().map(MetadataDirective::as_str))?;
        let new_tags = replaces(input.tagging_directive.as_ref().map(TaggingDirective::as_str))?;
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
        let redirects = given.standard.contains_key(REDIRECT);
        let changes = new_meta || new_tags || redirects || input.storage_class.is_some();
        let onto_itself = matches!(&input.copy_source, CopySource::Bucket { bucket: from, key: name, .. }
            if **from == *input.bucket && **name == *input.key);
        if onto_itself && !changes {
            return Err(s3_error!(
                InvalidRequest,
                "a copy of an object to itself must change its metadata"
            ));
        }
        if let Some(algorithm) = &input.checksum_algorithm {
            let kind = words::checksum_kind(algorithm.as_str());
            let kind = kind.ok_or_else(|| s3_error!(NotImplemented, "this checksum"))?;
            sum_up(&mut reader, kind).await.map_err(|error| refuse(&error))?;
        }
        let given = ObjectHeaders { acl, ..given };
        let headers = merged(reader.info.headers.clone(), given, (new_meta, new_tags));
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
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        check_no_key(
            input.copy_source_sse_customer_algorithm.as_deref(),
            input.copy_source_sse_customer_key.as_deref(),
        )?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let number = number(input.part_number)?;
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
        bucket: &BucketName,
        kinds: &[ChecksumKind],
    ) -> Result<Uploaded, Error> {
        let mut writer = self.vfs.upload_part(bucket, kinds);
        for piece in pieces(range) {
            for bytes in reader.read(piece).await? {
                writer.write(&bytes).await?;
            }
        }
        writer.finish().await
    }
}

fn pieces(range: ByteRange) -> impl Iterator<Item = ByteRange> {
    let starts = (range.start()..range.end()).step_by(COPIED_AT_ONCE);
    let end = move |at: u64| range.end().min(at + COPIED_AT_ONCE as u64);
    starts.map(move |at| ByteRange::between(at, end(at)))
}

/// The headers of a copy: the source's, but for those that are replaced. Access lists and redirects are not copied.
fn merged(
    of_source: ObjectHeaders,
    given: ObjectHeaders,
    (new_meta, new_tags): (bool, bool),
) -> ObjectHeaders {
    let tags = if new_tags { given.tags } else { of_source.tags };
    if new_meta {
        return ObjectHeaders { tags, ..given };
    }
    let (mut standard, meta) = (of_source.standard, of_source.meta);
    standard.remove(REDIRECT);
    standard.extend(given.standard.get_key_value(REDIRECT).map(|(k, v)| (k.clone(), v.clone())));
    ObjectHeaders { standard, meta, tags, acl: given.acl }
}

/// Gives an object that is to be copied the checksum of its bytes that was asked for, in place of others.
async fn sum_up(reader: &mut ObjectReader, kind: ChecksumKind) -> Result<(), Error> {
    let info = &reader.info;
    if !info.composite && info.checksums.iter().any(|(known, _)| *known == kind) {
        return Ok(());
    }
    let mut digests = Digests::new(&[kind]);
    for piece in pieces(ByteRange::between(0, info.size)) {
        reader.read(piece).await?.iter().for_each(|bytes| digests.update(bytes));
    }
    let (_, checksums) = digests.finish();
    let info = &mut reader.info;
    (info.checksums, info.composite, info.part_sums) = (checksums, false, Vec::new());
    Ok(())
}

/// Whether what the request says counts, and not what the source has.
fn replaces(directive: Option<&str>) -> S3Result<bool> {
    match directive {
        None | Some("COPY") => Ok(false),
        Some("REPLACE") => Ok(true),
        Some(_) => Err(s3_error!(InvalidArgument, "a directive is COPY or REPLACE")),
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
