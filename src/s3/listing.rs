//! Lists of objects, in all three forms.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::refuse;
use super::service::Door;
use super::words::{self, NULL_VERSION, encoded, owner, size, time};
use crate::types::{base64, from_base64};
use crate::vfs::{Caller, ListQuery, ListedObject, Listing};

/// Keys of one page.
const KEYS_MAX: i32 = 1000;

/// The limit a client asked for, within ours.
pub(super) fn limit(asked: Option<i32>) -> S3Result<i32> {
    match asked {
        None => Ok(KEYS_MAX),
        Some(asked) if asked < 0 => Err(s3_error!(InvalidArgument, "a negative limit")),
        Some(asked) => Ok(asked.min(KEYS_MAX)),
    }
}

pub(super) fn check_encoding(encoding: Option<&EncodingType>) -> S3Result<()> {
    match encoding {
        Some(encoding) if encoding.as_str() != EncodingType::URL => {
            Err(s3_error!(InvalidArgument, "the encoding type is url or none"))
        }
        _ => Ok(()),
    }
}

/// What is there but empty says nothing.
pub(super) fn given(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

fn prefixes(listing: &Listing, encoding: Option<&EncodingType>) -> Option<CommonPrefixList> {
    let prefix = |prefix: &String| CommonPrefix { prefix: Some(encoded(prefix, encoding)) };
    let prefixes: Vec<_> = listing.prefixes.iter().map(prefix).collect();
    (!prefixes.is_empty()).then_some(prefixes)
}

fn object(object: ListedObject, encoding: Option<&EncodingType>, with_owner: bool) -> Object {
    Object {
        key: Some(encoded(&object.key, encoding)),
        e_tag: Some(words::etag(&object.etag)),
        last_modified: Some(time(object.modified)),
        size: Some(size(object.size)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        owner: with_owner.then(|| owner(object.uid)),
        ..Default::default()
    }
}

impl Door {
    async fn list(
        &self,
        who: &Caller,
        bucket: &str,
        prefix: Option<&String>,
        delimiter: Option<&String>,
        (after, limit): (String, i32),
        encoding: Option<&EncodingType>,
    ) -> S3Result<Listing> {
        for text in [prefix, delimiter, Some(&after)].into_iter().flatten() {
            words::check_repeatable(text, encoding)?;
        }
        let query = ListQuery {
            prefix: prefix.cloned().unwrap_or_default(),
            delimiter: delimiter.cloned(),
            after,
            limit: usize::try_from(limit).unwrap_or(0),
            xml_only: encoding.is_none(),
        };
        let bucket = words::bucket(bucket)?;
        self.vfs.list_objects(who, &bucket, &query).await.map_err(|error| refuse(&error))
    }

    pub(super) async fn list_v1(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let encoding = input.encoding_type;
        check_encoding(encoding.as_ref())?;
        let limit = limit(input.max_keys)?;
        let after = input.marker.clone().unwrap_or_default();
        let (prefix, delimiter) = (input.prefix.as_ref(), given(input.delimiter.as_ref()));
        let (bucket, after, encoding_type) = (&input.bucket, (after, limit), encoding.as_ref());
        let listing = self.list(&who, bucket, prefix, delimiter, after, encoding_type).await?;
        let text = |text: &String| encoded(text, encoding.as_ref());
        let output = ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(input.prefix.as_ref().map(text).unwrap_or_default()),
            marker: Some(input.marker.as_ref().map(text).unwrap_or_default()),
            max_keys: Some(limit),
            is_truncated: Some(listing.next.is_some()),
            common_prefixes: prefixes(&listing, encoding.as_ref()),
            // Amazon S3 API, ListObjects: only with a delimiter; else it is the last key.
            next_marker: listing.next.as_ref().filter(|_| delimiter.is_some()).map(text),
            delimiter: delimiter.map(text),
            contents: Some(
                listing
                    .objects
                    .into_iter()
                    .map(|one| object(one, encoding.as_ref(), true))
                    .collect(),
            ),
            encoding_type: encoding,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    pub(super) async fn list_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let encoding = input.encoding_type;
        check_encoding(encoding.as_ref())?;
        let limit = limit(input.max_keys)?;
        let after = match given(input.continuation_token.as_ref()) {
            Some(token) => {
                let bytes = from_base64(token).filter(|bytes| !bytes.is_empty());
                let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
                text.ok_or_else(|| s3_error!(InvalidArgument, "the continuation token"))?
            }
            None => input.start_after.clone().unwrap_or_default(),
        };
        let (prefix, delimiter) = (input.prefix.as_ref(), given(input.delimiter.as_ref()));
        let (bucket, after, encoding_type) = (&input.bucket, (after, limit), encoding.as_ref());
        let listing = self.list(&who, bucket, prefix, delimiter, after, encoding_type).await?;
        let text = |text: &String| encoded(text, encoding.as_ref());
        let with_owner = input.fetch_owner.unwrap_or(false);
        let count = listing.objects.len() + listing.prefixes.len();
        let output = ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(input.prefix.as_ref().map(text).unwrap_or_default()),
            max_keys: Some(limit),
            key_count: i32::try_from(count).ok(),
            continuation_token: input.continuation_token,
            is_truncated: Some(listing.next.is_some()),
            next_continuation_token: listing.next.as_ref().map(|next| base64(next.as_bytes())),
            common_prefixes: prefixes(&listing, encoding.as_ref()),
            delimiter: delimiter.map(text),
            start_after: input.start_after.as_ref().map(text),
            contents: Some(
                listing
                    .objects
                    .into_iter()
                    .map(|one| object(one, encoding.as_ref(), with_owner))
                    .collect(),
            ),
            encoding_type: encoding,
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }

    /// Each object has one version, `null`: versions are not kept.
    pub(super) async fn list_versions(
        &self,
        request: S3Request<ListObjectVersionsInput>,
    ) -> S3Result<S3Response<ListObjectVersionsOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let encoding = input.encoding_type;
        check_encoding(encoding.as_ref())?;
        let limit = limit(input.max_keys)?;
        let after = input.key_marker.clone().unwrap_or_default();
        let (prefix, delimiter) = (input.prefix.as_ref(), given(input.delimiter.as_ref()));
        let (bucket, after, encoding_type) = (&input.bucket, (after, limit), encoding.as_ref());
        let listing = self.list(&who, bucket, prefix, delimiter, after, encoding_type).await?;
        let text = |text: &String| encoded(text, encoding.as_ref());
        let version = |one: ListedObject| ObjectVersion {
            key: Some(text(&one.key)),
            e_tag: Some(words::etag(&one.etag)),
            is_latest: Some(true),
            last_modified: Some(time(one.modified)),
            owner: Some(owner(one.uid)),
            size: Some(size(one.size)),
            storage_class: Some(ObjectVersionStorageClass::from_static("STANDARD")),
            version_id: Some(NULL_VERSION.to_owned()),
            ..Default::default()
        };
        let output = ListObjectVersionsOutput {
            name: Some(input.bucket),
            prefix: Some(input.prefix.as_ref().map(text).unwrap_or_default()),
            key_marker: Some(input.key_marker.as_ref().map(text).unwrap_or_default()),
            version_id_marker: input.version_id_marker.clone(),
            max_keys: Some(limit),
            is_truncated: Some(listing.next.is_some()),
            next_key_marker: listing.next.as_ref().map(text),
            next_version_id_marker: listing.next.as_ref().map(|_| NULL_VERSION.to_owned()),
            common_prefixes: prefixes(&listing, encoding.as_ref()),
            delimiter: delimiter.map(text),
            versions: Some(listing.objects.into_iter().map(version).collect()),
            encoding_type: encoding.clone(),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}
