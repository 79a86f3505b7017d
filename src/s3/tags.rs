//! Tags of objects and buckets.

use std::collections::BTreeMap;

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::refuse;
use super::service::Door;
use super::words::{self, check_version, query_pairs};
use crate::vfs::fits_xml;

/// Amazon S3 user guide, "Object tagging"; a bucket may have 50.
const TAGS_MAX: usize = 10;
const BUCKET_TAGS_MAX: usize = 50;
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 256;

type Tags = BTreeMap<String, String>;

fn checked(pairs: Vec<(String, String)>, most: usize) -> S3Result<Tags> {
    let count = pairs.len();
    if count > most {
        return Err(s3_error!(InvalidTag, "too many tags"));
    }
    let fits = |(name, value): &(String, String)| {
        let is_text = fits_xml(name) && fits_xml(value);
        let fits = (1..=NAME_MAX).contains(&name.chars().count());
        is_text && fits && value.chars().count() <= VALUE_MAX
    };
    let tags: Tags = pairs.into_iter().filter(fits).collect();
    // Too long, the same name twice, or what XML cannot hold.
    if tags.len() == count { Ok(tags) } else { Err(s3_error!(InvalidTag)) }
}

/// The tags of an `x-amz-tagging` header.
pub(super) fn from_header(text: Option<&str>) -> S3Result<Tags> {
    let pairs = query_pairs(text.unwrap_or_default());
    checked(pairs.ok_or_else(|| s3_error!(InvalidArgument, "the tags' encoding"))?, TAGS_MAX)
}

/// As [`from_header`] reads them.
pub(super) fn to_header(tagging: Tagging) -> String {
    let encoded = |text: Option<String>| words::url_encoded(text.as_deref().unwrap_or_default());
    let pair = |tag: Tag| format!("{}={}", encoded(tag.key), encoded(tag.value));
    tagging.tag_set.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

fn from_set(tagging: Tagging, most: usize) -> S3Result<Tags> {
    let pair = |tag: Tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
    checked(tagging.tag_set.into_iter().map(pair).collect(), most)
}

/// The tags a bucket is made with.
pub(super) fn of_bucket(tag_set: TagSet) -> S3Result<Tags> {
    from_set(Tagging { tag_set }, BUCKET_TAGS_MAX)
}

/// A mount may have set what XML cannot hold: that is not told.
fn to_set(tags: Tags) -> TagSet {
    let told = tags.into_iter().filter(|(key, value)| fits_xml(key) && fits_xml(value));
    told.map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

impl Door {
    pub(super) async fn put_tags(
        &self,
        request: S3Request<PutObjectTaggingInput>,
    ) -> S3Result<S3Response<PutObjectTaggingOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let tags = from_set(input.tagging, TAGS_MAX)?;
        let set = self.vfs.set_tags(&who, &bucket, Some(&key), &tags).await;
        set.map_err(|error| refuse(&error))?;
        Ok(S3Response::new(PutObjectTaggingOutput::default()))
    }

    pub(super) async fn get_tags(
        &self,
        request: S3Request<GetObjectTaggingInput>,
    ) -> S3Result<S3Response<GetObjectTaggingOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let head = self.vfs.head_object(&who, &bucket, &key).await;
        let info = head.map_err(|error| refuse(&error))?;
        let tag_set = to_set(info.headers.tags);
        Ok(S3Response::new(GetObjectTaggingOutput { tag_set, version_id: None }))
    }

    pub(super) async fn delete_tags(
        &self,
        request: S3Request<DeleteObjectTaggingInput>,
    ) -> S3Result<S3Response<DeleteObjectTaggingOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let set = self.vfs.set_tags(&who, &bucket, Some(&key), &Tags::new()).await;
        set.map_err(|error| refuse(&error))?;
        let output = DeleteObjectTaggingOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) async fn put_bucket_tags(
        &self,
        request: S3Request<PutBucketTaggingInput>,
    ) -> S3Result<S3Response<PutBucketTaggingOutput>> {
        let who = self.caller(&request)?;
        let bucket = words::bucket(&request.input.bucket)?;
        let tags = of_bucket(request.input.tagging.tag_set)?;
        let set = self.vfs.set_tags(&who, &bucket, None, &tags).await;
        set.map_err(|error| refuse(&error))?;
        let output = PutBucketTaggingOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) fn get_bucket_tags(
        &self,
        request: &S3Request<GetBucketTaggingInput>,
    ) -> S3Result<S3Response<GetBucketTaggingOutput>> {
        let who = self.caller(request)?;
        let bucket = words::bucket(&request.input.bucket)?;
        let tags = self.vfs.bucket_tags(&who, &bucket).map_err(|error| refuse(&error))?;
        if tags.is_empty() {
            return Err(s3_error!(NoSuchTagSet));
        }
        Ok(S3Response::new(GetBucketTaggingOutput { tag_set: to_set(tags) }))
    }

    pub(super) async fn delete_bucket_tags(
        &self,
        request: S3Request<DeleteBucketTaggingInput>,
    ) -> S3Result<S3Response<DeleteBucketTaggingOutput>> {
        let who = self.caller(&request)?;
        let bucket = words::bucket(&request.input.bucket)?;
        let set = self.vfs.set_tags(&who, &bucket, None, &Tags::new()).await;
        set.map_err(|error| refuse(&error))?;
        let output = DeleteBucketTaggingOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_have_limits() {
        assert_eq!(from_header(Some("a=1&b=")).unwrap().len(), 2);
        assert!(from_header(None).unwrap().is_empty());
        assert!(from_header(Some("a=1&a=2")).is_err());
        assert!(from_header(Some("a=%01")).is_err() && from_header(Some("a%01=1")).is_err());
        assert!(from_header(Some(&format!("{}=1", "k".repeat(129)))).is_err());
        let many: Vec<String> = (0..11).map(|index| format!("k{index}=v")).collect();
        assert!(from_header(Some(&many.join("&"))).is_err());
    }
}
