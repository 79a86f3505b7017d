//! Multipart uploads: parts in any order, made an object by reference.

use std::sync::Arc;

use super::Vfs;
use super::access::Access;
use super::digest::{combine, multipart_etag};
use super::headers::ObjectHeaders;
use super::objects::ObjectInfo;
use super::upload::{ObjectWriter, Uploaded, steps};
use super::words::Caller;
use crate::error::{Error, Result};
use crate::meta::{
    Condition, KvRead, Mutation, ObjectBody, Part, Sums, Upload, UploadRef, WriteOp, codec, keys,
};
use crate::replication::{Need, Wait};
use crate::types::{
    BucketName, ByteRange, ChecksumKind, ContentId, ObjectKey, Right, Timestamp, from_base64,
};

/// Least size of all parts but the last; Amazon S3 User Guide, "multipart upload limits".
const PART_MIN: u64 = 5 << 20;
/// Slots whose pieces one mutation copies.
const COPY_SLOTS: u64 = 512;
/// Different sizes in a row, and bytes of checksums, that are kept of an object's parts: both fit
/// into one record.
const SIZES_MAX: usize = 1500;
const PART_SUMS_MAX: usize = 40 << 10;

/// What an upload is begun with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewUpload {
    pub headers: ObjectHeaders,
    /// The checksum the object is to have, and whether it is over those of the parts.
    pub checksum: Option<(ChecksumKind, bool)>,
}

/// A part as its upload's completion names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    pub number: u16,
    /// Without quotes.
    pub etag: String,
    /// Base64; must be those the part has.
    pub checksums: Vec<(ChecksumKind, String)>,
}

/// What an upload is completed with, and what its object must be then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completion {
    pub parts: Vec<NamedPart>,
    /// Base64.
    pub checksums: Vec<(ChecksumKind, String)>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A part that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    pub number: u16,
    pub size: u64,
    pub etag: String,
    pub checksums: Vec<(ChecksumKind, String)>,
    pub stored_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    pub key: String,
    pub id: String,
    pub started_at: Timestamp,
    pub uid: u32,
    pub checksum: Option<(ChecksumKind, bool)>,
}

impl Vfs {
    fn upload_ref(
        &self,
        who: &Caller,
        (bucket, key, id): (&BucketName, &ObjectKey, &str),
    ) -> Result<UploadRef> {
        let bucket = self.bucket_ino(who, bucket, Right::Write)?;
        let id: ContentId = id.parse().map_err(|_| Error::NoUpload)?;
        Ok(UploadRef { bucket, key: key.as_str().to_owned(), id })
    }

    /// Begins an upload; returns its id.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::AttributeTooLarge`], [`Error::NameTooLong`], [`Error::NoSpace`];
    /// [`Error::NotSupported`] for directories.
    pub async fn create_upload(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        new: &NewUpload,
    ) -> Result<String> {
        key.check_length()?;
        if key.is_directory() {
            return Err(Error::NotSupported("multipart uploads to keys that end with a slash"));
        }
        self.reserve.check(&self.chunks)?;
        let id = self.replica.next_content();
        let bucket = self.bucket_ino(who, bucket, Right::Write)?;
        let upload = UploadRef { bucket, key: key.as_str().to_owned(), id };
        let record = Upload {
            xattrs: new.headers.to_xattrs(self.own_list(who, bucket)?.as_ref())?,
            checksum: new.checksum,
            uid: who.uid,
            gid: who.gid,
            started_at: self.clock.now(),
        };
        let create = Mutation::CreateUpload { upload, record };
        self.propose_durably(create, who).await?;
        Ok(id.to_string())
    }

    fn upload_record(&self, upload: &UploadRef) -> Result<Upload> {
        let key = keys::upload(upload.bucket, &upload.key, upload.id);
        let record = self.replica.table().view().get(&key)?.ok_or(Error::NoUpload)?;
        codec::decode(&record)
    }

    /// What an upload was begun with.
    ///
    /// # Errors
    /// [`Error::NoUpload`].
    pub fn upload_info(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<UploadInfo> {
        let upload = self.upload_ref(who, (bucket, key, id))?;
        let record = self.upload_record(&upload)?;
        Ok(info(upload.key, upload.id, &record))
    }

    /// As [`Self::upload`], of a part.
    pub fn upload_part(
        self: &Arc<Self>,
        bucket: &BucketName,
        checksums: &[ChecksumKind],
    ) -> ObjectWriter {
        self.upload(bucket, checksums).without_inline()
    }

    /// Adds a part to an upload, in place of one of the same number; on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoUpload`]; the bytes are given up then.
    pub async fn put_part(
        &self,
        who: &Caller,
        (bucket, key, id): (&BucketName, &ObjectKey, &str),
        number: u16,
        uploaded: Uploaded,
    ) -> Result<PartInfo> {
        if !Part::is_number(number) {
            return Err(Error::invalid("a part's number is 1 to 10000"));
        }
        let upload = self.upload_ref(who, (bucket, key, id))?;
        let content = match uploaded.body {
            ObjectBody::Staged { content, .. } => Some(content),
            ObjectBody::Inline(_) => None,
        };
        let part = Part {
            content,
            size: uploaded.size,
            etag: uploaded.etag(),
            checksums: uploaded.checksums.clone(),
            stored_at: self.clock.now(),
        };
        let put = Mutation::PutPart { upload, number, part: part.clone() };
        self.propose_copied(put, Wait::Durable, who.origin, Need::Quorum).await?;
        self.hub.told().await;
        uploaded.taken();
        Ok(part_info(number, part))
    }

    /// Up to `limit` parts with numbers above `after`.
    ///
    /// # Errors
    /// [`Error::NoUpload`].
    pub fn list_parts(
        &self,
        who: &Caller,
        (bucket, key, id): (&BucketName, &ObjectKey, &str),
        after: u16,
        limit: usize,
    ) -> Result<Vec<PartInfo>> {
        let upload = self.upload_ref(who, (bucket, key, id))?;
        self.upload_record(&upload)?;
        let parts = self.parts(&upload, after.saturating_add(1), limit)?;
        Ok(parts.into_iter().map(|(number, part)| part_info(number, part)).collect())
    }

    fn parts(&self, upload: &UploadRef, first: u16, limit: usize) -> Result<Vec<(u16, Part)>> {
        let (from, to) = keys::parts(upload.id, first);
        let mut parts = Vec::new();
        if limit == 0 {
            return Ok(parts);
        }
        self.replica.table().view().scan(&from, &to, &mut |key, value| {
            let number = keys::part_number(key).ok_or_else(|| Error::damaged("a part's key"))?;
            parts.push((number, codec::decode(value)?));
            Ok(parts.len() < limit)
        })?;
        Ok(parts)
    }

    /// Up to `limit` uploads after (`key`, `id`) of objects whose keys begin with `prefix`.
    ///
    /// # Errors
    /// [`Error::NoBucket`].
    pub fn list_uploads(
        &self,
        who: &Caller,
        bucket: &BucketName,
        prefix: &str,
        (key, id): (&str, &str),
        limit: usize,
    ) -> Result<Vec<UploadInfo>> {
        let bucket = self.bucket_ino(who, bucket, Right::Write)?;
        let (from, to) = keys::uploads(bucket, prefix.max(key).as_bytes());
        let mut uploads = Vec::new();
        if limit == 0 {
            return Ok(uploads);
        }
        self.replica.table().view().scan(&from, &to, &mut |stored, value| {
            let damaged = || Error::damaged("an upload's key");
            let object = keys::upload_object(stored).ok_or_else(damaged)?;
            let object = std::str::from_utf8(object).map_err(|_| damaged())?;
            let upload = ContentId::from_bytes(keys::tail_id(stored).ok_or_else(damaged)?);
            if !object.starts_with(prefix) {
                return Ok(false);
            }
            let text = upload.to_string();
            // Without an id the marker is behind all uploads of its key.
            let passed = object == key && (id.is_empty() || text.as_str() <= id);
            if object >= key && !passed {
                uploads.push(info(object.to_owned(), upload, &codec::decode(value)?));
            }
            Ok(uploads.len() < limit)
        })?;
        Ok(uploads)
    }

    /// Makes the parts named an object, on disk when it returns. Asked again after it was done, or
    /// while it is being done, it answers with the object, as long as that is still there.
    ///
    /// # Errors
    /// [`Error::NoUpload`], [`Error::NoPart`], [`Error::PartTooSmall`], [`Error::WrongSize`]; as
    /// `put_object`.
    pub async fn complete_upload(
        self: &Arc<Self>,
        who: &Caller,
        (bucket, key, id): (&BucketName, &ObjectKey, &str),
        completion: &Completion,
        condition: Condition,
    ) -> Result<ObjectInfo> {
        let upload = self.upload_ref(who, (bucket, key, id))?;
        match self.complete_open(who, (bucket, key), &upload, completion, condition).await {
            Err(Error::NoUpload) => {}
            // Somebody else was faster, and the parts have gone since.
            Err(Error::Conflict | Error::NoPart(_)) if self.has_ended(&upload)? => {}
            completed => return completed,
        }
        // What is seen is acknowledged.
        self.replica.sync().await?;
        // Who may write may know whether it has been written.
        let asker = Caller { access: Access::Trusted, ..*who };
        let there = self.head_object(&asker, bucket, key).await;
        let done = there.ok().filter(|object| object.etag == completion.etag());
        let done = done.ok_or(Error::NoUpload)?;
        completion.check_size(done.size)?;
        Ok(done)
    }

    /// As [`Self::complete_upload`], for the first time.
    async fn complete_open(
        self: &Arc<Self>,
        who: &Caller,
        (bucket, key): (&BucketName, &ObjectKey),
        upload: &UploadRef,
        completion: &Completion,
        condition: Condition,
    ) -> Result<ObjectInfo> {
        let record = self.upload_record(upload)?;
        let parts = self.named_parts(upload, &completion.parts)?;
        completion.check_size(parts.iter().map(|part| part.size).sum())?;
        let uploaded = self.join(&parts, self.need(upload.bucket)).await?;
        let sums = sums(&record, &parts);
        if completion.checksums.iter().any(|sum| !sums.checksums.contains(sum)) {
            return Err(Error::BadDigest("checksum"));
        }
        let path = self.object_path(who, (bucket, key), Right::Write)?;
        let owner = Caller { uid: record.uid, gid: record.gid, ..*who };
        let headers = ObjectHeaders::from_xattrs(record.xattrs);
        let named = (Some(completion.etag()), sums);
        let put = self.new_object(&owner, path, &uploaded, named, &headers, condition)?;
        let upload = upload.clone();
        let complete = |put| Mutation::CompleteUpload { upload, put: Box::new(put) };
        let info = self.put(who, put, uploaded, complete).await?;
        self.upkeep.ring();
        Ok(info)
    }

    fn has_ended(&self, upload: &UploadRef) -> Result<bool> {
        match self.upload_record(upload) {
            Ok(_) => Ok(false),
            Err(Error::NoUpload) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The parts an upload is completed with, checked.
    fn named_parts(&self, upload: &UploadRef, named: &[NamedPart]) -> Result<Vec<Part>> {
        let view = self.replica.table().view();
        let mut parts: Vec<Part> = Vec::with_capacity(named.len());
        for (index, name) in named.iter().enumerate() {
            let missing = || Error::NoPart(name.number);
            let record = view.get(&keys::part(upload.id, name.number))?.ok_or_else(missing)?;
            let part: Part = codec::decode(&record)?;
            let meant = part.etag == name.etag
                && name.checksums.iter().all(|sum| part.checksums.contains(sum));
            if !meant {
                return Err(missing());
            }
            if part.size < PART_MIN && index + 1 < named.len() {
                return Err(Error::PartTooSmall(name.number));
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// A staged content with the bytes of all parts.
    async fn join(self: &Arc<Self>, parts: &[Part], need: Need) -> Result<Uploaded> {
        let size: u64 = parts.iter().map(|part| part.size).sum();
        if size > self.settings.max_object_size {
            return Err(Error::FileTooLarge);
        }
        if size == 0 {
            return Ok(Uploaded::of_body(self, ObjectBody::Inline(Vec::new()), 0));
        }
        let content = self.replica.next_content();
        let uploaded = Uploaded::of_body(self, ObjectBody::Staged { content, size }, size);
        let (slot, mut slots, mut at) = (self.replica.chunk_size(), 0, 0);
        let mut ops = Vec::new();
        for part in parts {
            let Some(from) = part.content else { continue };
            for range in steps(ByteRange::between(0, part.size), COPY_SLOTS * slot) {
                let (from_offset, len) = (range.start(), range.len());
                ops.push(WriteOp::CopyContent { from, from_offset, offset: at, len });
                at += len;
                slots += len / slot + 2;
                if slots > COPY_SLOTS {
                    self.stage_ops(content, std::mem::take(&mut ops), need).await?;
                    slots = 0;
                }
            }
        }
        self.stage_ops(content, ops, need).await?;
        Ok(uploaded)
    }

    pub(super) async fn stage_ops(
        &self,
        content: ContentId,
        ops: Vec<WriteOp>,
        need: Need,
    ) -> Result<()> {
        if ops.is_empty() {
            return Ok(());
        }
        let may_relax = need == Need::One;
        let stage = Mutation::Stage { content, ops, chunks: Vec::new(), may_relax };
        self.propose_copied(stage, Wait::Applied, 0, need).await.map(|_| ())
    }

    /// Ends an upload without an object, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoUpload`].
    pub async fn abort_upload(
        &self,
        who: &Caller,
        bucket: &BucketName,
        key: &ObjectKey,
        id: &str,
    ) -> Result<()> {
        let upload = self.upload_ref(who, (bucket, key, id))?;
        let abort = Mutation::AbortUpload { upload };
        self.propose_durably(abort, who).await?;
        self.upkeep.ring();
        Ok(())
    }

    /// Frees the parts of uploads that have ended.
    pub(super) async fn free_uploads(&self) -> Result<()> {
        loop {
            let page = self.replica.table().view().ids(keys::ENDED_UPLOAD, None, 16)?;
            if page.is_empty() {
                return Ok(());
            }
            for upload in page.into_iter().map(ContentId::from_bytes) {
                let step = Mutation::FreeUpload { upload };
                while self.propose(step.clone(), 0).await? == crate::meta::Outcome::More(true) {}
            }
        }
    }
}

impl Completion {
    /// The entity tag that the object gets.
    fn etag(&self) -> String {
        multipart_etag(self.parts.iter().map(|part| part.etag.as_str()))
    }

    fn check_size(&self, size: u64) -> Result<()> {
        if self.size.is_none_or(|named| named == size) { Ok(()) } else { Err(Error::WrongSize) }
    }
}

fn info(key: String, id: ContentId, record: &Upload) -> UploadInfo {
    let (started_at, uid, checksum) = (record.started_at, record.uid, record.checksum);
    UploadInfo { key, id: id.to_string(), started_at, uid, checksum }
}

fn part_info(number: u16, part: Part) -> PartInfo {
    let Part { size, etag, checksums, stored_at, .. } = part;
    PartInfo { number, size, etag, checksums, stored_at }
}

/// What can be said of the whole from what is known of the parts.
fn sums(record: &Upload, parts: &[Part]) -> Sums {
    let mut sums = Sums::default();
    for part in parts {
        match sums.parts.last_mut() {
            Some((size, count)) if *size == part.size => *count += 1,
            _ => sums.parts.push((part.size, 1)),
        }
    }
    if sums.parts.len() > SIZES_MAX {
        sums.parts.clear();
    }
    if let Some((kind, composite)) = record.checksum {
        let of = |part: &'_ Part| {
            let found = part.checksums.iter().find(|(there, _)| *there == kind);
            found.map(|(_, sum)| (sum.clone(), part.size))
        };
        let known: Option<Vec<_>> = parts.iter().map(of).collect();
        sums.part_sums = known.as_ref().map(|known| part_sums(known)).unwrap_or_default();
        let whole = known.and_then(|known| {
            combine(kind, composite, known.iter().map(|(sum, size)| (sum.as_str(), *size)))
        });
        sums.checksums = whole.map(|sum| (kind, sum)).into_iter().collect();
        sums.composite = composite;
    }
    sums
}

/// The parts' checksums as bytes, one after the other; none when they are too many.
fn part_sums(parts: &[(String, u64)]) -> Vec<u8> {
    let mut all = Vec::new();
    for (sum, _) in parts {
        all.extend(from_base64(sum).unwrap_or_default());
        if all.len() > PART_SUMS_MAX {
            return Vec::new();
        }
    }
    all
}
