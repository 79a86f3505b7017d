//! `bucketfs cluster invite|status|drain|remove`.

use std::fmt;

use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use serde::Serialize;

use super::flags::SettingFlags;
use super::operate::ask_node;
use super::output::{Exit, Output};
use crate::config::Period;
use crate::error::Result;
use crate::node::{ClusterStatus, ClusterView, Fate, MemberStatus, NodeState, Place, Role};
use crate::types::NodeId;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Print a token with which one new node may join, once
    Invite(Invite),
    /// How the cluster and each of its nodes are
    ///
    /// Exits with 1 when the cluster is not healthy, and says why.
    Status(All),
    /// Have a node's copies made on the others, so that it can be removed
    Drain(Drain),
    /// Remove a node for ever: one that is drained, or lost
    Remove(Remove),
}

#[derive(Args, Debug)]
pub struct Drain {
    /// Its number, as `bucketfs cluster status` shows it
    node: NodeId,
    /// Let it take copies again
    #[arg(long)]
    cancel: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct Remove {
    /// Its number, as `bucketfs cluster status` shows it
    node: NodeId,
    /// It will never come back: what only it had is lost
    #[arg(long)]
    lost: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct Invite {
    /// How long the token is good
    #[arg(long, value_name = "TIME", default_value = "1h")]
    valid_for: Period,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct All {
    #[command(flatten)]
    settings: SettingFlags,
}

impl Verb {
    pub fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Invite(Invite { valid_for, settings }) => {
                let good_for = valid_for.to_duration().as_secs();
                let token = ask_node(settings, async |node| node.invite(good_for).await)?;
                output.show(&Invited { token, valid_for: valid_for.to_string() })?;
                Ok(Exit::Done)
            }
            Self::Drain(Drain { node, cancel, settings }) => {
                let fate = if cancel { Fate::Active } else { Fate::Draining };
                ask_node(settings, async |operator| operator.set_fate(node, fate).await)?;
                output.show(&Decided { node, fate })?;
                Ok(Exit::Done)
            }
            Self::Remove(Remove { node, lost, settings }) => {
                let fate = Fate::Removed { lost };
                ask_node(settings, async |operator| operator.set_fate(node, fate).await)?;
                output.show(&Decided { node, fate })?;
                Ok(Exit::Done)
            }
            Self::Status(All { settings }) => {
                let status = ask_node(settings, async |node| node.cluster().await)?;
                let healthy = status.status.healthy;
                output.show(&Shown(status))?;
                Ok(if healthy { Exit::Done } else { Exit::Failed })
            }
        }
    }
}

#[derive(Serialize)]
struct Invited {
    token: String,
    valid_for: String,
}

/// The token alone, for scripts.
impl fmt::Display for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.token)
    }
}

#[derive(Serialize)]
struct Decided {
    node: NodeId,
    fate: Fate,
}

impl fmt::Display for Decided {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node;
        match self.fate {
            Fate::Active => write!(f, "Node {node} takes copies again."),
            Fate::Draining => write!(
                f,
                "Node {node} takes no more copies, and its own are made on the others. \
                 `bucketfs cluster remove {node}` says when that is done, and removes it."
            ),
            Fate::Removed { .. } => write!(
                f,
                "Node {node} is removed. Stop it if it runs; it can join again only anew, with an \
                 empty data directory."
            ),
        }
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(ClusterView);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClusterStatus { health, cluster, term, members, .. } = &self.0.status;
        writeln!(f, "{health}")?;
        writeln!(f, "cluster {cluster}, term {term}")?;
        if self.0.is_surveying {
            let wanting = "more copies may be wanting than are counted yet";
            writeln!(f, "a change of the nodes is being looked into: {wanting}")?;
        }
        let widest = members.iter().map(|member| member.address.len()).max().unwrap_or(0);
        for member in members {
            line(f, member, widest)?;
            if let Some(place) = self.0.places.iter().find(|place| place.node == member.node) {
                place_of_copies(f, place)?;
            }
            let known = self.0.versions.iter().find(|version| version.node == member.node);
            match known {
                Some(known) => writeln!(f, ", version {}", known.about.version)?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

fn place_of_copies(f: &mut fmt::Formatter<'_>, place: &Place) -> fmt::Result {
    if !place.zone.is_empty() {
        write!(f, ", zone {}", place.zone)?;
    }
    match place.wanting {
        0 => Ok(()),
        1 => f.write_str(", 1 copy wanting"),
        count => write!(f, ", {count} copies wanting"),
    }
}

fn line(f: &mut fmt::Formatter<'_>, member: &MemberStatus, widest: usize) -> fmt::Result {
    let role = match member.role {
        Role::Leader => "leader",
        Role::Voter => "voter",
        Role::Learner => "learner",
    };
    let state = match member.state {
        NodeState::Active => "",
        NodeState::Draining => ", draining",
        NodeState::Gone => ", removed",
    };
    let applied = member.applied.map_or("?".into(), |index| index.to_string());
    let lag = member.lag.map_or(String::new(), |lag| format!(", {lag} behind"));
    let heard = match member.heard_ms {
        Some(ms) if ms < 6000 => "",
        Some(_) => ", silent",
        None => ", not heard yet",
    };
    let disk = match member.disk_total {
        0 => String::new(),
        total => format!(", {} of {} free", HumanBytes(member.disk_free), HumanBytes(total)),
    };
    let (node, address) = (member.node, &member.address);
    write!(f, "{node:>15}  {address:widest$}  {role:7}  applied {applied}{lag}{disk}{state}{heard}")
}
