//! The checksums of a table's files, taken when it is closed: a clean start can trust every byte
//! without asking the engine, which may abort the process over bytes that changed.
//!
//! Invariant: a seal never lies. It is removed before an engine opens the files; one that is left
//! over all the same does not fit them any more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::codec;
use super::engine::files::{self, context};
use crate::env::{Access, Disk, RealDisk};
use crate::error::{Error, Result};

pub const NAME: &str = "SEAL";
const BUFFER: usize = 1 << 20;
/// How long the engine's threads may still hold a file after it was closed.
const RELEASED_WITHIN: Duration = Duration::from_secs(10);

/// Path from the directory → bytes, CRC-64/NVME.
type Sums = BTreeMap<String, (u64, u64)>;

/// Seals the files in `dir`, which no engine has open any more. False when one still has.
pub fn write(dir: &Path) -> Result<bool> {
    remove(dir)?;
    for file in files::all(dir)? {
        if !is_released(&file)? {
            return Ok(false);
        }
    }
    files::sync(dir)?;
    let seal = codec::encode_entry(&sums(dir)?)?;
    let path = dir.join(NAME);
    let disk = RealDisk::new();
    disk.open(&path, Access::Create, false)
        .and_then(|file| file.write_at(&seal, 0).and_then(|()| file.sync()))
        .and_then(|()| disk.sync_dir(dir))
        .map_err(context("writing", &path))?;
    Ok(true)
}

pub fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Compares the files with their seal, if there is one.
///
/// # Errors
/// [`Error::Damaged`] with the first file that is not as it was.
pub fn verify(dir: &Path) -> Result<()> {
    let path = dir.join(NAME);
    let sealed: Sums = match fs::read(&path) {
        Ok(bytes) => codec::decode_entry(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(context("reading", &path)(error)),
    };
    let found = sums(dir)?;
    let names = sealed.keys().chain(found.keys());
    for name in names {
        if sealed.get(name) != found.get(name) {
            let file = dir.join(name);
            return Err(Error::damaged(format!(
                "{} is not as it was when the table was closed",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Before the files change.
pub fn remove(dir: &Path) -> Result<()> {
    let path = dir.join(NAME);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(context("removing", &path)(error))
        }
        _ => Ok(()),
    }
}

fn sums(dir: &Path) -> Result<Sums> {
    let mut sums = Sums::new();
    for file in files::all(dir)? {
        let name = file.strip_prefix(dir).unwrap_or(&file).display().to_string();
        if name != NAME {
            sums.insert(name, sum(&file).map_err(context("reading", &file))?);
        }
    }
    Ok(sums)
}

fn sum(path: &Path) -> io::Result<(u64, u64)> {
    let file = RealDisk::new().open(path, Access::Read, false)?;
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let mut buffer = vec![0; BUFFER];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            return Ok((offset, crc.finalize()));
        }
        crc.update(&buffer[..read]);
        offset += read as u64;
    }
}

/// Waits until nobody has `path` locked. Both engines lock the files they write (flock(2)), and
/// sled's threads may have one open for a moment after it was closed.
fn is_released(path: &Path) -> Result<bool> {
    let file = File::open(path).map_err(context("opening", path))?;
    if file.try_lock_shared().is_ok() {
        return Ok(true);
    }
    let (told, waiting) = mpsc::channel();
    let locking = move || told.send(file.lock_shared());
    thread::Builder::new()
        .name("meta-seal".into())
        .spawn(locking)
        .map_err(|error| Error::io("starting a thread", error))?;
    Ok(matches!(waiting.recv_timeout(RELEASED_WITHIN), Ok(Ok(()))))
}
