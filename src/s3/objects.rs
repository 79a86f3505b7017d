//! Objects: put, get, head, delete.

use futures::StreamExt;
use http::{HeaderName, HeaderValue, StatusCode};
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::named_list;
use super::conditions::{self, Conditions};
use super::error::refuse;
use super::part::{Part, partial};
use super::service::Door;
use super::words::{self, check_absent, check_demands, check_no_key, check_version, size, time};
use super::{body, tags};
use crate::types::Right;
use crate::vfs::{Caller, ObjectHeaders, ObjectInfo, fits_xml};

/// Objects that one DeleteObjects may name, and how many are deleted at a time.
const DELETED_AT_ONCE: usize = 1000;
const DELETES_AHEAD: usize = 32;

/// A checksum as the member of an answer that its kind has.
macro_rules! set_checksums {
    ($output:expr, $checksums:expr) => {
        for (kind, value) in $checksums {
            let value = Some(value.clone());
            match kind {
                crate::types::ChecksumKind::Crc32 => $output.checksum_crc32 = value,
                crate::types::ChecksumKind::Crc32c => $output.checksum_crc32c = value,
                crate::types::ChecksumKind::Crc64Nvme => $output.checksum_crc64nvme = value,
                crate::types::ChecksumKind::Sha1 => $output.checksum_sha1 = value,
                crate::types::ChecksumKind::Sha256 => $output.checksum_sha256 = value,
            }
        }
    };
}
pub(super) use set_checksums;

/// The checksums that a request's members name.
macro_rules! named_checksums {
    ($input:expr) => {{
        let named = [
            (crate::types::ChecksumKind::Crc32, &$input.checksum_crc32),
            (crate::types::ChecksumKind::Crc32c, &$input.checksum_crc32c),
            (crate::types::ChecksumKind::Crc64Nvme, &$input.checksum_crc64nvme),
            (crate::types::ChecksumKind::Sha1, &$input.checksum_sha1),
            (crate::types::ChecksumKind::Sha256, &$input.checksum_sha256),
        ];
        let given = named.into_iter().filter_map(|(kind, sum)| Some((kind, sum.clone()?)));
        given.collect::<Vec<(crate::types::ChecksumKind, String)>>()
    }};
}
pub(super) use named_checksums;

pub(super) fn checksum_type(info: &ObjectInfo) -> Option<ChecksumType> {
    let name = if info.composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
    (!info.checksums.is_empty()).then(|| ChecksumType::from_static(name))
}

/// Fills the headers that GetObject and HeadObject share.
macro_rules! describe {
    ($output:expr, $info:expr, $key:expr, $part:expr, $with_checksums:expr) => {{
        let (info, part): (&ObjectInfo, &Part) = ($info, $part);
        let standard = |name: &str| {
            info.headers
                .standard
                .get(name)
                .filter(|text| HeaderValue::from_str(text).is_ok())
                .cloned()
        };
        let (metadata, missing) = told_metadata(&info.headers);
        $output.accept_ranges = Some("bytes".to_owned());
        $output.cache_control = standard("cache-control");
        $output.content_disposition = standard("content-disposition");
        $output.content_encoding = standard("content-encoding");
        $output.content_language = standard("content-language");
        $output.content_type =
            standard("content-type").or_else(|| Some(words::content_type($key).to_owned()));
        $output.expires = standard("expires");
        $output.website_redirect_location = standard("website-redirect-location");
        $output.content_length = Some(size(part.range.len()));
        $output.content_range = part.content_range(info.size);
        $output.parts_count = part.parts;
        $output.e_tag = Some(words::etag(&info.etag));
        $output.last_modified = Some(time(info.modified));
        $output.metadata = Some(metadata);
        $output.missing_meta = missing;
        $output.tag_count = i32::try_from(info.headers.tags.len()).ok().filter(|count| *count > 0);
        if $with_checksums {
            let sums = part.checksums(info);
            $output.checksum_type = checksum_type(info).filter(|_| !sums.is_empty());
            set_checksums!($output, &sums);
        }
    }};
}

/// Puts what a request wants to be told in the place of what is kept.
macro_rules! replace_headers {
    ($output:expr, $input:expr, $who:expr) => {{
        let expires = $input.response_expires.as_ref().and_then(http_date);
        let asked = [
            (&mut $output.cache_control, $input.response_cache_control),
            (&mut $output.content_disposition, $input.response_content_disposition),
            (&mut $output.content_encoding, $input.response_content_encoding),
            (&mut $output.content_language, $input.response_content_language),
            (&mut $output.content_type, $input.response_content_type),
            (&mut $output.expires, expires),
        ];
        for (kept, asked) in asked {
            if let Some(asked) = asked {
                *kept = Some(chosen(asked, &$who)?);
            }
        }
    }};
}

/// # Errors
/// `InvalidRequest` without a signature, by which links could make an object look like another;
/// `InvalidArgument` for what no header can hold.
fn chosen(asked: String, who: &Caller) -> S3Result<String> {
    if who.is_anonymous() {
        return Err(s3_error!(InvalidRequest, "a request without a signature chooses no headers"));
    }
    match HeaderValue::from_str(&asked) {
        Ok(_) => Ok(asked),
        Err(_) => Err(s3_error!(InvalidArgument, "a header cannot hold this")),
    }
}

/// User metadata as headers, and how many of it have a name that no header can have: a mount may
/// have set it.
fn told_metadata(headers: &ObjectHeaders) -> (Metadata, Option<i32>) {
    let is_name = |name: &String| HeaderName::from_bytes(name.as_bytes()).is_ok();
    let told = headers.meta.iter().filter(|(name, _)| is_name(name));
    let told: Metadata = told.map(|(name, value)| (name.clone(), value.clone())).collect();
    let missing = i32::try_from(headers.meta.len() - told.len()).ok();
    (told, missing.filter(|count| *count > 0))
}

/// What an upload says of its object besides the bytes.
pub(super) fn kept_headers(
    standard: [(&str, Option<String>); 7],
    metadata: Option<Metadata>,
    tagging: Option<&str>,
) -> S3Result<ObjectHeaders> {
    let mut standard = words::kept(standard);
    if let Some(encoding) = standard.get_mut("content-encoding") {
        let kept = encoding.split(',').map(str::trim).filter(|part| *part != "aws-chunked");
        *encoding = kept.collect::<Vec<_>>().join(", ");
    }
    standard.retain(|_, value| !value.is_empty());
    let lower = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
    let meta = metadata.unwrap_or_default().into_iter().map(lower).collect();
    let tags = tags::from_header(tagging)?;
    Ok(ObjectHeaders { standard, meta, tags, acl: None })
}

impl Door {
    pub(super) async fn put(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_demands!(input);
        check_absent(input.write_offset_bytes.is_some(), "appending")?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        self.vfs.require_put(&who, (&bucket, &key)).map_err(|error| refuse(&error))?;
        let condition =
            conditions::of_write(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let mut expected = body::Expected::from_headers(&request.headers)?;
        // A form has them as fields.
        expected.add(input.content_md5.as_deref(), named_checksums!(input))?;
        let acl = named_list!(input, None).list(who.uid, self.bucket_uid(&bucket)?)?;
        let mut headers = kept_headers(
            [
                ("cache-control", input.cache_control),
                ("content-disposition", input.content_disposition),
                ("content-encoding", input.content_encoding),
                ("content-language", input.content_language),
                ("content-type", input.content_type),
                ("expires", input.expires),
                ("website-redirect-location", input.website_redirect_location),
            ],
            input.metadata,
            input.tagging.as_deref(),
        )?;
        headers.acl = acl;
        let writer = self.vfs.upload(&bucket, &expected.kinds);
        let uploaded =
            body::receive(writer, input.body, expected, request.trailing_headers).await?;
        let put = self.vfs.put_object(&who, (&bucket, &key), uploaded, &headers, condition);
        let info = put.await.map_err(|error| refuse(&error))?;
        let mut output =
            PutObjectOutput { e_tag: Some(words::etag(&info.etag)), ..Default::default() };
        set_checksums!(output, &info.checksums);
        output.checksum_type = checksum_type(&info);
        Ok(self.with_durability(S3Response::new(output), &info))
    }

    pub(super) async fn get(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let opened = self.vfs.open_object(&who, &bucket, &key).await;
        let reader = opened.map_err(|error| refuse(&error))?;
        let conditions = Conditions {
            matches: input.if_match,
            none_matches: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&reader.info)?;
        let allowed = conditions::allow_range(&request.headers, &reader.info);
        let range = input.range.as_ref().filter(|_| allowed);
        let part = Part::of(&reader.info, range, input.part_number)?;
        let mut output = GetObjectOutput::default();
        describe!(output, &reader.info, &input.key, &part, input.checksum_mode.is_some());
        replace_headers!(output, input, who);
        let info = reader.info.clone();
        output.body = Some(body::send(reader, part.range).await?);
        Ok(self.with_durability(partial(output, &part), &info))
    }

    pub(super) async fn head(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let head = self.vfs.head_object(&who, &bucket, &key).await;
        let info = head.map_err(|error| refuse(&error))?;
        let conditions = Conditions {
            matches: input.if_match,
            none_matches: input.if_none_match,
            modified_since: input.if_modified_since,
            unmodified_since: input.if_unmodified_since,
        };
        conditions.check(&info)?;
        let allowed = conditions::allow_range(&request.headers, &info);
        let range = input.range.as_ref().filter(|_| allowed);
        let part = Part::of(&info, range, input.part_number)?;
        let mut output = HeadObjectOutput::default();
        describe!(output, &info, &input.key, &part, input.checksum_mode.is_some());
        replace_headers!(output, input, who);
        Ok(self.with_durability(partial(output, &part), &info))
    }

    /// Says how safe the object's bytes are; nothing when it is gone by now.
    pub(super) fn with_durability<T>(
        &self,
        mut response: S3Response<T>,
        info: &ObjectInfo,
    ) -> S3Response<T> {
        let told = self.vfs.durability(info.ino).ok().map(|durability| durability.to_string());
        if let Some(Ok(value)) = told.as_deref().map(HeaderValue::from_str) {
            response.headers.insert("x-bucketfs-durability", value);
        }
        response
    }

    pub(super) async fn delete(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let expected = conditions::of_deletion(
            input.if_match.as_ref(),
            input.if_match_size,
            input.if_match_last_modified_time.as_ref(),
        )?;
        let deleted = self.vfs.delete_object(&who, &bucket, &key, expected).await;
        deleted.map_err(|error| refuse(&error))?;
        let output = DeleteObjectOutput { delete_marker: Some(false), ..Default::default() };
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) async fn delete_many(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let who = self.caller(&request)?;
        let Delete { objects, quiet } = request.input.delete;
        if objects.is_empty() || objects.len() > DELETED_AT_ONCE {
            return Err(s3_error!(MalformedXML));
        }
        // The answer has to name them.
        let told = |one: &ObjectIdentifier| {
            fits_xml(&one.key) && one.version_id.as_deref().is_none_or(fits_xml)
        };
        if !objects.iter().all(told) {
            return Err(s3_error!(MalformedXML, "a control character"));
        }
        let bucket = words::bucket(&request.input.bucket)?;
        self.vfs.require(&who, &bucket, Right::Write).map_err(|error| refuse(&error))?;
        let delete = |object: ObjectIdentifier| {
            let (who, bucket) = (&who, &bucket);
            async move {
                let result = async {
                    check_version(object.version_id.as_deref())?;
                    let key = words::key(&object.key)?;
                    let (size, time) = (object.size, object.last_modified_time.as_ref());
                    let etag = object.e_tag.clone().map(ETagCondition::ETag);
                    let expected = conditions::of_deletion(etag.as_ref(), size, time)?;
                    let deleted = self.vfs.delete_object(who, bucket, &key, expected).await;
                    deleted.map_err(|error| refuse(&error))
                };
                (result.await, object.key, object.version_id)
            }
        };
        let results: Vec<_> =
            futures::stream::iter(objects).map(delete).buffered(DELETES_AHEAD).collect().await;
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        for (result, key, version_id) in results {
            let (key, quiet) = (Some(key), quiet.unwrap_or(false));
            match result {
                Ok(_) if quiet => {}
                Ok(_) => deleted.push(DeletedObject { key, version_id, ..Default::default() }),
                Err(error) => errors.push(Error {
                    code: Some(error.code().as_str().to_owned()),
                    key,
                    message: error.message().map(str::to_owned),
                    version_id,
                }),
            }
        }
        let output = DeleteObjectsOutput {
            deleted: Some(deleted),
            errors: Some(errors),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

/// A date as a header has it.
fn http_date(date: &Timestamp) -> Option<String> {
    let mut text = Vec::new();
    date.format(TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}
