//! Writing a snapshot: streamed, synced, read back, and only then under its name.

use std::path::Path;
use std::sync::Arc;

use super::frame::{self, End, FRAME_MAX, Head, Kind, Pair};
use crate::env::{Access, AlignedBuf, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::types::limits::DIRECT_ALIGN;

/// Bytes of records in one frame, about.
pub const PAGE_BYTES: usize = FRAME_MAX / 8;
/// A sync of the log waits behind a write of this size.
const WRITE_BYTES: usize = 128 << 10;

/// A file of frames that is being written.
pub struct Writer {
    file: Arc<dyn DiskFile>,
    buffer: AlignedBuf,
    at: u64,
    frames: u64,
    end: End,
}

impl Writer {
    /// Begins `path`, which does not exist.
    pub fn create(disk: &dyn Disk, path: &Path, head: &Head) -> Result<Self> {
        let making = |error| Error::io(format!("making {}", path.display()), error);
        let file = disk.open(path, Access::Create, true).map_err(making)?;
        let buffer = AlignedBuf::with_capacity(WRITE_BYTES + FRAME_MAX);
        let mut writer = Self { file, buffer, at: 0, frames: 0, end: End::default() };
        writer.frame(Kind::Head, &codec::encode_entry(head)?)?;
        Ok(writer)
    }

    pub fn records(&mut self, records: &[Pair]) -> Result<()> {
        self.end.records += records.len() as u64;
        let bytes = records.iter().map(|(key, value)| (key.len() + value.len()) as u64);
        self.end.bytes += bytes.sum::<u64>();
        // A page ends with the record that makes it full; the largest one still fits.
        self.frame(Kind::Records, &frame::encode_records(records))
    }

    /// Writes the last frame and puts everything on disk. Returns the size of the file.
    pub fn finish(mut self) -> Result<u64> {
        let end = codec::encode(&self.end)?;
        self.frame(Kind::End, &end)?;
        self.write(self.buffer.len())?;
        let size = self.at.next_multiple_of(DIRECT_ALIGN as u64);
        self.file.sync().map_err(|error| Error::DiskFailed(format!("a snapshot: {error}")))?;
        Ok(size)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<()> {
        if payload.len() > FRAME_MAX {
            return Err(Error::invalid("a frame of a snapshot is too long"));
        }
        frame::push(&mut self.buffer, self.frames, kind, payload);
        self.frames += 1;
        if self.buffer.len() >= WRITE_BYTES {
            self.write(self.buffer.len() - self.buffer.len() % DIRECT_ALIGN)?;
        }
        Ok(())
    }

    /// Writes the first `len` bytes of the buffer, padded.
    fn write(&mut self, len: usize) -> Result<()> {
        let rest = AlignedBuf::from(&self.buffer[len..]);
        let padded = len.next_multiple_of(DIRECT_ALIGN);
        self.file
            .write_at(&self.buffer.padded()[..padded], self.at)
            .map_err(|error| Error::io("writing a snapshot", error))?;
        self.at += len as u64;
        self.buffer.truncate(0);
        self.buffer.extend(&rest);
        Ok(())
    }
}
