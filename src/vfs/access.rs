//! Who may do what: the one way from a bucket's name to its directory, past the rights of whoever
//! asks. Mounts do not come by here, the kernel checks their users.

use super::Vfs;
use super::words::Caller;
use crate::error::{Error, Result};
use crate::meta::{AccessKey, Bucket, KeyRole, KeyState};
use crate::types::{AclPermission, BucketName, Ino, KeyId, ObjectKey, Right};

/// Whose request it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// A mount's, or the operator's: may do everything.
    #[default]
    Trusted,
    /// Of an access key, as it was when the request came.
    Key { id: KeyId, role: KeyRole },
    /// Without a key: may do what an access list allows everyone.
    Anonymous,
}

impl Vfs {
    /// Who a request with this access key is.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::KeyDisabled`].
    pub fn key_caller(&self, id: &str) -> Result<Caller> {
        let (id, key) = self.active_key(id)?;
        let access = Access::Key { id, role: key.role };
        Ok(Caller { uid: key.uid, gid: key.gid, umask: key.umask, origin: 0, access })
    }

    pub(super) fn key(&self, id: &str) -> Result<(KeyId, AccessKey)> {
        let id: KeyId = id.parse().map_err(|_| Error::NoKey)?;
        Ok((id, self.replica.table().view().access_key(id)?.ok_or(Error::NoKey)?))
    }

    pub(super) fn active_key(&self, id: &str) -> Result<(KeyId, AccessKey)> {
        let (id, key) = self.key(id)?;
        match key.state {
            KeyState::Active => Ok((id, key)),
            KeyState::Disabled => Err(Error::KeyDisabled),
        }
    }

    /// Whether `who` may do that with a bucket: asked before a body is read that may be long.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::AccessDenied`].
    pub fn require(&self, who: &Caller, bucket: &BucketName, right: Right) -> Result<()> {
        self.bucket_ino(who, bucket, right).map(|_| ())
    }

    /// Whether `who` may make an object with a key: asked as [`Self::require`].
    ///
    /// # Errors
    /// As [`Self::require`]; [`Error::NameTooLong`].
    pub fn require_put(
        &self,
        who: &Caller,
        (bucket, key): (&BucketName, &ObjectKey),
    ) -> Result<()> {
        key.check_length()?;
        self.require(who, bucket, Right::Write)
    }

    /// Whether `who` may look at the metrics and the state of the cluster.
    ///
    /// # Errors
    /// [`Error::AccessDenied`].
    pub fn require_monitor(&self, who: &Caller) -> Result<()> {
        match who.access {
            Access::Trusted
            | Access::Key { role: KeyRole::Monitor | KeyRole::Administrator, .. } => Ok(()),
            Access::Anonymous | Access::Key { role: KeyRole::Granted | KeyRole::Creator, .. } => {
                Err(Error::AccessDenied("the access key may not look at the node"))
            }
        }
    }

    /// The directory of a bucket, for who may do that with it.
    pub(super) fn bucket_ino(
        &self,
        who: &Caller,
        bucket: &BucketName,
        right: Right,
    ) -> Result<Ino> {
        let ino = self.bucket_directory(bucket)?;
        let listed = match right {
            Right::Read => Some(AclPermission::Read),
            Right::Write => Some(AclPermission::Write),
            Right::Owner | Right::Chown => None,
        };
        if who.access == Access::Trusted || self.has_right(who, ino, right)? {
            return Ok(ino);
        }
        match listed {
            Some(wanted) if self.list_allows(who, ino, wanted)? => Ok(ino),
            Some(_) | None => Err(denied(right)),
        }
    }

    /// Whether `who` has a right in the bucket of this directory; the operator has all but that to
    /// choose owners, which a mount has by itself.
    pub(super) fn has_right(&self, who: &Caller, bucket: Ino, right: Right) -> Result<bool> {
        match who.access {
            Access::Trusted => return Ok(right != Right::Chown),
            Access::Anonymous => return Ok(false),
            Access::Key { .. } => {}
        }
        let record = self.replica.table().view().bucket(bucket)?.ok_or(Error::NoBucket)?;
        Ok(allows(who, &record, right))
    }

    /// The directory of a bucket, whoever asks.
    pub(super) fn bucket_directory(&self, bucket: &BucketName) -> Result<Ino> {
        let view = self.replica.table().view();
        match view.lookup(Ino::ROOT, &bucket.to_file_name())? {
            Some(dirent) => Ok(dirent.ino),
            None => Err(Error::NoBucket),
        }
    }
}

pub(super) fn allows(who: &Caller, bucket: &Bucket, right: Right) -> bool {
    match who.access {
        Access::Trusted | Access::Key { role: KeyRole::Administrator, .. } => true,
        Access::Key { id, role: KeyRole::Granted | KeyRole::Monitor | KeyRole::Creator } => {
            bucket.rights(id).allow(right)
        }
        Access::Anonymous => false,
    }
}

/// Whether a bucket is shown to `who` at all.
pub(super) fn may_see(who: &Caller, bucket: &Bucket) -> bool {
    [Right::Read, Right::Write].into_iter().any(|right| allows(who, bucket, right))
}

fn denied(right: Right) -> Error {
    Error::AccessDenied(match right {
        Right::Read => "the access key may not read this bucket",
        Right::Write => "the access key may not write to this bucket",
        Right::Owner => "the access key does not own this bucket",
        Right::Chown => "the access key may not choose the owners of what it writes",
    })
}
