//! Typed reads of one state of the table: no batch is seen in half, none comes in between.

use std::sync::Arc;

use parking_lot::RwLockReadGuard;
use serde::de::DeserializeOwned;

use super::codec;
use super::keys;
use super::kv::{KvEngine, KvRead, Visitor};
use super::lock::{LockOwner, Locks};
use super::placement::Placement;
use super::record::{
    AccessKey, Bucket, ChunkRecord, Dirent, Errand, Inode, NodeRecord, Session, Slot, Superblock,
};
use crate::error::{Error, Result};
use crate::types::{ChunkId, ContentId, FileName, Ino, KeyId, NodeId, SessionId};

/// Keeps the applier out while it lives: take one for a few reads, never two at a time in one
/// thread (a waiting applier would block the second for ever).
pub struct View<'a> {
    _whole: RwLockReadGuard<'a, ()>,
    engine: RwLockReadGuard<'a, Arc<dyn KvEngine>>,
}

impl<'a> View<'a> {
    pub(super) fn new(
        whole: RwLockReadGuard<'a, ()>,
        engine: RwLockReadGuard<'a, Arc<dyn KvEngine>>,
    ) -> Self {
        Self { _whole: whole, engine }
    }

    pub fn superblock(&self) -> Result<Option<Superblock>> {
        self.record(keys::SUPERBLOCK)
    }

    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        self.record(&keys::inode(ino))
    }

    /// A name, be it a directory's or another's.
    pub fn lookup(&self, parent: Ino, name: &FileName) -> Result<Option<Dirent>> {
        match self.record(&keys::file_dirent(parent, name))? {
            Some(dirent) => Ok(Some(dirent)),
            None => self.record(&keys::directory_dirent(parent, name)),
        }
    }

    /// Up to `limit` entries in key order, from the one after `after` (name, is a directory).
    pub fn children(
        &self,
        parent: Ino,
        after: Option<&(FileName, bool)>,
        limit: usize,
    ) -> Result<Vec<(FileName, Dirent)>> {
        let (first, to) = keys::dirents(parent);
        let from = match after {
            Some((name, true)) => successor(keys::directory_dirent(parent, name)),
            Some((name, false)) => successor(keys::file_dirent(parent, name)),
            None => first,
        };
        self.collect(&from, &to, limit, |key, value| {
            let (name, _) = keys::dirent_name(key).ok_or_else(bad_key)?;
            Ok((name, codec::decode(value)?))
        })
    }

    pub fn slot(&self, content: ContentId, slot: u64) -> Result<Option<Slot>> {
        self.record(&keys::slot(content, slot))
    }

    /// The slots there are of `first..=last`.
    pub fn slots(&self, content: ContentId, first: u64, last: u64) -> Result<Vec<(u64, Slot)>> {
        let to = successor(keys::slot(content, last));
        self.collect(&keys::slot(content, first), &to, usize::MAX, |key, value| {
            Ok((keys::slot_number(key).ok_or_else(bad_key)?, codec::decode(value)?))
        })
    }

    /// Whether there is a slot from `first` on.
    pub fn has_slots(&self, content: ContentId, first: u64) -> Result<bool> {
        let (from, to) = keys::slots(content, first);
        Ok(!self.collect(&from, &to, 1, |_, _| Ok(()))?.is_empty())
    }

    pub fn chunk(&self, id: ChunkId) -> Result<Option<ChunkRecord>> {
        self.record(&keys::chunk(id))
    }

    /// Whether a chunk without a record may be named yet, as far as this table knows.
    pub fn may_still_come(&self, id: ChunkId) -> Result<bool> {
        Ok(match self.session(id.session)? {
            Some(session) => id.counter > session.chunk_mark,
            None => self.superblock()?.is_none_or(|known| id.session.0 >= known.next_session),
        })
    }

    /// Up to `limit` chunks above `after`.
    pub fn chunks(
        &self,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, ChunkRecord)>> {
        let (first, to) = keys::family(keys::CHUNK);
        let from = after.map_or(first, |after| successor(keys::chunk(after)));
        self.collect(&from, &to, limit, |key, value| {
            let id = keys::tail_id(key).ok_or_else(bad_key)?;
            Ok((ChunkId::from_bytes(id), codec::decode(value)?))
        })
    }

    /// Where copies belong.
    pub fn placement(&self) -> Result<Placement> {
        Ok(self.record(keys::PLACEMENT)?.unwrap_or_default())
    }

    /// All nodes there ever were, by rising id.
    pub fn nodes(&self) -> Result<Vec<(NodeId, NodeRecord)>> {
        let (from, to) = keys::family(keys::NODE);
        self.collect(&from, &to, usize::MAX, |key, value| {
            Ok((keys::tail_number(key).ok_or_else(bad_key)?, codec::decode(value)?))
        })
    }

    /// Up to `limit` errands of a node, of the chunks above `after`.
    pub fn errands(
        &self,
        node: NodeId,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<Vec<(ChunkId, Errand)>> {
        let (first, to) = keys::errands(node);
        let from = after.map_or(first, |after| successor(keys::errand(node, after)));
        self.collect(&from, &to, limit, |key, value| {
            let id = keys::tail_id(key).ok_or_else(bad_key)?;
            Ok((ChunkId::from_bytes(id), codec::decode(value)?))
        })
    }

    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        self.record(&keys::xattr(ino, name))
    }

    pub fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        let (from, to) = keys::xattrs(ino);
        self.collect(&from, &to, usize::MAX, |key, _| Ok(key[from.len()..].to_vec()))
    }

    /// Up to `limit` orphans above `after` that a session holds.
    pub fn holds(&self, session: SessionId, after: Option<Ino>, limit: usize) -> Result<Vec<Ino>> {
        let (all, to) = keys::holds_of(session);
        let from = after.map_or(all, |ino| successor(keys::hold(session, ino)));
        self.collect(&from, &to, limit, |key, _| {
            keys::tail_number(key).map(Ino).ok_or_else(bad_key)
        })
    }

    pub fn is_held(&self, session: SessionId, ino: Ino) -> Result<bool> {
        Ok(self.engine.get(&keys::hold(session, ino))?.is_some())
    }

    /// All locks of a file, with who has them.
    pub fn locks(&self, ino: Ino) -> Result<Vec<(SessionId, LockOwner, Locks)>> {
        let (from, to) = keys::locks(ino);
        self.collect(&from, &to, usize::MAX, |key, value| {
            let (session, owner) = keys::locker(key).ok_or_else(bad_key)?;
            Ok((session, owner, codec::decode(value)?))
        })
    }

    pub fn bucket(&self, ino: Ino) -> Result<Option<Bucket>> {
        self.record(&keys::bucket(ino))
    }

    pub fn access_key(&self, id: KeyId) -> Result<Option<AccessKey>> {
        self.record(&keys::access_key(id))
    }

    pub fn access_keys(&self) -> Result<Vec<(KeyId, AccessKey)>> {
        let (from, to) = keys::family(keys::ACCESS_KEY);
        self.collect(&from, &to, usize::MAX, |key, value| {
            Ok((keys::access_key_id(key).ok_or_else(bad_key)?, codec::decode(value)?))
        })
    }

    pub fn session(&self, session: SessionId) -> Result<Option<Session>> {
        self.record(&keys::session(session))
    }

    pub fn sessions(&self) -> Result<Vec<(SessionId, Session)>> {
        let (from, to) = keys::family(keys::SESSION);
        self.collect(&from, &to, usize::MAX, |key, value| {
            let session = keys::tail_number(key).ok_or_else(bad_key)?;
            Ok((SessionId(session), codec::decode(value)?))
        })
    }

    /// Up to `limit` numbers above `after` of a family whose keys are a prefix and 8 bytes.
    pub fn numbers(&self, prefix: u8, after: Option<u64>, limit: usize) -> Result<Vec<u64>> {
        let after = after.map(u64::to_be_bytes);
        self.tails(prefix, after.as_ref().map(|after| &after[..]), limit, keys::tail_number)
    }

    /// Up to `limit` ids above `after` of a family whose keys are a prefix and 16 bytes.
    pub fn ids(&self, prefix: u8, after: Option<[u8; 16]>, limit: usize) -> Result<Vec<[u8; 16]>> {
        self.tails(prefix, after.as_ref().map(|after| &after[..]), limit, keys::tail_id)
    }

    fn tails<T>(
        &self,
        prefix: u8,
        after: Option<&[u8]>,
        limit: usize,
        tail: fn(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>> {
        let (mut from, to) = keys::family(prefix);
        if let Some(after) = after {
            from.extend_from_slice(after);
            from.push(0);
        }
        self.collect(&from, &to, limit, |key, _| tail(key).ok_or_else(bad_key))
    }

    fn record<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        self.engine.get(key)?.map(|value| codec::decode(&value)).transpose()
    }

    fn collect<T>(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
        parse: impl Fn(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.engine.scan(from, to, &mut |key, value| {
            found.push(parse(key, value)?);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }
}

impl KvRead for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.engine.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        self.engine.scan(from, to, &mut |key, value| {
            if key == keys::DIGEST { Ok(true) } else { visit(key, value) }
        })
    }
}

/// The first key after `key`.
fn successor(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

fn bad_key() -> Error {
    Error::damaged("a key of the table has no form that is known")
}
