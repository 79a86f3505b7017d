//! Buckets: the directories right under the root.

use serde::{Deserialize, Serialize};

use super::Vfs;
use super::access::{self, Access};
use super::words::{Caller, NewNode};
use crate::error::{Error, Result};
use crate::meta::{KeyRole, Mutation};
use crate::types::{AclPermission, BucketName, FileKind, Ino, KeyId, Right, Rights, Timestamp};

/// A bucket as the command line and the doors show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketInfo {
    pub name: String,
    pub ino: Ino,
    pub created_at: Timestamp,
    pub uid: u32,
    pub gid: u32,
    /// Entries right below it.
    pub entries: u64,
    pub quorum_required: bool,
    /// What access keys may do with it, the one that made it among them; administrators apart.
    pub grants: Vec<(KeyId, Rights)>,
}

impl Vfs {
    /// Makes a bucket, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when it is theirs already, [`Error::BucketTaken`],
    /// [`Error::AccessDenied`], [`Error::NoSpace`].
    pub async fn create_bucket(&self, who: &Caller, name: &BucketName) -> Result<BucketInfo> {
        let node = NewNode { kind: FileKind::Directory, mode: 0o755, rdev: 0 };
        let make = self.new_node(who, Ino::ROOT, name.as_str().as_bytes(), node, true)?;
        let mutation = match who.access {
            Access::Trusted => Mutation::Make(make),
            Access::Key { role: KeyRole::Granted | KeyRole::Monitor, .. } | Access::Anonymous => {
                return Err(Error::AccessDenied("the access key may not make buckets"));
            }
            Access::Key { id, .. } => Mutation::MakeBucket { make, owner: id },
        };
        match self.propose_durably(mutation, who).await {
            Err(Error::AlreadyExists) if self.require(who, name, Right::Owner).is_err() => {
                Err(Error::BucketTaken)
            }
            made => {
                made?;
                self.relax_new(self.bucket_directory(name)?).await?;
                self.bucket(who, name)
            }
        }
    }

    /// A bucket was just made: it asks for what new ones are to ask for.
    pub(super) async fn relax_new(&self, bucket: Ino) -> Result<()> {
        if self.settings.quorum_required {
            return Ok(());
        }
        let relax = Mutation::SetQuorumRequired { bucket, is_required: false };
        self.propose_durably(relax, &Caller::default()).await.map(|_| ())
    }

    /// Whether writes to a bucket wait for a quorum of copies, or for one; on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::AccessDenied`].
    pub async fn set_quorum_required(
        &self,
        who: &Caller,
        name: &BucketName,
        is_required: bool,
    ) -> Result<BucketInfo> {
        self.require(who, name, Right::Owner)?;
        let bucket = self.bucket_directory(name)?;
        self.propose_durably(Mutation::SetQuorumRequired { bucket, is_required }, who).await?;
        self.bucket(who, name)
    }

    /// Removes an empty bucket, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::NotEmpty`], [`Error::AccessDenied`].
    pub async fn delete_bucket(&self, who: &Caller, name: &BucketName) -> Result<()> {
        self.require(who, name, Right::Owner)?;
        self.rmdir(who, Ino::ROOT, name.as_str().as_bytes()).await?;
        self.replica.sync().await?;
        self.hub.told().await;
        Ok(())
    }

    /// What is known about a bucket, for who may do anything with it.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::AccessDenied`].
    pub fn bucket(&self, who: &Caller, name: &BucketName) -> Result<BucketInfo> {
        match self.granted_bucket(who, name) {
            Err(Error::AccessDenied(_)) if self.may_list(who, name)? => {
                self.granted_bucket(&Caller::default(), name)
            }
            answer => answer,
        }
    }

    fn may_list(&self, who: &Caller, name: &BucketName) -> Result<bool> {
        self.list_allows(who, self.bucket_directory(name)?, AclPermission::Read)
    }

    /// As [`Self::bucket`] for who has a right in it, whatever its access list says.
    fn granted_bucket(&self, who: &Caller, name: &BucketName) -> Result<BucketInfo> {
        let attr = self.getattr(self.bucket_directory(name)?)?;
        let record = self.replica.table().view().bucket(attr.ino)?.ok_or(Error::NoBucket)?;
        if !access::may_see(who, &record) {
            return Err(Error::AccessDenied("the access key has no right in this bucket"));
        }
        let mut grants = record.grants.clone();
        if let Some(owner) = record.owner {
            grants.retain(|(key, _)| *key != owner);
            grants.push((owner, record.rights(owner)));
        }
        Ok(BucketInfo {
            name: name.as_str().to_owned(),
            ino: attr.ino,
            created_at: record.created_at,
            uid: attr.uid,
            gid: attr.gid,
            entries: attr.size,
            quorum_required: record.quorum_required,
            grants,
        })
    }

    /// Whose a bucket is on the mounts.
    ///
    /// # Errors
    /// [`Error::NoBucket`].
    pub fn bucket_uid(&self, name: &BucketName) -> Result<u32> {
        Ok(self.inode(self.bucket_directory(name)?)?.uid)
    }

    /// All buckets that `who` may do anything with, in name order.
    ///
    /// # Errors
    /// What the table says.
    pub fn buckets(&self, who: &Caller) -> Result<Vec<BucketInfo>> {
        let mut buckets = Vec::new();
        let mut after = None;
        loop {
            let page = self.replica.table().view().children(Ino::ROOT, after.as_ref(), 256)?;
            let Some((name, _)) = page.last() else {
                return Ok(buckets);
            };
            after = Some((name.clone(), true));
            for (name, _) in &page {
                match BucketName::try_from(name)
                    .map_err(Error::from)
                    .and_then(|name| self.granted_bucket(who, &name))
                {
                    Ok(bucket) => buckets.push(bucket),
                    Err(Error::NoBucket | Error::Stale | Error::AccessDenied(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }
}
