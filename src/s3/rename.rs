//! RenameObject; Amazon S3 has it for directory buckets only, here every bucket is one.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::conditions::{self, Conditions};
use super::error::refuse;
use super::service::Door;
use super::words;

impl Door {
    pub(super) async fn rename(
        &self,
        request: S3Request<RenameObjectInput>,
    ) -> S3Result<S3Response<RenameObjectOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let (bucket, to) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let from = words::key(&source(&input.rename_source, &input.bucket)?)?;
        let named = |text: &Option<String>| {
            let parsed = text.as_deref().map(str::parse::<ETagCondition>);
            parsed.transpose().map_err(|_| s3_error!(InvalidArgument, "an entity tag"))
        };
        let from_condition = conditions::of_write(
            named(&input.source_if_match)?.as_ref(),
            named(&input.source_if_none_match)?.as_ref(),
        )?;
        let to_condition = conditions::of_write(
            input.destination_if_match.as_ref(),
            input.destination_if_none_match.as_ref(),
        )?;
        self.check_times(
            &who,
            &bucket,
            &from,
            input.source_if_modified_since,
            input.source_if_unmodified_since,
        )
        .await?;
        self.check_times(
            &who,
            &bucket,
            &to,
            input.destination_if_modified_since,
            input.destination_if_unmodified_since,
        )
        .await?;
        let renamed =
            self.vfs.rename_object(&who, &bucket, (&from, from_condition), (&to, to_condition));
        renamed.await.map_err(|error| refuse(&error))?;
        Ok(S3Response::new(RenameObjectOutput::default()))
    }

    /// Dates are looked at before the change, not with it: they cannot tell two changes within a
    /// second apart anyway.
    async fn check_times(
        &self,
        who: &crate::vfs::Caller,
        bucket: &crate::types::BucketName,
        key: &crate::types::ObjectKey,
        modified_since: Option<Timestamp>,
        unmodified_since: Option<Timestamp>,
    ) -> S3Result<()> {
        if modified_since.is_none() && unmodified_since.is_none() {
            return Ok(());
        }
        let head = self.vfs.head_object(who, bucket, key).await;
        let info = head.map_err(|error| refuse(&error))?;
        let times = Conditions { modified_since, unmodified_since, ..Conditions::default() };
        times.check_source(&info)
    }
}

/// The key of the source, percent-encoded: as it is, as Amazon's clients send it, or in `/BUCKET/KEY`.
fn source(text: &str, bucket: &str) -> S3Result<String> {
    let decoded = words::percent_decoded(text);
    let key = decoded.ok_or_else(|| s3_error!(InvalidArgument, "the source's encoding"))?;
    let below = key.strip_prefix('/').and_then(|path| path.strip_prefix(bucket)?.strip_prefix('/'));
    Ok(below.map(str::to_owned).unwrap_or(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_key_of_the_same_bucket() {
        for (text, key) in [
            ("/b-1/a%20b/c+d", "a b/c+d"),
            ("dir/file", "dir/file"),
            ("b-1/k", "b-1/k"),
            ("k", "k"),
            // No key begins with a slash.
            ("/other/k", "/other/k"),
            ("/b-1", "/b-1"),
        ] {
            assert_eq!(source(text, "b-1").unwrap(), key);
        }
        assert!(source("/b-1/%zz", "b-1").is_err());
    }
}
