//! Checks a store: the records among themselves, each recorded chunk against its file, each chunk
//! file against the records. Changes nothing unless asked to, and even then no data.

mod affected;
mod left_over;
mod recorded;
mod records;

pub use recorded::verify as verify_recorded;

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::progress::OnCheck;
use crate::chunk::ChunkStore;
use crate::error::Result;
use crate::meta::Table;
use crate::types::NodeId;

/// What was found. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records that contradict each other, one sentence each.
    pub contradictions: Vec<String>,
    /// Chunks recorded on this node without a good file, and such that no node has.
    pub damaged: Vec<DamagedChunk>,
    /// Recorded chunks that were read whole, with a good checksum.
    pub good_chunks: u64,
    pub good_bytes: u64,
    /// Chunk files that no record names and none ever will: left over by a crash.
    pub left_over_files: u64,
    pub left_over_bytes: u64,
    /// Of these, removed.
    pub removed_files: u64,
}

/// A recorded chunk without a good file here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedChunk {
    pub chunk: String,
    pub what: String,
    /// Paths from the root, `BUCKET/…`, whose bytes lie in the chunk. Names that are no text are
    /// shown as near as can be.
    pub files: Vec<String>,
}

/// Whether files that are left over stay or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOver {
    Keep,
    Remove,
}

impl Report {
    /// Every acknowledged byte is there. Left-over files do no harm.
    pub fn is_sound(&self) -> bool {
        self.contradictions.is_empty() && self.damaged.is_empty()
    }
}

/// What is checked, and how.
pub struct Fsck<'a> {
    /// Whose chunk files these are.
    pub node: NodeId,
    pub table: &'a Table,
    pub chunks: &'a ChunkStore,
    pub left_over: LeftOver,
    /// Where the records of a store in use are copied to for the check, so that commits go on.
    /// `None`: nobody else uses it.
    pub scratch: Option<&'a Path>,
}

impl Fsck<'_> {
    /// Checks everything. Blocks for as long as it takes to read it.
    ///
    /// # Errors
    /// When the table or a directory of chunks cannot be read at all. What is found wrong is in
    /// the report.
    pub fn run(&self, on_check: &mut OnCheck<'_>) -> Result<Report> {
        let mut report = Report::default();
        match self.scratch {
            Some(scratch) => records::check_copy(self.table, scratch, &mut report, on_check)?,
            None => records::check(self.table, &mut report, on_check)?,
        }
        recorded::check(self.node, self.table, self.chunks, &mut report, on_check)?;
        affected::name_files(self.table, &mut report)?;
        left_over::check(self.table, self.chunks, self.left_over, &mut report, on_check)?;
        Ok(report)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for text in &self.contradictions {
            writeln!(f, "metadata: {text}")?;
        }
        for DamagedChunk { chunk, what, files } in &self.damaged {
            let files = if files.is_empty() { "no file".into() } else { files.join(", ") };
            writeln!(f, "chunk {chunk}: {what}; affects {files}")?;
        }
        let bytes = crate::config::ByteSize(self.good_bytes);
        writeln!(f, "{} chunks with {bytes} of data are good", self.good_chunks)?;
        if self.left_over_files > 0 {
            let bytes = crate::config::ByteSize(self.left_over_bytes);
            let (files, removed) = (self.left_over_files, self.removed_files);
            writeln!(f, "{files} chunk files ({bytes}) are left over, {removed} removed")?;
        }
        let verdict = if self.is_sound() { "the store is sound" } else { "damage was found" };
        f.write_str(verdict)
    }
}

#[cfg(test)]
pub(super) mod tests;
