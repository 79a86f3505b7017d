//! Buckets: made, removed, listed; and what clients ask about them that has one answer.

use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Error, S3Request, S3Response, S3Result, s3_error};

use super::acl::named_list;
use super::error::refuse;
use super::service::Door;
use super::tags;
use super::words::{self, check_absent, owner, time};
use crate::error::Error as Refusal;
use crate::types::BucketName as Name;

/// What is not there, where only a bucket was asked for.
pub(super) fn missing(error: &Refusal) -> S3Error {
    match error {
        Refusal::NotFound | Refusal::Stale => refuse(&Refusal::NoBucket),
        error => refuse(error),
    }
}

/// Amazon's oldest region: it has no name as a location.
const FIRST_REGION: &str = "us-east-1";

impl Door {
    /// # Errors
    /// Buckets are made where the endpoint is.
    fn check_location(&self, asked: &CreateBucketConfiguration) -> S3Result<()> {
        check_absent(asked.bucket.is_some() || asked.location.is_some(), "directory buckets")?;
        let place = asked.location_constraint.as_ref();
        let place = place.map(BucketLocationConstraint::as_str).filter(|name| !name.is_empty());
        match place {
            Some(name) if name != self.region => Err(s3_error!(IllegalLocationConstraintException)),
            _ => Ok(()),
        }
    }

    pub(super) fn location(&self) -> Option<BucketLocationConstraint> {
        let named = self.region != FIRST_REGION;
        named.then(|| BucketLocationConstraint::from(self.region.clone()))
    }

    pub(super) async fn create(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let acl = named_list!(input, input.grant_write.as_deref()).list(who.uid, who.uid)?;
        check_absent(input.object_lock_enabled_for_bucket.unwrap_or(false), "object lock")?;
        // Access lists count here, and what a key writes by one is its own.
        let writer = ObjectOwnership::OBJECT_WRITER;
        let other = input.object_ownership.as_ref().is_some_and(|own| own.as_str() != writer);
        check_absent(other, "object ownership other than the writer's")?;
        let global = BucketNamespace::GLOBAL;
        let other = input.bucket_namespace.as_ref().is_some_and(|space| space.as_str() != global);
        check_absent(other, "namespaces of buckets")?;
        let name = Name::new(&input.bucket).map_err(|_| s3_error!(InvalidBucketName))?;
        let configuration = input.create_bucket_configuration.unwrap_or_default();
        self.check_location(&configuration)?;
        let tags = tags::of_bucket(configuration.tags.unwrap_or_default())?;
        match self.vfs.create_bucket(&who, &name).await {
            // As Amazon has it in its first region: making one's own bucket again changes nothing.
            Err(Refusal::AlreadyExists) if self.region == FIRST_REGION => {}
            made => drop(made.map_err(|error| refuse(&error))?),
        }
        if let Some(acl) = acl {
            let set = self.vfs.set_access_list(&who, &name, None, &acl).await;
            set.map_err(|error| refuse(&error))?;
        }
        if !tags.is_empty() {
            let set = self.vfs.set_tags(&who, &name, None, &tags).await;
            set.map_err(|error| refuse(&error))?;
        }
        let location = Some(format!("/{name}"));
        Ok(S3Response::new(CreateBucketOutput { location, ..Default::default() }))
    }

    pub(super) async fn remove(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let who = self.caller(&request)?;
        let name = words::bucket(&request.input.bucket)?;
        self.vfs.delete_bucket(&who, &name).await.map_err(|error| missing(&error))?;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), StatusCode::NO_CONTENT))
    }

    pub(super) fn list_all(
        &self,
        request: &S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let who = self.caller(request)?;
        if who.is_anonymous() {
            return Err(s3_error!(AccessDenied));
        }
        let input = &request.input;
        let buckets = self.vfs.buckets(&who).map_err(|error| refuse(&error))?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.clone().unwrap_or_default();
        let most = input.max_buckets.map(|most| usize::try_from(most).unwrap_or(0));
        let most = most.unwrap_or(usize::MAX);
        if most == 0 {
            return Err(s3_error!(InvalidArgument, "a page has at least one bucket"));
        }
        let is_here = input.bucket_region.as_ref().is_none_or(|region| *region == self.region);
        let is_shown = |name: &str| is_here && name.starts_with(&prefix) && name > after.as_str();
        let mut shown: Vec<_> =
            buckets.into_iter().filter(|bucket| is_shown(&bucket.name)).collect();
        let more = shown.len() > most;
        shown.truncate(most);
        let next = shown.last().filter(|_| more).map(|bucket| bucket.name.clone());
        let bucket = |bucket: crate::vfs::BucketInfo| Bucket {
            creation_date: Some(time(bucket.created_at)),
            name: Some(bucket.name),
            ..Default::default()
        };
        let output = ListBucketsOutput {
            buckets: Some(shown.into_iter().map(bucket).collect()),
            continuation_token: next,
            owner: Some(owner(who.uid)),
            prefix: input.prefix.clone(),
        };
        Ok(S3Response::new(output))
    }

    /// The bucket of a request, if it is there.
    pub(super) fn require_bucket<T>(
        &self,
        request: &S3Request<T>,
        name: &str,
    ) -> S3Result<crate::vfs::BucketInfo> {
        let who = self.caller(request)?;
        self.vfs.bucket(&who, &words::bucket(name)?).map_err(|error| missing(&error))
    }
}
