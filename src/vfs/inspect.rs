//! What a person asks about one file: where its bytes are and how safe they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Vfs;
use super::node::Node;
use crate::chunk::chunk_path;
use crate::error::Result;
use crate::meta::Body;
use crate::types::{FileKind, Ino, Timestamp, hex};

/// `bucketfs info PATH`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileInfo {
    pub ino: Ino,
    pub kind: FileKind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    pub version: u64,
    pub committed_at: Timestamp,
    pub published: bool,
    /// Bytes written here that no commit has brought in yet.
    pub dirty: bool,
    /// "inline", "manifest CONTENT", "symlink", "none".
    pub body: String,
    /// Copies on disk and copies wanted of the chunk that has the fewest.
    pub copies: (usize, usize),
    pub pieces: Vec<PieceInfo>,
    /// There are more pieces than are listed.
    pub truncated: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PieceInfo {
    /// Byte offset in the file.
    pub offset: u64,
    pub len: u32,
    pub chunk: String,
    /// The chunk's file, below the data directory of each node that has a copy.
    pub file: PathBuf,
    pub chunk_offset: u32,
    pub sha256: String,
    pub copies: Vec<u64>,
}

/// Numbers of a running vfs, for `bucketfs status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Bytes written and not sealed yet.
    pub buffered_bytes: u64,
    pub open_files: usize,
    pub inodes: u64,
    /// Bytes that manifests reference.
    pub data_bytes: u64,
    pub disk_total: u64,
    pub disk_available: u64,
    pub direct_io: bool,
}

/// Slots listed of one file.
const SLOTS_SHOWN: u64 = 4096;

impl Vfs {
    /// # Errors
    /// [`crate::error::Error::Stale`] when the inode is gone.
    pub fn info(&self, ino: Ino) -> Result<FileInfo> {
        let inode = self.inode(ino)?;
        let (body, pieces) = match &inode.body {
            Body::None => ("none".to_owned(), Vec::new()),
            Body::Inline(_) => ("inline".to_owned(), Vec::new()),
            Body::Symlink(_) => ("symlink".to_owned(), Vec::new()),
            Body::Manifest(content) => (format!("manifest {content}"), self.pieces(*content)?),
        };
        let node = self.nodes.get(ino);
        let durability = self.durability(ino)?;
        Ok(FileInfo {
            ino,
            kind: inode.kind,
            mode: inode.mode.bits(),
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            size: inode.size,
            version: inode.version,
            committed_at: inode.committed_at,
            published: inode.published,
            dirty: node.is_some_and(|node| !node.state().dirty.is_clean()),
            body,
            copies: (durability.copies, durability.wanted),
            pieces,
            truncated: inode.size / self.replica.chunk_size() >= SLOTS_SHOWN,
        })
    }

    fn pieces(&self, content: crate::types::ContentId) -> Result<Vec<PieceInfo>> {
        let view = self.replica.table().view();
        let mut pieces = Vec::new();
        for (number, slot) in view.slots(content, 0, SLOTS_SHOWN - 1)? {
            for piece in slot.pieces {
                let record = view.chunk(piece.chunk)?;
                pieces.push(PieceInfo {
                    offset: number * self.replica.chunk_size() + u64::from(piece.start),
                    len: piece.len,
                    chunk: piece.chunk.to_string(),
                    file: chunk_path(Path::new("chunks"), piece.chunk),
                    chunk_offset: piece.chunk_offset,
                    sha256: record.as_ref().map(|record| hex(&record.sha256)).unwrap_or_default(),
                    copies: record.map(|record| record.stored_on).unwrap_or_default(),
                });
            }
        }
        Ok(pieces)
    }

    /// The age of the oldest write here that no commit has brought in yet; zero without any.
    pub fn oldest_dirty(&self) -> Duration {
        let since = |node: Arc<Node>| {
            let state = node.state();
            state.dirty.since.filter(|_| !state.dirty.is_clean())
        };
        let oldest = self.nodes.all().into_iter().filter_map(since).min();
        let seconds = oldest.map_or(0, |since| self.clock.now().seconds - since.seconds);
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }

    /// # Errors
    /// What the disk or the table say.
    pub fn report(&self) -> Result<Report> {
        let superblock = self.replica.table().view().superblock()?;
        let space = self.chunks.space()?;
        Ok(Report {
            buffered_bytes: self.sealer.budget.used(),
            open_files: self.nodes.all().len(),
            inodes: superblock.as_ref().map_or(0, |superblock| superblock.inodes),
            data_bytes: superblock.map_or(0, |superblock| superblock.data_bytes),
            disk_total: space.total,
            disk_available: space.available,
            direct_io: self.chunks.is_direct(),
        })
    }
}
