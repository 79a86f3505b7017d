//! `bucketfs status`: how a store is, running or not.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::fsck::DamagedChunk;
use super::scrub::Scrubber;
use super::store::Store;
use crate::error::Result;
use crate::meta::{NodeRecord, NodeState, Table};
use crate::replication::{self, ClusterStatus, CopyCounts, NodeVersion, Wanting};
use crate::types::{ChunkId, NodeId};

/// How the cluster is, and what its nodes run, as far as they say it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterView {
    #[serde(flatten)]
    pub status: ClusterStatus,
    pub versions: Vec<NodeVersion>,
    /// As this node's table has it.
    pub places: Vec<Place>,
    /// A change of the nodes is still being looked into: more copies may be wanting than `places` tell.
    pub is_surveying: bool,
}

/// A node as a place of copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub node: NodeId,
    pub zone: String,
    /// Copies that it has yet to make.
    pub wanting: u64,
}

impl Place {
    /// All nodes that belong to the cluster.
    ///
    /// # Errors
    /// What the table says.
    pub fn all(table: &Table) -> Result<Vec<Self>> {
        let wanting = replication::wanting_by_node(table)?;
        let nodes = table.view().nodes()?.into_iter();
        let places = nodes.filter(|(_, record)| record.state != NodeState::Gone);
        let place = |(node, record): (NodeId, NodeRecord)| Self {
            node,
            zone: record.zone,
            wanting: wanting.get(&node).copied().unwrap_or(0),
        };
        Ok(places.map(place).collect())
    }
}

/// Sizes in bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// A node serves the store; else it was opened to ask and closed again.
    pub running: bool,
    pub pid: Option<u32>,
    pub version: String,
    pub data_dir: PathBuf,
    pub mounts: Vec<PathBuf>,
    pub engine: String,
    pub chunk_size: u64,
    pub uptime_seconds: u64,
    pub inodes: u64,
    pub data_bytes: u64,
    /// Written and not yet in chunks.
    pub buffered_bytes: u64,
    pub open_files: u64,
    pub disk_total: u64,
    pub disk_available: u64,
    /// The file system takes O_DIRECT.
    pub direct_io: bool,
    /// Keys that S3 and REST may be asked with.
    pub access_keys: u64,
    /// Chunks that somebody misses and that reads, or the scrubbing in the background, found
    /// without a good file since the node was started.
    pub damaged: Vec<DamagedChunk>,
    /// When the scrubbing was last through with all chunks, in seconds since 1970.
    pub scrubbed_at: Option<i64>,
    /// Copies that are to be made or given up.
    pub wanting: Wanting,
    /// What was done for copies since the node was started.
    pub copies: CopyCounts,
    /// The log, the table and the snapshots.
    pub replication: replication::Status,
}

impl Status {
    /// Of an open store; whoever serves it adds what it knows.
    ///
    /// # Errors
    /// What the disk or the table say.
    pub fn of(store: &Store) -> Result<Self> {
        let report = store.vfs.report()?;
        Ok(Self {
            running: false,
            pid: None,
            version: env!("CARGO_PKG_VERSION").into(),
            data_dir: store.data_dir.clone(),
            mounts: Vec::new(),
            engine: store.engine.to_string(),
            chunk_size: store.replica.chunk_size(),
            uptime_seconds: store.clock.elapsed().as_secs(),
            inodes: report.inodes,
            data_bytes: report.data_bytes,
            buffered_bytes: report.buffered_bytes,
            open_files: report.open_files as u64,
            disk_total: report.disk_total,
            disk_available: report.disk_available,
            direct_io: report.direct_io,
            access_keys: store.vfs.key_count()? as u64,
            damaged: damaged(store, store.chunks.damaged())?,
            scrubbed_at: None,
            wanting: Wanting::of(store.replica.table(), store.replica.node())?,
            copies: store.copies.counts(),
            replication: store.replica.status(),
        })
    }

    /// Of a store that is served: adds who serves it, where, and what was found in the background.
    ///
    /// # Errors
    /// As [`Self::of`] has them.
    pub fn serving(store: &Store, mounts: &[PathBuf], scrubber: &Scrubber) -> Result<Self> {
        let status = Self::of(store)?;
        let mut found = store.chunks.damaged();
        found.extend(scrubber.damaged());
        Ok(Self {
            running: true,
            pid: Some(std::process::id()),
            mounts: mounts.to_vec(),
            damaged: damaged(store, found)?,
            scrubbed_at: scrubber.position().finished,
            ..status
        })
    }
}

/// Each chunk once, as far as a record still names it.
fn damaged(store: &Store, found: Vec<(ChunkId, String)>) -> Result<Vec<DamagedChunk>> {
    let found: BTreeMap<ChunkId, String> = found.into_iter().collect();
    let mut damaged = Vec::new();
    for (id, what) in found {
        if store.replica.table().view().chunk(id)?.is_some() {
            damaged.push(DamagedChunk { chunk: id.to_string(), what, files: Vec::new() });
        }
    }
    Ok(damaged)
}
