//! Objects: whole files by key, as S3 and REST see them. Only committed bytes are seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::gates::{Files, Gate};
use super::headers::{self, ObjectHeaders};
use super::node::Node;
use super::read::{ATTEMPTS, zeros};
use super::upload::{Uploaded, steps};
use super::words::Caller;
use super::{Vfs, unexpected};
use crate::error::{Error, Result};
use crate::meta::{
    Body, Condition, DeleteObject, Expected, Inode, KvRead, Mutation, ObjectBody, ObjectPath,
    Outcome, PutObject, ReplaceXattrs, S3_XATTRS, Sums, WriteOp, codec, keys,
};
use crate::replication::{Need, Wait};
use crate::types::limits::INLINE_MAX;
use crate::types::{
    AclPermission, BucketName, ByteRange, ChecksumKind, FileKind, Ino, Mode, ObjectKey, Right,
    Timestamp,
};

/// Modes of what uploads make, before the umask.
const FILE_MODE: u32 = 0o666;
pub(super) const DIRECTORY_MODE: u32 = 0o777;
/// Slots copied by reference in one mutation.
const COPY_SLOTS: u64 = 512;

/// An object at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    pub ino: Ino,
    pub version: u64,
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    pub modified: Timestamp,
    pub uid: u32,
    pub headers: ObjectHeaders,
    /// Base64, as the upload gave them.
    pub checksums: Vec<(ChecksumKind, String)>,
    /// The checksums are over those of the parts.
    pub composite: bool,
    /// Sizes of the parts of a multipart upload as (size, how many in a row).
    pub parts: Vec<(u64, u32)>,
    /// The parts' own checksums one after the other, as bytes; empty when they are not known.
    pub part_sums: Vec<u8>,
}

/// An object that is being read: it goes on with the version that was opened, or fails.
pub struct ObjectReader {
    vfs: Arc<Vfs>,
    node: Arc<Node>,
    body: Body,
    pub info: ObjectInfo,
}

impl Vfs {
    /// Where a key leads, for who may do that with its bucket.
    pub(super) fn object_path(
        &self,
        who: &Caller,
        (bucket, key): (&BucketName, &ObjectKey),
        right: Right,
    ) -> Result<ObjectPath> {
        Ok(self.path_in(self.bucket_ino(who, bucket, right)?, key))
    }

    pub(super) fn path_in(&self, bucket: Ino, key: &ObjectKey) -> ObjectPath {
        let (names, is_directory) = (key.names().to_vec(), key.is_directory());
        ObjectPath { bucket, names, is_directory }
    }

    /// The inode that has a key, object or not.
    pub(super) fn find(&self, path: &ObjectPath) -> Result<Option<(Ino, Inode)>> {
        let view = self.replica.table().view();
        let (mut at, mut kind) = (path.bucket, FileKind::Directory);
        for name in &path.names {
            match view.lookup(at, name)? {
                Some(dirent) if kind == FileKind::Directory => {
                    (at, kind) = (dirent.ino, dirent.kind)
                }
                _ => return Ok(None),
            }
        }
        if path.is_directory != (kind == FileKind::Directory) {
            return Ok(None);
        }
        Ok(view.inode(at)?.map(|inode| (at, inode)))
    }

    /// What there is under a key.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::NotFound`], [`Error::AccessDenied`].
    pub async fn head_object(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectInfo> {
        let (ino, inode) = self.readable_object(who, (bucket, key), AclPermission::Read)?;
        self.object_info(ino, &inode)
    }

    fn object_info(&self, ino: Ino, inode: &Inode) -> Result<ObjectInfo> {
        let view = self.replica.table().view();
        let mut xattrs = Vec::new();
        for name in view.xattr_names(ino)? {
            if name.starts_with(S3_XATTRS) {
                let value = view.xattr(ino, &name)?.unwrap_or_default();
                xattrs.push((name, value));
            }
        }
        let sums: Option<Sums> = match view.get(&keys::sums(ino))? {
            Some(bytes) => Some(codec::decode(&bytes)?),
            None => None,
        };
        let sums = sums.filter(|sums| sums.version == inode.version).unwrap_or_default();
        Ok(ObjectInfo {
            ino,
            version: inode.version,
            size: inode.object_size(),
            etag: inode.entity_tag(ino),
            modified: inode.committed_at,
            uid: inode.uid,
            headers: ObjectHeaders::from_xattrs(xattrs),
            checksums: sums.checksums,
            composite: sums.composite,
            parts: sums.parts,
            part_sums: sums.part_sums,
        })
    }

    /// Opens the object of the moment for reading.
    ///
    /// # Errors
    /// As [`Self::head_object`].
    pub async fn open_object(
        self: &Arc<Self>,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
    ) -> Result<ObjectReader> {
        for _ in 0..ATTEMPTS {
            let (ino, _) = self.readable_object(who, (bucket, key), AclPermission::Read)?;
            let (node, inode) = match self.pin(None, ino, |_| Ok(())).await {
                // It has lost its name just before: the name stands for another.
                Err(Error::Stale) => continue,
                pinned => pinned?,
            };
            match self.object_info(ino, &inode) {
                Ok(info) => {
                    let (vfs, body) = (Arc::clone(self), inode.body);
                    return Ok(ObjectReader { vfs, node, body, info });
                }
                Err(error) => {
                    self.close_node(&node).await;
                    return Err(error);
                }
            }
        }
        Err(Error::Conflict)
    }

    /// Puts what was uploaded under a key, on disk when it returns. `etag`: the content's own
    /// unless it is the md5 of the bytes.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`], [`Error::InTheWay`], [`Error::NoBucket`],
    /// [`Error::NameTooLong`], …
    pub async fn put_object(
        self: &Arc<Self>,
        who: &Caller,
        (bucket, key): (&BucketName, &ObjectKey),
        uploaded: Uploaded,
        headers: &ObjectHeaders,
        condition: Condition,
    ) -> Result<ObjectInfo> {
        key.check_length()?;
        let checksums = uploaded.checksums.clone();
        let sums = Sums { checksums, ..Sums::default() };
        let etag = Some(uploaded.etag());
        let path = self.object_path(who, (bucket, key), Right::Write)?;
        let put = self.new_object(who, path, &uploaded, (etag, sums), headers, condition)?;
        self.put(who, put, uploaded, |put| Mutation::PutObject(Box::new(put))).await
    }

    /// What is put.
    pub(super) fn new_object(
        &self,
        who: &Caller,
        path: ObjectPath,
        uploaded: &Uploaded,
        (etag, sums): (Option<String>, Sums),
        headers: &ObjectHeaders,
        condition: Condition,
    ) -> Result<PutObject> {
        self.reserve.check(&self.chunks)?;
        let chosen = self.chosen(who, path.bucket, headers)?;
        let own_list = self.own_list(who, path.bucket)?;
        Ok(PutObject {
            held: false,
            path,
            body: uploaded.body.clone(),
            etag,
            sums,
            xattrs: headers.to_xattrs(own_list.as_ref())?,
            uid: who.uid,
            gid: who.gid,
            mode: Mode::new(FILE_MODE & !who.umask),
            directory_mode: Mode::new(DIRECTORY_MODE & !who.umask),
            chosen,
            condition,
            at: self.clock.now(),
        })
    }

    /// As [`Self::gated`], of the file that has a key.
    pub(super) async fn object_removal(&self, path: &ObjectPath) -> Result<(bool, Gate<'_>)> {
        let find = || Ok(Files { removed: self.ino_of(path)?, ..Files::default() });
        self.gated(find).await
    }

    pub(super) fn ino_of(&self, path: &ObjectPath) -> Result<Option<Ino>> {
        Ok(self.find(path)?.map(|(ino, _)| ino))
    }

    /// Puts an object made of `uploaded`, by the mutation that `change` makes of it.
    pub(super) async fn put(
        self: &Arc<Self>,
        who: &Caller,
        mut put: PutObject,
        uploaded: Uploaded,
        change: impl FnOnce(PutObject) -> Mutation + Send + 'static,
    ) -> Result<ObjectInfo> {
        let (vfs, who) = (Arc::clone(self), *who);
        let work = async move {
            let path = put.path.clone();
            let (held, gate) = vfs.object_removal(&path).await?;
            put.held = held;
            let put = vfs.put_gated(&who, change(put), uploaded, gate).await;
            put.map_err(|error| vfs.name_obstacle(&path, error))
        };
        to_the_end(work).await
    }

    /// As [`Self::put`], with the gate that keeps what is replaced from being opened meanwhile.
    pub(super) async fn put_gated(
        &self,
        who: &Caller,
        mutation: Mutation,
        uploaded: Uploaded,
        gate: Gate<'_>,
    ) -> Result<ObjectInfo> {
        let outcome =
            self.propose_copied(mutation, Wait::Durable, who.origin, Need::Quorum).await?;
        uploaded.taken();
        let Outcome::Put { ino, inode, replaced } = outcome else {
            return Err(unexpected(&outcome));
        };
        if let Some((old, gone)) = replaced {
            self.lost_name(who, old, gone);
        }
        // The kernel may have to open what is told about.
        drop(gate);
        self.hub.told().await;
        self.object_info(ino, &inode)
    }

    /// Removes an object, on disk when it returns; `false` when there was none.
    ///
    /// # Errors
    /// [`Error::PreconditionFailed`] when it is there and not as `expected`, [`Error::NoBucket`].
    pub async fn delete_object(
        self: &Arc<Self>,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        expected: Expected,
    ) -> Result<bool> {
        let path = self.object_path(who, (bucket, key), Right::Write)?;
        let (vfs, who) = (Arc::clone(self), *who);
        to_the_end(async move { vfs.delete_path(&who, path, expected).await }).await
    }

    async fn delete_path(
        &self,
        who: &Caller,
        path: ObjectPath,
        expected: Expected,
    ) -> Result<bool> {
        let (held, gate) = self.object_removal(&path).await?;
        let delete = DeleteObject { path, expected, held, at: self.clock.now() };
        let mutation = Mutation::DeleteObject(delete);
        let deleted = match self.replica.propose(mutation, Wait::Durable, who.origin).await? {
            Outcome::Done => false,
            Outcome::Removed { ino, inode } => {
                self.lost_name(who, ino, inode);
                true
            }
            other => return Err(unexpected(&other)),
        };
        drop(gate);
        self.hub.told().await;
        Ok(deleted)
    }

    /// Puts a copy of an open object under a key, by reference. `headers`: the source's without.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the source's bytes changed meanwhile; as [`Self::put_object`].
    pub async fn copy_object(
        self: &Arc<Self>,
        who: &Caller,
        source: &ObjectReader,
        (bucket, key): (&BucketName, &ObjectKey),
        headers: Option<&ObjectHeaders>,
        condition: Condition,
    ) -> Result<ObjectInfo> {
        key.check_length()?;
        let info = &source.info;
        let path = self.object_path(who, (bucket, key), Right::Write)?;
        let uploaded = self.refer(source, self.need(path.bucket)).await?;
        let sums = Sums {
            version: 0,
            checksums: info.checksums.clone(),
            composite: info.composite,
            parts: info.parts.clone(),
            part_sums: info.part_sums.clone(),
        };
        // An opaque tag names its inode: the copy gets its own.
        let etag = source.own_etag()?;
        let headers = headers.unwrap_or(&info.headers);
        let put = self.new_object(who, path, &uploaded, (etag, sums), headers, condition)?;
        self.put(who, put, uploaded, |put| Mutation::PutObject(Box::new(put))).await
    }

    /// A new body with the bytes of an open object.
    async fn refer(self: &Arc<Self>, source: &ObjectReader, need: Need) -> Result<Uploaded> {
        let size = source.info.size;
        if size <= INLINE_MAX as u64 && !matches!(source.body, Body::Manifest(_)) || size == 0 {
            let data = source.read_whole(ByteRange::between(0, size)).await?.into();
            return Ok(Uploaded::of_body(self, ObjectBody::Inline(data), size));
        }
        if let Body::Inline(data) = &source.body {
            return self.upload_sparse(data, size, need).await;
        }
        let content = self.replica.next_content();
        let uploaded = Uploaded::of_body(self, ObjectBody::Staged { content, size }, size);
        for part in steps(ByteRange::between(0, size), COPY_SLOTS * self.replica.chunk_size()) {
            let (offset, len) = (part.start(), part.len());
            let copy = WriteOp::Copy { from: source.info.ino, from_offset: offset, offset, len };
            let (ops, may_relax) = (vec![copy], need == Need::One);
            let stage = Mutation::Stage { content, ops, chunks: Vec::new(), may_relax };
            self.propose_copied(stage, Wait::Applied, 0, need).await?;
        }
        source.unchanged()?;
        Ok(uploaded)
    }

    /// Replaces the tags of an object, or of a bucket without a key; on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::NotFound`], [`Error::AttributeTooLarge`].
    pub async fn set_tags(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: Option<&ObjectKey>,
        tags: &BTreeMap<String, String>,
    ) -> Result<()> {
        let ino = match key {
            Some(key) => {
                let path = self.object_path(who, (bucket, key), Right::Write)?;
                let found = self.find(&path)?.filter(|(_, inode)| inode.is_object());
                found.ok_or(Error::NotFound)?.0
            }
            None => self.bucket_ino(who, bucket, Right::Owner)?,
        };
        self.reserve.check(&self.chunks)?;
        let change = ReplaceXattrs {
            ino,
            prefix: headers::TAG.into(),
            xattrs: headers::pairs(headers::TAG, tags)?,
            at: self.clock.now(),
        };
        let mutation = Mutation::ReplaceXattrs(change);
        self.propose_durably(mutation, who).await.map(|_| ())
    }

    /// The tags of a bucket, for who has a right in it: a list that lets others see what is in the
    /// bucket does not show them what it is for.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::AccessDenied`].
    pub fn bucket_tags(
        &self,
        who: &Caller,
        bucket: &BucketName,
    ) -> Result<BTreeMap<String, String>> {
        let ino = self.bucket_directory(bucket)?;
        if !self.has_right(who, ino, Right::Read)? {
            return Err(Error::AccessDenied("only who has a right in the bucket sees its tags"));
        }
        let inode = self.inode(ino)?;
        Ok(self.object_info(ino, &inode)?.headers.tags)
    }
}

/// Does what takes a name away, also when whoever asked goes away meanwhile: the change may be made
/// by then, and until it is seen nobody may open the file, nor be kept from it for ever.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(work).await.unwrap_or(Err(Error::ShuttingDown))
}

impl ObjectReader {
    /// The bytes of a range that lies within the object's size, in pieces. Takes its thread while the
    /// disk reads.
    ///
    /// # Errors
    /// [`Error::Conflict`] when the bytes are not those that were opened any more;
    /// [`Error::Damaged`].
    pub async fn read(&self, range: ByteRange) -> Result<Vec<Bytes>> {
        let mut missing = Error::Conflict;
        for _ in 0..ATTEMPTS {
            match self.read_once(range).await {
                // Compacted or collected since the manifest was read: it knows better, as soon as this
                // node has heard of it.
                Err(Error::NotFound) => {
                    missing = Error::damaged("a chunk file is missing");
                    self.vfs.barrier().await?;
                }
                result => {
                    self.unchanged()?;
                    return result;
                }
            }
        }
        self.unchanged()?;
        Err(missing)
    }

    /// As [`Self::read`], in one piece.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_whole(&self, range: ByteRange) -> Result<Bytes> {
        let mut slices = self.read(range).await?;
        Ok(match &mut slices[..] {
            [one] => std::mem::take(one),
            several => several.concat().into(),
        })
    }

    async fn read_once(&self, range: ByteRange) -> Result<Vec<Bytes>> {
        let mut out = match &self.body {
            Body::Inline(data) => {
                let end = |at: u64| data.len().min(usize::try_from(at).unwrap_or(usize::MAX));
                vec![Bytes::copy_from_slice(&data[end(range.start())..end(range.end())])]
            }
            Body::Manifest(content) => self.vfs.slices(*content, range).await?,
            Body::None | Body::Symlink(_) => Vec::new(),
        };
        let read: usize = out.iter().map(Bytes::len).sum();
        out.extend(zeros(range.len() - read as u64));
        Ok(out)
    }

    /// # Errors
    /// [`Error::Conflict`] when the bytes were changed in place since the object was opened.
    fn unchanged(&self) -> Result<()> {
        match self.vfs.inode(self.info.ino) {
            Ok(inode) if inode.version == self.info.version => Ok(()),
            Ok(_) | Err(Error::Stale) => Err(Error::Conflict),
            Err(error) => Err(error),
        }
    }

    /// The tag an upload gave the bytes.
    fn own_etag(&self) -> Result<Option<String>> {
        Ok(self.vfs.inode(self.info.ino)?.etag)
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        let (vfs, node) = (Arc::clone(&self.vfs), Arc::clone(&self.node));
        tokio::spawn(async move { vfs.close_node(&node).await });
    }
}
