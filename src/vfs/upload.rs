//! Bytes on their way to becoming an object: cut into chunks, hashed, written and staged as they
//! come, in bounded memory.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Vfs;
use super::digest::Digests;
use super::layer::Layer;
use super::runs::{LONG, Run};
use crate::env::{AlignedBuf, blocking};
use crate::error::{Error, Result};
use crate::meta::{ObjectBody, WriteOp};
use crate::replication::Need;
use crate::types::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::types::{BucketName, ByteRange, ChecksumKind, ContentId, Ino, hex};

/// Chunks of one upload above which the older half is put into metadata.
const LAYERS_MAX: usize = 128;
/// How long an upload may keep bytes in memory that others want the room of.
const HELD_MAX: Duration = Duration::from_secs(5);
/// Room of a first buffer: small objects need no more.
const FIRST_BUFFER: usize = INLINE_MAX;

/// Takes the bytes of one object or part, in order. What it has written is given up when it is
/// dropped before [`Self::finish`].
pub struct ObjectWriter {
    vfs: Arc<Vfs>,
    /// Bytes of the chunk in the making; it starts at `start` of the object.
    buffer: AlignedBuf,
    start: u64,
    /// When the buffer got its first bytes.
    begun: Instant,
    layers: Vec<Arc<Layer>>,
    staged: Option<ContentId>,
    /// A chunk could not be stored.
    troubled: Arc<AtomicBool>,
    /// Never both.
    digests: Option<Digests>,
    hashing: Option<JoinHandle<Digests>>,
    /// Small bytes may stay with the inode.
    may_inline: bool,
    need: Need,
}

/// Bytes that are stored and belong to nothing yet; given up when dropped.
pub struct Uploaded {
    vfs: Arc<Vfs>,
    pub(super) body: ObjectBody,
    taken: bool,
    pub size: u64,
    pub md5: [u8; 16],
    /// Base64.
    pub checksums: Vec<(ChecksumKind, String)>,
}

impl Vfs {
    /// Begins an upload to a bucket, which may ask for less than a quorum of copies. Its `checksums` are to be told
    /// at its end.
    pub fn upload(
        self: &Arc<Self>,
        bucket: &BucketName,
        checksums: &[ChecksumKind],
    ) -> ObjectWriter {
        let known = self.bucket_directory(bucket);
        let need = known.map_or(Need::Quorum, |ino| self.need(ino));
        self.begin_upload(need, checksums)
    }

    fn begin_upload(self: &Arc<Self>, need: Need, checksums: &[ChecksumKind]) -> ObjectWriter {
        ObjectWriter {
            vfs: Arc::clone(self),
            buffer: AlignedBuf::with_capacity(0),
            start: 0,
            begun: Instant::now(),
            layers: Vec::new(),
            staged: None,
            troubled: Arc::default(),
            digests: Some(Digests::new(checksums)),
            hashing: None,
            may_inline: true,
            need,
        }
    }

    /// Stages a few bytes and the hole behind them, up to `size`.
    ///
    /// # Errors
    /// As [`ObjectWriter::write`].
    pub(super) async fn upload_sparse(
        self: &Arc<Self>,
        data: &[u8],
        size: u64,
        need: Need,
    ) -> Result<Uploaded> {
        let mut writer = self.begin_upload(need, &[]);
        let content = self.replica.next_content();
        writer.staged = Some(content);
        writer.write(data).await?;
        writer.seal().await?;
        writer.spill(writer.layers.len()).await?;
        self.stage_ops(content, vec![WriteOp::Extend { size }], need).await?;
        writer.staged = None;
        Ok(Uploaded::of_body(self, ObjectBody::Staged { content, size }, size))
    }
}

impl ObjectWriter {
    /// The bytes become chunks however few they are: parts of multipart uploads.
    pub(super) fn without_inline(mut self) -> Self {
        self.may_inline = false;
        self
    }

    /// Bytes taken so far.
    fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// # Errors
    /// [`Error::NoSpace`], [`Error::FileTooLarge`], or what an earlier chunk failed with.
    pub async fn write(&mut self, mut data: &[u8]) -> Result<()> {
        let limit = self.vfs.settings.max_object_size.min(FILE_SIZE_MAX);
        if self.end().saturating_add(data.len() as u64) > limit {
            return Err(Error::FileTooLarge);
        }
        let slot = self.vfs.replica.chunk_size();
        while !data.is_empty() {
            let room = slot - self.end() % slot;
            let (now, later) =
                data.split_at(data.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
            self.take(now).await?;
            data = later;
            if self.end().is_multiple_of(slot) {
                self.seal().await?;
            }
        }
        Ok(())
    }

    /// Waits for what comes next of the bytes. A client that sends little or nothing keeps no room
    /// from others meanwhile.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn next<T>(&mut self, coming: impl Future<Output = T>) -> Result<T> {
        tokio::pin!(coming);
        loop {
            tokio::select! {
                biased;
                came = &mut coming => return Ok(came),
                () = self.wanted() => self.seal().await?,
            }
        }
    }

    /// Returns when others wait for the room of bytes that are held for long. A few are kept, as a
    /// slot has only so many pieces.
    async fn wanted(&self) {
        if self.buffer.len() <= INLINE_MAX {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.begun + HELD_MAX).await;
        self.vfs.sealer.budget.wanted().await;
    }

    async fn take(&mut self, data: &[u8]) -> Result<()> {
        let len = data.len() as u64;
        let vfs = Arc::clone(&self.vfs);
        vfs.reserve.check_data(&vfs.chunks, vfs.sealer.budget.used() + len)?;
        while !vfs.sealer.budget.try_take(len) {
            // Whoever waits holds nothing back, so somebody always goes on.
            self.seal().await?;
            vfs.wait_for_room(len).await?;
        }
        if self.buffer.is_empty() {
            self.begun = Instant::now();
        }
        if self.buffer.capacity() < FIRST_BUFFER {
            self.buffer = AlignedBuf::with_capacity(FIRST_BUFFER);
        }
        if self.buffer.len() + data.len() >= LONG {
            self.buffer.reserve(self.vfs.replica.chunk_size() as usize);
        }
        self.buffer.extend(data);
        Ok(())
    }

    /// The buffer becomes a chunk, written and hashed while the next one fills.
    async fn seal(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let data = std::mem::replace(&mut self.buffer, AlignedBuf::with_capacity(0));
        let (start, end) = (self.start, self.end() + data.len() as u64);
        self.start = end;
        let chunk = self.vfs.replica.next_chunk();
        let layer = Arc::new(Layer::new(Some(chunk), vec![Run { start, data }]));
        let memory = layer.memory();
        self.layers.push(Arc::clone(&layer));
        let content = *self.staged.get_or_insert_with(|| self.vfs.replica.next_content());
        let troubled = Arc::clone(&self.troubled);
        self.vfs.sealer.start(layer, (content, Ino::ROOT), self.need, troubled);
        if let Some(memory) = memory {
            let mut digests = self.settled_digests().await?;
            self.hashing = Some(blocking(move || {
                digests.update(&memory);
                digests
            }));
        }
        if self.troubled.load(Ordering::Acquire) {
            return self.spill(self.layers.len()).await;
        }
        if self.layers.len() > LAYERS_MAX { self.spill(LAYERS_MAX / 2).await } else { Ok(()) }
    }

    /// The digests over everything sealed.
    async fn settled_digests(&mut self) -> Result<Digests> {
        if let Some(hashing) = self.hashing.take() {
            self.digests = hashing.await.ok();
        }
        self.digests.take().ok_or(Error::ShuttingDown)
    }

    /// Puts the first `count` chunks into the staged content.
    async fn spill(&mut self, count: usize) -> Result<()> {
        let Some(content) = self.staged else {
            return Ok(());
        };
        let layers = &self.layers[..count];
        let chunks = self.vfs.stored(layers).await?;
        self.vfs.stage(content, layers, chunks, self.need).await?;
        for layer in self.layers.drain(..count) {
            layer.chunk().into_iter().for_each(|id| self.vfs.replica.settle_chunk(id));
        }
        Ok(())
    }

    /// The end of the bytes: all of them are on disk, or with the object's record.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn finish(mut self) -> Result<Uploaded> {
        let size = self.end();
        let inline = self.staged.is_none() && size <= INLINE_MAX as u64;
        let body = if inline && (self.may_inline || size == 0) {
            let data = self.buffer.to_vec();
            if let Some(digests) = &mut self.digests {
                digests.update(&data);
            }
            ObjectBody::Inline(data)
        } else {
            self.seal().await?;
            self.spill(self.layers.len()).await?;
            let content = self.staged.ok_or(Error::ShuttingDown)?;
            ObjectBody::Staged { content, size }
        };
        let (md5, checksums) = self.settled_digests().await?.finish();
        self.staged = None;
        Ok(Uploaded { vfs: Arc::clone(&self.vfs), body, taken: false, size, md5, checksums })
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        self.vfs.sealer.budget.give_back(self.buffer.len() as u64);
        for layer in &self.layers {
            self.vfs.abandon(layer);
        }
        if let Some(content) = self.staged {
            self.vfs.upkeep.unstage(content);
        }
    }
}

impl Uploaded {
    /// The entity tag of these bytes alone.
    pub fn etag(&self) -> String {
        hex(&self.md5)
    }

    /// Bytes that are put under another name without being read.
    pub(super) fn of_body(vfs: &Arc<Vfs>, body: ObjectBody, size: u64) -> Self {
        let vfs = Arc::clone(vfs);
        Self { vfs, body, taken: false, size, md5: [0; 16], checksums: Vec::new() }
    }

    /// An object has the bytes now.
    pub(super) fn taken(mut self) {
        self.taken = true;
    }
}

impl Drop for Uploaded {
    fn drop(&mut self) {
        if let (ObjectBody::Staged { content, .. }, false) = (&self.body, self.taken) {
            self.vfs.upkeep.unstage(*content);
        }
    }
}

/// Ranges of at most `step` bytes that make up `range`, in order.
pub(super) fn steps(range: ByteRange, step: u64) -> impl Iterator<Item = ByteRange> {
    let mut at = range.start();
    std::iter::from_fn(move || {
        let next = ByteRange::between(at, range.end().min(at.saturating_add(step)));
        at = next.end();
        (!next.is_empty()).then_some(next)
    })
}
