//! What a mutation works on: the records by type, the counters, what to tell the caches; and why
//! it stops.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ledger::Ledger;
use super::slots::Delta;
use crate::error::{Error, Result};
use crate::meta::kv::{KvRead, KvTxn};
use crate::meta::mutation::{Change, NewChunk, Refusal};
use crate::meta::placement::Placement;
use crate::meta::record::{ChunkRecord, Dirent, Inode, Session, Slot, Superblock};
use crate::meta::{codec, keys};
use crate::types::limits::SLOTS_FREED_MAX;
use crate::types::{ChunkId, ContentId, FileKind, FileName, Ino, SessionId};

/// Why a mutation ends early.
pub enum Stop {
    /// It is answered so and leaves no trace.
    Refused(Refusal),
    /// The table cannot be read or contradicts itself.
    Failed(Error),
}

pub type Step<T> = Result<T, Stop>;

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Refuses unless `condition` holds.
pub fn require(condition: bool, refusal: Refusal) -> Step<()> {
    if condition { Ok(()) } else { Err(refusal.into()) }
}

/// Slots kept open at a time: each may hold `PIECES_MAX` pieces.
const OPEN_SLOTS_MAX: usize = 64;

pub struct State<'a> {
    txn: &'a mut dyn KvTxn,
    /// Who asks, and the chunk counters it may not introduce any more.
    pub session: SessionId,
    chunk_mark: u64,
    pub superblock: Superblock,
    stored_superblock: Superblock,
    ledger: Ledger,
    /// Once it was asked for.
    placement: Option<Placement>,
    changes: Vec<Change>,
    slots_left: usize,
    /// Slots that operations have changed and may change again, not written yet.
    open_slots: BTreeMap<(ContentId, u64), Slot>,
}

impl<'a> State<'a> {
    pub fn new(txn: &'a mut dyn KvTxn, session: SessionId, chunk_mark: u64) -> Step<Self> {
        let superblock: Superblock = read(&*txn, keys::SUPERBLOCK)?.ok_or(Refusal::NotFound)?;
        Ok(Self {
            txn,
            session,
            chunk_mark,
            stored_superblock: superblock.clone(),
            superblock,
            ledger: Ledger::default(),
            placement: None,
            changes: Vec::new(),
            slots_left: SLOTS_FREED_MAX,
            open_slots: BTreeMap::new(),
        })
    }

    /// Writes what is still open; returns what to tell.
    pub fn finish(mut self) -> Step<Vec<Change>> {
        self.store_slots()?;
        if self.superblock != self.stored_superblock {
            let bytes = encode(&self.superblock)?;
            self.txn.put(keys::SUPERBLOCK.to_vec(), bytes);
        }
        if !self.ledger.is_empty() {
            self.placement()?;
            self.ledger.store(self.txn, &self.placement.unwrap_or_default())?;
        }
        Ok(self.changes)
    }

    /// Where copies belong.
    pub fn placement(&mut self) -> Result<&Placement> {
        let placement = match self.placement.take() {
            Some(placement) => placement,
            None => read(&*self.txn, keys::PLACEMENT)?.unwrap_or_default(),
        };
        Ok(self.placement.insert(placement))
    }

    pub fn set_placement(&mut self, placement: Placement) -> Step<()> {
        self.put(keys::PLACEMENT.to_vec(), &placement)?;
        self.placement = Some(placement);
        Ok(())
    }

    pub fn view(&self) -> &dyn KvRead {
        &*self.txn
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>> {
        read(&*self.txn, key)
    }

    /// # Errors
    /// As [`encode`].
    pub fn put<T: Serialize>(&mut self, key: Vec<u8>, record: &T) -> Step<()> {
        self.txn.put(key, encode(record)?);
        Ok(())
    }

    /// Puts a record that is nothing but its key.
    pub fn mark(&mut self, key: Vec<u8>) {
        self.txn.put(key, Vec::new());
    }

    pub fn is_marked(&self, key: &[u8]) -> Result<bool> {
        Ok(self.txn.get(key)?.is_some())
    }

    pub fn delete(&mut self, key: Vec<u8>) {
        self.txn.delete(key);
    }

    /// The first `limit` keys of a range.
    pub fn keys(&self, (from, to): &(Vec<u8>, Vec<u8>), limit: usize) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        if limit > 0 {
            self.txn.scan(from, to, &mut |key, _| {
                keys.push(key.to_vec());
                Ok(keys.len() < limit)
            })?;
        }
        Ok(keys)
    }

    /// Remembers to tell the caches, once.
    pub fn tell(&mut self, change: Change) {
        if !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// Bounds the work of one mutation.
    ///
    /// # Errors
    /// [`Refusal::TooMuch`] when it walks over more than `SLOTS_FREED_MAX` slots in all.
    pub fn spend_slots(&mut self, count: usize) -> Step<()> {
        self.slots_left = self.slots_left.checked_sub(count).ok_or(Refusal::TooMuch)?;
        Ok(())
    }

    pub fn slots_left(&self) -> usize {
        self.slots_left
    }
}

/// Inodes, names, sessions.
impl State<'_> {
    pub fn inode(&self, ino: Ino) -> Result<Option<Inode>> {
        self.get(&keys::inode(ino))
    }

    /// An inode that a name or another record promises.
    pub fn named_inode(&self, ino: Ino) -> Result<Inode> {
        let missing = || Error::damaged(format!("inode {} is named, but missing", ino.0));
        self.inode(ino)?.ok_or_else(missing)
    }

    /// A directory that names can be made, found and removed in.
    pub fn directory(&self, ino: Ino) -> Step<Inode> {
        let inode = self.inode(ino)?.ok_or(Refusal::Stale)?;
        require(inode.kind == FileKind::Directory, Refusal::NotADirectory)?;
        require(inode.nlink > 0, Refusal::NotFound)?;
        Ok(inode)
    }

    pub fn put_inode(&mut self, ino: Ino, inode: &Inode) -> Step<()> {
        self.put(keys::inode(ino), inode)
    }

    /// The entry of a name in either spelling.
    pub fn lookup(&self, parent: Ino, name: &FileName) -> Result<Option<Dirent>> {
        match self.get(&keys::file_dirent(parent, name))? {
            Some(dirent) => Ok(Some(dirent)),
            None => self.get(&keys::directory_dirent(parent, name)),
        }
    }

    pub fn put_dirent(&mut self, parent: Ino, name: &FileName, dirent: Dirent) -> Step<()> {
        self.tell(Change::Entry { parent, name: name.clone() });
        self.put(dirent_key(parent, name, dirent.kind), &dirent)
    }

    pub fn delete_dirent(&mut self, parent: Ino, name: &FileName, dirent: Dirent) {
        self.tell(Change::Entry { parent, name: name.clone() });
        self.tell(Change::Unnamed(dirent.ino));
        self.delete(dirent_key(parent, name, dirent.kind));
    }

    /// Sessions that have not ended.
    pub fn live_sessions(&self) -> Result<Vec<SessionId>> {
        let (from, to) = keys::family(keys::SESSION);
        let mut live = Vec::new();
        self.txn.scan(&from, &to, &mut |key, value| {
            let session: Session = codec::decode(value)?;
            let id = keys::tail_number(key).filter(|_| !session.is_ended());
            live.extend(id.map(SessionId));
            Ok(true)
        })?;
        Ok(live)
    }

    /// Lets S3 see the file. The session that made it is not in the inode: all are looked through.
    pub fn publish(&mut self, ino: Ino, inode: &mut Inode) -> Result<()> {
        if !inode.published {
            inode.published = true;
            self.forget_unpublished(ino)?;
        }
        Ok(())
    }

    pub fn forget_unpublished(&mut self, ino: Ino) -> Result<()> {
        let (from, to) = keys::family(keys::SESSION);
        for key in self.keys(&(from, to), usize::MAX)? {
            let Some(session) = keys::tail_number(&key) else { continue };
            let record = keys::unpublished(SessionId(session), ino);
            if self.is_marked(&record)? {
                self.delete(record);
            }
        }
        Ok(())
    }
}

/// Slots and chunks.
impl State<'_> {
    /// A slot to be changed in place. Scans see it after [`Self::store_slots`].
    pub fn open_slot(&mut self, content: ContentId, number: u64) -> Step<&mut Slot> {
        if self.open_slots.len() >= OPEN_SLOTS_MAX {
            self.store_slots()?;
        }
        match self.open_slots.entry((content, number)) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let slot = read(&*self.txn, &keys::slot(content, number))?;
                Ok(place.insert(slot.unwrap_or_default()))
            }
        }
    }

    /// Writes the open slots; one without pieces goes.
    pub fn store_slots(&mut self) -> Step<()> {
        for ((content, number), slot) in std::mem::take(&mut self.open_slots) {
            let key = keys::slot(content, number);
            if slot.pieces.is_empty() {
                self.txn.delete(key);
            } else {
                self.txn.put(key, encode(&slot)?);
            }
        }
        Ok(())
    }

    pub fn introduce(&mut self, chunks: &[NewChunk]) -> Step<()> {
        for chunk in chunks {
            let fits = chunk.len > 0 && u64::from(chunk.len) <= self.superblock.chunk_size;
            require(fits, Refusal::Malformed)?;
            let own = chunk.id.session == self.session && chunk.id.counter > self.chunk_mark;
            self.ledger.introduce(&*self.txn, chunk, own)?;
        }
        Ok(())
    }

    pub fn chunk(&mut self, id: ChunkId) -> Result<Option<&mut ChunkRecord>> {
        self.ledger.chunk(&*self.txn, id)
    }

    /// Removes a chunk's record, which has no references.
    pub fn forget_chunk(&mut self, id: ChunkId) {
        self.ledger.forget(id);
        self.txn.delete(keys::chunk(id));
        self.txn.delete(keys::garbage(id));
    }

    /// Whether something named the chunk before this mutation.
    pub fn is_named(&mut self, id: ChunkId) -> Result<bool> {
        self.ledger.is_named(&*self.txn, id)
    }

    /// Follows a change of a slot in the reference counts and the total of bytes.
    pub fn count(&mut self, delta: &Delta) -> Step<()> {
        for piece in &delta.added {
            self.ledger.add(&*self.txn, piece.chunk)?;
        }
        for piece in &delta.removed {
            self.ledger.remove(&*self.txn, piece.chunk)?;
        }
        self.superblock.data_bytes = delta.balance(self.superblock.data_bytes)?;
        Ok(())
    }
}

/// # Errors
/// [`Refusal::Malformed`] for a record that has no room: what was asked for is too large, on each
/// node alike. It must not stop them.
pub fn encode<T: Serialize>(record: &T) -> Step<Vec<u8>> {
    codec::encode(record).map_err(|_| Refusal::Malformed.into())
}

fn dirent_key(parent: Ino, name: &FileName, kind: FileKind) -> Vec<u8> {
    match kind {
        FileKind::Directory => keys::directory_dirent(parent, name),
        _ => keys::file_dirent(parent, name),
    }
}

pub fn read<T: DeserializeOwned>(view: &dyn KvRead, key: &[u8]) -> Result<Option<T>> {
    view.get(key)?.map(|bytes| codec::decode(&bytes)).transpose()
}
