//! Steps on the store and on the model, side by side.

use std::collections::{BTreeMap, BTreeSet};

use bucketfs::error::{Error, Result};
use bucketfs::meta::RenameMode;
use bucketfs::types::Ino;
use bucketfs::vfs::{Access, AttrChange, Caller, OpenFlags};

use super::model::{Model, name};
use super::store::Store;
use super::words::Step;

const WHO: Caller =
    Caller { uid: 1000, gid: 1000, umask: 0o022, origin: 1, access: Access::Trusted };

/// An open handle: its number and the model's file behind it.
#[derive(Clone, Copy, Debug)]
struct Open {
    handle: u64,
    id: u64,
}

pub struct Workload {
    pub store: Store,
    pub model: Model,
    /// By the name it was opened under.
    open: BTreeMap<u64, Open>,
    /// Files with bytes that no close has saved yet.
    written: BTreeSet<u64>,
}

impl Workload {
    pub fn start(store: Store) -> Self {
        Self { store, model: Model::new(), open: BTreeMap::new(), written: BTreeSet::new() }
    }

    /// Kills the process without a word and starts again: nothing committed is lost.
    pub async fn kill_and_reopen(mut self) -> Self {
        for (_, open) in std::mem::take(&mut self.open) {
            self.store.vfs.fsync(open.handle).await.unwrap();
            self.model.commit(open.id);
        }
        let store = self.store.kill().await;
        Self { store, ..self }
    }

    pub async fn run(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Open { file, truncate } => self.open(file, truncate).await,
            Step::Write { file, offset, len, byte } => {
                let Some(open) = self.handle(file) else { return Ok(()) };
                self.write(open, offset, len, byte).await
            }
            Step::Append { file, len, byte } => {
                let Some(open) = self.handle(file) else { return Ok(()) };
                let offset = self.model.files[&open.id].seen.len() as u64;
                self.write(open, offset, len, byte).await
            }
            Step::Truncate { file, size } => self.truncate(file, size).await,
            Step::Punch { file, offset, len } => self.zero(file, offset, len, true).await,
            Step::Zero { file, offset, len } => self.zero(file, offset, len, false).await,
            Step::Copy { from, from_offset, to, offset, len } => {
                self.copy((from, from_offset), (to, offset), len).await
            }
            Step::Flush { file } => self.flush(file).await,
            Step::Fsync { file } => self.fsync(file).await,
            Step::Close { file } => self.close(file).await,
            Step::Rename { from, to } => self.rename(from, to).await,
            Step::Exchange { from, to } => self.exchange(from, to).await,
            Step::Link { from, to } => self.link(from, to).await,
            Step::Unlink { file } => self.unlink(file).await,
            Step::Chmod { file, mode } => self.chmod(file, mode).await,
            Step::Upkeep => self.store.vfs.upkeep_round().await,
            Step::Sync => {
                self.store.vfs.sync().await?;
                self.model.synced();
                Ok(())
            }
        }
    }

    fn handle(&self, file: u64) -> Option<Open> {
        self.open.get(&file).copied()
    }

    fn dir(&self) -> Ino {
        self.store.bucket
    }

    async fn open(&mut self, file: u64, truncate: bool) -> Result<()> {
        if self.open.contains_key(&file) {
            return Ok(());
        }
        let flags = libc::O_RDWR | if truncate { libc::O_TRUNC } else { 0 };
        let vfs = &self.store.vfs;
        let (handle, id) = match self.model.names.get(&file) {
            Some(&id) => {
                let ino = vfs.lookup(self.dir(), name(file).as_bytes())?.ino;
                let opened = vfs.open(&WHO, ino, OpenFlags(flags)).await?;
                if truncate {
                    self.written.remove(&id);
                    self.model.files.get_mut(&id).unwrap().seen.clear();
                }
                (opened.handle, id)
            }
            None => {
                let dir = self.dir();
                let name = name(file);
                let created = vfs.create(&WHO, dir, name.as_bytes(), 0o644, OpenFlags(flags)).await;
                let id = self.model.create(file);
                (created?.1.handle, id)
            }
        };
        self.open.insert(file, Open { handle, id });
        Ok(())
    }

    async fn write(&mut self, open: Open, offset: u64, len: u64, byte: u8) -> Result<()> {
        let data: Vec<u8> = (0..len).map(|at| byte.wrapping_add(at as u8)).collect();
        self.model.write(open.id, offset as usize, &data);
        if !data.is_empty() {
            self.written.insert(open.id);
        }
        self.store.vfs.write(&WHO, open.handle, offset, &data).await
    }

    async fn truncate(&mut self, file: u64, size: u64) -> Result<()> {
        let Some(&id) = self.model.names.get(&file) else { return Ok(()) };
        let ino = self.store.vfs.lookup(self.dir(), name(file).as_bytes())?.ino;
        let change = AttrChange { size: Some(size), ..AttrChange::default() };
        // What was written may be cut off, and then there is nothing to save.
        self.written.remove(&id);
        if size > 0 {
            self.model.commit(id);
        }
        self.model.files.get_mut(&id).unwrap().seen.resize(size as usize, 0);
        self.model.commit(id);
        self.store.vfs.setattr(&WHO, ino, change).await.map(|_| ())
    }

    async fn zero(&mut self, file: u64, offset: u64, len: u64, keep_size: bool) -> Result<()> {
        let Some(open) = self.handle(file) else { return Ok(()) };
        self.model.commit(open.id);
        let seen = &mut self.model.files.get_mut(&open.id).unwrap().seen;
        let (size, from, to) = (seen.len(), offset as usize, (offset + len) as usize);
        seen[from.min(size)..to.min(size)].fill(0);
        self.model.commit(open.id);
        let mode = if keep_size {
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE
        } else {
            let seen = &mut self.model.files.get_mut(&open.id).unwrap().seen;
            seen.resize(size.max(to), 0);
            self.model.commit(open.id);
            libc::FALLOC_FL_ZERO_RANGE
        };
        self.store.vfs.fallocate(&WHO, open.handle, offset, len, mode).await
    }

    async fn copy(&mut self, from: (u64, u64), to: (u64, u64), len: u64) -> Result<()> {
        let (Some(source), Some(target)) = (self.handle(from.0), self.handle(to.0)) else {
            return Ok(());
        };
        // Which of the two ways is taken shows in what is committed: both are noted.
        self.model.commit(source.id);
        self.model.commit(target.id);
        let vfs = &self.store.vfs;
        let copied = match vfs
            .copy_file_range(&WHO, (source.handle, from.1), (target.handle, to.1), len)
            .await
        {
            Err(Error::InvalidArgument(_)) => return Ok(()),
            result => result?,
        };
        let from = from.1 as usize;
        let bytes = match copied {
            0 => return Ok(()),
            copied => self.model.files[&source.id].seen[from..from + copied as usize].to_vec(),
        };
        self.model.write(target.id, to.1 as usize, &bytes);
        self.model.commit(target.id);
        self.flush(to.0).await
    }

    async fn flush(&mut self, file: u64) -> Result<()> {
        let Some(open) = self.handle(file) else { return Ok(()) };
        self.save(open).await
    }

    /// As close(2), after which the bytes of the file are on disk, and with them all that came before: the log is one. Where
    /// there were none, nothing is promised.
    async fn save(&mut self, open: Open) -> Result<()> {
        self.model.commit(open.id);
        self.store.vfs.flush(open.handle).await?;
        if self.written.remove(&open.id) && self.model.files[&open.id].links > 0 {
            self.model.synced();
        }
        Ok(())
    }

    async fn fsync(&mut self, file: u64) -> Result<()> {
        let Some(open) = self.handle(file) else { return Ok(()) };
        self.model.commit(open.id);
        self.store.vfs.fsync(open.handle).await?;
        self.written.remove(&open.id);
        self.model.synced();
        Ok(())
    }

    async fn close(&mut self, file: u64) -> Result<()> {
        let Some(open) = self.open.remove(&file) else { return Ok(()) };
        self.save(open).await?;
        self.store.vfs.release(open.handle).await;
        Ok(())
    }

    async fn rename(&mut self, from: u64, to: u64) -> Result<()> {
        let Some(&id) = self.model.names.get(&from) else { return Ok(()) };
        self.model.commit(id);
        if self.model.names.get(&to) != Some(&id) {
            let replaced = self.model.names.remove(&to);
            if let Some(replaced) = replaced {
                self.model.files.get_mut(&replaced).unwrap().links -= 1;
            }
            self.model.names.remove(&from);
            self.model.names.insert(to, id);
        }
        self.model.record();
        self.rename_as(from, to, RenameMode::Replace).await
    }

    async fn exchange(&mut self, from: u64, to: u64) -> Result<()> {
        let (Some(&left), Some(&right)) = (self.model.names.get(&from), self.model.names.get(&to))
        else {
            return Ok(());
        };
        self.model.commit(left);
        self.model.names.insert(from, right);
        self.model.names.insert(to, left);
        self.model.record();
        self.rename_as(from, to, RenameMode::Exchange).await
    }

    async fn rename_as(&self, from: u64, to: u64, mode: RenameMode) -> Result<()> {
        let (from, to) = (name(from), name(to));
        let dir = self.dir();
        self.store.vfs.rename(&WHO, (dir, from.as_bytes()), (dir, to.as_bytes()), mode).await
    }

    async fn link(&mut self, from: u64, to: u64) -> Result<()> {
        let Some(&id) = self.model.names.get(&from) else { return Ok(()) };
        if self.model.names.contains_key(&to) {
            return Ok(());
        }
        self.model.commit(id);
        self.model.names.insert(to, id);
        self.model.files.get_mut(&id).unwrap().links += 1;
        self.model.record();
        let ino = self.store.vfs.lookup(self.dir(), name(from).as_bytes())?.ino;
        self.store.vfs.link(&WHO, ino, self.dir(), name(to).as_bytes()).await.map(|_| ())
    }

    async fn unlink(&mut self, file: u64) -> Result<()> {
        if !self.model.names.contains_key(&file) {
            return Ok(());
        }
        self.model.unlink(file);
        self.store.vfs.unlink(&WHO, self.dir(), name(file).as_bytes()).await
    }

    async fn chmod(&mut self, file: u64, mode: u32) -> Result<()> {
        let Some(&id) = self.model.names.get(&file) else { return Ok(()) };
        self.model.commit(id);
        let ino = self.store.vfs.lookup(self.dir(), name(file).as_bytes())?.ino;
        let change = AttrChange { mode: Some(mode), ..AttrChange::default() };
        let attr = self.store.vfs.setattr(&WHO, ino, change).await?;
        assert_eq!(u32::from(attr.mode.bits()), mode);
        Ok(())
    }
}
