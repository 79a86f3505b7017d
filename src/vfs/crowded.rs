//! Slots in many small pieces: a record of metadata can hold only so many, so whoever would add to
//! a crowded slot writes the whole slot instead.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Vfs;
use super::commit::{ATTEMPTS, Plan};
use super::layer::Layer;
use super::node::{Dirty, Node};
use crate::error::{Error, Result};
use crate::meta::{Body, Inode, WriteOp};
use crate::replication::Wait;
use crate::types::limits::PIECES_MAX;
use crate::types::{ByteRange, ContentId};

/// Pieces a slot may come to have before it is written whole; each one may cut another in two.
pub(super) const CROWD: usize = PIECES_MAX / 4;
/// Slots written whole by one commit: each is in memory until its chunk is stored.
const JOINED_AT_ONCE: usize = 4;

impl Vfs {
    /// Slots that a plan would leave with too many pieces for their records.
    pub(super) fn slots_to_join(&self, node: &Node, plan: &Plan) -> Result<BTreeSet<u64>> {
        if plan.appended.is_some() {
            return Ok(BTreeSet::new());
        }
        let content = match self.inode(node.ino)?.body {
            Body::Manifest(content) if !plan.reset => Some(content),
            _ => None,
        };
        self.crowded_slots(content, &plan.layers)
    }

    /// Slots of a content, or of none yet, that have too many pieces while these layers are laid
    /// over it one by one, whatever is left in the end: each is an operation of its own.
    pub(super) fn crowded_slots(
        &self,
        content: Option<ContentId>,
        layers: &[Arc<Layer>],
    ) -> Result<BTreeSet<u64>> {
        let size = self.replica.chunk_size();
        let view = self.replica.table().view();
        let (mut counts, mut crowded) = (BTreeMap::new(), BTreeSet::new());
        let ranges = layers.iter().filter(|layer| layer.chunk().is_some());
        for range in ranges.flat_map(|layer| layer.ranges()) {
            for (number, part) in range.slots(size) {
                if part.len() == size {
                    counts.insert(number, 1);
                    continue;
                }
                let count = match counts.entry(number) {
                    Entry::Occupied(count) => count.into_mut(),
                    Entry::Vacant(place) => {
                        let slot = content.map(|content| view.slot(content, number)).transpose()?;
                        place.insert(slot.flatten().map_or(0, |slot| slot.pieces.len()))
                    }
                };
                *count += 1;
                if *count > CROWD {
                    crowded.insert(number);
                }
            }
        }
        Ok(crowded)
    }

    /// Whether an operation puts bytes into one of these slots.
    pub(super) fn is_within(&self, op: &WriteOp, slots: &BTreeSet<u64>) -> bool {
        match op {
            WriteOp::Write { offset, .. } => slots.contains(&(offset / self.replica.chunk_size())),
            _ => false,
        }
    }

    /// Commits slots whole, a few at a time. Returns how many commits it took besides the inode.
    pub(super) async fn commit_crowded(
        &self,
        node: &Node,
        plan: &Plan,
        slots: &BTreeSet<u64>,
        wait: Wait,
    ) -> Result<(Box<Inode>, u64)> {
        let slots: Vec<u64> = slots.iter().copied().collect();
        let groups = slots.chunks(JOINED_AT_ONCE);
        let (last, mut left) = (groups.len() as u64, groups.len());
        let mut inode = Box::new(self.inode(node.ino)?);
        for group in groups {
            left -= 1;
            // The log has one order: who waits for the last waits for all.
            let wait = if left == 0 { wait } else { Wait::Applied };
            inode = self.commit_slots(node, plan, group, wait).await?;
        }
        Ok((inode, last))
    }

    /// Commits slots whole: the bytes they have with the plan's over them, if nobody changes the file
    /// in between; then they are looked at again.
    async fn commit_slots(
        &self,
        node: &Node,
        plan: &Plan,
        slots: &[u64],
        wait: Wait,
    ) -> Result<Box<Inode>> {
        for _ in 0..ATTEMPTS {
            let inode = self.inode(node.ino)?;
            let layers = match self.joined(node, plan, &inode, slots).await {
                // A chunk was compacted or collected since the manifest was read.
                Err(Error::NotFound) => {
                    self.replica.barrier().await?;
                    continue;
                }
                joined => joined?,
            };
            let version = inode.version;
            match self.commit_filler(node, plan, &layers, Vec::new(), version, wait).await {
                Err(Error::Conflict) => {}
                result => return result,
            }
        }
        Err(Error::Conflict)
    }

    /// Slots as a plan leaves them; holes become zeros.
    async fn joined(
        &self,
        node: &Node,
        plan: &Plan,
        inode: &Inode,
        slots: &[u64],
    ) -> Result<Vec<Arc<Layer>>> {
        let size = self.replica.chunk_size();
        let newer = Dirty { layers: plan.layers.clone(), end: plan.end, ..Dirty::default() };
        let mut layers = Vec::new();
        for slot in slots {
            let end = inode.size.max(plan.end).min((slot + 1) * size);
            let range = ByteRange::between(slot * size, end);
            match self.read_seen_anywhere(&newer, node.ino, range).await {
                Ok(bytes) => layers.push(self.filler(node, range.start(), &bytes)),
                Err(error) => {
                    layers.iter().for_each(|layer| self.abandon(layer));
                    return Err(error);
                }
            }
        }
        Ok(layers)
    }
}
