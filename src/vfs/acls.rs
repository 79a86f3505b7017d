//! S3's access lists of buckets and objects: read, set, and asked when no right of a key decides.

use super::Vfs;
use super::access::Access;
use super::headers::ACL;
use super::words::Caller;
use crate::error::{Error, Result};
use crate::meta::{Inode, Mutation, ReplaceXattrs};
use crate::types::{Acl, AclPermission, BucketName, Grantee, Ino, ObjectKey, Right};

impl Caller {
    /// Who asks, as far as access lists are concerned.
    pub(super) fn asker(&self) -> Option<u32> {
        match self.access {
            Access::Anonymous => None,
            Access::Trusted | Access::Key { .. } => Some(self.uid),
        }
    }

    /// A request without a key.
    pub fn anonymous() -> Self {
        // nobody and nogroup of Debian's base system.
        let (uid, gid) = (65_534, 65_534);
        Self { uid, gid, umask: 0o022, origin: 0, access: Access::Anonymous }
    }

    pub fn is_anonymous(&self) -> bool {
        self.access == Access::Anonymous
    }
}

impl Vfs {
    /// The list somebody has set for an inode.
    pub(super) fn set_list(&self, ino: Ino) -> Result<Option<Acl>> {
        let text = self.replica.table().view().xattr(ino, ACL)?;
        let Some(text) = text.and_then(|text| String::from_utf8(text).ok()) else {
            return Ok(None);
        };
        // What cannot be read allows nothing.
        Ok(Some(text.parse().unwrap_or_default()))
    }

    pub(super) fn list_allows(
        &self,
        who: &Caller,
        ino: Ino,
        wanted: AclPermission,
    ) -> Result<bool> {
        Ok(self.set_list(ino)?.is_some_and(|acl| acl.allows(who.asker(), wanted)))
    }

    /// The object that has a key, for who may read it by a right in its bucket or by its own list.
    pub(super) fn readable_object(
        &self,
        who: &Caller,
        (bucket, key): (&BucketName, &ObjectKey),
        wanted: AclPermission,
    ) -> Result<(Ino, Inode)> {
        let path = self.path_in(self.bucket_directory(bucket)?, key);
        let found = self.find(&path)?.filter(|(_, inode)| inode.is_object());
        let right = if wanted == AclPermission::Read { Right::Read } else { Right::Owner };
        if self.has_right(who, path.bucket, right)? {
            return found.ok_or(Error::NotFound);
        }
        let denied = Error::AccessDenied("neither a right in the bucket nor the access list");
        match found {
            Some((ino, inode)) if self.list_allows(who, ino, wanted)? => Ok((ino, inode)),
            None if self.list_allows(who, path.bucket, AclPermission::Read)? => {
                Err(Error::NotFound)
            }
            Some(_) | None => Err(denied),
        }
    }

    /// The inode a list is of, for who may do that with the list.
    fn listed_inode(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: Option<&ObjectKey>,
        wanted: AclPermission,
    ) -> Result<(Ino, u32)> {
        if let Some(key) = key {
            let (ino, inode) = self.readable_object(who, (bucket, key), wanted)?;
            return Ok((ino, inode.uid));
        }
        let ino = self.bucket_directory(bucket)?;
        let right = if wanted == AclPermission::ReadAcl { Right::Read } else { Right::Owner };
        if !self.has_right(who, ino, right)? && !self.list_allows(who, ino, wanted)? {
            return Err(Error::AccessDenied("the access list does not allow it"));
        }
        Ok((ino, self.inode(ino)?.uid))
    }

    /// Owner and access list of a bucket, or of an object in it.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::NotFound`], [`Error::AccessDenied`].
    pub async fn access_list(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: Option<&ObjectKey>,
    ) -> Result<(u32, Acl)> {
        let (ino, owner) = self.listed_inode(who, bucket, key, AclPermission::ReadAcl)?;
        Ok((owner, self.set_list(ino)?.unwrap_or_else(|| Acl::private(owner))))
    }

    /// Who owns a bucket or object, for who may set its access list.
    ///
    /// # Errors
    /// As [`Self::access_list`].
    pub fn listed_owner(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: Option<&ObjectKey>,
    ) -> Result<u32> {
        Ok(self.listed_inode(who, bucket, key, AclPermission::WriteAcl)?.1)
    }

    /// Sets the access list of a bucket, or of an object in it; on disk when it returns.
    ///
    /// # Errors
    /// As [`Self::access_list`]; [`Error::NoSpace`].
    pub async fn set_access_list(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: Option<&ObjectKey>,
        acl: &Acl,
    ) -> Result<()> {
        let (ino, _) = self.listed_inode(who, bucket, key, AclPermission::WriteAcl)?;
        self.reserve.check(&self.chunks)?;
        let change = ReplaceXattrs {
            ino,
            prefix: ACL.to_vec(),
            xattrs: vec![(ACL.to_vec(), acl.to_string().into_bytes())],
            at: self.clock.now(),
        };
        self.propose_durably(Mutation::ReplaceXattrs(change), who).await.map(|_| ())
    }

    /// The list of what `who` makes in a bucket without naming one: who writes by a list alone owns
    /// what it wrote.
    pub(super) fn own_list(&self, who: &Caller, bucket: Ino) -> Result<Option<Acl>> {
        let by_list = match who.access {
            Access::Key { .. } => !self.has_right(who, bucket, Right::Write)?,
            Access::Trusted | Access::Anonymous => false,
        };
        Ok(by_list.then(|| Acl(vec![(Grantee::User(who.uid), AclPermission::Full)])))
    }
}
