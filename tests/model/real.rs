//! Asks a real directory: every operation becomes its system call.

use super::op::{Answer, Attr, Entry, Op, SLOTS, Type};
use crate::support::{sys, xattr};
use std::collections::BTreeMap;
use std::io::Result;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// A directory and the descriptors open in it; closed when dropped.
pub struct Real {
    root: PathBuf,
    slots: [Option<RawFd>; SLOTS],
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.close_all());
    }
}

impl Real {
    /// Works in `root`, an empty directory.
    pub fn new(root: PathBuf) -> Self {
        Self { root, slots: [None; SLOTS] }
    }

    /// Closes every descriptor; the first error is told.
    pub fn close_all(&mut self) -> Result<()> {
        let open = self.slots.iter_mut().filter_map(Option::take);
        let closed: Vec<_> = open.map(sys::close).collect();
        closed.into_iter().collect()
    }

    /// What the system answers to `op`.
    pub fn ask(&mut self, op: &Op) -> Answer {
        let answer = match op {
            Op::Open { slot, path, flags, mode } => self.open(*slot, path, *flags, *mode),
            Op::Compare => self.tree(),
            Op::Copy { from, at, to, target, len } => match (self.slots[*from], self.slots[*to]) {
                (Some(from), Some(to)) => {
                    sys::copy_range(from, *at, to, *target, *len).map(Answer::Number)
                }
                _ => Ok(Answer::Nothing),
            },
            Op::Restart => unreachable!("a restart is the runner's"),
            _ => match self.descriptor(op) {
                Some((slot, Some(fd))) => self.ask_file(op, slot, fd),
                Some((_, None)) => Ok(Answer::Nothing),
                None => self.ask_name(op),
            },
        };
        answer.unwrap_or_else(|error| Answer::Error(error.raw_os_error().unwrap_or(-1)))
    }

    fn descriptor(&self, op: &Op) -> Option<(usize, Option<RawFd>)> {
        let slot = match *op {
            Op::Close { slot }
            | Op::Write { slot, .. }
            | Op::WriteAt { slot, .. }
            | Op::MapWrite { slot, .. } => slot,
            Op::Read { slot, .. } | Op::ReadAt { slot, .. } | Op::Seek { slot, .. } => slot,
            Op::Allocate { slot, .. } | Op::Resize { slot, .. } | Op::Sync { slot, .. } => slot,
            _ => return None,
        };
        Some((slot, self.slots[slot]))
    }

    fn ask_file(&mut self, op: &Op, slot: usize, fd: RawFd) -> Result<Answer> {
        match *op {
            Op::Close { .. } => {
                self.slots[slot] = None;
                sys::close(fd)?;
            }
            Op::Write { data, .. } => {
                return sys::write(fd, &data.bytes()).map(|n| Answer::Number(n as u64));
            }
            Op::WriteAt { at, data, .. } => {
                return sys::pwrite(fd, at, &data.bytes()).map(|n| Answer::Number(n as u64));
            }
            Op::MapWrite { at, data, .. } => {
                if data.len == 0 || at + data.len as u64 > sys::size(fd)? {
                    return Ok(Answer::Nothing);
                }
                sys::map_write(fd, at, &data.bytes())?;
            }
            Op::Read { len, .. } => return sys::read(fd, len).map(Answer::Bytes),
            Op::ReadAt { at, len, .. } => return sys::pread(fd, at, len).map(Answer::Bytes),
            Op::Seek { at, hole, .. } => {
                let whence = if hole { libc::SEEK_HOLE } else { libc::SEEK_DATA };
                return sys::lseek(fd, at as i64, whence).map(Answer::Number);
            }
            Op::Allocate { mode, at, len, .. } => sys::fallocate(fd, mode, at, len)?,
            Op::Resize { size, .. } => sys::ftruncate(fd, size)?,
            Op::Sync { data_only: true, .. } => sys::fdatasync(fd)?,
            Op::Sync { .. } => sys::fsync(fd)?,
            _ => unreachable!("an operation on names"),
        }
        Ok(Answer::Done)
    }

    fn open(&mut self, slot: usize, path: &Path, flags: i32, mode: u32) -> Result<Answer> {
        if self.slots[slot].is_some() {
            return Ok(Answer::Nothing);
        }
        let path = self.root.join(path);
        let fd = sys::open(&path, flags | libc::O_NONBLOCK, mode)?;
        match std::fs::metadata(&path)?.is_file() {
            true => self.slots[slot] = Some(fd),
            false => sys::close(fd)?,
        }
        Ok(Answer::Done)
    }

    fn ask_name(&self, op: &Op) -> Result<Answer> {
        let at = |path: &PathBuf| self.root.join(path);
        match op {
            Op::Truncate { path, size } => sys::truncate(&at(path), *size)?,
            Op::Rename { from, to, flags } => sys::rename(&at(from), &at(to), *flags)?,
            Op::Link { from, to } => sys::link(&at(from), &at(to))?,
            Op::Symlink { path, target } => sys::symlink(target.as_bytes(), &at(path))?,
            Op::ReadLink { path } => {
                return std::fs::read_link(at(path)).map(|p| Answer::Bytes(bytes_of(p)));
            }
            Op::Unlink { path } => sys::unlink(&at(path))?,
            Op::Mkdir { path, mode } => sys::mkdir(&at(path), *mode)?,
            Op::Rmdir { path } => sys::rmdir(&at(path))?,
            Op::Fifo { path, mode } => sys::mknod(&at(path), libc::S_IFIFO | mode, 0)?,
            Op::Chmod { path, mode } => sys::chmod(&at(path), *mode)?,
            Op::Chown { path, uid, gid } => sys::lchown(&at(path), *uid, *gid)?,
            Op::Times { path, times } => sys::utimens(&at(path), *times)?,
            Op::SetXattr { path, name, value, flags } => {
                xattr::set(&at(path), name, &value.bytes(), *flags)?
            }
            Op::GetXattr { path, name } => return xattr::get(&at(path), name).map(Answer::Bytes),
            Op::RemoveXattr { path, name } => xattr::remove(&at(path), name)?,
            Op::ListXattr { path } => {
                return Ok(Answer::Names(
                    own_xattrs(&at(path))?.into_iter().map(|name| (name, None)).collect(),
                ));
            }
            Op::Stat { path } => return attr(&at(path)).map(Answer::Attr),
            Op::List { path } => return list(&at(path)).map(Answer::Names),
            _ => unreachable!("an operation on descriptors"),
        }
        Ok(Answer::Done)
    }

    /// Reads everything: all attributes first, since reading one name moves the access time another may share, then
    /// all content below the root and of all open files.
    fn tree(&self) -> Result<Answer> {
        let mut entries = BTreeMap::new();
        let mut open = vec![PathBuf::new()];
        while let Some(dir) = open.pop() {
            for name in std::fs::read_dir(self.root.join(&dir))? {
                let path = dir.join(name?.file_name());
                let attr = explain(&path, attr(&self.root.join(&path)))?;
                if attr.kind == Type::Dir {
                    open.push(path.clone());
                }
                entries.insert(path, Entry { attr, content: Vec::new(), xattrs: BTreeMap::new() });
            }
        }
        for (path, entry) in &mut entries {
            explain(path, fill(&self.root.join(path), entry))?;
        }
        let handles =
            self.slots.iter().enumerate().filter_map(|(slot, fd)| fd.map(|fd| (slot, fd)));
        let readable = handles
            .filter(|(_, fd)| unsafe { libc::fcntl(*fd, libc::F_GETFL) } & libc::O_WRONLY == 0);
        let read =
            readable.map(|(slot, fd)| Ok((slot, sys::pread(fd, 0, sys::size(fd)? as usize)?)));
        Ok(Answer::Tree(entries, read.collect::<Result<_>>()?))
    }
}

fn bytes_of(path: PathBuf) -> Vec<u8> {
    path.into_os_string().into_vec()
}

/// Says which name an error of the whole tree belongs to.
fn explain<T>(path: &Path, result: Result<T>) -> Result<T> {
    result.inspect_err(|error| println!("{path:?}: {error}"))
}

/// Reads what a name holds.
fn fill(path: &Path, entry: &mut Entry) -> Result<()> {
    entry.content = match entry.attr.kind {
        Type::File => std::fs::read(path)?,
        Type::Symlink => bytes_of(std::fs::read_link(path)?),
        Type::Dir | Type::Fifo => Vec::new(),
    };
    let values = own_xattrs(path)?
        .into_iter()
        .map(|name| xattr::get(path, &name).map(|value| (name, value)));
    entry.xattrs = values.collect::<Result<_>>()?;
    Ok(())
}

/// The names of the attributes a user has set: without what a file system shows of its own.
fn own_xattrs(path: &Path) -> Result<Vec<String>> {
    let shown = |name: &String| !name.starts_with("system.") && !name.starts_with("user.bucketfs.");
    Ok(xattr::list(path)?
        .into_iter()
        .filter(shown)
        .filter(|name| name != "security.selinux")
        .collect())
}

fn kind_of(file: std::fs::FileType) -> Type {
    match file {
        _ if file.is_dir() => Type::Dir,
        _ if file.is_symlink() => Type::Symlink,
        _ if file.is_fifo() => Type::Fifo,
        _ => Type::File,
    }
}

fn attr(path: &Path) -> Result<Attr> {
    let found = std::fs::symlink_metadata(path)?;
    let kind = kind_of(found.file_type());
    Ok(Attr {
        kind,
        mode: found.mode() & 0o7777,
        links: found.nlink(),
        uid: found.uid(),
        gid: found.gid(),
        size: if kind == Type::Dir { 0 } else { found.size() },
        times: [
            Some((found.atime(), found.atime_nsec())),
            Some((found.mtime(), found.mtime_nsec())),
        ],
        ino: found.ino(),
    })
}

fn list(path: &Path) -> Result<Vec<(String, Option<Type>)>> {
    let mut names = Vec::new();
    for item in std::fs::read_dir(path)? {
        let item = item?;
        names.push((item.file_name(), Some(kind_of(item.file_type()?))));
    }
    names.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(names.into_iter().map(|(name, kind)| (format!("{name:?}"), kind)).collect())
}
