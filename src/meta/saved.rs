//! What a snapshot scan would miss: the old values of records that were changed before it got there.
//!
//! Kept in memory up to a limit, beyond it as sorted runs in files that have no name any more.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::mem;
use std::path::{Path, PathBuf};

use super::engine::files::context;
use crate::error::{Error, Result};

/// A record as it was when the scan began; `None` when there was none.
pub type Old = Option<Vec<u8>>;

/// Where spilled runs go, and when.
#[derive(Clone, Debug)]
pub struct Spill {
    pub dir: PathBuf,
    /// Bytes of keys and values kept in memory.
    pub above: usize,
}

pub struct Saved {
    spill: Option<Spill>,
    recent: BTreeMap<Vec<u8>, Old>,
    recent_bytes: usize,
    /// Oldest first: where two have a key, the older one has the older value, which counts.
    runs: Vec<Run>,
}

impl Saved {
    /// Without a `spill` everything stays in memory.
    pub fn new(spill: Option<Spill>) -> Self {
        Self { spill, recent: BTreeMap::new(), recent_bytes: 0, runs: Vec::new() }
    }

    /// Keeps `old` unless an older value of `key` is there. Keys below one taken already must not
    /// come.
    pub fn save(&mut self, key: &[u8], old: Option<&[u8]>) -> Result<()> {
        if self.recent.contains_key(key) {
            return Ok(());
        }
        self.recent_bytes += key.len() + old.map_or(0, <[u8]>::len);
        self.recent.insert(key.to_vec(), old.map(<[u8]>::to_vec));
        match &self.spill {
            Some(spill) if self.recent_bytes > spill.above => {
                let run = Run::write(&spill.dir, &mem::take(&mut self.recent))?;
                self.recent_bytes = 0;
                self.runs.push(run);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The smallest key there is.
    pub fn first(&self) -> Option<&[u8]> {
        let heads = self.runs.iter().filter_map(|run| run.head.as_ref().map(|(key, _)| key));
        let recent = self.recent.first_key_value().map(|(key, _)| key);
        heads.chain(recent).min().map(Vec::as_slice)
    }

    /// Takes the smallest key, which is `key`, and its oldest value.
    pub fn take(&mut self, key: &[u8]) -> Result<Old> {
        let mut oldest = None;
        for run in &mut self.runs {
            if run.head.as_ref().is_some_and(|(head, _)| head == key) {
                let (_, old) = run.next()?.unwrap_or_default();
                oldest.get_or_insert(old);
            }
        }
        if let Some(old) = self.recent.remove(key) {
            self.recent_bytes -= key.len() + old.as_ref().map_or(0, Vec::len);
            oldest.get_or_insert(old);
        }
        self.runs.retain(|run| run.head.is_some());
        Ok(oldest.flatten())
    }
}

/// Sorted records in a file: `key length (4) | value length + 1, or 0 for none (4) | key | value`,
/// little-endian.
struct Run {
    reader: BufReader<File>,
    left: usize,
    /// The next one.
    head: Option<(Vec<u8>, Old)>,
}

impl Run {
    fn write(dir: &Path, records: &BTreeMap<Vec<u8>, Old>) -> Result<Self> {
        let path = dir.join("snapshot.spill");
        Self::write_to(&path, records).map_err(context("spilling to", &path))
    }

    fn write_to(path: &Path, records: &BTreeMap<Vec<u8>, Old>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
        fs::remove_file(path)?;
        let mut writer = BufWriter::new(file);
        for (key, old) in records {
            let old_len = old.as_ref().map_or(0, |old| old.len() + 1);
            writer.write_all(&(key.len() as u32).to_le_bytes())?;
            writer.write_all(&(old_len as u32).to_le_bytes())?;
            writer.write_all(key)?;
            writer.write_all(old.as_deref().unwrap_or_default())?;
        }
        let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        let reader = BufReader::new(file);
        let mut run = Self { reader, left: records.len(), head: None };
        run.head = run.read()?;
        Ok(run)
    }

    fn next(&mut self) -> Result<Option<(Vec<u8>, Old)>> {
        let read = self.read().map_err(|error| Error::io("reading a spilled run", error))?;
        Ok(mem::replace(&mut self.head, read))
    }

    fn read(&mut self) -> io::Result<Option<(Vec<u8>, Old)>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key_len = self.read_len()?;
        let old_len = self.read_len()?;
        let key = self.read_bytes(key_len)?;
        let old = match old_len.checked_sub(1) {
            Some(len) => Some(self.read_bytes(len)?),
            None => None,
        };
        Ok(Some((key, old)))
    }

    fn read_len(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4];
        self.reader.read_exact(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes) as usize)
    }

    fn read_bytes(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three runs and memory hold the same key: the value that was saved first comes out.
    #[test]
    fn the_oldest_value_wins() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::new(Some(Spill { dir: dir.path().into(), above: 5 }));
        for value in [None, Some(b"second"), Some(b"third!")] {
            saved.save(b"key", value.map(|value| &value[..])).unwrap();
            saved.save(b"other", Some(b"spills")).unwrap();
        }
        saved.save(b"key", Some(b"4")).unwrap();
        assert!(saved.runs.len() >= 3);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(saved.first(), Some(&b"key"[..]));
        assert_eq!(saved.take(b"key").unwrap(), None);
        assert_eq!(saved.first(), Some(&b"other"[..]));
        assert_eq!(saved.take(b"other").unwrap().unwrap(), b"spills");
        assert_eq!(saved.first(), None);
    }

    #[test]
    fn a_run_that_cannot_be_written_is_an_error() {
        let gone = PathBuf::from("/nowhere/at/all");
        let mut saved = Saved::new(Some(Spill { dir: gone, above: 0 }));
        assert!(matches!(saved.save(b"key", None), Err(Error::Io { .. })));
    }
}
