//! Reading a snapshot, each frame checked.

use std::path::Path;
use std::sync::Arc;

use super::frame::{self, End, HEADER, Head, Header, Kind, Pair};
use crate::env::{Access, AlignedBuf, Disk, DiskFile};
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::types::limits::DIRECT_ALIGN;

const READ_BYTES: usize = 256 << 10;

pub struct Reader {
    file: Arc<dyn DiskFile>,
    pub head: Head,
    window: AlignedBuf,
    /// Where the window begins in the file, and where reading goes on in the window.
    window_at: u64,
    next: usize,
    frames: u64,
    found: End,
    ended: bool,
}

impl Reader {
    /// Opens a snapshot and reads its head.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is none, [`Error::Store`] when it is of a newer format.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let opening = |error| Error::io(format!("opening {}", path.display()), error);
        let file = disk.open(path, Access::Read, true).map_err(opening)?;
        let mut reader = Self {
            file,
            head: Head { applied: Default::default(), made_at: Default::default() },
            window: AlignedBuf::with_capacity(0),
            window_at: 0,
            next: 0,
            frames: 0,
            found: End::default(),
            ended: false,
        };
        let (kind, payload) = reader.frame()?;
        if kind != Kind::Head {
            return Err(Error::damaged("a snapshot does not begin with its head"));
        }
        reader.head = codec::decode_entry(&payload)?;
        Ok(reader)
    }

    /// Bytes of the file.
    pub fn size(&self) -> Result<u64> {
        self.file.size().map_err(|error| Error::io("reading a snapshot", error))
    }

    /// Bytes of the file that were read.
    pub fn position(&self) -> u64 {
        self.window_at + self.next as u64
    }

    /// The next records; `None` when all were read and all are there.
    pub fn records(&mut self) -> Result<Option<Vec<Pair>>> {
        if self.ended {
            return Ok(None);
        }
        let (kind, payload) = self.frame()?;
        match kind {
            Kind::Head => Err(Error::damaged("a snapshot has a second head")),
            Kind::Records => {
                let records = frame::decode_records(&payload)?;
                self.found.records += records.len() as u64;
                let bytes = records.iter().map(|(key, value)| (key.len() + value.len()) as u64);
                self.found.bytes += bytes.sum::<u64>();
                Ok(Some(records))
            }
            Kind::End => {
                self.ended = true;
                let end: End = codec::decode(&payload)?;
                if end == self.found {
                    Ok(None)
                } else {
                    Err(Error::damaged("a snapshot has not the records it says"))
                }
            }
        }
    }

    /// Reads to the end, to see that everything is as it was written.
    pub fn verify(mut self) -> Result<Head> {
        while self.records()?.is_some() {}
        Ok(self.head)
    }

    fn frame(&mut self) -> Result<(Kind, Vec<u8>)> {
        let number = self.frames;
        let header = self.bytes(HEADER)?.first_chunk().map(Header::parse);
        let header = header.ok_or_else(|| Error::damaged("a snapshot ends too early"))??;
        let frame = self.bytes(HEADER + header.len)?;
        header.check(frame, number)?;
        let payload = frame[HEADER..].to_vec();
        self.next += HEADER + header.len;
        self.frames += 1;
        Ok((header.kind, payload))
    }

    /// The next `len` bytes, not yet consumed.
    fn bytes(&mut self, len: usize) -> Result<&[u8]> {
        if self.next + len > self.window.len() {
            self.slide(len)?;
        }
        let bytes = self.window.get(self.next..self.next + len);
        bytes.ok_or_else(|| Error::damaged("a snapshot ends too early"))
    }

    /// Moves the window so that it begins with what comes next and holds `len` bytes of it.
    fn slide(&mut self, len: usize) -> Result<()> {
        let position = self.position();
        let from = position - position % DIRECT_ALIGN as u64;
        let skip = (position - from) as usize;
        let wanted = (skip + len).max(READ_BYTES).next_multiple_of(DIRECT_ALIGN);
        let mut window = AlignedBuf::zeroed(wanted);
        let read = self.file.read_at(&mut window, from);
        window.truncate(read.map_err(|error| Error::io("reading a snapshot", error))?);
        (self.window, self.window_at, self.next) = (window, from, skip);
        Ok(())
    }
}

/// The records one by one, as a table loads them. `seen` is told how many bytes were read.
pub struct Records<'a> {
    reader: Reader,
    page: std::vec::IntoIter<Pair>,
    seen: &'a dyn Fn(u64),
}

impl<'a> Records<'a> {
    pub fn new(reader: Reader, seen: &'a dyn Fn(u64)) -> Self {
        Self { reader, page: Vec::new().into_iter(), seen }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Result<Pair>> {
        loop {
            if let Some(pair) = self.page.next() {
                return Some(Ok(pair));
            }
            match self.reader.records() {
                Ok(Some(page)) => self.page = page.into_iter(),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
            (self.seen)(self.reader.position());
        }
    }
}
