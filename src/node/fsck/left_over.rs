//! Every chunk file: does a record name it, or may one yet?

use super::{LeftOver, Report};
use crate::chunk::ChunkStore;
use crate::error::Result;
use crate::meta::Table;
use crate::node::progress::{OnCheck, Phase, Progress};
use crate::types::ChunkId;

/// Counts the files that are left over, and removes them when asked to.
pub fn check(
    table: &Table,
    chunks: &ChunkStore,
    left_over: LeftOver,
    report: &mut Report,
    on_check: &mut OnCheck<'_>,
) -> Result<()> {
    let mut done = 0;
    let mut found = Vec::new();
    chunks.visit(&mut |id, bytes| {
        done += 1;
        on_check(Progress { phase: Phase::Files, done, total: 0 })?;
        if is_left_over(table, id)? {
            found.push(id);
            report.left_over_files += 1;
            report.left_over_bytes += bytes;
        }
        Ok(true)
    })?;
    if left_over == LeftOver::Remove {
        for id in found {
            // Once more: the files were looked through for a while.
            if is_left_over(table, id)? {
                report.removed_files += u64::from(chunks.delete(id)?);
            }
        }
    }
    Ok(())
}

/// No record names the chunk, and its session can record it no more: it has ended, or has given
/// up the number. (A chunk without a record whose session lives is being written right now; one of
/// a session that this node has not heard of yet counts for the quorum of a commit that it will.)
fn is_left_over(table: &Table, id: ChunkId) -> Result<bool> {
    let view = table.view();
    Ok(view.chunk(id)?.is_none() && !view.may_still_come(id)?)
}
