//! What the model does for operations on open descriptors.

use super::op::{Answer, Data, SLOTS};
use super::state::{Handle, Id, Kind, Model, UMASK};
use crate::support::rng::pattern;
use std::path::Path;

type Outcome = Result<Answer, i32>;

impl Data {
    /// The bytes themselves.
    pub fn bytes(self) -> Vec<u8> {
        pattern(self.seed, self.len)
    }
}

impl Model {
    /// open(2). Only files stay open; a directory or fifo is closed again at once.
    pub fn open(&mut self, slot: usize, path: &Path, flags: i32, mode: u32) -> Outcome {
        if self.handles[slot].is_some() {
            return Ok(Answer::Nothing);
        }
        let place = self.place(path)?;
        let id = match place.id {
            Some(id) => self.open_known(id, flags)?,
            None if flags & libc::O_CREAT == 0 => return Err(libc::ENOENT),
            None => Some(self.make(place, Kind::File(Vec::new()), mode & 0o7777 & !UMASK)),
        };
        self.handles[slot] = id.map(|id| Handle { id, flags, position: 0 });
        Ok(Answer::Done)
    }

    fn open_known(&mut self, id: Id, flags: i32) -> Result<Option<Id>, i32> {
        let (create, exclusive) = (flags & libc::O_CREAT != 0, flags & libc::O_EXCL != 0);
        if create && exclusive {
            return Err(libc::EEXIST);
        }
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY || flags & libc::O_TRUNC != 0;
        let inode = self.edit(id);
        match &mut inode.kind {
            Kind::Symlink(_) => Err(libc::ENOENT),
            Kind::Dir(_) if create || writes => Err(libc::EISDIR),
            Kind::Fifo if flags & libc::O_ACCMODE == libc::O_WRONLY => Err(libc::ENXIO),
            Kind::Dir(_) | Kind::Fifo => Ok(None),
            Kind::File(data) => {
                if flags & libc::O_TRUNC != 0 {
                    data.clear();
                    inode.touch();
                }
                Ok(Some(id))
            }
        }
    }

    /// The open file in a slot, or `None` for an empty slot.
    fn handle(&self, slot: usize) -> Option<Handle> {
        self.handles[slot].clone()
    }

    /// The bytes of an open file.
    pub fn bytes(&self, id: Id) -> &Vec<u8> {
        match &self.get(id).kind {
            Kind::File(data) => data,
            _ => unreachable!("only files stay open"),
        }
    }

    fn bytes_mut(&mut self, id: Id) -> &mut Vec<u8> {
        let inode = self.edit(id);
        inode.touch();
        match &mut inode.kind {
            Kind::File(data) => data,
            _ => unreachable!("only files stay open"),
        }
    }

    /// close(2).
    pub fn close(&mut self, slot: usize) -> Outcome {
        let Some(handle) = self.handles[slot].take() else { return Ok(Answer::Nothing) };
        self.forget(handle.id);
        Ok(Answer::Done)
    }

    /// Closes every descriptor, as a restart does.
    pub fn close_all(&mut self) {
        for slot in 0..SLOTS {
            drop(self.close(slot));
        }
    }

    /// write(2): at the position, or at the end with O_APPEND.
    pub fn write(&mut self, slot: usize, data: Data) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        let at =
            if handle.appends() { self.bytes(handle.id).len() as u64 } else { handle.position };
        let answer = self.write_at(slot, at, data)?;
        if let Some(handle) = &mut self.handles[slot] {
            handle.position = at + data.len as u64;
        }
        Ok(answer)
    }

    /// pwrite(2): Linux appends with O_APPEND, whatever the offset.
    pub fn write_at(&mut self, slot: usize, at: u64, data: Data) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        if !handle.writes() {
            return Err(libc::EBADF);
        }
        if data.len > 0 {
            let at = if handle.appends() { self.bytes(handle.id).len() as u64 } else { at };
            self.put(handle.id, at, &data.bytes());
        }
        Ok(Answer::Number(data.len as u64))
    }

    fn put(&mut self, id: Id, at: u64, bytes: &[u8]) {
        let (at, content) = (at as usize, self.bytes_mut(id));
        if content.len() < at + bytes.len() {
            content.resize(at + bytes.len(), 0);
        }
        content[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A store through a shared mapping inside the file; O_APPEND means nothing to it.
    pub fn map_write(&mut self, slot: usize, at: u64, data: Data) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        if data.len == 0 || at + data.len as u64 > self.bytes(handle.id).len() as u64 {
            return Ok(Answer::Nothing);
        }
        if !handle.writes() || !handle.reads() {
            return Err(libc::EACCES);
        }
        self.put(handle.id, at, &data.bytes());
        self.edit(handle.id).times[0] = None;
        Ok(Answer::Done)
    }

    /// read(2).
    pub fn read(&mut self, slot: usize, len: usize) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        let answer = self.read_at(slot, handle.position, len)?;
        if let (Some(handle), Answer::Bytes(bytes)) = (&mut self.handles[slot], &answer) {
            handle.position += bytes.len() as u64;
        }
        Ok(answer)
    }

    /// pread(2).
    pub fn read_at(&mut self, slot: usize, at: u64, len: usize) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        if !handle.reads() {
            return Err(libc::EBADF);
        }
        self.edit(handle.id).times[0] = None;
        let data = self.bytes(handle.id);
        let start = (at as usize).min(data.len());
        Ok(Answer::Bytes(data[start..(start + len).min(data.len())].to_vec()))
    }

    /// fallocate(2): extend, keep the size, punch a hole or zero a range.
    pub fn allocate(&mut self, slot: usize, mode: i32, at: u64, len: u64) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        if !handle.writes() {
            return Err(libc::EBADF);
        }
        let data = self.bytes_mut(handle.id);
        let end = (at + len) as usize;
        if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 {
            let size = data.len();
            data[(at as usize).min(size)..end.min(size)].fill(0);
        }
        if mode & libc::FALLOC_FL_KEEP_SIZE == 0 && data.len() < end {
            data.resize(end, 0);
        }
        Ok(Answer::Done)
    }

    /// copy_file_range(2), called again until it has copied `len` bytes or the source ends.
    pub fn copy(
        &mut self,
        from: usize,
        mut at: u64,
        to: usize,
        mut target: u64,
        len: u64,
    ) -> Outcome {
        let (Some(source), Some(dest)) = (self.handle(from), self.handle(to)) else {
            return Ok(Answer::Nothing);
        };
        if !source.reads() || !dest.writes() || dest.appends() {
            return Err(libc::EBADF);
        }
        let mut copied = 0;
        while copied < len {
            let size = self.bytes(source.id).len() as u64;
            let count = (len - copied).min(size.saturating_sub(at));
            if source.id == dest.id && target + count > at && target < at + count {
                return Err(libc::EINVAL);
            }
            if count == 0 {
                break;
            }
            let bytes = self.bytes(source.id)[at as usize..(at + count) as usize].to_vec();
            self.put(dest.id, target, &bytes);
            (at, target, copied) = (at + count, target + count, copied + count);
        }
        self.edit(source.id).times[0] = None;
        Ok(Answer::Number(copied))
    }

    /// ftruncate(2).
    pub fn resize(&mut self, slot: usize, size: u64) -> Outcome {
        let Some(handle) = self.handle(slot) else { return Ok(Answer::Nothing) };
        if !handle.writes() {
            return Err(libc::EINVAL);
        }
        self.bytes_mut(handle.id).resize(size as usize, 0);
        Ok(Answer::Done)
    }

    /// truncate(2).
    pub fn truncate(&mut self, path: &Path, size: u64) -> Outcome {
        let id = self.follow(path)?;
        match self.get(id).kind {
            Kind::Dir(_) => Err(libc::EISDIR),
            Kind::File(_) => {
                self.bytes_mut(id).resize(size as usize, 0);
                Ok(Answer::Done)
            }
            Kind::Symlink(_) | Kind::Fifo => Err(libc::EINVAL),
        }
    }

    /// Judges SEEK_DATA and SEEK_HOLE: a file system may know fewer holes than there are, but may not see one where
    /// there are bytes, nor miss bytes between where it looked and what it found.
    pub fn judge_seek(
        &mut self,
        slot: usize,
        at: u64,
        hole: bool,
        answer: &Answer,
    ) -> Result<(), String> {
        let Some(handle) = self.handle(slot) else { return Ok(()) };
        let data = self.bytes(handle.id);
        let size = data.len() as u64;
        let zeros =
            |from: u64, to: u64| data[from as usize..to as usize].iter().all(|byte| *byte == 0);
        let right = match *answer {
            Answer::Error(libc::ENXIO) => at >= size || (!hole && zeros(at, size)),
            Answer::Number(found) if found < at || found > size || at >= size => false,
            Answer::Number(found) if hole => found == size || data[found as usize] == 0,
            Answer::Number(found) => found < size && zeros(at, found),
            _ => false,
        };
        if let (Answer::Number(found), Some(handle)) = (answer, &mut self.handles[slot]) {
            handle.position = *found;
        }
        if right {
            Ok(())
        } else {
            Err(format!("a file of {size} bytes: answered {}", answer.brief()))
        }
    }
}
