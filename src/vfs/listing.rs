//! Listings in S3's order, straight from the order of the names' keys: a page costs a page, and
//! skipping a common prefix costs one seek.

use std::collections::VecDeque;

use super::Vfs;
use super::words::Caller;
use crate::error::{Error, Result};
use crate::meta::{Dirent, KvRead, codec, keys};
use crate::types::{BucketName, FileKind, Ino, Right, Timestamp};

/// Names read at once from one directory.
const NAMES_READ: usize = 256;

/// What to list of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    pub prefix: String,
    /// Keys with it after the prefix are rolled up into one.
    pub delimiter: Option<String>,
    /// Only keys, and rolled up prefixes, after this one.
    pub after: String,
    /// Keys and prefixes together.
    pub limit: usize,
    /// Only keys and prefixes that [fit XML](fits_xml).
    pub xml_only: bool,
}

/// Whether XML 1.0 can hold a text: control characters have no place in it, not even escaped.
pub fn fits_xml(text: &str) -> bool {
    text.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
    pub etag: String,
    pub modified: Timestamp,
    pub uid: u32,
}

/// One page; keys and prefixes each in byte order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<ListedObject>,
    pub prefixes: Vec<String>,
    /// Where the next page begins, if there is one: its `after`.
    pub next: Option<String>,
}

/// The next thing in key order.
enum Step {
    /// A name with its full path, which ends with a slash for a directory.
    Name(Vec<u8>, Dirent),
    End,
}

struct Frame {
    ino: Ino,
    /// Length of the path of this directory in `Walk::path`, its slash included.
    depth: usize,
    /// Where in the directory to read on: the part of the key after the parent.
    from: Vec<u8>,
    read: VecDeque<(Vec<u8>, Dirent)>,
    exhausted: bool,
}

/// Goes through the keys below one directory in byte order.
struct Walk<'a> {
    vfs: &'a Vfs,
    path: Vec<u8>,
    frames: Vec<Frame>,
    bucket: Ino,
}

impl Vfs {
    /// One page of the objects of a bucket.
    ///
    /// # Errors
    /// [`Error::NoBucket`].
    pub async fn list_objects(
        &self,
        who: &Caller,
        bucket: &BucketName,
        query: &ListQuery,
    ) -> Result<Listing> {
        let mut walk = Walk::new(self, self.bucket_ino(who, bucket, Right::Read)?);
        let mut page = Listing::default();
        let mut last = query.after.clone();
        if query.limit == 0 {
            return Ok(page);
        }
        let after = Self::first_key(query);
        walk.seek(after.as_bytes())?;
        loop {
            let Step::Name(path, dirent) = walk.next()? else { return Ok(page) };
            let prefix = query.prefix.as_bytes();
            if path.as_slice() > prefix && !path.starts_with(prefix) {
                return Ok(page);
            }
            let Some(found) = self.listed(path, dirent, query)? else { continue };
            let is_hidden = query.xml_only && !fits_xml(found.name());
            if is_hidden || found.name() <= query.after.as_str() {
                if let Found::Prefix(prefix) = &found {
                    walk.seek(&keys::after(prefix.as_bytes()))?;
                }
                continue;
            }
            if page.objects.len() + page.prefixes.len() == query.limit {
                page.next = Some(last);
                return Ok(page);
            }
            found.name().clone_into(&mut last);
            match found {
                Found::Object(object) => page.objects.push(object),
                Found::Prefix(prefix) => {
                    walk.seek(&keys::after(prefix.as_bytes()))?;
                    page.prefixes.push(prefix);
                }
            }
        }
    }

    /// Where the walk begins: nothing before it can be listed.
    fn first_key(query: &ListQuery) -> String {
        query.prefix.clone().max(query.after.clone())
    }

    /// What a name is in a listing, if anything.
    fn listed(&self, path: Vec<u8>, dirent: Dirent, query: &ListQuery) -> Result<Option<Found>> {
        let Some(rest) = path.strip_prefix(query.prefix.as_bytes()) else { return Ok(None) };
        let listable = matches!(dirent.kind, FileKind::Regular | FileKind::Directory);
        let inode = match self.replica.table().view().inode(dirent.ino)? {
            Some(inode) if listable && inode.is_object() => inode,
            _ => return Ok(None),
        };
        if let Some(delimiter) = query.delimiter.as_deref().filter(|text| !text.is_empty()) {
            let found = rest.windows(delimiter.len()).position(|part| part == delimiter.as_bytes());
            if let Some(at) = found {
                let end = query.prefix.len() + at + delimiter.len();
                let prefix = String::from_utf8(path[..end].to_vec());
                return Ok(prefix.ok().map(Found::Prefix));
            }
        }
        let Ok(key) = String::from_utf8(path) else { return Ok(None) };
        let size = inode.object_size();
        let etag = inode.entity_tag(dirent.ino);
        let (modified, uid) = (inode.committed_at, inode.uid);
        Ok(Some(Found::Object(ListedObject { key, size, etag, modified, uid })))
    }
}

enum Found {
    Object(ListedObject),
    Prefix(String),
}

impl Found {
    fn name(&self) -> &str {
        match self {
            Self::Object(object) => &object.key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

impl<'a> Walk<'a> {
    fn new(vfs: &'a Vfs, bucket: Ino) -> Self {
        Self { vfs, path: Vec::new(), frames: Vec::new(), bucket }
    }

    /// Goes to the first key that is not before `target`.
    fn seek(&mut self, target: &[u8]) -> Result<()> {
        self.path.clear();
        self.frames.clear();
        self.enter(self.bucket, target);
        let (mut at, mut rest) = (self.bucket, target);
        while let Some(slash) = rest.iter().position(|byte| *byte == b'/') {
            let (name, below) = rest.split_at(slash + 1);
            let inner = self.directory(at, name)?.filter(|_| !below.is_empty());
            let Some(inner) = inner else { return Ok(()) };
            // The parent goes on after the directory that is being entered.
            if let Some(frame) = self.frames.last_mut() {
                frame.from = [name, &[0]].concat();
            }
            self.path.extend_from_slice(name);
            self.enter(inner, below);
            (at, rest) = (inner, below);
        }
        Ok(())
    }

    fn enter(&mut self, ino: Ino, from: &[u8]) {
        let depth = self.path.len();
        let from = from.to_vec();
        self.frames.push(Frame { ino, depth, from, read: VecDeque::new(), exhausted: false });
    }

    /// The directory whose entry is `name`, a slash at its end.
    fn directory(&self, parent: Ino, name: &[u8]) -> Result<Option<Ino>> {
        let mut key = keys::dirents(parent).0;
        key.extend_from_slice(name);
        let found = self.vfs.replica.table().view().get(&key)?;
        let dirent: Option<Dirent> = found.map(|bytes| codec::decode(&bytes)).transpose()?;
        Ok(dirent.map(|dirent| dirent.ino))
    }

    /// The next name; what is in a directory follows the directory.
    fn next(&mut self) -> Result<Step> {
        while let Some(frame) = self.frames.last_mut() {
            if frame.read.is_empty() && !frame.exhausted {
                frame.fill(self.vfs)?;
            }
            let depth = frame.depth;
            let Some((name, dirent)) = frame.read.pop_front() else {
                self.frames.pop();
                continue;
            };
            self.path.truncate(depth);
            self.path.extend_from_slice(&name);
            // No key of S3 can name what is not UTF-8, nor anything in it.
            if std::str::from_utf8(&name).is_err() {
                continue;
            }
            if dirent.kind == FileKind::Directory {
                self.enter(dirent.ino, b"");
            }
            return Ok(Step::Name(self.path.clone(), dirent));
        }
        Ok(Step::End)
    }
}

impl Frame {
    fn fill(&mut self, vfs: &Vfs) -> Result<()> {
        let (mut from, to) = keys::dirents(self.ino);
        let parent = from.len();
        from.extend_from_slice(&self.from);
        let view = vfs.replica.table().view();
        view.scan(&from, &to, &mut |key, value| {
            let name = key.get(parent..).ok_or_else(|| Error::damaged("a name's key"))?;
            self.read.push_back((name.to_vec(), codec::decode(value)?));
            Ok(self.read.len() < NAMES_READ)
        })?;
        self.exhausted = self.read.len() < NAMES_READ;
        if let Some((last, _)) = self.read.back() {
            self.from = [last.as_slice(), &[0]].concat();
        }
        Ok(())
    }
}
