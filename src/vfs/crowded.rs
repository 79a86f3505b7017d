//! Slots in many small pieces: a record of metadata can hold only so many, so whoever would add to
//! a crowded slot writes the whole slot instead.

use super::Vfs;
use super::node::{Dirty, Node};
use super::read::uncovered;
use crate::error::Result;
use crate::meta::{Body, Inode};
use crate::types::ByteRange;
use crate::types::limits::PIECES_MAX;

/// Pieces a slot may come to have before it is written whole; each one may cut another in two.
pub(super) const CROWD: usize = PIECES_MAX / 4;

impl Vfs {
    /// Joins the runs of slots that would get too many pieces, with what lies between them: holes
    /// become zeros.
    pub(super) fn join_crowded(&self, node: &Node, dirty: &mut Dirty) {
        if !self.replica.is_alone() {
            // What others write must not be written again: the commit sees to it.
            return;
        }
        for (slot, runs) in dirty.runs.counts() {
            if let Err(error) = self.join_if_crowded(node, dirty, slot, runs) {
                // Sealed as it is: at worst the commit refuses, and says so to the writer.
                log::warn!("inode {}: slot {slot} stays in pieces: {error}", node.ino.0);
            }
        }
    }

    fn join_if_crowded(
        &self,
        node: &Node,
        dirty: &mut Dirty,
        slot: u64,
        runs: usize,
    ) -> Result<()> {
        let inode = self.inode(node.ino)?;
        let size = self.replica.chunk_size();
        let range = ByteRange::between(slot * size, (slot + 1) * size);
        let committed = self.pieces_in(dirty, &inode, slot)?;
        let sealed = dirty.layers.iter();
        let sealed = sealed.fold(committed, |count, layer| layer.pieces_after(range, count));
        if sealed + runs <= CROWD {
            return Ok(());
        }
        let seen = ByteRange::between(range.start(), range.end().min(dirty.size(inode.size)));
        let bytes = self.read_seen(dirty, node.ino, seen)?;
        // Layers are in `bytes` already: only what the runs themselves cover is newer.
        let newer = Dirty { runs: std::mem::take(&mut dirty.runs), ..Dirty::default() };
        let gaps = uncovered(&newer, seen, size);
        dirty.runs = newer.runs;
        dirty.appended = None;
        for gap in gaps {
            let from = (gap.start() - seen.start()) as usize;
            let data = &bytes[from..from + gap.len() as usize];
            let (grown, _) = dirty.runs.write(gap.start(), data, size);
            self.sealer.budget.take_anyway(grown);
        }
        Ok(())
    }

    /// Pieces that the slot under the uncommitted changes has.
    fn pieces_in(&self, dirty: &Dirty, inode: &Inode, slot: u64) -> Result<usize> {
        let content = match (dirty.staged, &inode.body) {
            (Some(content), _) => content,
            (None, Body::Manifest(content)) if !dirty.reset => *content,
            _ => return Ok(0),
        };
        let found = self.replica.table().view().slot(content, slot)?;
        Ok(found.map_or(0, |slot| slot.pieces.len()))
    }
}
