//! Listings: in key order, with cookies that stay good while entries come and go.
//!
//! A cookie counts the entries an open directory has handed out: 1 and 2 are `.` and `..`. The
//! listing remembers the name behind each recent cookie, and behind every 256th older one; going
//! back to one in between walks on from there. Names removed meanwhile do not matter: the listing
//! continues after the name, there or not.
//!
//! The kernel goes back whenever a caller takes less than it was sent, and is sent what is there
//! then under the same cookies. A cookie means what was last handed out under it; later ones keep
//! their names until they are handed out again, for a seekdir(3) that goes forward again.

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

    /// Goes on after a cookie. Returns the name behind it: exactly, or of an earlier one with the
    /// number of entries between.
    fn go_to(&mut self, cookie: u64) -> (Option<Position>, u64) {
        let oldest = self.newest - self.recent.len() as u64;
        let found = match cookie.checked_sub(oldest + 1) {
            Some(at) if cookie <= self.newest => (self.recent.get(at as usize).cloned(), 0),
            _ => self.nearest(cookie),
        };
        if !(oldest..=self.newest).contains(&cookie) {
            self.recent.clear();
            self.newest = cookie;
        }
        found
    }

    /// The last name before a cookie that is remembered, or the start, and the entries between.
    fn nearest(&self, cookie: u64) -> (Option<Position>, u64) {
        let newest = self.recent.back().map(|position| (self.newest, position));
        let mark =
            self.marks.range(..=cookie).next_back().map(|(&mark, position)| (mark, position));
        let before = newest.filter(|(newest, _)| *newest <= cookie).into_iter().chain(mark);
        match before.max_by_key(|(at, _)| *at) {
            Some((at, position)) => (Some(position.clone()), cookie - at),
            None => (None, cookie.saturating_sub(DOTS)),
        }
    }

    /// `position` was handed out under `cookie`: the one after the newest, or after somebody went back
    /// one that was handed out before. What it stood for then counts no more.
    fn note(&mut self, cookie: u64, position: Position) {
        if cookie.is_multiple_of(MARK) {
            self.marks.insert(cookie, position.clone());
        }
        if cookie <= self.newest {
            let at = self.recent.len().checked_sub((self.newest - cookie) as usize + 1);
            if let Some(there) = at.and_then(|at| self.recent.get_mut(at)) {
                *there = position;
            }
            return;
        }
        self.newest = cookie;
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
        let (mut after, mut skip) = places.go_to(cookie);
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
        assert!(places.recent.len() <= RECENT);
        assert_eq!(places.go_to(9_999), (Some(name(9_999)), 0));
        assert_eq!(places.go_to(9_999 - RECENT as u64 + 1).1, 0);
        assert_eq!(places.go_to(1_000), (Some(name(768)), 232));
        places.note(1_001, name(1_001));
        assert_eq!(places.go_to(1_001), (Some(name(1_001)), 0), "it goes on from there");
        assert_eq!(places.go_to(1_020), (Some(name(1_001)), 19), "forward, and not too far");
        assert_eq!(places.go_to(9_990), (Some(name(9_984)), 6));
        assert_eq!(places.go_to(5), (None, 3));
        assert_eq!(places.go_to(DOTS), (None, 0));
    }

    /// The names behind cookies that are handed out again are those of the last time.
    #[test]
    fn what_is_handed_out_again_counts() {
        let mut places = Places::default();
        places.restart();
        (3..8).for_each(|cookie| places.note(cookie, name(cookie * 10)));
        assert_eq!(places.go_to(3), (Some(name(30)), 0));
        places.note(4, name(35));
        places.note(5, name(40));
        assert_eq!(places.go_to(5), (Some(name(40)), 0));
        assert_eq!(places.go_to(4), (Some(name(35)), 0));
        assert_eq!(places.go_to(7), (Some(name(70)), 0), "a place from before, by seekdir(3)");
        places.note(8, name(80));
        assert_eq!(places.go_to(8), (Some(name(80)), 0));
    }
}
