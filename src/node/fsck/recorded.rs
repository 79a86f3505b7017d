//! Every chunk that a record names: is its file there, whole, and the one that was recorded?

use super::{DamagedChunk, Report};
use crate::chunk::ChunkStore;
use crate::error::{Error, Result};
use crate::meta::{ChunkRecord, Table, keys};
use crate::node::progress::{OnCheck, Phase, Progress};
use crate::types::{ChunkId, NodeId};

/// Records read at a time: the table is not held while files are read.
const PAGE: usize = 1024;

/// Fills in the good and the damaged chunks.
pub fn check(
    node: NodeId,
    table: &Table,
    chunks: &ChunkStore,
    report: &mut Report,
    on_check: &mut OnCheck<'_>,
) -> Result<()> {
    let superblock = table.view().superblock()?;
    let total = superblock.map_or(0, |superblock| superblock.data_bytes);
    let mut after = None;
    loop {
        let ids = table.view().ids(keys::CHUNK, after, PAGE)?;
        let Some(last) = ids.last() else { return Ok(()) };
        after = Some(*last);
        for id in ids.into_iter().map(ChunkId::from_bytes) {
            check_one(node, table, chunks, id, report)?;
            let done = report.good_bytes;
            on_check(Progress { phase: Phase::Chunks, done, total: total.max(done) })?;
        }
    }
}

fn check_one(
    node: NodeId,
    table: &Table,
    chunks: &ChunkStore,
    id: ChunkId,
    report: &mut Report,
) -> Result<()> {
    match verify(node, table, chunks, id)? {
        None => {}
        Some(Verified { len, damage: None }) => {
            report.good_chunks += 1;
            report.good_bytes += u64::from(len);
        }
        Some(Verified { damage: Some(what), .. }) => {
            report.damaged.push(DamagedChunk { chunk: id.to_string(), what, files: Vec::new() });
        }
    }
    Ok(())
}

/// What reading a recorded chunk whole told of it.
pub struct Verified {
    /// Bytes of data, as recorded.
    pub len: u32,
    pub damage: Option<String>,
}

/// Reads the chunk's file and compares it with the record; `None` when there is no record, or when
/// it is on other nodes only.
///
/// # Errors
/// When the table cannot be read, or the disk has failed.
pub fn verify(
    node: NodeId,
    table: &Table,
    chunks: &ChunkStore,
    id: ChunkId,
) -> Result<Option<Verified>> {
    let Some(record) = table.view().chunk(id)? else { return Ok(None) };
    if record.stored_on.is_empty() && record.references > 0 {
        let damage = Some("no node has it".into());
        return Ok(Some(Verified { len: record.len, damage }));
    }
    if !record.stored_on.contains(&node) {
        return Ok(None);
    }
    let damage = match chunks.verify_settled(id) {
        Ok(info) => disagreement(&record, info.len, info.sha256),
        Err(Error::NotFound) => Some("its file is missing".into()),
        Err(Error::Damaged(what)) => Some(what),
        Err(error @ Error::Io { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    let is_still_here = |record: ChunkRecord| record.stored_on.contains(&node);
    if damage.is_some() && !table.view().chunk(id)?.is_some_and(is_still_here) {
        // It was freed, or given up as surplus, while its file was read.
        return Ok(None);
    }
    Ok(Some(Verified { len: record.len, damage }))
}

fn disagreement(record: &ChunkRecord, len: u32, sha256: [u8; 32]) -> Option<String> {
    if record.len != len {
        return Some(format!("its file has {len} bytes of data, {} are recorded", record.len));
    }
    (record.sha256 != sha256).then(|| "its file holds other data than was recorded".into())
}
