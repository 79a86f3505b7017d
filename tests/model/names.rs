//! What the model does for operations on names, attributes and extended attributes.

use super::op::{Answer, Data, Type};
use super::state::{Id, Kind, Model, Place, UMASK};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

type Outcome = Result<Answer, i32>;

/// `utimensat`'s way of saying "leave it".
const OMIT: i64 = libc::UTIME_OMIT;
/// `utimensat`'s way of saying "the present".
const NOW: i64 = libc::UTIME_NOW;

impl Model {
    /// A place whose name is still free.
    fn free(&self, path: &Path) -> Result<Place, i32> {
        let place = self.place(path)?;
        if place.id.is_some() { Err(libc::EEXIST) } else { Ok(place) }
    }

    /// symlink(2).
    pub fn symlink(&mut self, path: &Path, target: &str) -> Outcome {
        let place = self.free(path)?;
        self.make(place, Kind::Symlink(target.as_bytes().to_vec()), 0o777);
        Ok(Answer::Done)
    }

    /// mkdir(2).
    pub fn mkdir(&mut self, path: &Path, mode: u32) -> Outcome {
        let place = self.free(path)?;
        self.make(place, Kind::Dir(BTreeMap::new()), mode & 0o1777 & !UMASK);
        Ok(Answer::Done)
    }

    /// mknod(2) of a fifo.
    pub fn fifo(&mut self, path: &Path, mode: u32) -> Outcome {
        let place = self.free(path)?;
        self.make(place, Kind::Fifo, mode & 0o7777 & !UMASK);
        Ok(Answer::Done)
    }

    /// link(2).
    pub fn link(&mut self, from: &Path, to: &Path) -> Outcome {
        let id = self.find(from)?;
        let place = self.free(to)?;
        if self.get(id).kind() == Type::Dir {
            return Err(libc::EPERM);
        }
        self.edit(id).names += 1;
        self.names_mut(place.dir).insert(place.name, id);
        Ok(Answer::Done)
    }

    /// unlink(2).
    pub fn unlink(&mut self, path: &Path) -> Outcome {
        let Place { dir, name, id } = self.place(path)?;
        match self.get(id.ok_or(libc::ENOENT)?).kind() {
            Type::Dir => Err(libc::EISDIR),
            _ => {
                self.remove(dir, &name);
                Ok(Answer::Done)
            }
        }
    }

    /// rmdir(2).
    pub fn rmdir(&mut self, path: &Path) -> Outcome {
        let Place { dir, name, id } = self.place(path)?;
        match &self.get(id.ok_or(libc::ENOENT)?).kind {
            Kind::Dir(names) if names.is_empty() => {
                self.remove(dir, &name);
                Ok(Answer::Done)
            }
            Kind::Dir(_) => Err(libc::ENOTEMPTY),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// renameat2(2); the checks come in the order of the kernel's `do_renameat2` and `vfs_rename`.
    pub fn rename(&mut self, from: &Path, to: &Path, flags: u32) -> Outcome {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let exchange = flags & libc::RENAME_EXCHANGE != 0;
        let source = self.lookup(from_dir, &from_name)?.ok_or(libc::ENOENT)?;
        let target = self.lookup(to_dir, &to_name)?;
        match target {
            Some(_) if flags & libc::RENAME_NOREPLACE != 0 => return Err(libc::EEXIST),
            None if exchange => return Err(libc::ENOENT),
            _ => {}
        }
        if self.is_above(source, to_dir) {
            return Err(libc::EINVAL);
        }
        if target.is_some_and(|target| self.is_above(target, from_dir)) {
            return Err(if exchange { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        match target {
            Some(target) if target == source => {}
            Some(target) if exchange => {
                self.exchange((from_dir, from_name, source), (to_dir, to_name, target))
            }
            target => {
                self.may_replace(source, target)?;
                self.remove(to_dir, &to_name);
                self.names_mut(from_dir).remove(&from_name);
                self.names_mut(to_dir).insert(to_name, source);
            }
        }
        Ok(Answer::Done)
    }

    fn may_replace(&self, source: Id, target: Option<Id>) -> Result<(), i32> {
        let Some(target) = target else { return Ok(()) };
        let is_dir = self.get(source).kind() == Type::Dir;
        match &self.get(target).kind {
            Kind::Dir(_) if !is_dir => Err(libc::EISDIR),
            Kind::Dir(names) if !names.is_empty() => Err(libc::ENOTEMPTY),
            Kind::Dir(_) => Ok(()),
            _ if is_dir => Err(libc::ENOTDIR),
            _ => Ok(()),
        }
    }

    fn exchange(&mut self, one: (Id, OsString, Id), other: (Id, OsString, Id)) {
        self.names_mut(one.0).insert(one.1, other.2);
        self.names_mut(other.0).insert(other.1, one.2);
    }

    /// readlink(2).
    pub fn read_link(&mut self, path: &Path) -> Outcome {
        let id = self.find(path)?;
        let inode = self.edit(id);
        inode.times[0] = None;
        match &inode.kind {
            Kind::Symlink(target) => Ok(Answer::Bytes(target.clone())),
            _ => Err(libc::EINVAL),
        }
    }

    /// The names in a directory with their types, sorted.
    pub fn list(&mut self, path: &Path) -> Outcome {
        let id = self.follow(path)?;
        let names = self.names(id)?.iter();
        let named =
            names.map(|(name, id)| (format!("{name:?}"), Some(self.get(*id).kind()))).collect();
        self.edit(id).times[0] = None;
        Ok(Answer::Names(named))
    }

    /// chmod(2).
    pub fn chmod(&mut self, path: &Path, mode: u32) -> Outcome {
        let id = self.follow(path)?;
        self.edit(id).mode = mode & 0o7777;
        Ok(Answer::Done)
    }

    /// lchown(2): takes set-user-id, and set-group-id of what a group may execute, from all but directories.
    pub fn chown(&mut self, path: &Path, uid: u32, gid: u32) -> Outcome {
        let id = self.find(path)?;
        let inode = self.edit(id);
        inode.uid = if uid == u32::MAX { inode.uid } else { uid };
        inode.gid = if gid == u32::MAX { inode.gid } else { gid };
        if inode.kind() != Type::Dir {
            let group = if inode.mode & libc::S_IXGRP == 0 { 0 } else { libc::S_ISGID };
            inode.mode &= !(libc::S_ISUID | group);
        }
        Ok(Answer::Done)
    }

    /// utimensat(2).
    pub fn set_times(&mut self, path: &Path, times: [(i64, i64); 2]) -> Outcome {
        if times.iter().all(|(_, nanos)| *nanos == OMIT) {
            return Ok(Answer::Done); // Linux does not even look for the name.
        }
        let id = self.find(path)?;
        let inode = self.edit(id);
        for (kept, (seconds, nanos)) in inode.times.iter_mut().zip(times) {
            match nanos {
                OMIT => {}
                NOW => *kept = None,
                _ => *kept = Some((seconds, nanos)),
            }
        }
        if inode.kind() == Type::Symlink {
            inode.times[0] = None; // Every path through it reads it.
        }
        Ok(Answer::Done)
    }

    /// Whether `user.` attributes are impossible here: they belong to files and directories.
    fn bars_user(&self, id: Id, name: &str) -> bool {
        name.starts_with("user.") && !matches!(self.get(id).kind(), Type::File | Type::Dir)
    }

    /// lsetxattr(2).
    pub fn set_xattr(&mut self, path: &Path, name: &str, value: Data, flags: i32) -> Outcome {
        let id = self.find(path)?;
        if self.bars_user(id, name) {
            return Err(libc::EPERM);
        }
        let xattrs = &mut self.edit(id).xattrs;
        match xattrs.contains_key(name) {
            true if flags == libc::XATTR_CREATE => Err(libc::EEXIST),
            false if flags == libc::XATTR_REPLACE => Err(libc::ENODATA),
            _ => {
                xattrs.insert(name.to_owned(), value.bytes());
                Ok(Answer::Done)
            }
        }
    }

    /// lgetxattr(2).
    pub fn get_xattr(&self, path: &Path, name: &str) -> Outcome {
        let id = self.find(path)?;
        self.get(id).xattrs.get(name).cloned().map(Answer::Bytes).ok_or(libc::ENODATA)
    }

    /// lremovexattr(2).
    pub fn remove_xattr(&mut self, path: &Path, name: &str) -> Outcome {
        let id = self.find(path)?;
        if self.bars_user(id, name) {
            return Err(libc::EPERM);
        }
        self.edit(id).xattrs.remove(name).map(|_| Answer::Done).ok_or(libc::ENODATA)
    }

    /// llistxattr(2).
    pub fn list_xattr(&self, path: &Path) -> Outcome {
        let id = self.find(path)?;
        Ok(Answer::Names(self.get(id).xattrs.keys().map(|name| (name.clone(), None)).collect()))
    }
}
