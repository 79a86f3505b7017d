//! What this node answers to the messages of others.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use openraft::BasicNode;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admission::{Admission, AskForAdmission};
use super::joining::AskToJoin;
use super::leases::{Alive, DiskFailed, Leases};
use super::leaving;
use super::receiving::Receiving;
use super::{Barrier, Cluster, ClusterStatus, Invitations, Leader};
use crate::env::{Clock, blocking};
use crate::error::{Error, Result};
use crate::meta::{Request, codec};
use crate::replication::copies::ChunkServer;
use crate::replication::log::Log;
use crate::replication::peers::{
    About, Answer, Credentials, Denied, Handler, Joined, Kind, Proposed, Sender,
};
use crate::replication::proposer::Proposer;
use crate::replication::raft::{Campaign, promises};
use crate::replication::types::Types;
use crate::types::NodeId;
use crate::types::limits::{ENTRY_MUTATIONS_MAX, NODES_MAX};

/// Bytes that an entry takes in the log beyond those it has in a message, and more.
const RECORD_OVERHEAD: usize = 128;

/// Answers for one node.
pub struct Service {
    pub cluster: Cluster,
    pub proposer: Proposer,
    pub log: Arc<Log>,
    pub barrier: Arc<Barrier>,
    pub leases: Arc<Leases>,
    pub invitations: Arc<Invitations>,
    pub credentials: Credentials,
    /// 32 hexadecimal digits.
    pub name: String,
    pub clock: Arc<dyn Clock>,
    pub receiving: Receiving,
    pub campaign: Arc<Campaign>,
    /// Set when the chunk store is open.
    pub chunks: Arc<OnceLock<Arc<ChunkServer>>>,
    /// Files that every node of the cluster has, beside the log.
    pub secrets: Vec<(String, std::path::PathBuf)>,
}

impl Handler for Service {
    fn handle(self: Arc<Self>, from: Sender, kind: Kind, body: Bytes) -> Answer {
        Box::pin(async move {
            match from {
                Sender::Node(node) => self.answer_node(node, kind, body).await,
                Sender::Stranger => self.answer_stranger(kind, &body),
            }
        })
    }
}

impl Service {
    async fn answer_node(&self, from: NodeId, kind: Kind, body: Bytes) -> Result<Bytes> {
        // One that was removed may have missed it, and must neither write nor make elections.
        if kind != Kind::Append && self.cluster.is_gone(from) {
            return match kind {
                // Their answers have forms of their own.
                Kind::ChunkSend | Kind::ChunkRead | Kind::ChunkFetch | Kind::ChunkWhich => {
                    Err(Error::NotPermitted("this node was removed from the cluster"))
                }
                _ => reply(&Err::<(), _>(leaving::removed())),
            };
        }
        match kind {
            Kind::Append => self.append(&body).await,
            Kind::Vote => {
                self.make_room(0).await?;
                let request: VoteRequest<NodeId> = parse(&body)?;
                let answered = self.cluster.raft.vote(request.clone()).await;
                if let Ok(answer) = &answered {
                    self.campaign.answers(&request, answer, self.clock.elapsed());
                }
                reply(&answered.map_err(failed))
            }
            Kind::SnapshotPart => {
                match self.receiving.take(&self.cluster, parse(&body)?).await {
                    // Not at once again.
                    Err(error @ (Error::NoSpace | Error::Damaged(_))) => Err(error),
                    taken => reply(&taken.map_err(failed)),
                }
            }
            Kind::Propose => reply(&self.propose(parse(&body)?).await),
            Kind::ReadIndex => reply(&self.read_index().await),
            Kind::Alive => reply(&self.alive(from, &parse(&body)?).await),
            Kind::DiskFailed => reply(&self.disk_failed(from, parse(&body)?)),
            Kind::Admit => reply(&self.admit(from, &parse(&body)?).await),
            Kind::Census => reply(&self.census()),
            Kind::About => reply(&Ok::<_, Denied>(About::this())),
            Kind::ChunkSend | Kind::ChunkRead | Kind::ChunkFetch | Kind::ChunkWhich => {
                self.answer_about_chunks(kind, body).await
            }
            Kind::Join => Err(Error::NotPermitted("this node is a member already")),
        }
    }

    async fn append(&self, body: &Bytes) -> Result<Bytes> {
        let mut request: AppendEntriesRequest<Types> = parse(body)?;
        let is_known = self.cluster.raft.metrics().borrow().vote == request.vote;
        if !is_known {
            // It is written, too.
            self.make_room(0).await?;
        }
        let room = match request.entries.len() {
            0 => Ok(()),
            count => self.make_room(body.len() + count * RECORD_OVERHEAD).await,
        };
        if room.is_err() {
            // Who leads is heard all the same, or this node would call for elections.
            request.entries.clear();
            (request.prev_log_id, request.leader_commit) = (None, None);
        }
        let asked = self.cluster.raft.append_entries(request).await;
        if !matches!(asked, Ok(AppendEntriesResponse::HigherVote(_)) | Err(_)) {
            self.campaign.heard_leader(self.clock.elapsed());
        }
        room?;
        if asked.as_ref().is_ok_and(promises) {
            // What this node appended when it led may be younger than its last sync.
            self.log.wait_synced(self.log.written()).await?;
        }
        reply(&asked.map_err(failed))
    }

    /// What openraft cannot write ends it for good: without room for a message it does not get it, and
    /// whoever sent it sends it again after a while.
    async fn make_room(&self, bytes: usize) -> Result<()> {
        if self.log.has_room(bytes) {
            return Ok(());
        }
        let log = Arc::clone(&self.log);
        blocking(move || log.reserve(bytes)).await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// On a thread that may wait for the disk.
    async fn answer_about_chunks(&self, kind: Kind, body: Bytes) -> Result<Bytes> {
        let Some(server) = self.chunks.get().cloned() else {
            return Err(Error::NoQuorum("this node is starting".into()));
        };
        let answered = blocking(move || server.answer(kind, &body)).await;
        answered.unwrap_or(Err(Error::ShuttingDown))
    }

    fn answer_stranger(&self, kind: Kind, body: &[u8]) -> Result<Bytes> {
        match kind {
            Kind::Join => reply(&self.join(&parse(body)?)),
            _ => Err(Error::NotPermitted("only nodes of the cluster may ask that")),
        }
    }

    fn must_lead(&self) -> Result<(), Denied> {
        match self.cluster.leader() {
            Leader::ThisNode => Ok(()),
            Leader::Other(node) => Err(Denied::NotLeader(Some(node))),
            Leader::Nobody => Err(Denied::NotLeader(None)),
        }
    }

    /// The requests go into the leader's own queue, so that one entry and one sync serve the
    /// proposals of all nodes.
    async fn propose(&self, requests: Vec<Request>) -> Result<Proposed, Denied> {
        self.must_lead()?;
        if requests.len() > ENTRY_MUTATIONS_MAX {
            return Err(Denied::Refused("too many proposals in one message".into()));
        }
        let mut outcomes = Vec::with_capacity(requests.len());
        let (mut index, mut denied) = (0, Vec::new());
        for answered in self.proposer.submit_for_peer(requests).map_err(failed)? {
            match answered.await.unwrap_or(Err(Error::ShuttingDown)) {
                Ok(answered) => {
                    index = index.max(answered.index);
                    outcomes.push(answered.outcome);
                }
                Err(error) => denied.push(error),
            }
        }
        match denied.pop() {
            None => Ok(Proposed { outcomes, index }),
            // They may have gone into several entries. Only where there was room for none was
            // nothing done.
            Some(Error::NoSpace)
                if outcomes.is_empty()
                    && denied.iter().all(|error| matches!(error, Error::NoSpace)) =>
            {
                Err(Denied::NoSpace)
            }
            Some(error) => Err(failed(error)),
        }
    }

    async fn read_index(&self) -> Result<u64, Denied> {
        self.must_lead()?;
        self.barrier.index().await.map_err(failed)
    }

    fn census(&self) -> Result<ClusterStatus, Denied> {
        self.must_lead()?;
        Ok(self.cluster.own_census(&self.name, &self.leases))
    }

    async fn alive(&self, from: NodeId, alive: &Alive) -> Result<(), Denied> {
        self.must_lead()?;
        self.leases.note(from, alive.clone());
        let known = self.cluster.members().into_iter().find(|(node, _)| *node == from);
        match known {
            Some((_, address)) if address == alive.address => Ok(()),
            Some(_) => self.cluster.set_address(from, &alive.address).await.map_err(failed),
            None => Err(Denied::Refused("this node is no member of the cluster any more".into())),
        }
    }

    fn disk_failed(&self, from: NodeId, failed: DiskFailed) -> Result<(), Denied> {
        self.must_lead()?;
        self.leases.note_failure(from, failed);
        Ok(())
    }

    async fn admit(&self, from: NodeId, asked: &AskForAdmission) -> Result<Admission, Denied> {
        match self.cluster.leader() {
            Leader::ThisNode => {}
            Leader::Nobody => return Err(Denied::NotLeader(None)),
            Leader::Other(leader) => {
                let members = self.cluster.members();
                let at = members.into_iter().find(|(node, _)| *node == leader);
                return at
                    .map(|(node, address)| Admission::AskAt(node, address))
                    .ok_or(Denied::NotLeader(Some(leader)));
            }
        }
        if let Some((_, known)) = self.cluster.members().into_iter().find(|(node, _)| *node == from)
        {
            if known != asked.address {
                self.cluster.set_address(from, &asked.address).await.map_err(failed)?;
            }
            return Ok(Admission::Member);
        }
        if self.cluster.members().len() >= NODES_MAX {
            // The table of nodes would not take it, and it could not serve.
            let why = format!("a cluster has at most {NODES_MAX} nodes: remove one first");
            return Err(Denied::Refused(why));
        }
        let node = BasicNode::new(&asked.address);
        log::info!("node {from} at {} becomes a member", asked.address);
        let added = self.cluster.raft.add_learner(from, node, false).await;
        added.map(|_| Admission::Member).map_err(failed)
    }

    fn join(&self, asked: &AskToJoin) -> Result<Joined, Denied> {
        let secrets = self.secrets.iter().map(|(name, path)| {
            let bytes = std::fs::read(path)
                .map_err(|error| failed(Error::io(format!("reading {}", path.display()), error)))?;
            Ok((name.clone(), bytes))
        });
        // What can fail is done before the invitation is used up.
        let secrets = secrets.collect::<Result<_, Denied>>()?;
        match self.invitations.redeem(&asked.secret) {
            Ok(true) => {}
            Ok(false) => {
                let why = "the invitation is used up or too old: make a new one with `bucketfs \
                           cluster invite`";
                return Err(Denied::Refused(why.into()));
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(Joined {
            // Short enough for every reader of JSON, and never one that was there before.
            node: self.clock.random() >> 16 | 1,
            cluster: self.name.clone(),
            authority: self.credentials.authority.clone(),
            authority_key: self.credentials.authority_key.clone(),
            members: self.cluster.members(),
            secrets,
        })
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    codec::decode_message(body)
}

fn reply<T: Serialize>(answer: &Result<T, Denied>) -> Result<Bytes> {
    codec::encode_message(answer).map(Bytes::from)
}

fn failed(error: impl std::fmt::Display) -> Denied {
    Denied::Failed(error.to_string())
}
