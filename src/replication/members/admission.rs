//! Becoming a member with an identity that was given before, however often the node was stopped in
//! between.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Cluster;
use crate::error::{Error, Result};
use crate::replication::peers::{self, Denied, Kind};
use crate::types::NodeId;

const WITHIN: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);

/// The body of [`Kind::Admit`].
#[derive(Debug, Serialize, Deserialize)]
pub struct AskForAdmission {
    /// Where the asking node can be reached.
    pub address: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Admission {
    Member,
    /// The leader decides.
    AskAt(NodeId, String),
}

/// Tells the leader, through whoever answers, that this member is found at `address`: one that moved
/// while it was stopped hears from nobody before.
pub async fn tell_address(cluster: &Cluster, address: &str) {
    let ask = AskForAdmission { address: address.to_owned() };
    let others = cluster.members().into_iter().filter(|(node, _)| *node != cluster.node);
    let mut contacts: Vec<(NodeId, String)> = others.collect();
    let mut named = false;
    while let Some((node, at)) = contacts.pop() {
        cluster.transport.learn(node, &at);
        match peers::call(&*cluster.transport, node, Kind::Admit, &ask, WITHIN).await {
            Ok(Ok(Admission::Member)) => return,
            Ok(Ok(Admission::AskAt(leader, at))) if !named => {
                named = true;
                contacts.push((leader, at));
            }
            answer => log::debug!("node {node} was told where this node is: {answer:?}"),
        }
    }
}

/// Asks `contacts`, and whom they name, until the log says that this node is a member.
///
/// # Errors
/// [`Error::Store`] when the cluster will not have it.
pub async fn admit_until_member(
    cluster: &Cluster,
    address: &str,
    contacts: Vec<(NodeId, String)>,
) -> Result<()> {
    let mut contacts = VecDeque::from(contacts);
    let ask = AskForAdmission { address: address.to_owned() };
    while !cluster.members().iter().any(|(node, _)| *node == cluster.node) {
        let Some((node, at)) = contacts.pop_front() else {
            return Err(Error::Store("no node of the cluster is known that could be asked".into()));
        };
        cluster.transport.learn(node, &at);
        let asked = peers::call(&*cluster.transport, node, Kind::Admit, &ask, WITHIN).await;
        match asked {
            Ok(Ok(Admission::Member)) => {}
            Ok(Ok(Admission::AskAt(leader, at))) => {
                contacts.retain(|(known, _)| *known != leader);
                contacts.push_front((leader, at));
            }
            Ok(Err(Denied::Refused(why))) => return Err(Error::Store(why)),
            Ok(Err(denied)) => log::info!("node {node} does not admit this node yet: {denied:?}"),
            Err(error) => log::info!("asking to be admitted: {error}"),
        }
        contacts.push_back((node, at));
        tokio::time::sleep(AGAIN).await;
    }
    Ok(())
}
