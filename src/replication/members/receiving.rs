//! A snapshot that comes in from the leader, part by part.

use std::sync::Arc;

use openraft::Snapshot;
use openraft::raft::SnapshotResponse;

use super::Cluster;
use crate::env::{DiskFile, blocking};
use crate::error::{Error, Result};
use crate::replication::peers::SnapshotPart;
use crate::replication::types::SnapshotFile;
use crate::types::NodeId;

#[derive(Default)]
pub struct Receiving {
    partial: tokio::sync::Mutex<Option<Partial>>,
}

struct Partial {
    snapshot: String,
    file: Arc<dyn DiskFile>,
    end: u64,
}

impl Receiving {
    /// Takes one part; a first one throws away what came before it. The answer comes with the last.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not follow what is here: begin again.
    pub async fn take(
        &self,
        cluster: &Cluster,
        part: SnapshotPart,
    ) -> Result<Option<SnapshotResponse<NodeId>>> {
        let mut partial = self.partial.lock().await;
        let SnapshotPart { vote, meta, offset, bytes, last } = part;
        let snapshots = cluster.machine.snapshots.clone();
        let before = partial.take().filter(|_| offset != 0);
        let snapshot = meta.snapshot_id.clone();
        let written = blocking(move || {
            let mut partial = match before {
                Some(partial) => partial,
                None => Partial { snapshot: snapshot.clone(), file: snapshots.receive()?, end: 0 },
            };
            if partial.end != offset || partial.snapshot != snapshot {
                return Err(Error::Conflict);
            }
            let failed = |error| Error::io("receiving a snapshot", error);
            partial.file.write_at(&bytes, offset).map_err(failed)?;
            partial.end += bytes.len() as u64;
            if last {
                partial.file.sync().map_err(failed)?;
            }
            Ok(partial)
        });
        *partial = Some(written.await.unwrap_or(Err(Error::ShuttingDown))?);
        if !last {
            return Ok(None);
        }
        *partial = None;
        let file = SnapshotFile { path: cluster.machine.snapshots.receiving() };
        let snapshot = Snapshot { meta, snapshot: Box::new(file) };
        let installed = cluster.raft.install_full_snapshot(vote, snapshot).await;
        installed.map(Some).map_err(|error| Error::NoQuorum(error.to_string()))
    }
}
