//! The chunk files of a node against the records, in the order of their ids: what is missing, and
//! what is there for nothing. Reads names, no data.

use std::collections::BTreeSet;

use super::keeper::Copies;
use crate::error::Result;
use crate::types::ChunkId;

/// Records compared at a time.
const PAGE: usize = 4096;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Recorded here, without a file.
    pub missing: Vec<ChunkId>,
    /// Files that no record names and none will.
    pub strays: Vec<ChunkId>,
    /// Files of chunks that are recorded, not here, and do not belong here.
    pub surplus: Vec<ChunkId>,
    /// Where the next call goes on.
    pub next: Option<ChunkId>,
}

/// Compares the chunks above `after`, some thousand records of them.
pub fn take(copies: &Copies, after: Option<ChunkId>) -> Result<Inventory> {
    let page = copies.table.view().chunks(after, PAGE)?;
    let next = (page.len() == PAGE).then(|| page.last().map(|(id, _)| *id)).flatten();
    let files = files(copies, after, next)?;
    let mut found = Inventory { next, ..Inventory::default() };
    let known: BTreeSet<ChunkId> = page.iter().map(|(id, _)| *id).collect();
    for (id, record) in &page {
        let (is_here, is_there) = (files.contains(id), record.stored_on.contains(&copies.node));
        match (is_here, is_there) {
            (false, true) => found.missing.push(*id),
            (true, false) if !record.missing_on.contains(&copies.node) && record.references > 0 => {
                found.surplus.push(*id);
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
