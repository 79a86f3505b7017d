//! Extended attributes; xattr(7).

use super::headers::{META, META_MAX};
use super::words::Caller;
use super::{Vfs, acl};
use crate::error::{Error, Result};
use crate::meta::{Mutation, SetXattr, XattrMode};
use crate::types::limits::{XATTR_NAME_MAX, XATTR_VALUE_MAX};
use crate::types::{FileKind, Ino, Mode};

/// Shows how far a file's bytes are safe.
const DURABILITY: &[u8] = b"user.bucketfs.durability";

impl Vfs {
    /// # Errors
    /// [`Error::NoAttribute`].
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        if name == DURABILITY {
            return Ok(self.durability(ino)?.to_string().into_bytes());
        }
        let value = self.replica.table().view().xattr(ino, name)?;
        value.ok_or(Error::NoAttribute)
    }

    /// All names that are stored.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.inode(ino)?;
        self.replica.table().view().xattr_names(ino)
    }

    /// setxattr(2). A POSIX access ACL sets the permission bits too.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] or [`Error::NoAttribute`] as `mode` says;
    /// [`Error::AttributeTooLarge`]; [`Error::NotPermitted`] for names that are the product's own;
    /// [`Error::NoSpace`] for more user metadata than S3 could copy.
    pub async fn setxattr(
        &self,
        who: &Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<()> {
        check_name(name)?;
        if value.len() > XATTR_VALUE_MAX {
            return Err(Error::AttributeTooLarge);
        }
        self.check_metadata(ino, name, value)?;
        self.reserve.check(&self.chunks)?;
        let permissions = match name {
            acl::ACCESS => match self.access_acl(ino, value)? {
                (permissions, true) => return self.drop_acl(who, ino, permissions).await,
                (permissions, false) => Some(permissions),
            },
            acl::DEFAULT => {
                acl::check(value)?;
                self.directory(ino)
                    .map_err(|_| Error::NotPermitted("only directories have one"))?;
                None
            }
            _ => None,
        };
        let at = self.clock.now();
        let (name, value) = (name.to_vec(), value.to_vec());
        let set = SetXattr { ino, name, value, mode, permissions, at };
        self.propose(Mutation::SetXattr(set), who.origin).await.map(|_| ())
    }

    /// removexattr(2).
    ///
    /// # Errors
    /// [`Error::NoAttribute`].
    pub async fn removexattr(&self, who: &Caller, ino: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let mutation = Mutation::RemoveXattr { ino, name: name.to_vec(), at: self.clock.now() };
        self.propose(mutation, who.origin).await.map(|_| ())
    }

    /// Whether all user metadata of a file stays within what S3 lets an object have.
    fn check_metadata(&self, ino: Ino, name: &[u8], value: &[u8]) -> Result<()> {
        let Some(short) = name.strip_prefix(META.as_bytes()) else { return Ok(()) };
        let view = self.replica.table().view();
        let mut bytes = short.len() + value.len();
        for other in view.xattr_names(ino)?.iter().filter(|other| *other != name) {
            if let Some(short) = other.strip_prefix(META.as_bytes()) {
                bytes += short.len() + view.xattr(ino, other)?.map_or(0, |value| value.len());
            }
        }
        if bytes > META_MAX { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// The default ACL that new inodes in a directory inherit.
    pub(super) fn default_acl(&self, parent: Ino) -> Result<Option<Vec<u8>>> {
        self.replica.table().view().xattr(parent, acl::DEFAULT)
    }

    /// The mode an access ACL stands for, and whether the mode alone says it.
    fn access_acl(&self, ino: Ino, value: &[u8]) -> Result<(Mode, bool)> {
        let (bits, minimal) = acl::mode_of(value)?;
        let inode = self.inode(ino)?;
        if inode.kind == FileKind::Symlink {
            return Err(Error::NotSupported("ACLs of symbolic links"));
        }
        Ok((Mode::new(u32::from(inode.mode.bits()) & !0o777 | bits), minimal))
    }

    /// An access ACL that a mode can say: the mode is set and the xattr goes.
    async fn drop_acl(&self, who: &Caller, ino: Ino, permissions: Mode) -> Result<()> {
        match self.removexattr(who, ino, acl::ACCESS).await {
            Ok(()) | Err(Error::NoAttribute) => {}
            Err(error) => return Err(error),
        }
        self.set_mode(who, ino, permissions).await.map(|_| ())
    }
}

fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) {
        return Err(Error::invalid("an attribute's name has 1 to 255 bytes and no NUL"));
    }
    if name.starts_with(b"user.bucketfs.") {
        return Err(Error::NotPermitted("user.bucketfs.* is told, not set"));
    }
    if name == super::headers::ACL {
        return Err(Error::NotPermitted("the access list of S3 is set by S3"));
    }
    let namespaces = [&b"user."[..], b"trusted.", b"security.", b"system.posix_acl_"];
    if !namespaces.iter().any(|namespace| name.starts_with(namespace)) {
        return Err(Error::NotSupported("this attribute namespace"));
    }
    Ok(())
}
