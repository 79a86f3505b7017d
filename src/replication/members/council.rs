//! What the leader does for the cluster as a whole: it ends the sessions of nodes that are silent,
//! makes voters of those that have caught up and lets go of those that were removed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::{ChangeMembers, LogIdOptionExt, ServerState};

use super::{Cluster, Leases};
use crate::env::within;
use crate::error::{Error, Result};
use crate::meta::{Mutation, Outcome};
use crate::replication::proposer::Proposer;
use crate::types::{NodeId, SessionId};

/// Between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// More do not make a cluster safer, only slower.
const VOTERS_MAX: usize = 5;
/// How long a quorum may take to say that this node leads.
const CONFIRM_MAX: Duration = Duration::from_secs(2);
/// A node that has the log up to so many entries counts as caught up.
const CAUGHT_UP: u64 = 1000;

pub struct Council {
    pub cluster: Cluster,
    pub leases: Arc<Leases>,
    pub proposer: Proposer,
}

impl Council {
    /// Works until it is dropped; does nothing while another node leads.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            if self.cluster.raft.metrics().borrow().state != ServerState::Leader {
                continue;
            }
            if let Err(error) = self.end_dead_sessions().await {
                log::warn!("sessions of dead nodes are ended later: {error}");
            }
            if let Err(error) = self.tell_own_address().await {
                log::warn!("where this node is found is told later: {error}");
            }
            if let Err(error) = self.choose_voters().await {
                log::warn!("the voters stay as they are for now: {error}");
            }
        }
    }

    async fn end_dead_sessions(&self) -> Result<()> {
        let own = self.proposer.session();
        let sessions = self.cluster.machine.table.view().sessions()?;
        let live: Vec<SessionId> = sessions
            .iter()
            .filter(|(id, session)| *id != own && !session.is_ended())
            .map(|(id, _)| *id)
            .collect();
        let term = self.cluster.raft.metrics().borrow().current_term;
        let dead = self.leases.run_out(term, &live);
        if !dead.is_empty() {
            self.confirm().await?;
        }
        for (id, session) in sessions.iter().filter(|(id, _)| dead.contains(id)) {
            log::warn!("node {} has been silent for too long: its session ends", session.node);
            self.end(*id).await?;
        }
        // A leader before this one may have got only so far.
        for (id, _) in sessions.iter().filter(|(_, session)| session.is_ended()) {
            self.end(*id).await?;
        }
        Ok(())
    }

    /// A leader that was cut off hears nobody, and may not lead any more: then it is not the others
    /// that were silent.
    async fn confirm(&self) -> Result<()> {
        let confirmed = within(CONFIRM_MAX, self.cluster.raft.get_read_log_id()).await;
        match confirmed {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(Error::NoQuorum(error.to_string())),
            None => Err(Error::NoQuorum("nobody confirms that this node leads".into())),
        }
    }

    /// As the leader only: another one judges by what it hears itself.
    async fn end(&self, session: SessionId) -> Result<()> {
        let end = Mutation::EndSession { session };
        while let Outcome::More(true) = self.proposer.propose_as_leader(end.clone()).await? {}
        Ok(())
    }

    /// A node may be started with another address than before.
    async fn tell_own_address(&self) -> Result<()> {
        let known = {
            let metrics = self.cluster.raft.metrics();
            let membership = &metrics.borrow().membership_config;
            membership.membership().get_node(&self.cluster.node).map(|node| node.addr.clone())
        };
        match known {
            Some(known) if known != self.cluster.address => {
                self.cluster.set_address(self.cluster.node, &self.cluster.address).await
            }
            _ => Ok(()),
        }
    }

    /// In one joint step, so that two new nodes make three voters without two in between, and one
    /// takes the place of another. Nodes that were removed leave.
    async fn choose_voters(&self) -> Result<()> {
        let gone = self.cluster.machine.table.view().placement()?.gone;
        let (voters, next, left, is_joint) = {
            let metrics = self.cluster.raft.metrics();
            let metrics = metrics.borrow();
            let last = metrics.last_log_index.unwrap_or(0);
            let membership = metrics.membership_config.membership();
            let is_gone = |node: &NodeId| gone.binary_search(node).is_ok();
            // A leader before this one may have got no further than to the joint step, whose last set
            // is where it wanted to get.
            let sets = membership.get_joint_config();
            let (voters, is_joint) = (sets.last().cloned().unwrap_or_default(), sets.len() > 1);
            let matched = |node: &NodeId| {
                let replication = metrics.replication.as_ref()?;
                replication.get(node).copied().flatten().index()
            };
            let caught_up =
                |node: &NodeId| matched(node).is_some_and(|index| index + CAUGHT_UP > last);
            let learners = membership.learner_ids();
            let (left, learners): (Vec<_>, Vec<_>) = learners.partition(is_gone);
            let ready: Vec<NodeId> = learners.into_iter().filter(caught_up).collect();
            let kept = voters.iter().copied().filter(|node| !is_gone(node)).collect();
            let next: BTreeSet<NodeId> = &kept | &promoted(&kept, &ready);
            (voters, next, BTreeSet::from_iter(left), is_joint)
        };
        if (next != voters || is_joint) && !next.is_empty() {
            log::info!("nodes {next:?} become the voters, in place of {voters:?}");
            // A voter that is none any more leaves altogether.
            self.cluster.change(ChangeMembers::ReplaceAllVoters(next), false).await?;
        }
        if !left.is_empty() {
            log::info!("nodes {left:?} are no members any more");
            self.cluster.change(ChangeMembers::RemoveNodes(left), false).await?;
        }
        Ok(())
    }
}

/// Which of the learners that are ready become voters: as many as keep their number odd, for an even
/// one bears no more failures and needs more answers.
fn promoted(voters: &BTreeSet<NodeId>, ready: &[NodeId]) -> BTreeSet<NodeId> {
    let all = (voters.len() + ready.len()).min(VOTERS_MAX);
    let odd = if all.is_multiple_of(2) { all.saturating_sub(1) } else { all };
    ready.iter().take(odd.saturating_sub(voters.len())).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_voters_is_odd_and_five_at_most() {
        let count = |voters: u64, ready: u64| {
            let ready: Vec<NodeId> = (100..100 + ready).collect();
            promoted(&(0..voters).collect(), &ready).len()
        };
        assert_eq!([count(1, 0), count(1, 1), count(1, 2), count(1, 3)], [0, 0, 2, 2]);
        assert_eq!([count(3, 1), count(3, 2), count(3, 9), count(5, 4)], [0, 2, 2, 0]);
    }
}
