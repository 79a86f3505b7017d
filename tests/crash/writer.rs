//! One writer: does a thing, and knows at every moment what a crash may leave of it.

use super::world::{Holds, World, exactly};
use crate::support::rng::{Rng, pattern};
use crate::support::sys;
use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

/// Works in a directory of its own.
pub struct Writer {
    pub root: PathBuf,
    pub rng: Rng,
    /// What has been acknowledged.
    pub now: World,
    /// What the call that is under way will have made; `None` between calls.
    pub next: Option<World>,
    /// Calls acknowledged so far.
    pub calls: u64,
}

impl Writer {
    /// A writer whose directory is still empty.
    pub fn new(root: PathBuf, seed: u64) -> Self {
        Self { root, rng: Rng::new(seed), now: World::new(), next: None, calls: 0 }
    }

    /// Makes a call that changes the world as `change` says: when it answers, the change is promised; when it fails,
    /// both worlds are possible.
    pub fn call<T>(
        &mut self,
        change: impl FnOnce(&mut World),
        act: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let mut next = self.now.clone();
        change(&mut next);
        let next = self.next.insert(next).clone();
        let answer = act(&self.root)?;
        (self.now, self.next) = (next, None);
        self.calls += 1;
        Ok(answer)
    }

    /// A name of this writer's few.
    pub fn some_name(&mut self, prefix: &str, count: u64) -> PathBuf {
        PathBuf::from(format!("{prefix}{}", self.rng.below(count)))
    }

    /// Opens a file; a new one is promised to be there, empty, once this answers.
    pub fn create(&mut self, name: &Path, flags: i32) -> Result<RawFd> {
        let fresh = name.to_owned();
        let change = move |world: &mut World| {
            world.entry(fresh).or_insert(vec![exactly(0, 0)]);
        };
        let flags = flags | libc::O_CREAT | libc::O_WRONLY;
        self.call(change, |root| sys::open(&root.join(name), flags, 0o644))
    }

    /// Writes a part of a stream and says what the file may hold afterwards.
    pub fn write(&mut self, fd: RawFd, name: &Path, bytes: &[u8], may: Vec<Holds>) -> Result<()> {
        self.call(|world| drop(world.insert(name.to_owned(), may)), |_| write_all(fd, bytes))
    }

    /// fsync or close: what the file holds is promised once it answers.
    pub fn settle(
        &mut self,
        name: &Path,
        holds: Holds,
        act: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let mut either = self.now.get(name).cloned().unwrap_or_default();
        either.push(holds.clone());
        self.call(|world| drop(world.insert(name.to_owned(), either)), |_| act())?;
        self.now.insert(name.to_owned(), vec![holds]);
        Ok(())
    }

    /// Writes a whole file through `fd` and closes it: what it held before stays until then.
    pub fn fill(&mut self, fd: RawFd, name: &Path, seed: u64, len: usize) -> Result<()> {
        let before = self.now.get(name).cloned().unwrap_or_default();
        for piece in pattern(seed, len).chunks(100_000) {
            self.write(fd, name, piece, before.clone())?;
        }
        self.settle(name, exactly(seed, len), || sys::close(fd))
    }

    /// unlink(2) or rmdir(2).
    pub fn remove(&mut self, name: &Path) -> Result<()> {
        let is_dir = self.now.get(name).is_some_and(|holds| holds == &[Holds::Dir]);
        let remove = if is_dir { sys::rmdir } else { sys::unlink };
        self.call(|world| drop(world.remove(name)), |root| remove(&root.join(name)))
    }

    /// rename(2) of a name with all below it.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        let change = |world: &mut World| {
            world.retain(|name, _| !name.starts_with(to));
            let moved: Vec<_> =
                world.keys().filter(|name| name.starts_with(from)).cloned().collect();
            for old in moved {
                let rest = old.strip_prefix(from).unwrap_or(Path::new(""));
                let new = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
                if let Some(holds) = world.remove(&old) {
                    world.insert(new, holds);
                }
            }
        };
        self.call(change, |root| sys::rename(&root.join(from), &root.join(to), 0))
    }
}

fn write_all(fd: RawFd, bytes: &[u8]) -> Result<()> {
    match sys::write(fd, bytes)? {
        n if n == bytes.len() => Ok(()),
        _ => Err(Error::other("a short write")),
    }
}
