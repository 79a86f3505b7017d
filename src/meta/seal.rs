//! The checksums of a table's files, taken when it is closed: a clean start can trust every byte
//! without asking the engine, which may abort the process over bytes that changed.
//!
//! Invariant: a seal never lies. It is removed before an engine opens the files; one that is left
//! over all the same does not fit them any more.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crc_fast::{CrcAlgorithm, Digest, checksum_combine};

use super::codec;
use super::engine::files::{self, context};
use crate::env::{Access, Disk, RealDisk};
use crate::error::{Error, Result};

pub const NAME: &str = "SEAL";
const SUM: CrcAlgorithm = CrcAlgorithm::Crc64Nvme;
/// What one thread reads of a file in one go; what it holds of it at a time, for which a processor's
/// own cache has room.
const PART: u64 = 64 << 20;
const BUFFER: usize = 256 << 10;
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
    sums_by(dir, PART)
}

/// Sums of parts of `part` bytes, as many at a time as there are processors.
fn sums_by(dir: &Path, part: u64) -> Result<Sums> {
    let mut sums = Sums::new();
    let mut parts = Vec::new();
    for path in files::all(dir)? {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        if name != NAME {
            let size = fs::metadata(&path).map_err(context("asking for", &path))?.len();
            let starts = (0..size).step_by(part as usize);
            parts.extend(starts.map(|at| (name.clone(), at..size.min(at + part))));
            sums.insert(name, (size, 0));
        }
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = vec![0; BUFFER];
        let mut done = Vec::new();
        while let Some((name, range)) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = dir.join(name);
            let sum = sum(&path, range.clone(), &mut buffer);
            done.push((name, range, sum.map_err(context("reading", &path))?));
        }
        Ok::<_, Error>(done)
    };
    let mut done = thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(parts.len());
        // Those that cannot be had leave more to the others.
        let another = |_| thread::Builder::new().name("meta-seal".into()).spawn_scoped(scope, work);
        let others: Vec<_> = (1..threads).flat_map(another).collect();
        let mut done = work()?;
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok::<_, Error>(done)
    })?;
    done.sort_unstable_by_key(|(_, range, _)| range.start);
    for (name, range, sum) in done {
        if let Some((_, whole)) = sums.get_mut(name) {
            *whole = checksum_combine(SUM, *whole, sum, range.end - range.start);
        }
    }
    Ok(sums)
}

/// The sum of a `range` of a file's bytes.
fn sum(path: &Path, range: Range<u64>, buffer: &mut [u8]) -> io::Result<u64> {
    let file = RealDisk::new().open(path, Access::Read, false)?;
    let mut crc = Digest::new(SUM);
    let mut offset = range.start;
    while offset < range.end {
        let room = (range.end - offset).min(buffer.len() as u64) as usize;
        let read = file.read_at(&mut buffer[..room], offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        crc.update(&buffer[..read]);
        offset += read as u64;
    }
    Ok(crc.finalize())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Seals of versions that read each file from end to end fit.
    #[test]
    fn parts_sum_up_to_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..BUFFER + 70_001).map(|n| (n % 251) as u8).collect();
        let contents =
            [("empty", &[][..]), ("one", &[7]), ("short", &bytes[..64]), ("long", &bytes)];
        for (name, content) in contents {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let of = |content: &[u8]| crc_fast::checksum(SUM, content);
        for part in [64, 1000, 65_536, PART] {
            let sums = sums_by(dir.path(), part).unwrap();
            assert_eq!(sums.len(), contents.len());
            for (name, content) in contents {
                assert_eq!(sums[name], (content.len() as u64, of(content)), "{name} by {part}");
            }
        }
    }
}
