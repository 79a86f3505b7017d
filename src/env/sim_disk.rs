//! A disk in memory whose power can be cut.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::disk::{Access, Disk, DiskFile, Entry, Space};
use super::seeded::Seeded;
use super::sim_tree::{Node, SharedFile, SimTree};
use crate::types::limits::DIRECT_ALIGN;

/// [`Disk`] in memory, with the worst that its contract allows after a power cut. Clones are the
/// same disk. Direct files insist on their alignment.
#[derive(Clone)]
pub struct SimDisk {
    machine: Arc<Mutex<Machine>>,
}

struct Machine {
    tree: SimTree,
    capacity: u64,
    /// Space taken, counted by changes.
    used: u64,
    has_direct: bool,
    /// Calls, and the writes and syncs of them, so far.
    calls: u64,
    writes: u64,
    syncs: u64,
    faults: Faults,
}

/// Numbers of calls, writes or syncs, from 1, at which something happens.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// The machine has stopped: every call fails.
    stopped: bool,
    stop_after_syncs: Option<u64>,
    fail_call: Option<u64>,
    fail_write: Option<u64>,
    fail_sync: Option<u64>,
    lies_about: Option<fn(&Path) -> bool>,
}

impl Faults {
    fn lies_about(&self, path: &Path) -> bool {
        self.lies_about.is_some_and(|lies| lies(path))
    }
}

#[expect(clippy::new_without_default, reason = "RealDisk is made the same way")]
impl SimDisk {
    /// An empty disk of 1 TiB.
    pub fn new() -> Self {
        Self::with_tree(SimTree::default(), 1 << 40, true)
    }

    /// A disk whose file system has no O_DIRECT.
    pub fn buffered() -> Self {
        Self::with_tree(SimTree::default(), 1 << 40, false)
    }

    /// Cuts the power: calls to this disk fail from now on, and the disk returned is what the
    /// machine finds at its next start. The same seed leaves the same.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let mut machine = self.machine.lock();
        machine.faults.stopped = true;
        let tree = machine.tree.after_power_cut(&mut Seeded::new(seed));
        Self::with_tree(tree, machine.capacity, machine.has_direct)
    }

    /// Kills the process: calls to this disk fail from now on, and the disk returned has lost
    /// nothing, nor has it synced anything.
    pub fn kill(&self) -> SimDisk {
        let mut machine = self.machine.lock();
        machine.faults.stopped = true;
        Self::with_tree(machine.tree.clone(), machine.capacity, machine.has_direct)
    }

    /// Sets the size of the disk. What is there stays there.
    pub fn set_capacity(&self, bytes: u64) {
        self.machine.lock().capacity = bytes;
    }

    /// Flips bit `bit` of a file, counted from its start.
    pub fn flip_bit(&self, path: &Path, bit: usize) -> io::Result<()> {
        let file = self.machine.lock().tree.file(path)?;
        let flipped = file.lock().flip(bit);
        if flipped { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Reads of the file that touch `range` (bytes) fail with EIO from now on, under whatever name
    /// it has. A file made in its place can be read.
    pub fn unreadable(&self, path: &Path, range: Range<u64>) -> io::Result<()> {
        let file = self.machine.lock().tree.file(path)?;
        file.lock().lose(range);
        Ok(())
    }

    /// The `n`th call from now, from 1, fails with EIO and does nothing.
    pub fn fail_call(&self, n: u64) {
        let mut machine = self.machine.lock();
        machine.faults.fail_call = Some(machine.calls + n);
    }

    /// The `n`th write to a file from now, from 1, fails with EIO and does nothing.
    pub fn fail_write(&self, n: u64) {
        let mut machine = self.machine.lock();
        machine.faults.fail_write = Some(machine.writes + n);
    }

    /// The `n`th sync from now, from 1, fails with EIO. What it should have synced is never
    /// written, even if a later sync succeeds.
    pub fn fail_sync(&self, n: u64) {
        let mut machine = self.machine.lock();
        machine.faults.fail_sync = Some(machine.syncs + n);
    }

    /// The next `n` syncs succeed; the one after them and all that follows fails, so that a crash
    /// then is one between two sync points.
    pub fn stop_after_syncs(&self, n: u64) {
        let mut machine = self.machine.lock();
        machine.faults.stop_after_syncs = Some(machine.syncs + n);
    }

    /// From now on syncs of the directories and files, as they were opened, that `about` picks say that
    /// they have succeeded and do nothing. So a test can show that it would notice a program that
    /// leaves them out.
    pub fn lie(&self, about: fn(&Path) -> bool) {
        self.machine.lock().faults.lies_about = Some(about);
    }

    /// Syncs of files and directories that were asked for so far.
    pub fn syncs(&self) -> u64 {
        self.machine.lock().syncs
    }

    /// All calls so far.
    pub fn calls(&self) -> u64 {
        self.machine.lock().calls
    }

    fn with_tree(tree: SimTree, capacity: u64, has_direct: bool) -> Self {
        let used = tree.allocated();
        let faults = Faults::default();
        let (calls, writes, syncs) = (0, 0, 0);
        let machine = Machine { tree, capacity, used, has_direct, calls, writes, syncs, faults };
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// Counts a call, which may be the one to fail.
    fn call(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let mut machine = self.machine.lock();
        machine.calls += 1;
        if machine.faults.stopped || machine.faults.fail_call == Some(machine.calls) {
            return Err(broken());
        }
        Ok(machine)
    }

    /// Counts a sync. The flag says that it fails and loses what it should have synced.
    fn sync_call(&self) -> io::Result<(MutexGuard<'_, Machine>, bool)> {
        let mut machine = self.call()?;
        machine.syncs += 1;
        if machine.faults.stop_after_syncs.is_some_and(|last| machine.syncs > last) {
            machine.faults.stopped = true;
            return Err(broken());
        }
        let fails = machine.faults.fail_sync == Some(machine.syncs);
        Ok((machine, fails))
    }
}

fn broken() -> io::Error {
    io::Error::from_raw_os_error(libc::EIO)
}

impl Machine {
    /// Takes space for growth from `before` to `after` bytes.
    fn take(&mut self, before: u64, after: u64) -> io::Result<()> {
        let used = self.used + after.saturating_sub(before);
        if used > self.capacity && after > before {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.used = used;
        Ok(())
    }

    fn give(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access, direct: bool) -> io::Result<Arc<dyn DiskFile>> {
        let machine = self.call()?;
        let file = match access {
            Access::Read | Access::Write => machine.tree.file(path)?,
            Access::Create => machine.tree.create(path)?,
        };
        let direct = direct && machine.has_direct;
        drop(machine);
        let (path, read_only) = (path.to_owned(), access == Access::Read);
        Ok(Arc::new(Handle { disk: self.clone(), path, file, direct, read_only }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut machine = self.call()?;
        let replaced = if from == to { None } else { machine.tree.file(to).ok() };
        machine.tree.rename(from, to)?;
        machine.give(replaced.map_or(0, |file| file.lock().allocated()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.call()?;
        let removed = machine.tree.remove(path)?;
        machine.give(removed.lock().allocated());
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.call()?.tree.remove_dir(path)
    }

    fn remove_all(&self, path: &Path) -> io::Result<()> {
        let mut machine = self.call()?;
        machine.tree.remove_all(path)?;
        machine.used = machine.tree.allocated();
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.call()?.tree.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let names = self.call()?.tree.list(path)?;
        let entry = |(name, node)| match node {
            Node::Dir(_) => Entry { name, is_dir: true, len: 0 },
            Node::File(file) => Entry { name, is_dir: false, len: file.lock().len() as u64 },
        };
        Ok(names.into_iter().map(entry).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (machine, fails) = self.sync_call()?;
        match fails {
            true => {
                machine.tree.lose_names(path);
                Err(broken())
            }
            false if machine.faults.lies_about(path) => Ok(()),
            false => machine.tree.sync_dir(path),
        }
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let machine = self.call()?;
        machine.tree.list(path)?;
        Ok(Space {
            total: machine.capacity,
            available: machine.capacity.saturating_sub(machine.used),
            files_total: 1 << 32,
            files_available: 1 << 31,
        })
    }
}

struct Handle {
    disk: SimDisk,
    /// Where it was opened.
    path: PathBuf,
    file: SharedFile,
    direct: bool,
    read_only: bool,
}

impl Handle {
    fn check(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let align = DIRECT_ALIGN as u64;
        let aligned = [buf.as_ptr().addr() as u64, buf.len() as u64, offset]
            .iter()
            .all(|number| number.is_multiple_of(align));
        if self.direct && !aligned { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }

    /// Counts a call that changes the file.
    fn change(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.disk.call()?;
        if self.read_only { Err(io::Error::from_raw_os_error(libc::EBADF)) } else { Ok(machine) }
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check(buf, offset)?;
        let _machine = self.disk.call()?;
        let file = self.file.lock();
        if file.is_lost(offset, buf.len() as u64) {
            return Err(broken());
        }
        Ok(file.read(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset)?;
        let mut machine = self.change()?;
        machine.writes += 1;
        if machine.faults.fail_write == Some(machine.writes) {
            return Err(broken());
        }
        let mut file = self.file.lock();
        let after = file.allocated_with(offset + buf.len() as u64);
        if let Err(full) = machine.take(file.allocated(), after) {
            // As pwrite(2) does: what still fits is written before it is full.
            let room = (file.allocated().saturating_sub(offset) as usize).min(buf.len());
            file.write(&buf[..room], offset as usize);
            return Err(full);
        }
        file.write(buf, offset as usize);
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut machine = self.change()?;
        let mut file = self.file.lock();
        machine.take(file.allocated(), file.allocated_with(len))?;
        file.allocate(len as usize);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut machine = self.change()?;
        let mut file = self.file.lock();
        let before = file.allocated();
        file.resize(len as usize);
        machine.give(before - file.allocated());
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let _machine = self.disk.call()?;
        Ok(self.file.lock().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let (machine, fails) = self.disk.sync_call()?;
        let mut file = self.file.lock();
        if fails {
            file.lose_pending();
            return Err(broken());
        }
        if !machine.faults.lies_about(&self.path) {
            file.sync();
        }
        Ok(())
    }

    fn is_direct(&self) -> bool {
        self.direct
    }
}
