//! Access lists: canned ones, grants in headers and whole documents ↔ the domain's lists.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::refuse;
use super::service::Door;
use super::words::{self, check_version, owner};
use crate::types::{ACL_GRANTS_MAX, Acl, AclPermission, BucketName as Name, Grantee as Whom};

/// Groups; Amazon S3 user guide, "Amazon S3 predefined groups".
const EVERYONE: &str = "http://acs.amazonaws.com/groups/global/AllUsers";
const AUTHENTICATED: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// How a request names a list.
#[derive(Default)]
pub(super) struct Named<'a> {
    pub canned: Option<&'a str>,
    pub policy: Option<&'a AccessControlPolicy>,
    /// `x-amz-grant-read`, `-write`, `-read-acp`, `-write-acp`, `-full-control`.
    pub grants: [Option<&'a str>; 5],
}

/// The members of an input that name a list.
macro_rules! named_list {
    ($input:expr, $write:expr) => {
        crate::s3::acl::Named {
            canned: $input.acl.as_ref().map(|acl| acl.as_str()),
            policy: None,
            grants: [
                $input.grant_read.as_deref(),
                $write,
                $input.grant_read_acp.as_deref(),
                $input.grant_write_acp.as_deref(),
                $input.grant_full_control.as_deref(),
            ],
        }
    };
}
pub(super) use named_list;

impl Named<'_> {
    /// The list that is named, of something that `uid` owns in a bucket of `bucket_uid`; `None`
    /// when none is.
    pub fn list(&self, uid: u32, bucket_uid: u32) -> S3Result<Option<Acl>> {
        let by_header = self.grants.iter().any(Option::is_some);
        match (self.canned, self.policy, by_header) {
            (None, None, false) => Ok(None),
            (Some(name), None, false) => canned(name, uid, bucket_uid).map(Some),
            (None, Some(policy), false) => document(policy, uid).map(Some),
            (None, None, true) => self.granted().map(Some),
            _ => Err(s3_error!(InvalidRequest, "an access list is named in two ways")),
        }
    }

    fn granted(&self) -> S3Result<Acl> {
        use AclPermission::{Full, Read, ReadAcl, Write, WriteAcl};
        let mut acl = Acl::default();
        for (given, text) in [Read, Write, ReadAcl, WriteAcl, Full].iter().zip(self.grants) {
            for part in text.unwrap_or_default().split(',').filter(|part| !part.trim().is_empty()) {
                let invalid = || s3_error!(InvalidArgument, "a grant is id=\"…\" or uri=\"…\"");
                let (kind, value) = part.split_once('=').ok_or_else(invalid)?;
                let value = value.trim().trim_matches('"');
                let whom = match kind.trim() {
                    "id" => user(Some(value))?,
                    "uri" => group(Some(value))?,
                    "emailAddress" => return Err(s3_error!(UnresolvableGrantByEmailAddress)),
                    _ => return Err(invalid()),
                };
                acl.0.push((whom, *given));
            }
        }
        bounded(acl)
    }
}

fn bounded(acl: Acl) -> S3Result<Acl> {
    let fits = acl.0.len() <= ACL_GRANTS_MAX;
    if fits { Ok(acl) } else { Err(s3_error!(MalformedACLError, "too many grants")) }
}

fn canned(name: &str, uid: u32, bucket_uid: u32) -> S3Result<Acl> {
    use AclPermission::{Full, Read, Write};
    let more: &[(Whom, AclPermission)] = match name {
        "private" => &[],
        "public-read" => &[(Whom::Everyone, Read)],
        "public-read-write" => &[(Whom::Everyone, Read), (Whom::Everyone, Write)],
        "authenticated-read" => &[(Whom::Authenticated, Read)],
        "bucket-owner-read" => &[(Whom::User(bucket_uid), Read)],
        "bucket-owner-full-control" => &[(Whom::User(bucket_uid), Full)],
        "aws-exec-read" | "log-delivery-write" => {
            return Err(s3_error!(NotImplemented, "this canned access list"));
        }
        _ => return Err(s3_error!(InvalidArgument, "there is no canned access list of this name")),
    };
    let mut acl = Acl::private(uid);
    acl.0.extend(more.iter().filter(|(whom, _)| *whom != Whom::User(uid)));
    Ok(acl)
}

fn document(policy: &AccessControlPolicy, uid: u32) -> S3Result<Acl> {
    let named = policy.owner.as_ref().and_then(|owner| owner.id.as_deref());
    if named.is_some() && named != owner(uid).id.as_deref() {
        return Err(s3_error!(AccessDenied, "the owner cannot be changed"));
    }
    let mut acl = Acl::default();
    for grant in policy.grants.as_deref().unwrap_or_default() {
        let malformed = || s3_error!(MalformedACLError);
        let grantee = grant.grantee.as_ref().ok_or_else(malformed)?;
        let whom = match grantee.type_.as_str() {
            Type::CANONICAL_USER => user(grantee.id.as_deref())?,
            Type::GROUP => group(grantee.uri.as_deref())?,
            Type::AMAZON_CUSTOMER_BY_EMAIL => {
                return Err(s3_error!(UnresolvableGrantByEmailAddress));
            }
            _ => return Err(malformed()),
        };
        let given = match grant.permission.as_ref().map(Permission::as_str) {
            Some(Permission::FULL_CONTROL) => AclPermission::Full,
            Some(Permission::READ) => AclPermission::Read,
            Some(Permission::READ_ACP) => AclPermission::ReadAcl,
            Some(Permission::WRITE) => AclPermission::Write,
            Some(Permission::WRITE_ACP) => AclPermission::WriteAcl,
            _ => return Err(malformed()),
        };
        acl.0.push((whom, given));
    }
    bounded(acl)
}

/// The uid in a canonical id, which is its 64 hexadecimal digits.
fn user(id: Option<&str>) -> S3Result<Whom> {
    let invalid = || s3_error!(InvalidArgument, "Invalid id");
    let id = id.filter(|id| id.len() == 64 && id.is_ascii()).ok_or_else(invalid)?;
    let (zeros, uid) = id.split_at(56);
    let uid = u32::from_str_radix(uid, 16).map_err(|_| invalid())?;
    if zeros.bytes().all(|byte| byte == b'0') { Ok(Whom::User(uid)) } else { Err(invalid()) }
}

fn group(uri: Option<&str>) -> S3Result<Whom> {
    match uri {
        Some(EVERYONE) => Ok(Whom::Everyone),
        Some(AUTHENTICATED) => Ok(Whom::Authenticated),
        _ => Err(s3_error!(InvalidArgument, "Invalid group uri")),
    }
}

fn shown(uid: u32, acl: &Acl) -> (Option<Owner>, Option<Grants>) {
    let grant = |(whom, given): &(Whom, AclPermission)| {
        let group = |uri: &str| Grantee {
            type_: Type::from_static(Type::GROUP),
            uri: Some(uri.to_owned()),
            id: None,
            display_name: None,
            email_address: None,
        };
        let grantee = match whom {
            Whom::Everyone => group(EVERYONE),
            Whom::Authenticated => group(AUTHENTICATED),
            Whom::User(uid) => {
                let Owner { id, display_name } = owner(*uid);
                let type_ = Type::from_static(Type::CANONICAL_USER);
                Grantee { type_, id, display_name, uri: None, email_address: None }
            }
        };
        let permission = Permission::from_static(match given {
            AclPermission::Full => Permission::FULL_CONTROL,
            AclPermission::Read => Permission::READ,
            AclPermission::ReadAcl => Permission::READ_ACP,
            AclPermission::Write => Permission::WRITE,
            AclPermission::WriteAcl => Permission::WRITE_ACP,
        });
        Grant { grantee: Some(grantee), permission: Some(permission) }
    };
    // Groups come first, as clients are used to it.
    let (users, groups): (Vec<_>, Vec<_>) =
        acl.0.iter().partition(|(whom, _)| matches!(whom, Whom::User(_)));
    (Some(owner(uid)), Some(groups.into_iter().chain(users).map(grant).collect()))
}

impl Door {
    pub(super) async fn bucket_acl(
        &self,
        request: S3Request<GetBucketAclInput>,
    ) -> S3Result<S3Response<GetBucketAclOutput>> {
        let (who, bucket) = (self.caller(&request)?, words::bucket(&request.input.bucket)?);
        let found = self.vfs.access_list(&who, &bucket, None).await;
        let (uid, acl) = found.map_err(|error| refuse(&error))?;
        let (owner, grants) = shown(uid, &acl);
        Ok(S3Response::new(GetBucketAclOutput { owner, grants }))
    }

    pub(super) async fn set_bucket_acl(
        &self,
        request: S3Request<PutBucketAclInput>,
    ) -> S3Result<S3Response<PutBucketAclOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        let bucket = words::bucket(&input.bucket)?;
        let policy = input.access_control_policy.as_ref();
        let named = Named { policy, ..named_list!(input, input.grant_write.as_deref()) };
        let uid = self.vfs.listed_owner(&who, &bucket, None).map_err(|error| refuse(&error))?;
        let acl = required(named.list(uid, uid)?)?;
        let set = self.vfs.set_access_list(&who, &bucket, None, &acl).await;
        set.map_err(|error| refuse(&error))?;
        Ok(S3Response::new(PutBucketAclOutput::default()))
    }

    pub(super) async fn object_acl(
        &self,
        request: S3Request<GetObjectAclInput>,
    ) -> S3Result<S3Response<GetObjectAclOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let found = self.vfs.access_list(&who, &bucket, Some(&key)).await;
        let (uid, acl) = found.map_err(|error| refuse(&error))?;
        let (owner, grants) = shown(uid, &acl);
        Ok(S3Response::new(GetObjectAclOutput { owner, grants, ..Default::default() }))
    }

    pub(super) async fn set_object_acl(
        &self,
        request: S3Request<PutObjectAclInput>,
    ) -> S3Result<S3Response<PutObjectAclOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let policy = input.access_control_policy.as_ref();
        let named = Named { policy, ..named_list!(input, input.grant_write.as_deref()) };
        let uid = self.vfs.listed_owner(&who, &bucket, Some(&key));
        let uid = uid.map_err(|error| refuse(&error))?;
        let acl = required(named.list(uid, self.bucket_uid(&bucket)?)?)?;
        let set = self.vfs.set_access_list(&who, &bucket, Some(&key), &acl).await;
        set.map_err(|error| refuse(&error))?;
        Ok(S3Response::new(PutObjectAclOutput::default()))
    }

    pub(super) fn bucket_uid(&self, bucket: &Name) -> S3Result<u32> {
        self.vfs.bucket_uid(bucket).map_err(|error| refuse(&error))
    }
}

fn required(acl: Option<Acl>) -> S3Result<Acl> {
    acl.ok_or_else(|| s3_error!(MissingSecurityHeader, "no access list is given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(named: &Named<'_>) -> String {
        match named.list(7, 8) {
            Ok(acl) => acl.map(|acl| acl.to_string()).unwrap_or_default(),
            Err(error) => error.code().as_str().to_owned(),
        }
    }

    #[test]
    fn lists_are_named_in_three_ways() {
        let canned = |name| text(&Named { canned: Some(name), ..Named::default() });
        assert_eq!(text(&Named::default()), "");
        assert_eq!(canned("private"), "7=full");
        assert_eq!(canned("public-read-write"), "7=full,everyone=read,everyone=write");
        assert_eq!(canned("bucket-owner-read"), "7=full,8=read");
        assert_eq!(canned("public-ready"), "InvalidArgument");
        assert_eq!(canned("log-delivery-write"), "NotImplemented");
        let header = |grant| {
            text(&Named { grants: [Some(grant), None, None, None, None], ..Named::default() })
        };
        let id = owner(9).id.unwrap();
        let both = format!("id=\"{id}\", uri=\"{EVERYONE}\"");
        assert_eq!(header(&both), "9=read,everyone=read");
        assert_eq!(header("id=_foo"), "InvalidArgument");
        assert_eq!(header("emailAddress=a@b"), "UnresolvableGrantByEmailAddress");
        assert_eq!(header(&format!("id={id},").repeat(101)), "MalformedACLError");
    }

    #[test]
    fn a_document_gives_back_what_was_shown() {
        let acl: Acl = "authenticated=read-acl,everyone=read,7=full,9=write-acl".parse().unwrap();
        let (owner_of, grants) = shown(7, &acl);
        let mut policy = AccessControlPolicy { owner: owner_of, grants };
        let named = |policy: &AccessControlPolicy| {
            text(&Named { policy: Some(policy), ..Named::default() })
        };
        assert_eq!(named(&policy), acl.to_string());
        policy.owner = Some(owner(8));
        assert_eq!(named(&policy), "AccessDenied");
    }
}
