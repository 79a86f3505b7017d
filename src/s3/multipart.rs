//! Multipart uploads.

use std::collections::BTreeSet;

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::acl::named_list;
use super::error::refuse;
use super::listing::{check_encoding, given, limit};
use super::objects::{checksum_type, kept_headers, named_checksums, set_checksums};
use super::service::Door;
use super::words::{self, check_demands, check_no_key, encoded, owner, size, time};
use super::{body, conditions};
use crate::types::{ChecksumKind, ObjectKey as Key};
use crate::vfs::{Caller, Completion, NamedPart, NewUpload, UploadInfo, fits_xml};

/// Parts of an upload, and the largest number of one.
const PARTS_MAX: i32 = 10_000;

type Checksums = Option<(ChecksumKind, bool)>;

pub(super) fn number(part: i32) -> S3Result<u16> {
    let number = u16::try_from(part).ok().filter(|_| (1..=PARTS_MAX).contains(&part));
    number.ok_or_else(|| s3_error!(InvalidArgument, "a part's number is 1 to 10000"))
}

/// The checksum an upload is to have; Amazon S3 user guide, "Checking object integrity": what kinds
/// of it there are for which algorithm.
fn wanted(algorithm: Option<&str>, kind: Option<&str>) -> S3Result<Checksums> {
    let Some(algorithm) = algorithm else {
        return match kind {
            None => Ok(None),
            Some(_) => Err(s3_error!(InvalidRequest, "a checksum type without its algorithm")),
        };
    };
    let algorithm = words::checksum_kind(algorithm)
        .ok_or_else(|| s3_error!(NotImplemented, "this checksum"))?;
    let is_sha = matches!(algorithm, ChecksumKind::Sha1 | ChecksumKind::Sha256);
    let is_crc64 = algorithm == ChecksumKind::Crc64Nvme;
    match kind {
        Some(ChecksumType::COMPOSITE) if !is_crc64 => Ok(Some((algorithm, true))),
        Some(ChecksumType::FULL_OBJECT) if !is_sha => Ok(Some((algorithm, false))),
        None => Ok(Some((algorithm, !is_crc64))),
        Some(_) => Err(s3_error!(InvalidRequest, "this checksum type for this algorithm")),
    }
}

fn shown(checksum: Checksums) -> (Option<ChecksumAlgorithm>, Option<ChecksumType>) {
    let Some((kind, composite)) = checksum else { return (None, None) };
    let kind = ChecksumAlgorithm::from_static(words::checksum_name(kind));
    let name = if composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT };
    (Some(kind), Some(ChecksumType::from_static(name)))
}

/// # Errors
/// `InvalidRequest` where a completion names another type than its upload has. Without a checksum Amazon S3 takes one of
/// the whole object.
fn check_type(asked: &ChecksumType, checksum: Checksums) -> S3Result<()> {
    let whole = ChecksumType::from_static(ChecksumType::FULL_OBJECT);
    match *asked == shown(checksum).1.unwrap_or(whole) {
        true => Ok(()),
        false => Err(s3_error!(InvalidRequest, "the upload has another checksum type")),
    }
}

impl Door {
    pub(super) async fn begin(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_demands!(input);
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        words::check_repeatable(&input.key, None)?;
        let algorithm = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
        let kind = input.checksum_type.as_ref().map(ChecksumType::as_str);
        let checksum = wanted(algorithm, kind)?;
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
        let begun =
            self.vfs.create_upload(&who, &bucket, &key, &NewUpload { headers, checksum }).await;
        let upload_id = Some(begun.map_err(|error| refuse(&error))?);
        let (checksum_algorithm, checksum_type) = shown(checksum);
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id,
            checksum_algorithm,
            checksum_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    fn upload(&self, who: &Caller, bucket: &str, key: &Key, id: &str) -> S3Result<UploadInfo> {
        let bucket = words::bucket(bucket)?;
        self.vfs.upload_info(who, &bucket, key, id).map_err(|error| refuse(&error))
    }

    pub(super) async fn part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let number = number(input.part_number)?;
        let upload = self.upload(&who, &input.bucket, &key, &input.upload_id)?;
        let mut expected = body::Expected::from_headers(&request.headers)?;
        if let Some((kind, _)) = upload.checksum
            && !expected.kinds.contains(&kind)
        {
            expected.kinds.push(kind);
        }
        let writer = self.vfs.upload_part(&bucket, &expected.kinds);
        let uploaded =
            body::receive(writer, input.body, expected, request.trailing_headers).await?;
        let place = (&bucket, &key, input.upload_id.as_str());
        let part = self.vfs.put_part(&who, place, number, uploaded).await;
        let part = part.map_err(|error| refuse(&error))?;
        let mut output =
            UploadPartOutput { e_tag: Some(words::etag(&part.etag)), ..Default::default() };
        set_checksums!(output, &part.checksums);
        Ok(S3Response::new(output))
    }

    pub(super) async fn complete(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let who = self.caller(&request)?;
        let place = self.place(&request);
        let input = request.input;
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let expected = named_checksums!(input);
        let begun = self.upload(&who, &input.bucket, &key, &input.upload_id);
        if let (Some(asked), Ok(upload)) = (&input.checksum_type, begun) {
            check_type(asked, upload.checksum)?;
        }
        let condition =
            conditions::of_write(input.if_match.as_ref(), input.if_none_match.as_ref())?;
        let parts = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let completion = Completion {
            parts: named_parts(parts)?,
            checksums: expected,
            // No object has as many bytes as stand for a number below zero.
            size: input.mpu_object_size.map(|size| u64::try_from(size).unwrap_or(u64::MAX)),
        };
        let upload = (&bucket, &key, input.upload_id.as_str());
        let completed = self.vfs.complete_upload(&who, upload, &completion, condition).await;
        let info = completed.map_err(|error| refuse(&error))?;
        let mut output = CompleteMultipartUploadOutput {
            location: Some(place),
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(words::etag(&info.etag)),
            checksum_type: checksum_type(&info),
            ..Default::default()
        };
        set_checksums!(output, &info.checksums);
        Ok(S3Response::new(output))
    }

    pub(super) async fn abort(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let aborted = self.vfs.abort_upload(&who, &bucket, &key, &input.upload_id).await;
        aborted.map_err(|error| refuse(&error))?;
        let output = AbortMultipartUploadOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) fn parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let upload = self.upload(&who, &input.bucket, &key, &input.upload_id)?;
        let most = limit(input.max_parts)?;
        let after = input.part_number_marker.unwrap_or(0);
        let after = u16::try_from(after).unwrap_or(if after < 0 { 0 } else { u16::MAX });
        let asked = usize::try_from(most).unwrap_or(0);
        let place = (&bucket, &key, input.upload_id.as_str());
        let parts = self.vfs.list_parts(&who, place, after, asked + 1);
        let mut parts = parts.map_err(|error| refuse(&error))?;
        let more = parts.len() > asked && asked > 0;
        parts.truncate(asked);
        let next = parts.last().map(|part| i32::from(part.number)).unwrap_or(0);
        let part = |part: crate::vfs::PartInfo| {
            let mut shown = Part {
                part_number: Some(part.number.into()),
                size: Some(size(part.size)),
                e_tag: Some(words::etag(&part.etag)),
                last_modified: Some(time(part.stored_at)),
                ..Default::default()
            };
            set_checksums!(shown, &part.checksums);
            shown
        };
        let (checksum_algorithm, checksum_type) = shown(upload.checksum);
        let Owner { id, display_name } = owner(upload.uid);
        let output = ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: Some(most),
            part_number_marker: Some(after.into()),
            next_part_number_marker: Some(next),
            is_truncated: Some(more),
            parts: Some(parts.into_iter().map(part).collect()),
            owner: Some(owner(upload.uid)),
            initiator: Some(Initiator { id, display_name }),
            storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
            checksum_algorithm,
            checksum_type,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) fn uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let encoding = input.encoding_type;
        check_encoding(encoding.as_ref())?;
        let most = limit(input.max_uploads)?;
        let asked = usize::try_from(most).unwrap_or(0);
        let prefix = input.prefix.clone().unwrap_or_default();
        let marker = input.key_marker.clone().unwrap_or_default();
        let id_marker = input.upload_id_marker.clone().unwrap_or_default();
        let repeated = [&prefix, &marker, &id_marker].into_iter().chain(&input.delimiter);
        for text in repeated {
            words::check_repeatable(text, encoding.as_ref())?;
        }
        let is_shown = |name: &str| encoding.is_some() || fits_xml(name);
        let delimiter = given(input.delimiter.as_ref());
        let rolled = (prefix.as_str(), delimiter.map(String::as_str));
        let page = Page::of(asked, rolled, is_shown, |after, limit| {
            let (key, id) = after.unwrap_or((&marker, &id_marker));
            let bucket = words::bucket(&input.bucket)?;
            let found = self.vfs.list_uploads(&who, &bucket, &prefix, (key, id), limit);
            found.map_err(|error| refuse(&error))
        })?;
        let text = |text: &String| encoded(text, encoding.as_ref());
        let prefix_of = |prefix: &String| CommonPrefix { prefix: Some(text(prefix)) };
        let output = ListMultipartUploadsOutput {
            bucket: Some(input.bucket.clone()),
            prefix: Some(text(&prefix)),
            key_marker: Some(text(&marker)),
            upload_id_marker: Some(id_marker.clone()),
            max_uploads: Some(most),
            is_truncated: Some(page.next.is_some()),
            next_key_marker: page.next.as_ref().map(|(key, _)| text(key)),
            next_upload_id_marker: page.next.as_ref().map(|(_, id)| id.clone()),
            common_prefixes: Some(page.prefixes.iter().map(prefix_of).collect()),
            delimiter: delimiter.map(text),
            uploads: Some(
                page.uploads.into_iter().map(|upload| shown_upload(upload, text)).collect(),
            ),
            encoding_type: encoding.clone(),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

fn shown_upload(upload: UploadInfo, text: impl Fn(&String) -> String) -> MultipartUpload {
    let Owner { id, display_name } = owner(upload.uid);
    let (checksum_algorithm, checksum_type) = shown(upload.checksum);
    MultipartUpload {
        key: Some(text(&upload.key)),
        upload_id: Some(upload.id),
        initiated: Some(time(upload.started_at)),
        owner: Some(owner(upload.uid)),
        initiator: Some(Initiator { id, display_name }),
        storage_class: Some(StorageClass::from_static(StorageClass::STANDARD)),
        checksum_algorithm,
        checksum_type,
    }
}

/// A page of uploads, keys with the delimiter rolled up.
#[derive(Default)]
struct Page {
    uploads: Vec<UploadInfo>,
    prefixes: BTreeSet<String>,
    /// The last key and id of the page, when there are more.
    next: Option<(String, String)>,
}

impl Page {
    fn of(
        most: usize,
        (prefix, delimiter): (&str, Option<&str>),
        is_shown: impl Fn(&str) -> bool,
        mut read: impl FnMut(Option<(&str, &str)>, usize) -> S3Result<Vec<UploadInfo>>,
    ) -> S3Result<Self> {
        let mut page = Self::default();
        // Where to read on, and what was shown last.
        let (mut read_to, mut last): (Option<(String, String)>, Option<_>) = (None, None);
        if most == 0 {
            return Ok(page);
        }
        loop {
            let after = read_to.as_ref().map(|(key, id)| (key.as_str(), id.as_str()));
            let found = read(after, KEYS_READ)?;
            let exhausted = found.len() < KEYS_READ;
            for upload in found {
                let place = (upload.key.clone(), upload.id.clone());
                read_to = Some(place.clone());
                let rest = &upload.key[prefix.len()..];
                let at = delimiter.and_then(|text| Some(rest.find(text)? + text.len()));
                let rolled = at.map(|end| upload.key[..prefix.len() + end].to_owned());
                if !is_shown(rolled.as_ref().unwrap_or(&upload.key)) {
                    continue;
                }
                let known = rolled.as_ref().is_some_and(|rolled| page.prefixes.contains(rolled));
                if !known && page.uploads.len() + page.prefixes.len() == most {
                    page.next = last;
                    return Ok(page);
                }
                last = Some(place);
                match rolled {
                    Some(rolled) => drop(page.prefixes.insert(rolled)),
                    None => page.uploads.push(upload),
                }
            }
            if exhausted {
                return Ok(page);
            }
        }
    }
}

/// Uploads read at once.
const KEYS_READ: usize = 1000;

/// The parts a completion names, in rising order.
fn named_parts(parts: Vec<CompletedPart>) -> S3Result<Vec<NamedPart>> {
    if parts.is_empty() || parts.len() > PARTS_MAX as usize {
        return Err(s3_error!(MalformedXML));
    }
    let mut named: Vec<NamedPart> = Vec::with_capacity(parts.len());
    for part in parts {
        let number = number(part.part_number.unwrap_or(0))?;
        if named.last().is_some_and(|last| last.number >= number) {
            return Err(s3_error!(InvalidPartOrder));
        }
        let checksums = named_checksums!(part);
        let etag = part.e_tag.ok_or_else(|| s3_error!(MalformedXML))?.value().to_owned();
        named.push(NamedPart { number, etag, checksums });
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_in_order() {
        let part = |number| CompletedPart {
            part_number: Some(number),
            e_tag: Some(ETag::Strong("x".into())),
            ..Default::default()
        };
        assert_eq!(named_parts(vec![part(1), part(10_000)]).unwrap().len(), 2);
        for bad in [vec![], vec![part(2), part(1)], vec![part(1), part(1)], vec![part(0)]] {
            assert!(named_parts(bad).is_err());
        }
    }

    #[test]
    fn checksum_types_fit_their_algorithms() {
        assert_eq!(wanted(Some("SHA256"), None).unwrap(), Some((ChecksumKind::Sha256, true)));
        assert_eq!(
            wanted(Some("CRC64NVME"), None).unwrap(),
            Some((ChecksumKind::Crc64Nvme, false))
        );
        assert!(wanted(Some("SHA1"), Some("FULL_OBJECT")).is_err());
        assert!(wanted(Some("CRC64NVME"), Some("COMPOSITE")).is_err());
        assert!(wanted(None, Some("COMPOSITE")).is_err() && wanted(None, None).unwrap().is_none());
        let fits = |of: &'static str, checksum| {
            check_type(&ChecksumType::from_static(of), checksum).is_ok()
        };
        let composite = Some((ChecksumKind::Crc32, true));
        assert!(fits("COMPOSITE", composite) && !fits("FULL_OBJECT", composite));
        assert!(fits("FULL_OBJECT", None) && !fits("COMPOSITE", None) && !fits("x", composite));
    }
}
