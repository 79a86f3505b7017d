//! The only API of the product: buckets, files, handles, reads and writes, in words of the domain.
//!
//! Doors translate to it and decide nothing. The vfs sees committed metadata through the replica's
//! table, and keeps what is not committed yet (`node`, `layer`, `runs`) under a bound (`budget`).

mod access;
mod acl;
mod acls;
mod append;
mod attributes;
mod buckets;
mod budget;
mod chosen;
mod commit;
mod contended;
mod content_type;
mod copies;
mod crowded;
mod digest;
mod directories;
mod durability;
mod gates;
mod handles;
mod headers;
mod hub;
mod inspect;
mod keys;
mod known;
mod layer;
mod listing;
mod locks;
mod moves;
mod multipart;
mod names;
mod node;
mod object_rename;
mod objects;
mod obstacles;
mod open;
mod read;
mod runs;
mod seal;
mod sealing;
mod space;
mod staging;
mod upkeep;
mod upload;
mod words;
mod write;
mod xattrs;

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use access::Access;
pub use buckets::BucketInfo;
pub use content_type::content_type;
pub use digest::Digests;
pub use durability::Durability;
pub use headers::ObjectHeaders;
pub use hub::ChangeHub;
pub use inspect::{FileInfo, PieceInfo, Report};
// Words of the mutations that doors use too.
pub use crate::meta::{Change, KeyRole, KeyState, RenameMode, XattrMode};
pub use keys::{KeyInfo, KeyWithSecret, NewKey};
pub use listing::{ListQuery, ListedObject, Listing, fits_xml};
pub use multipart::{Completion, NamedPart, NewUpload, PartInfo, UploadInfo};
pub use objects::{ObjectInfo, ObjectReader};
pub use sealing::SEALING_KEY_LEN;
pub use upload::{ObjectWriter, Uploaded};
pub use words::{
    AttrChange, Caller, DirItem, FileLock, LockKind, Locked, NewNode, OpenFlags, Opened, SetTime,
    Settings, StatFs,
};

use crate::chunk::ChunkStore;
use crate::env::Clock;
use crate::error::{Error, Result};
pub use crate::meta::{Condition, Expected};
use crate::meta::{Inode, Mutation, Outcome};
use crate::replication::{Copies, Replica, Wait};
use crate::types::{Attr, FileName, Ino};

/// One node's view of the data: what its mounts and its S3 endpoint call.
pub struct Vfs {
    replica: Arc<Replica>,
    chunks: Arc<ChunkStore>,
    copies: Arc<Copies>,
    clock: Arc<dyn Clock>,
    hub: Arc<ChangeHub>,
    settings: Settings,
    nodes: node::Nodes,
    handles: handles::Handles,
    gates: gates::Gates,
    kernel: known::KernelState,
    moves: Arc<moves::Moves>,
    /// Records of files without a name that a kernel still asks about.
    tombstones: Mutex<HashMap<Ino, Box<Inode>>>,
    /// Whose open files are to be closed: their kernels cannot do it any more.
    ended_mounts: Mutex<BTreeSet<u32>>,
    locks: locks::LockTable,
    sealer: seal::Sealer,
    sealing: OnceLock<sealing::Sealing>,
    reserve: space::Reserve,
    upkeep: Arc<upkeep::Upkeep>,
}

impl Vfs {
    /// A vfs over an open replica. `hub` is the one whose listener the replica was given.
    ///
    /// # Errors
    /// What the disk says when asked for its space.
    pub fn start(
        replica: Arc<Replica>,
        copies: Arc<Copies>,
        clock: Arc<dyn Clock>,
        hub: Arc<ChangeHub>,
        settings: Settings,
    ) -> Result<Arc<Self>> {
        let chunks = Arc::clone(copies.chunks());
        let space = chunks.space()?;
        let upkeep = Arc::new(upkeep::Upkeep::default());
        upkeep.listen(&hub, &copies);
        let sealer = seal::Sealer::new(Arc::clone(&copies), settings.write_buffer);
        let locks = locks::LockTable::default();
        locks.listen(&hub);
        let moves = moves::Moves::listen(&hub, Arc::clone(&clock));
        Ok(Arc::new(Self {
            replica,
            chunks,
            copies,
            clock,
            hub,
            settings,
            nodes: node::Nodes::default(),
            handles: handles::Handles::default(),
            gates: gates::Gates::default(),
            kernel: known::KernelState::default(),
            moves,
            tombstones: Mutex::default(),
            ended_mounts: Mutex::default(),
            locks,
            sealer,
            sealing: OnceLock::new(),
            reserve: space::Reserve::new(space),
            upkeep,
        }))
    }

    /// Calls `listener` with each change that is readable, and the mount it came through (0: none),
    /// until mount `origin` is forgotten. It must not block. Changes through S3 and REST are answered
    /// when `fence` ends, too: what the mount is asked next must show them.
    pub fn attach(&self, origin: u32, listener: hub::Listener, fence: hub::Fence) {
        self.hub.attach(origin, listener, fence);
    }

    /// Proposes a change of S3 or REST; on disk, and known to the mounts, when it returns.
    async fn propose_durably(&self, mutation: Mutation, who: &Caller) -> Result<Outcome> {
        let outcome = self.replica.propose(mutation, Wait::Durable, who.origin).await?;
        self.hub.told().await;
        Ok(outcome)
    }

    /// All inodes that the kernel behind mount `origin` has a reference to.
    pub fn known_to(&self, origin: u32) -> Vec<Ino> {
        self.kernel.of(origin)
    }

    /// Returns when this node shows all that was acknowledged anywhere before the call. The doors of
    /// S3 and REST pass it once a request, before they look up who asks.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] when that cannot be known.
    pub async fn barrier(&self) -> Result<()> {
        self.replica.barrier().await
    }

    /// Returns when this node has been removed from its cluster, with the error that says so.
    pub async fn until_removed(&self) -> Error {
        self.replica.until_removed().await
    }

    /// Whether no other node shows this file system, now.
    pub fn is_alone(&self) -> bool {
        self.replica.is_alone()
    }

    /// How many files have lost names so far: to be asked before a name is looked up, and passed to
    /// [`Self::remember`].
    pub fn moves(&self) -> moves::Count {
        self.moves.count()
    }

    /// The kernel behind mount `origin` gets a reference to an inode, and these attributes with it; it was looked up
    /// when there had been so many `moves`.
    pub fn remember(&self, origin: u32, attr: &Attr, moves: moves::Count) {
        self.kernel.remember(origin, attr, moves);
    }

    /// Tells all kernels that they may have old attributes of `ino`.
    pub fn doubt(&self, ino: Ino) {
        self.hub.publish(&[Change::Attributes(ino)], 0);
    }

    /// The kernel behind mount `origin` gave `count` references back.
    pub fn forget(&self, origin: u32, ino: Ino, count: u64) {
        let mut tombstones = self.tombstones.lock();
        if self.kernel.forget(origin, ino, count) {
            tombstones.remove(&ino);
        }
    }

    /// Mount `origin` is gone, and all references of its kernel. What it has open still is closed in
    /// the background, and saved as by any last close.
    pub fn forget_mount(&self, origin: u32) {
        self.hub.detach(origin);
        {
            let mut tombstones = self.tombstones.lock();
            for ino in self.kernel.forget_mount(origin) {
                tombstones.remove(&ino);
            }
        }
        self.ended_mounts.lock().insert(origin);
        self.locks.forget_mount(origin);
        self.upkeep.ring();
    }

    /// The inode of `BUCKET/PATH`; the root for an empty path.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotADirectory`], or a name that cannot be.
    pub fn resolve(&self, path: &[u8]) -> Result<Ino> {
        let mut ino = Ino::ROOT;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            ino = self.lookup(ino, name)?.ino;
        }
        Ok(ino)
    }

    /// Everything this node acknowledged is on disk when it returns, dirty data of open files too.
    ///
    /// # Errors
    /// The first failure; what could be made durable is.
    pub async fn drain(&self) -> Result<()> {
        let mut first = Ok(());
        for node in self.nodes.all() {
            let result = self.commit(&node, Wait::Applied).await;
            first = first.and(result);
        }
        first.and(self.replica.sync().await)
    }

    /// syncfs(2) and fsync(2) of a directory: as [`Self::drain`] without the data of open files.
    ///
    /// # Errors
    /// [`Error::DiskFailed`] and what the log says.
    pub async fn sync(&self) -> Result<()> {
        self.replica.sync().await
    }

    /// The committed record.
    ///
    /// # Errors
    /// [`Error::Stale`] when there is none.
    fn inode(&self, ino: Ino) -> Result<Inode> {
        self.replica.table().view().inode(ino)?.ok_or(Error::Stale)
    }

    /// The committed record of a directory.
    fn directory(&self, ino: Ino) -> Result<Inode> {
        let inode = self.inode(ino)?;
        match inode.kind {
            crate::types::FileKind::Directory => Ok(inode),
            _ => Err(Error::NotADirectory),
        }
    }

    /// Proposes a change that the disk may learn of later.
    async fn propose(&self, mutation: Mutation, origin: u32) -> Result<Outcome> {
        self.replica.propose(mutation, Wait::Applied, origin).await
    }

    /// As [`Self::propose`], for mutations that answer with an inode.
    async fn propose_node(&self, mutation: Mutation, origin: u32) -> Result<Attr> {
        let (ino, inode) = node_outcome(self.propose(mutation, origin).await?)?;
        match self.current(ino) {
            Err(Error::Stale) => Ok(inode.attr(ino)),
            current => current,
        }
    }
}

/// The inode of [`Outcome::Node`].
fn node_outcome(outcome: Outcome) -> Result<(Ino, Box<Inode>)> {
    match outcome {
        Outcome::Node { ino, inode } => Ok((ino, inode)),
        other => Err(unexpected(&other)),
    }
}

/// An outcome that the proposed mutation cannot have.
fn unexpected(outcome: &Outcome) -> Error {
    Error::damaged(format!("a change was answered out of form: {outcome:?}"))
}

fn file_name(name: &[u8]) -> Result<FileName> {
    Ok(FileName::new(name)?)
}
