//! openraft's messages over the transport.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{
    Fatal, NetworkError, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError,
    Unreachable,
};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, Snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::campaign::Campaign;
use super::silence::Silence;
use crate::env::{Access, AlignedBuf, Disk, DiskFile, blocking};
use crate::error::{Error, Result};
use crate::replication::log::Log;
use crate::replication::peers::{Denied, Kind, SnapshotPart, Transport, call};
use crate::replication::types::{SnapshotMeta, Types, Vote};
use crate::types::NodeId;
use crate::types::limits::DIRECT_ALIGN;

type RpcError = RPCError<NodeId, BasicNode, RaftError<NodeId>>;
type SendError = StreamingError<Types, Fatal<NodeId>>;

/// Bytes of a snapshot in one message.
const PART_BYTES: usize = 4 << 20;
const _: () = assert!(PART_BYTES.is_multiple_of(DIRECT_ALIGN));
/// How long a part may take to be written at the other end.
const PART_MAX: Duration = Duration::from_secs(30);
/// How long a snapshot may take to become the table at the other end.
const INSTALL_MAX: Duration = Duration::from_secs(600);

/// Makes the links to the other members.
pub struct Network {
    pub transport: Arc<dyn Transport>,
    pub disk: Arc<dyn Disk>,
    pub log: Arc<Log>,
    pub silence: Silence,
    pub campaign: Arc<Campaign>,
}

impl Network {
    pub fn new(transport: &Arc<dyn Transport>, disk: &Arc<dyn Disk>, log: &Arc<Log>) -> Self {
        let (transport, disk) = (Arc::clone(transport), Arc::clone(disk));
        let (silence, campaign) = Default::default();
        Self { transport, disk, log: Arc::clone(log), silence, campaign }
    }
}

/// The way to one member.
pub struct Link {
    to: NodeId,
    transport: Arc<dyn Transport>,
    disk: Arc<dyn Disk>,
    log: Arc<Log>,
    silence: Silence,
    campaign: Arc<Campaign>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, node: &BasicNode) -> Link {
        self.transport.learn(target, &node.addr);
        Link {
            to: target,
            transport: Arc::clone(&self.transport),
            disk: Arc::clone(&self.disk),
            log: Arc::clone(&self.log),
            silence: self.silence.clone(),
            campaign: Arc::clone(&self.campaign),
        }
    }
}

impl Link {
    async fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        kind: Kind,
        body: &B,
        within: Duration,
    ) -> std::result::Result<A, Failed> {
        match call(&*self.transport, self.to, kind, body, within).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(denied)) => Err(Failed::Denied(denied)),
            Err(error) => Err(Failed::Silent(error)),
        }
    }

    /// Sends the file in parts; the answer to the last is the answer to all. It stays open: newer
    /// snapshots may take its name away meanwhile.
    async fn send_file(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        path: PathBuf,
    ) -> std::result::Result<SnapshotResponse<NodeId>, SendError> {
        let disk = Arc::clone(&self.disk);
        let opened = blocking(move || open(&*disk, &path)).await;
        let file = opened.unwrap_or(Err(Error::ShuttingDown)).map_err(unreadable)?;
        let mut offset = 0;
        loop {
            let part = Arc::clone(&file);
            let read = blocking(move || read_part(&*part, offset)).await;
            let (bytes, last) = read.unwrap_or(Err(Error::ShuttingDown)).map_err(unreadable)?;
            let sent = bytes.len() as u64;
            let part = SnapshotPart { vote, meta: meta.clone(), offset, bytes, last };
            let within = if last { INSTALL_MAX } else { PART_MAX };
            let answer: Option<SnapshotResponse<NodeId>> =
                self.ask(Kind::SnapshotPart, &part, within).await.map_err(Failed::streaming)?;
            match answer {
                Some(answer) => return Ok(answer),
                None if last => return Err(Failed::Denied(refused()).streaming()),
                None => offset += sent,
            }
        }
    }
}

impl RaftNetwork<Types> for Link {
    /// The answer counts when this node has on disk what it asked about: see [`super::voters`]. A
    /// node whose log fails asks nobody, so that the others choose another leader.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> std::result::Result<AppendEntriesResponse<NodeId>, RpcError> {
        if let Some(failed) = self.log.failure() {
            return Err(Failed::Silent(failed).rpc());
        }
        if self.silence.is_kept() {
            let unheard = Error::Unreachable("no quorum answers this leader".into());
            return Err(Failed::Silent(unheard).rpc());
        }
        let asked_about = self.log.written();
        let asked = self.ask(Kind::Append, &rpc, option.hard_ttl());
        let answer = match rpc.entries.len() as u64 {
            0 | 1 => asked.await,
            // On a slow link fewer entries may arrive in time.
            count => match tokio::time::timeout(option.soft_ttl(), asked).await {
                Ok(answer) => answer,
                Err(_) => return Err(PayloadTooLarge::new_entries_hint(count / 2).into()),
            },
        };
        let answer = answer.map_err(Failed::rpc)?;
        if promises(&answer) {
            let synced = self.log.wait_synced(asked_about).await;
            synced.map_err(|failed| Failed::Silent(failed).rpc())?;
        }
        Ok(answer)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> std::result::Result<VoteResponse<NodeId>, RpcError> {
        let asked = self.ask(Kind::Vote, &rpc, option.hard_ttl()).await;
        let answer = asked.map_err(Failed::rpc)?;
        self.campaign.is_answered(&rpc, &answer);
        Ok(answer)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> std::result::Result<SnapshotResponse<NodeId>, SendError> {
        tokio::select! {
            sent = self.send_file(vote, snapshot.meta, snapshot.snapshot.path) => sent,
            closed = cancel => Err(StreamingError::Closed(closed)),
        }
    }
}

/// Whether the member says that it has something on disk.
pub fn promises(answer: &AppendEntriesResponse<NodeId>) -> bool {
    match answer {
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => true,
        AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => false,
    }
}

fn open(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    let failed = |error| Error::io(format!("opening {}", path.display()), error);
    disk.open(path, Access::Read, false).map_err(failed)
}

/// Bytes of the file from `offset` on, and whether it ends with them.
fn read_part(file: &dyn DiskFile, offset: u64) -> Result<(Vec<u8>, bool)> {
    let failed = |error| Error::io("reading a snapshot", error);
    let mut buffer = AlignedBuf::zeroed(PART_BYTES);
    let read = file.read_at(&mut buffer, offset).map_err(failed)?;
    let last = offset + read as u64 >= file.size().map_err(failed)?;
    Ok((buffer[..read].to_vec(), last))
}

/// The snapshot of another time may be readable: openraft would end for a storage error.
fn unreadable(error: Error) -> SendError {
    log::error!("a snapshot is not sent: {error}");
    Failed::Silent(error).streaming()
}

fn refused() -> Denied {
    Denied::Failed("the last part of a snapshot was not answered".into())
}

/// Why a message was not answered as it should be.
enum Failed {
    Silent(Error),
    Denied(Denied),
}

impl Failed {
    fn rpc(self) -> RpcError {
        match self {
            Self::Silent(error) => RPCError::Unreachable(Unreachable::new(&error)),
            Self::Denied(denied) => RPCError::Network(network_error(&denied)),
        }
    }

    fn streaming(self) -> SendError {
        match self {
            Self::Silent(error) => StreamingError::Unreachable(Unreachable::new(&error)),
            Self::Denied(denied) => StreamingError::Network(network_error(&denied)),
        }
    }
}

fn network_error(denied: &Denied) -> NetworkError {
    NetworkError::new(&Error::Unreachable(format!("{denied:?}")))
}
