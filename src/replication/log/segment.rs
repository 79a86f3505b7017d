//! The files of the log: their names, how they are made, and reading them in order.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::{self, HEADER, Record};
use crate::env::{Access, AlignedBuf, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::types::limits::DIRECT_ALIGN;

const ZEROS: usize = 1 << 20;
const WINDOW: usize = 256 << 10;

pub fn path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_suffix(".log")?.parse().ok()
}

/// Numbers and sizes of the segments, in order.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<(u32, u64)>> {
    let entries = disk.list(dir).map_err(|error| failed("listing", dir, error))?;
    let mut found: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| Some((number_of(&entry.name)?, entry.len)))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// Makes a segment of `bytes` zeros, durable with its name. An unfinished one of the same number is
/// replaced; a finished one never is, because numbers are not used twice.
pub fn create(disk: &dyn Disk, dir: &Path, number: u32, bytes: u64) -> Result<()> {
    let path = path(dir, number);
    let filled = fill(disk, &path, bytes)
        .and_then(|()| disk.sync_dir(dir).map_err(|error| Error::DiskFailed(error.to_string())));
    if filled.is_err() {
        // The first error is the one to tell; what is left is taken away at the next start.
        let _ = disk.remove(&path);
    }
    filled
}

fn fill(disk: &dyn Disk, path: &Path, bytes: u64) -> Result<()> {
    let making = |error| failed("making", path, error);
    match disk.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(making(error)),
        _ => {}
    }
    let file = disk.open(path, Access::Create, true).map_err(making)?;
    file.allocate(bytes).map_err(making)?;
    let zeros = AlignedBuf::zeroed(ZEROS.min(bytes as usize));
    let mut at = 0;
    while at < bytes {
        let len = (bytes - at).min(zeros.len() as u64);
        file.write_at(&zeros[..len as usize], at).map_err(making)?;
        at += len;
    }
    file.sync().map_err(|error| Error::DiskFailed(error.to_string()))
}

/// Removes a segment, which may be gone already; durable with the next sync of the directory.
pub fn remove(disk: &dyn Disk, dir: &Path, number: u32) -> Result<()> {
    let path = path(dir, number);
    match disk.remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("removing", &path, error))
        }
        _ => Ok(()),
    }
}

pub fn open(disk: &dyn Disk, dir: &Path, number: u32, direct: bool) -> Result<Arc<dyn DiskFile>> {
    let path = path(dir, number);
    disk.open(&path, Access::Write, direct).map_err(|error| failed("opening", &path, error))
}

fn failed(doing: &str, path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("{doing} {}", path.display()), error)
}

/// Reads one segment through a window.
pub struct Reader {
    file: Arc<dyn DiskFile>,
    pub number: u32,
    pub size: u64,
    window: AlignedBuf,
    window_at: u64,
}

impl Reader {
    pub fn open(disk: &dyn Disk, dir: &Path, number: u32) -> Result<Self> {
        let path = path(dir, number);
        let opening = |error| failed("opening", &path, error);
        let file = disk.open(&path, Access::Read, false).map_err(opening)?;
        let size = file.size().map_err(opening)?;
        Ok(Self { file, number, size, window: AlignedBuf::with_capacity(0), window_at: 0 })
    }

    /// `len` bytes from `at`, or fewer where the file ends.
    pub fn bytes(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        let inside = |reader: &Self| {
            let start = at.checked_sub(reader.window_at)?;
            (start + len as u64 <= reader.window.len() as u64).then_some(start as usize)
        };
        if inside(self).is_none() {
            self.load(at, len)?;
        }
        let start = ((at - self.window_at) as usize).min(self.window.len());
        Ok(&self.window[start..(start + len).min(self.window.len())])
    }

    fn load(&mut self, at: u64, len: usize) -> Result<()> {
        let from = at - at % DIRECT_ALIGN as u64;
        let wanted = ((at - from) as usize + len).max(WINDOW).next_multiple_of(DIRECT_ALIGN);
        let wanted = wanted.min(self.size.saturating_sub(from) as usize);
        let mut window = AlignedBuf::zeroed(wanted);
        let read = self
            .file
            .read_at(&mut window, from)
            .map_err(|error| Error::io(format!("reading log segment {}", self.number), error))?;
        window.truncate(read);
        (self.window, self.window_at) = (window, from);
        Ok(())
    }

    /// The record at `at` and where the next one would begin; `None` when no intact one is there.
    pub fn record(&mut self, at: u64) -> Result<Option<(Record<'_>, u64)>> {
        let number = self.number;
        let Some(total) = layout::measure(self.bytes(at, HEADER)?, number) else {
            return Ok(None);
        };
        if at + total as u64 > self.size {
            return Ok(None);
        }
        let record = layout::parse(self.bytes(at, total)?, number)?;
        Ok(record.map(|record| (record, at + total as u64)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_order_as_numbers() {
        let dir = Path::new("/d");
        assert_eq!(path(dir, 7), Path::new("/d/0000000007.log"));
        assert_eq!(number_of("4294967295.log"), Some(u32::MAX));
        assert_eq!(number_of("x.log"), None);
        assert_eq!(number_of("0000000001.snap"), None);
    }
}
