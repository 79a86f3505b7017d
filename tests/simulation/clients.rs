//! What goes on at the nodes: files and objects are made, replaced, moved, removed and read, by many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bucketfs::env::Seeded;
use bucketfs::error::{Error, Result};
use bucketfs::types::{BucketName, ByteRange, ChecksumKind, Ino, ObjectKey};
use bucketfs::vfs::{
    Access, Caller, Completion, Condition, Expected, NamedPart, NewUpload, ObjectHeaders,
    ObjectInfo, OpenFlags, RenameMode, Vfs,
};

use super::ledger::{Ledger, content};
use super::node::Parts;

pub const WHO: Caller = Caller { uid: 1, gid: 2, umask: 0o022, origin: 0, access: Access::Trusted };
pub const APPENDED: &str = "appended";
pub const COUNTER: &str = "counter";
/// Bytes of an appended record: who, which, and both mixed.
pub const RECORD: usize = 24;
/// Names that each client of a node has.
const NAMES: u64 = 4;
/// Clients at each node.
pub const CLIENTS: u64 = 3;
/// Inline, one chunk, several.
const LENGTHS: [u64; 4] = [24, 9_000, 40_000, 200_000];
const BETWEEN_MAX: u64 = 120;
/// How long something stays open or unfinished, in milliseconds.
const HELD_MAX: u64 = 900;

/// One client of one node; its state is in the ledger, for nodes come and go.
pub struct Client {
    /// Unique in the cluster, also after restarts.
    pub number: u64,
    pub node: Parts,
    pub bucket: Ino,
    pub ledger: Ledger,
    pub chance: Seeded,
    /// Names of everybody, to read.
    pub clients: u64,
    /// Nothing is to be done any more.
    pub at_rest: Arc<AtomicBool>,
    /// Called with what must not be.
    pub violated: Arc<dyn Fn(String) + Send + Sync>,
}

pub fn bucket_name() -> BucketName {
    BucketName::new("bucket").expect("a name")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name).expect("a key")
}

/// The names of client `number`: the first half are files, the others objects.
pub fn names(number: u64) -> impl Iterator<Item = String> {
    (0..NAMES).map(move |which| name(number, which))
}

fn name(number: u64, which: u64) -> String {
    let kind = if which < NAMES / 2 { "file" } else { "object" };
    format!("{kind}-{number}-{which}")
}

/// One of the records that clients append.
pub fn record(who: u64, which: u64) -> Vec<u8> {
    let mixed = Seeded::new(who << 32 ^ which).draw();
    [who, which, mixed].iter().flat_map(|number| number.to_le_bytes()).collect()
}

impl Client {
    fn vfs(&self) -> &Arc<Vfs> {
        &self.node.vfs
    }

    /// Works until all are at rest, or the node is gone.
    pub async fn work(mut self) {
        while !self.at_rest.load(Ordering::Relaxed) {
            let pause = 1 + self.chance.below(BETWEEN_MAX);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let done = match self.chance.below(100) {
                0..35 => self.change().await,
                35..45 => self.append().await,
                45..60 => self.count().await,
                60..67 => self.hold().await,
                _ => self.look().await,
            };
            if done.is_err() {
                self.ledger.lock().failed += 1;
            }
        }
    }

    async fn change(&mut self) -> Result<()> {
        let which = self.chance.below(NAMES);
        let name = name(self.number, which);
        let is_file = which < NAMES / 2;
        let removes = self.chance.chance(15);
        let len = LENGTHS[self.chance.below(LENGTHS.len() as u64) as usize] as usize;
        let len = len + self.chance.below(100) as usize;
        let attempt = self.ledger.lock().attempt(&name, (!removes).then_some(len));
        let bytes = content(&name, attempt, len);
        match (is_file, removes) {
            (true, false) => self.replace(&name, &bytes).await?,
            (true, true) => ignore_missing(self.unlink(&name).await)?,
            (false, false) if self.chance.chance(30) => self.upload(&name, &bytes).await?,
            (false, false) => drop(put(self.vfs(), &name, &bytes, Condition::Always).await?),
            (false, true) => {
                let expected = Expected::default();
                self.vfs().delete_object(&WHO, &bucket_name(), &key(&name), expected).await?;
            }
        }
        self.ledger.lock().acknowledge(&name, attempt);
        Ok(())
    }

    /// As a multipart upload, of which the only part may be sent twice, and time passes before each step.
    async fn upload(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let (bucket, key) = (bucket_name(), key(name));
        let upload = NewUpload { headers: ObjectHeaders::default(), checksum: None };
        let id = self.vfs().create_upload(&WHO, &bucket, &key, &upload).await?;
        let place = (&bucket, &key, id.as_str());
        let wrong = [&content(name, 0, bytes.len()), bytes];
        let parts = if self.chance.chance(50) { &wrong[..] } else { &wrong[1..] };
        let mut named = Vec::new();
        for part in parts {
            self.wait_a_while().await;
            let mut writer = self.vfs().upload_part(&bucket, &[]);
            for piece in part.chunks(30_000) {
                writer.write(piece).await?;
            }
            let etag = self.vfs().put_part(&WHO, place, 1, writer.finish().await?).await?.etag;
            named = vec![NamedPart { number: 1, etag, checksums: Vec::new() }];
        }
        self.wait_a_while().await;
        let completion = Completion { parts: named, checksums: Vec::new(), size: None };
        self.vfs().complete_upload(&WHO, place, &completion, Condition::Always).await.map(drop)
    }

    async fn wait_a_while(&mut self) {
        let pause = self.chance.below(HELD_MAX);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    /// Opens a file of somebody and reads it later, when it may have been replaced or removed: it is whole still.
    async fn hold(&mut self) -> Result<()> {
        let (whose, which) = (self.chance.below(self.clients), self.chance.below(NAMES / 2));
        let name = name(whose, which);
        let since = self.ledger.lock().acknowledged(&name);
        let handle = match open_to_read(self.vfs(), self.bucket, &name).await {
            Err(Error::NotFound) => return Ok(()),
            opened => opened?,
        };
        self.wait_a_while().await;
        let read = read_handle(self.vfs(), handle).await;
        self.vfs().release(handle).await;
        let compared = self.ledger.lock().compare(&name, since, Some(&read?));
        compared.unwrap_or_else(|why| (self.violated)(format!("held by {}: {why}", self.number)));
        Ok(())
    }

    /// As editors and rsync do: beside it, closed, and renamed over it.
    async fn replace(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let beside = format!("{name}.new");
        let flags = OpenFlags(libc::O_RDWR | libc::O_TRUNC);
        let handle = self.open_or_create(&beside, flags).await?;
        let syncs = self.chance.chance(30);
        let written = self.write(handle, bytes, syncs).await;
        let closed = self.vfs().flush(handle).await;
        self.vfs().release(handle).await;
        written.and(closed)?;
        let (from, to) = ((self.bucket, beside.as_bytes()), (self.bucket, name.as_bytes()));
        self.vfs().rename(&WHO, from, to, RenameMode::Replace).await
    }

    async fn write(&self, handle: u64, bytes: &[u8], syncs: bool) -> Result<()> {
        for (number, part) in bytes.chunks(50_000).enumerate() {
            self.vfs().write(&WHO, handle, number as u64 * 50_000, part).await?;
            if syncs {
                self.vfs().fsync(handle).await?;
            }
        }
        Ok(())
    }

    async fn open_or_create(&self, name: &str, flags: OpenFlags) -> Result<u64> {
        self.vfs().barrier().await?;
        match self.vfs().create(&WHO, self.bucket, name.as_bytes(), 0o644, flags).await {
            Ok((_, opened)) => Ok(opened.handle),
            // As the kernel, which then looks the name up again.
            Err(Error::Stale) => {
                let ino = self.vfs().lookup(self.bucket, name.as_bytes())?.ino;
                Ok(self.vfs().open(&WHO, ino, flags).await?.handle)
            }
            Err(error) => Err(error),
        }
    }

    async fn unlink(&self, name: &str) -> Result<()> {
        self.vfs().barrier().await?;
        self.vfs().unlink(&WHO, self.bucket, name.as_bytes()).await
    }

    async fn append(&self) -> Result<()> {
        let which = {
            let mut ledger = self.ledger.lock();
            let mine = ledger.appends.entry(self.number).or_default();
            mine.next += 1;
            mine.next
        };
        let flags = OpenFlags(libc::O_WRONLY | libc::O_APPEND);
        let handle = self.open_or_create(APPENDED, flags).await?;
        let written = self.vfs().write(&WHO, handle, 0, &record(self.number, which)).await;
        let closed = self.vfs().flush(handle).await;
        self.vfs().release(handle).await;
        written.and(closed)?;
        let mut ledger = self.ledger.lock();
        ledger.acknowledged += 1;
        ledger.appends.entry(self.number).or_default().acknowledged.insert(which);
        Ok(())
    }

    /// Raises the counter by one, if nobody does meanwhile.
    async fn count(&self) -> Result<()> {
        let since = self.ledger.lock().counter.acknowledged.last().copied().unwrap_or(0);
        let (number, condition) = match read_object(self.vfs(), COUNTER).await {
            Ok((info, bytes)) => (parse(&bytes), Condition::ETag(info.etag)),
            Err(Error::NotFound) => (0, Condition::Absent),
            Err(error) => return Err(error),
        };
        if number < since {
            (self.violated)(format!("the counter is {number}, {since} was acknowledged before"));
        }
        self.ledger.lock().counter.attempted.insert(number + 1);
        let text = (number + 1).to_string();
        put(self.vfs(), COUNTER, text.as_bytes(), condition).await?;
        let mut ledger = self.ledger.lock();
        ledger.acknowledged += 1;
        if !ledger.counter.acknowledged.insert(number + 1) {
            (self.violated)(format!("two clients made the counter {}", number + 1));
        }
        Ok(())
    }

    /// Reads something of somebody, here, and compares it with what was promised to them there.
    async fn look(&mut self) -> Result<()> {
        let (whose, which) = (self.chance.below(self.clients), self.chance.below(NAMES));
        let (name, as_file) = (name(whose, which), self.chance.chance(50));
        let since = self.ledger.lock().acknowledged(&name);
        let read = if as_file {
            read_file(self.vfs(), self.bucket, &name).await
        } else {
            read_object(self.vfs(), &name).await.map(|(_, bytes)| bytes)
        };
        let found = match &read {
            Ok(bytes) => Some(bytes.as_slice()),
            Err(Error::NotFound) => None,
            Err(error) => return Err(error.clone()),
        };
        let compared = self.ledger.lock().compare(&name, since, found);
        compared.unwrap_or_else(|why| (self.violated)(format!("client {}: {why}", self.number)));
        Ok(())
    }
}

fn ignore_missing(done: Result<()>) -> Result<()> {
    if matches!(done, Err(Error::NotFound)) { Ok(()) } else { done }
}

pub fn parse(bytes: &[u8]) -> u64 {
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

async fn put(vfs: &Arc<Vfs>, name: &str, bytes: &[u8], when: Condition) -> Result<ObjectInfo> {
    let mut writer = vfs.upload(&bucket_name(), &[ChecksumKind::Crc64Nvme]);
    for part in bytes.chunks(30_000) {
        writer.write(part).await?;
    }
    let (uploaded, headers) = (writer.finish().await?, ObjectHeaders::default());
    vfs.put_object(&WHO, (&bucket_name(), &key(name)), uploaded, &headers, when).await
}

/// An object as S3 reads it.
pub async fn read_object(vfs: &Arc<Vfs>, name: &str) -> Result<(ObjectInfo, Vec<u8>)> {
    vfs.barrier().await?;
    let reader = vfs.open_object(&WHO, &bucket_name(), &key(name)).await?;
    let bytes = reader.read_whole(ByteRange::between(0, reader.info.size)).await?;
    Ok((reader.info.clone(), bytes.into()))
}

/// A file as a mount reads it that was told nothing.
pub async fn read_file(vfs: &Arc<Vfs>, bucket: Ino, name: &str) -> Result<Vec<u8>> {
    let handle = open_to_read(vfs, bucket, name).await?;
    let read = read_handle(vfs, handle).await;
    vfs.release(handle).await;
    read
}

async fn open_to_read(vfs: &Arc<Vfs>, bucket: Ino, name: &str) -> Result<u64> {
    vfs.barrier().await?;
    let attr = vfs.lookup(bucket, name.as_bytes())?;
    Ok(vfs.open(&WHO, attr.ino, OpenFlags(libc::O_RDONLY)).await?.handle)
}

async fn read_handle(vfs: &Arc<Vfs>, handle: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        match vfs.read(handle, bytes.len() as u64, 1 << 20).await? {
            part if part.is_empty() => return Ok(bytes),
            part => bytes.extend(part),
        }
    }
}
