//! Who is a member, and how each of them is: what `bucketfs cluster status` shows.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::LogIdOptionExt;
use serde::{Deserialize, Serialize};

use super::leases::{Heard, LEASE};
use super::{Cluster, Leader, Leases};
use crate::error::{Error, Result};
use crate::meta::NodeState;
use crate::replication::peers::Kind;
use crate::types::NodeId;

/// How long the leader may take to answer for the others.
const WITHIN: Duration = Duration::from_secs(3);
/// A node that was not heard for so long is worth a word.
pub const QUIET: Duration = Duration::from_secs(6);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Leader,
    Voter,
    /// Has the log and takes copies; its voice does not count.
    Learner,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    pub node: NodeId,
    pub address: String,
    pub role: Role,
    pub state: NodeState,
    /// Index of the last log entry in its table, as far as is known.
    pub applied: Option<u64>,
    /// Log entries it does not have yet.
    pub lag: Option<u64>,
    /// Milliseconds since it was last heard; `None` when it never was.
    pub heard_ms: Option<u64>,
    /// Bytes of its disk, and those that are free.
    pub disk_total: u64,
    pub disk_free: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// One sentence.
    pub health: String,
    pub healthy: bool,
    pub cluster: String,
    pub term: u64,
    pub leader: Option<NodeId>,
    pub members: Vec<MemberStatus>,
}

impl MemberStatus {
    /// Whether it was heard of late.
    pub fn is_heard(&self) -> bool {
        self.heard_ms.is_some_and(is_recent)
    }
}

fn is_recent(ms: u64) -> bool {
    u128::from(ms) <= QUIET.as_millis()
}

impl Cluster {
    /// Asks the leader; without one tells what this node knows.
    pub async fn census(&self, name: &str, leases: &Leases) -> ClusterStatus {
        match self.leaders_census(name, leases).await {
            Ok(status) => status,
            Err(error) => {
                log::debug!("the leader was not asked how all are: {error}");
                self.own_census(name, leases)
            }
        }
    }

    /// What the leader knows.
    ///
    /// # Errors
    /// As [`Self::ask`]; [`Error::NoQuorum`] when there is none.
    pub async fn leaders_census(&self, name: &str, leases: &Leases) -> Result<ClusterStatus> {
        match self.leader() {
            Leader::ThisNode => Ok(self.own_census(name, leases)),
            Leader::Other(leader) => self.ask(leader, Kind::Census, &(), WITHIN).await,
            Leader::Nobody => Err(Error::NoQuorum("there is no leader".into())),
        }
    }

    /// What this node knows by itself: as the leader, everything.
    pub fn own_census(&self, name: &str, leases: &Leases) -> ClusterStatus {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.current_leader == Some(self.node);
        let listening = leads.then(|| leases.listening(metrics.current_term));
        let heard = leases.heard();
        let last = metrics.last_log_index.unwrap_or(0);
        let membership = metrics.membership_config.membership();
        let records = self.machine.table.view().nodes().unwrap_or_default();
        let state_of = |node: NodeId| {
            let record = records.iter().find(|(known, _)| *known == node);
            // It has yet to enlist.
            record.map_or(NodeState::Active, |(_, record)| record.state)
        };
        let members = membership.nodes().map(|(&node, known)| {
            let replication = metrics.replication.as_ref();
            let matched = replication.and_then(|all| all.get(&node).copied().flatten().index());
            let said = heard.get(&node);
            MemberStatus {
                node,
                address: known.addr.clone(),
                state: state_of(node),
                role: match membership.get_joint_config().iter().any(|set| set.contains(&node)) {
                    _ if metrics.current_leader == Some(node) => Role::Leader,
                    true => Role::Voter,
                    false => Role::Learner,
                },
                applied: said.map(|said| said.alive.applied),
                lag: matched.filter(|_| leads).map(|index| last.saturating_sub(index)),
                heard_ms: match said {
                    // Without peers it tells nobody that it lives.
                    _ if node == self.node => Some(0),
                    Some(said) => Some(u64::try_from(said.ago.as_millis()).unwrap_or(u64::MAX)),
                    None => None,
                },
                disk_total: said.map_or(0, |said| said.alive.disk_total),
                disk_free: said.map_or(0, |said| said.alive.disk_free),
            }
        });
        let members: Vec<MemberStatus> = members.collect();
        let (healthy, health) = health(&members, &heard, listening);
        ClusterStatus {
            health,
            healthy,
            cluster: name.to_owned(),
            term: metrics.current_term,
            leader: metrics.current_leader,
            members,
        }
    }
}

/// Whether all is well, and a sentence about it. `listening`: for how long this node has led.
fn health(
    members: &[MemberStatus],
    heard: &BTreeMap<NodeId, Heard>,
    listening: Option<Duration>,
) -> (bool, String) {
    let Some(listening) = listening else {
        let what = "No leader can be reached: nothing can be written, and nothing read that has \
                    to be up to date.";
        return (false, what.into());
    };
    let name = |member: &MemberStatus| format!("node {} at {}", member.node, member.address);
    let quiet: Vec<String> = members.iter().filter(|member| !member.is_heard()).map(name).collect();
    let failed = members.iter().filter(|member| member.is_heard()).filter_map(|member| {
        let why = heard.get(&member.node)?.disk_failed.as_ref()?;
        Some(format!("{}: {why}", name(member)))
    });
    let mut troubles: Vec<String> = failed.collect();
    let count = members.len();
    if quiet.is_empty() && troubles.is_empty() {
        let sentence = match count {
            1 => "Healthy: the only node answers.".into(),
            count => format!("Healthy: all {count} nodes answer."),
        };
        return (true, sentence);
    }
    // Who was not heard at all may have spoken to the leader before.
    if !quiet.is_empty()
        && listening <= QUIET
        && members.iter().all(|member| member.heard_ms.is_none_or(is_recent))
    {
        let heard = count - quiet.len();
        let sentence = format!("Healthy: a leader is new, and has heard {heard} of {count} nodes.");
        return (true, sentence);
    }
    if !quiet.is_empty() {
        let (quiet, after, ends) = (quiet.join(", "), QUIET.as_secs(), LEASE.as_secs());
        troubles.insert(
            0,
            format!(
                "no word from {quiet} for more than {after} s; its session ends after {ends} s"
            ),
        );
    }
    (false, format!("Degraded: {}.", troubles.join("; ")))
}
