//! Listings: in key order, with cookies that stay good while entries come and go.
//!
//! A cookie counts the entries an open directory has handed out: 1 and 2 are `.` and `..`. The
//! listing remembers the name behind each recent cookie, and behind every 256th older one; going
//! back to one in between walks on from there. Names removed meanwhile do not matter: the listing
//! continues after the name, there or not.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use super::Vfs;
use super::words::DirItem;
use crate::error::{Error, Result};
use crate::meta::Dirent;
use crate::types::{FileKind, FileName, Ino};

/// Cookies whose names are remembered one by one.
const RECENT: usize = 4096;
/// Of older cookies, each one divisible by this is remembered.
const MARK: u64 = 256;
/// Entries read from the table at a time.
const PAGE: usize = 128;
/// The cookies of `.` and `..`; entries follow.
const DOTS: u64 = 2;

/// A name as it stands in the key: directories sort with a slash.
type Position = (FileName, bool);

#[derive(Debug)]
pub(super) struct Listing {
    ino: Ino,
    /// The mount that opened it.
    pub origin: u32,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Names of the cookies up to the newest, in order.
    recent: VecDeque<Position>,
    newest: u64,
    marks: BTreeMap<u64, Position>,
}

impl Places {
    fn restart(&mut self) {
        *self = Self { newest: DOTS, ..Self::default() };
    }

    /// The name behind a cookie: exactly, or of an earlier one with the number of entries between.
    fn find(&self, cookie: u64) -> (Option<Position>, u64) {
        let back = self.newest.saturating_sub(cookie) as usize;
        if back < self.recent.len() {
            return (self.recent.get(self.recent.len() - 1 - back).cloned(), 0);
        }
        match self.marks.range(..=cookie).next_back() {
            Some((&mark, position)) => (Some(position.clone()), cookie - mark),
            None => (None, cookie.saturating_sub(DOTS)),
        }
    }

    /// `position` was handed out under `cookie`, the one after the newest or one seen before.
    fn note(&mut self, cookie: u64, position: Position) {
        if cookie <= self.newest {
            return;
        }
        self.newest = cookie;
        if cookie.is_multiple_of(MARK) {
            self.marks.insert(cookie, position.clone());
        }
        self.recent.push_back(position);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }
}

impl Vfs {
    /// opendir(3), through mount `origin`.
    ///
    /// # Errors
    /// [`Error::NotADirectory`], [`Error::Stale`].
    pub fn opendir(&self, origin: u32, ino: Ino) -> Result<u64> {
        self.directory(ino)?;
        Ok(self.handles.add_directory(Listing { ino, origin, places: Mutex::default() }))
    }

    /// Calls `emit` with each entry after `cookie` (0: from the start) until it answers false.
    ///
    /// # Errors
    /// [`Error::BadHandle`].
    pub fn readdir(
        &self,
        handle: u64,
        cookie: u64,
        emit: &mut dyn FnMut(DirItem<'_>) -> bool,
    ) -> Result<()> {
        let listing = self.handles.directory(handle)?;
        let mut places = listing.places.lock();
        if cookie == 0 {
            places.restart();
        }
        if !self.emit_dots(listing.ino, cookie, emit)? {
            return Ok(());
        }
        let mut cookie = cookie.max(DOTS);
        let (mut after, mut skip) = if cookie == DOTS { (None, 0) } else { places.find(cookie) };
        loop {
            let page = self.replica.table().view().children(listing.ino, after.as_ref(), PAGE)?;
            let Some((name, dirent)) = page.last() else {
                return Ok(());
            };
            after = Some((name.clone(), dirent.kind == FileKind::Directory));
            for (name, dirent) in page {
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                if !self.emit_entry(&name, dirent, cookie + 1, emit)? {
                    return Ok(());
                }
                cookie += 1;
                places.note(cookie, (name, dirent.kind == FileKind::Directory));
            }
        }
    }

    pub fn releasedir(&self, handle: u64) {
        self.handles.remove(handle);
    }

    /// False when the reply is full. An entry whose inode vanished meanwhile is passed over.
    fn emit_entry(
        &self,
        name: &FileName,
        dirent: Dirent,
        next: u64,
        emit: &mut dyn FnMut(DirItem<'_>) -> bool,
    ) -> Result<bool> {
        let attr = match self.getattr(dirent.ino) {
            Ok(attr) => attr,
            Err(Error::Stale) => return Ok(true),
            Err(error) => return Err(error),
        };
        let name = name.as_bytes();
        Ok(emit(DirItem { ino: dirent.ino, kind: dirent.kind, name, attr, next }))
    }

    fn emit_dots(
        &self,
        ino: Ino,
        cookie: u64,
        emit: &mut dyn FnMut(DirItem<'_>) -> bool,
    ) -> Result<bool> {
        if cookie >= DOTS {
            return Ok(true);
        }
        let parent = match self.directory(ino) {
            Ok(inode) if inode.parent.0 != 0 => inode.parent,
            Ok(_) => ino,
            Err(error) => return Err(error),
        };
        let dots = [(&b"."[..], ino, 1), (b"..", parent, 2)];
        for (name, ino, next) in dots.into_iter().filter(|(_, _, next)| *next > cookie) {
            let attr = self.getattr(ino)?;
            if !emit(DirItem { ino, kind: FileKind::Directory, name, attr, next }) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Position {
        (FileName::new(format!("{number:08}").as_bytes()).unwrap(), false)
    }

    #[test]
    fn old_cookies_are_found_from_a_mark() {
        let mut places = Places::default();
        places.restart();
        for cookie in 3..10_000 {
            places.note(cookie, name(cookie));
        }
        assert_eq!(places.find(9_999), (Some(name(9_999)), 0));
        assert_eq!(places.find(9_999 - RECENT as u64 + 1).1, 0);
        assert_eq!(places.find(1_000), (Some(name(768)), 232));
        assert_eq!(places.find(5), (None, 3));
        assert!(places.recent.len() <= RECENT);
    }
}
