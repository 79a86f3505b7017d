//! How safe a file's bytes are: copies on disk against copies wanted.

use std::collections::BTreeSet;
use std::fmt;

use super::Vfs;
use crate::error::Result;
use crate::meta::{Body, Placement};
use crate::types::{ChunkId, ContentId, Ino, quorum};

/// Slots looked at for one answer: 64 GiB of a file in chunks of the usual size.
const SLOTS_MAX: u64 = 16 << 10;
/// Slots looked at in one view of the table.
const SLOTS_PAGE: u64 = 1024;

/// Of the chunk that has the fewest copies in relation to those wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durability {
    /// Nodes that have the bytes on disk.
    pub copies: usize,
    pub wanted: usize,
    /// Committed changes of the bytes.
    pub version: u64,
    /// Bytes were written here that no commit has brought in yet.
    pub is_dirty: bool,
    /// The file is larger than what was looked at: so many bytes.
    pub seen: Option<u64>,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { copies, wanted, version, is_dirty, seen } = *self;
        let state = if is_dirty { "dirty" } else { "committed" };
        write!(f, "copies={copies}/{wanted} version={version} state={state}")?;
        seen.map_or(Ok(()), |bytes| write!(f, " of-first-bytes={bytes}"))
    }
}

impl Vfs {
    /// How safe the committed bytes of a file are.
    ///
    /// # Errors
    /// [`crate::error::Error::Stale`] when the inode is gone.
    pub fn durability(&self, ino: Ino) -> Result<Durability> {
        let inode = self.inode(ino)?;
        let is_dirty = self.nodes.get(ino).is_some_and(|node| node.state().dirty.has_data());
        let placement = self.replica.table().view().placement()?;
        // What is in the metadata only is where the log is: at least a quorum of its voters.
        let voters = self.replica.voters();
        let (mut fewest, mut seen) = ((quorum(voters), voters), None);
        if let Body::Manifest(content) = inode.body {
            (fewest, seen) = self.fewest_copies(content, inode.size, &placement)?;
        }
        let (copies, wanted) = fewest;
        Ok(Durability { copies, wanted, version: inode.version, is_dirty, seen })
    }

    fn fewest_copies(
        &self,
        content: ContentId,
        size: u64,
        placement: &Placement,
    ) -> Result<((usize, usize), Option<u64>)> {
        let slot_size = self.replica.chunk_size();
        let last = (size / slot_size).min(SLOTS_MAX - 1);
        let wanted = usize::from(placement.replication_factor).min(placement.members.len()).max(1);
        let mut fewest = (wanted, wanted);
        let mut first = 0;
        while first <= last {
            let to = last.min(first + SLOTS_PAGE - 1);
            let view = self.replica.table().view();
            let slots = view.slots(content, first, to)?;
            let pieces = slots.iter().flat_map(|(_, slot)| &slot.pieces);
            let ids: BTreeSet<ChunkId> = pieces.map(|piece| piece.chunk).collect();
            for id in ids {
                let stored_on = view.chunk(id)?.map(|record| record.stored_on).unwrap_or_default();
                let places = placement.places(id);
                let there = places.iter().filter(|node| stored_on.contains(node)).count();
                let copies = if places.is_empty() { stored_on.len().min(1) } else { there };
                fewest = fewest.min((copies, wanted));
            }
            first = to + 1;
        }
        let end = SLOTS_MAX * slot_size;
        Ok((fewest, (size > end).then_some(end)))
    }
}
