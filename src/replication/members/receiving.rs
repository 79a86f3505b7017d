//! A snapshot that comes in from the leader, part by part.

use std::sync::Arc;

use openraft::Snapshot;
use openraft::raft::SnapshotResponse;

use super::Cluster;
use crate::env::blocking;
use crate::error::{Error, Result};
use crate::replication::peers::SnapshotPart;
use crate::replication::snapshot::Incoming;
use crate::replication::types::SnapshotFile;
use crate::types::NodeId;

#[derive(Default)]
pub struct Receiving {
    partial: Arc<tokio::sync::Mutex<Option<Partial>>>,
}

struct Partial {
    snapshot: String,
    incoming: Incoming,
}

impl Receiving {
    /// Takes one part; a first one throws away what came before it. The answer comes with the last.
    ///
    /// Openraft forgets the log as soon as it hears of a snapshot, before it replaces the table: only
    /// one that is on disk, whole and under its name, may be told to it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when it does not follow what is here: begin again.
    pub async fn take(
        &self,
        cluster: &Cluster,
        part: SnapshotPart,
    ) -> Result<Option<SnapshotResponse<NodeId>>> {
        // Held to the end of the work also when nobody waits for it any more.
        let mut partial = Arc::clone(&self.partial).lock_owned().await;
        let SnapshotPart { vote, meta, offset, bytes, last } = part;
        let (snapshots, known) = (cluster.machine.snapshots.clone(), meta.clone());
        let written = blocking(move || {
            let mut now = match partial.take().filter(|_| offset != 0) {
                Some(before) => before,
                None => {
                    Partial { snapshot: known.snapshot_id.clone(), incoming: snapshots.receive()? }
                }
            };
            if now.snapshot != known.snapshot_id {
                return Err(Error::Conflict);
            }
            now.incoming.add(offset, &bytes)?;
            if last {
                return snapshots.keep(now.incoming, &known).map(Some);
            }
            *partial = Some(now);
            Ok(None)
        });
        let Some(path) = written.await.unwrap_or(Err(Error::ShuttingDown))? else {
            return Ok(None);
        };
        let snapshot = Snapshot { meta, snapshot: Box::new(SnapshotFile { path }) };
        let installed = cluster.raft.install_full_snapshot(vote, snapshot).await;
        installed.map(Some).map_err(|error| Error::NoQuorum(error.to_string()))
    }
}
