//! This node among the members of its cluster: who leads, what the others are asked and answered,
//! who lives, who becomes a voter, who may join.

mod admission;
mod barrier;
mod census;
mod council;
mod invitations;
mod joining;
mod leases;
mod leaving;
mod receiving;
mod service;

pub use admission::{admit_until_member, tell_address};
pub use barrier::Barrier;
pub use census::{ClusterStatus, MemberStatus, Role};
pub use council::Council;
pub use invitations::{Invitation, Invitations};
pub use joining::ask_to_join;
pub use leases::{Leases, Living};
pub use service::Service;

use std::sync::Arc;
use std::time::Duration;

use openraft::{BasicNode, ChangeMembers, RaftMetrics, ServerState};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use super::log::Ends;
use super::peers::{self, Denied, Kind, Transport};
use super::raft::Machine;
use super::types::Raft;
use crate::env::within;
use crate::error::{Error, Result};
use crate::types::NodeId;

/// Between two questions to a cluster that has no leader.
pub const ASK_AGAIN: Duration = Duration::from_millis(50);

/// How long a change of the members may take, both steps together.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// The cluster as one of its nodes sees it.
#[derive(Clone)]
pub struct Cluster {
    pub node: NodeId,
    /// Where the others find this node.
    pub address: String,
    pub raft: Raft,
    pub machine: Arc<Machine>,
    pub transport: Arc<dyn Transport>,
    /// This node was removed.
    pub removed: watch::Sender<bool>,
    pub led_before: LedBefore,
}

/// What a node that led when it stopped had in its log. Openraft lets it lead on in the same term at once,
/// and then it does not know which of these entries are committed, and were answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct LedBefore {
    term: u64,
    last: u64,
}

impl LedBefore {
    pub fn of(ends: &Ends, node: NodeId) -> Self {
        let led = ends.vote.filter(|vote| vote.committed && vote.leader_id.node_id == node);
        match (led, ends.last) {
            (Some(vote), Some(last)) => Self { term: vote.leader_id.term, last: last.index },
            _ => Self::default(),
        }
    }

    /// Index through which a read has to see, as the leader of `term`.
    pub fn index(&self, term: u64) -> u64 {
        if self.term == term { self.last } else { 0 }
    }
}

/// Who decides at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leader {
    ThisNode,
    Other(NodeId),
    Nobody,
}

impl Cluster {
    pub fn leader(&self) -> Leader {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        match metrics.current_leader {
            Some(node) if node != self.node => Leader::Other(node),
            // A leader that was removed keeps the vote that made it one.
            Some(_) if metrics.state != ServerState::Learner => Leader::ThisNode,
            _ => Leader::Nobody,
        }
    }

    /// Asks the leader, which is another node, once.
    ///
    /// # Errors
    /// [`Error::Unreachable`], or [`Error::NoQuorum`] when it does not lead any more; it may have done
    /// what it was asked all the same.
    pub async fn ask<B: Serialize, A: DeserializeOwned>(
        &self,
        leader: NodeId,
        kind: Kind,
        body: &B,
        within: Duration,
    ) -> Result<A> {
        if let Some(address) = self.address_of(leader) {
            self.transport.learn(leader, &address);
        }
        let changed = || Error::NoQuorum("the leader has changed".into());
        let mut metrics = self.raft.metrics();
        let another_leads = async {
            let is_other = |metrics: &RaftMetrics<_, _>| metrics.current_leader != Some(leader);
            let ends = metrics.wait_for(is_other).await.is_err();
            if ends {
                // A node whose disk failed hears of no other leader.
                std::future::pending::<()>().await;
            }
        };
        let answered = tokio::select! {
            answered = peers::call(&*self.transport, leader, kind, body, within) => answered?,
            // One that is cut off or stopped answers late or never; the next one is asked at once.
            () = another_leads => return Err(changed()),
        };
        match answered {
            Ok(answer) => Ok(answer),
            Err(Denied::NotLeader(_)) => Err(changed()),
            Err(Denied::Failed(what)) => Err(Error::NoQuorum(format!("the leader: {what}"))),
            Err(Denied::NoSpace) => Err(Error::NoSpace),
            Err(Denied::Refused(what)) => Err(Error::Store(what)),
        }
    }

    /// Where the log says that it is.
    pub fn address_of(&self, node: NodeId) -> Option<String> {
        let metrics = self.raft.metrics();
        let membership = &metrics.borrow().membership_config;
        membership.membership().get_node(&node).map(|node| node.addr.clone())
    }

    /// Keeps knowing where the other members are, as they come and move; runs until raft ends.
    ///
    /// The leader knows it from leading; the others talk to each other too, about chunks.
    pub async fn keep_addresses(self) {
        let mut metrics = self.raft.metrics();
        loop {
            let known = Arc::clone(&metrics.borrow().membership_config);
            let others = known.membership().nodes().filter(|(node, _)| **node != self.node);
            others.for_each(|(node, at)| self.transport.learn(*node, &at.addr));
            let is_new = |is: &RaftMetrics<_, _>| is.membership_config.log_id() != known.log_id();
            if metrics.wait_for(is_new).await.is_err() {
                return;
            }
        }
    }

    /// Every member with its address, this one too.
    pub fn members(&self) -> Vec<(NodeId, String)> {
        let membership = self.machine.state().membership;
        let nodes = membership.membership().nodes();
        let place = |(id, node): (&NodeId, &BasicNode)| match *id == self.node {
            // The log may not know yet where this node listens now.
            true => (*id, self.address.clone()),
            false => (*id, node.addr.clone()),
        };
        nodes.map(place).collect()
    }

    /// Lets all members know where one of them is found from now on, as the leader.
    ///
    /// # Errors
    /// What openraft says.
    pub async fn set_address(&self, node: NodeId, address: &str) -> Result<()> {
        log::info!("node {node} is found at {address} from now on");
        if node != self.node {
            self.transport.learn(node, address);
        }
        // Its certificate says who it is, so that a wrong address only means that it is not reached.
        let change = ChangeMembers::SetNodes([(node, BasicNode::new(address))].into());
        self.change(change, true).await
    }

    /// Changes the membership, as the leader. A voter that is none any more stays as a learner if
    /// `retain`.
    ///
    /// # Errors
    /// What openraft says; [`Error::Timeout`] when it does not say anything: the change is made, or goes
    /// on, or is not made. Openraft itself waits for as long as it leads.
    pub async fn change(
        &self,
        change: ChangeMembers<NodeId, BasicNode>,
        retain: bool,
    ) -> Result<()> {
        match within(CHANGE_MAX, self.raft.change_membership(change, retain)).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(Error::NoQuorum(error.to_string())),
            None => Err(Error::Timeout("the members may or may not have changed")),
        }
    }
}
