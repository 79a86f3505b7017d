//! How a node leaves its cluster: its copies are made elsewhere, then it is removed.

use std::time::Duration;

use super::census::QUIET;
use super::{Cluster, ClusterStatus};
use crate::error::{Error, Result};
use crate::meta::{Mutation, NodeRecord, NodeState, Survey, Table};
use crate::replication::Replica;
use crate::replication::peers::{self, Denied, Kind};
use crate::replication::proposer::Wait;
use crate::types::NodeId;

/// What a removed node is told, and tells.
const REMOVED: &str = "this node was removed from the cluster: what it had is on the others, and its data \
    directory can be deleted; with a new one it can join again (`bucketfs serve --join TOKEN`)";
/// Longest wait for what one member says about another.
const WITHIN: Duration = Duration::from_secs(1);

/// The answer to what a removed node asks.
pub fn removed() -> Denied {
    Denied::Refused(REMOVED.into())
}

/// Chunk records looked at in one go.
const CHUNKS_AT_ONCE: usize = 4096;

impl Replica {
    /// Lets a node take no more copies: those it has are made on the others, and read from it until
    /// then. Or, with `Active`, lets it take copies again.
    ///
    /// # Errors
    /// [`Error::Store`] for a node that is not there, and when fewer nodes would be left than each
    /// chunk has copies.
    pub async fn set_draining(&self, node: NodeId, state: NodeState) -> Result<()> {
        self.barrier().await?;
        let record = self.known(node)?;
        self.set_node(node, NodeRecord { state, ..record }).await
    }

    /// Removes a node for ever; its id never comes back.
    ///
    /// # Errors
    /// [`Error::Store`] when it still has copies that are needed, unless it is `lost`; then when it
    /// is alive.
    pub async fn remove_node(&self, node: NodeId, lost: bool) -> Result<()> {
        self.barrier().await?;
        if node == self.node() {
            return Err(Error::Store("a node cannot remove itself: ask another one".into()));
        }
        let record = self.known(node)?;
        if lost {
            self.require_silent(node).await?;
        } else {
            self.require_drained(node, &record)?;
        }
        self.set_node(node, NodeRecord { state: NodeState::Gone, ..record }).await?;
        log::warn!("node {node} is removed from the cluster");
        Ok(())
    }

    /// Nobody hears the node: not this one now, and not the leader, which has listened for long enough
    /// to know.
    async fn require_silent(&self, node: NodeId) -> Result<()> {
        let answers = || Error::Store(format!("node {node} answers: drain it instead"));
        // Where it is found now: its record says where it was when it enlisted.
        if let Some(address) = self.cluster.address_of(node) {
            self.cluster.transport.learn(node, &address);
        }
        let asked: Result<Result<ClusterStatus, Denied>> =
            peers::call(&*self.cluster.transport, node, Kind::Census, &(), WITHIN).await;
        if asked.is_ok() {
            return Err(answers());
        }
        let status = self.cluster.leaders_census(&self.node.cluster, &self.leases).await?;
        match status.members.iter().find(|member| member.node == node) {
            Some(member) if member.is_heard() => Err(answers()),
            // With a silent member all is well as long as the leader is new.
            Some(_) if status.healthy => Err(Error::Store(format!(
                "the leader is new and cannot know yet whether node {node} is lost: ask again in {} s",
                QUIET.as_secs()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// A member may not have enlisted yet, or may never be able to: it has no copies.
    fn known(&self, node: NodeId) -> Result<NodeRecord> {
        let nodes = self.machine.table.view().nodes()?;
        let enlisted = nodes.into_iter().find(|(known, _)| *known == node);
        let member = || {
            let members = self.cluster.members();
            let address = members.into_iter().find(|(member, _)| *member == node)?.1;
            Some(NodeRecord::enlisting(&address, ""))
        };
        let record = enlisted.map(|(_, record)| record).or_else(member);
        record.filter(|record| record.state != NodeState::Gone).ok_or_else(|| {
            let where_to_look = "see `bucketfs cluster status`";
            Error::Store(format!("the cluster has no node {node}: {where_to_look}"))
        })
    }

    fn require_drained(&self, node: NodeId, record: &NodeRecord) -> Result<()> {
        if record.state != NodeState::Draining {
            return Err(Error::Store(format!(
                "node {node} takes copies: `bucketfs cluster drain {node}` first; if it will never \
                 come back, remove it with --lost"
            )));
        }
        match copies_needed(&self.machine.table, node)? {
            0 => Ok(()),
            needed => Err(Error::Store(format!(
                "{needed} chunks of node {node} are not copied to all other places yet: ask again \
                 later"
            ))),
        }
    }

    async fn set_node(&self, node: NodeId, record: NodeRecord) -> Result<()> {
        let set = Mutation::SetNode { node, record };
        self.propose(set, Wait::Durable, 0).await.map(|_| ())
    }
}

impl Cluster {
    /// Whether a node was removed, as far as this one knows.
    pub fn is_gone(&self, node: NodeId) -> bool {
        self.machine.is_gone(node)
    }

    /// Asks the other members whether this node was removed: one that was hears nothing from the log
    /// any more. Whoever waits for [`Self::until_removed`] is told.
    ///
    /// # Errors
    /// [`Error::Store`] with what that means, when it was.
    pub async fn require_membership(&self) -> Result<()> {
        for (node, _) in self.members() {
            if node == self.node {
                continue;
            }
            let asked: Result<Result<ClusterStatus, Denied>> =
                peers::call(&*self.transport, node, Kind::Census, &(), WITHIN).await;
            if let Ok(Err(Denied::Refused(why))) = asked {
                self.removed.send_replace(true);
                return Err(Error::Store(why));
            }
        }
        Ok(())
    }

    /// Returns once it is known that this node was removed, with the error that says so.
    pub async fn until_removed(&self) -> Error {
        let mut removed = self.removed.subscribe();
        match removed.wait_for(|removed| *removed).await {
            Ok(_) => Error::Store(REMOVED.into()),
            // There is a sender as long as there is `self`.
            Err(_) => Error::ShuttingDown,
        }
    }
}

/// How many chunks that a node has are not at all their places. Nothing is applied while a view is
/// held: each page has its own.
fn copies_needed(table: &Table, node: NodeId) -> Result<usize> {
    let surveyed = table.view().placement()?.survey == Survey::Done;
    let (mut needed, mut after) = (0, None);
    loop {
        let chunks = table.view().chunks(after, CHUNKS_AT_ONCE)?;
        let here = chunks.iter().filter(|(_, chunk)| {
            let is_there = chunk.references > 0 && chunk.stored_on.contains(&node);
            is_there && (!surveyed || !chunk.missing_on.is_empty())
        });
        needed += here.count();
        match chunks.last() {
            Some((last, _)) if chunks.len() == CHUNKS_AT_ONCE => after = Some(*last),
            _ => return Ok(needed),
        }
    }
}
