//! The chunk files of a node against the records, in the order of their ids: what is missing, and
//! what is there for nothing. Reads names, no data.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::keeper::Copies;
use super::repair::{ROUND_MAX, Repair, on_disk};
use crate::error::{Error, Result};
use crate::meta::Mutation;
use crate::types::ChunkId;
use crate::types::limits::REAP_IDS_MAX;

/// Records compared at a time.
const PAGE: usize = 4096;

/// How far a look at all files is: it has seen the chunks up to this one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looking {
    after: Option<ChunkId>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Inventory {
    /// Recorded here, without a file.
    missing: Vec<ChunkId>,
    /// Files that no record names and none will.
    strays: Vec<ChunkId>,
    /// Files of chunks that are recorded, not here, and do not belong here.
    surplus: Vec<ChunkId>,
    /// Where the next call goes on.
    next: Option<ChunkId>,
}

impl Repair {
    /// Compares all files with the records, if that is due, as far as there is time; goes on where the
    /// last round stopped or failed.
    ///
    /// # Errors
    /// What the log says, or the disk.
    pub(super) async fn take_inventory(&self) -> Result<()> {
        let until = self.copies.clock.elapsed() + ROUND_MAX;
        while let Some(Looking { after }) = self.looking() {
            if self.is_late(until) {
                break;
            }
            let copies = Arc::clone(&self.copies);
            let found = on_disk(move || take(&copies, after)).await?;
            self.tell_missing(&self.still_missing(found.missing).await?).await?;
            self.delete(found.surplus).await?;
            for ids in found.strays.chunks(REAP_IDS_MAX) {
                log::info!("{} chunk files that nothing names are removed", ids.len());
                // Whoever has the files hears of it, this node too.
                self.propose(Mutation::Reap { ids: ids.to_vec() }).await?;
            }
            let next = found.next.map(|last| Looking { after: Some(last) });
            self.state.lock().inventory = next;
        }
        Ok(())
    }

    /// Files that are made while others are listed may not be listed.
    async fn still_missing(&self, mut ids: Vec<ChunkId>) -> Result<Vec<ChunkId>> {
        let chunks = Arc::clone(&self.copies.chunks);
        let look = move || {
            ids.retain(|id| matches!(chunks.info(*id), Err(Error::NotFound)));
            Ok(ids)
        };
        on_disk(look).await
    }

    fn looking(&self) -> Option<Looking> {
        self.state.lock().inventory
    }
}

/// Compares the chunks above `after`, some thousand records of them.
fn take(copies: &Copies, after: Option<ChunkId>) -> Result<Inventory> {
    let (page, placement) = {
        let view = copies.table.view();
        (view.chunks(after, PAGE)?, view.placement()?)
    };
    let next = (page.len() == PAGE).then(|| page.last().map(|(id, _)| *id)).flatten();
    let files = files(copies, after, next)?;
    let mut found = Inventory { next, ..Inventory::default() };
    let known: BTreeSet<ChunkId> = page.iter().map(|(id, _)| *id).collect();
    for (id, record) in &page {
        let (is_here, is_there) = (files.contains(id), record.stored_on.contains(&copies.node));
        match (is_here, is_there) {
            (false, true) => found.missing.push(*id),
            (true, false) if record.references > 0 => {
                // It may have become this node's and not be noted so yet.
                let places = placement.places(*id);
                let is_wanted = places.is_empty() || places.contains(&copies.node);
                found.surplus.extend((!is_wanted).then_some(*id));
            }
            _ => {}
        }
    }
    for id in files.difference(&known) {
        let view = copies.table.view();
        if view.chunk(*id)?.is_none() && !view.may_still_come(*id)? {
            found.strays.push(*id);
        }
    }
    Ok(found)
}

/// The files above `after` and up to `last`.
fn files(
    copies: &Copies,
    after: Option<ChunkId>,
    last: Option<ChunkId>,
) -> Result<BTreeSet<ChunkId>> {
    let mut files = BTreeSet::new();
    copies.chunks.visit_after(after, &mut |id, _| {
        if last.is_some_and(|last| id > last) {
            return Ok(false);
        }
        files.insert(id);
        Ok(true)
    })?;
    Ok(files)
}
