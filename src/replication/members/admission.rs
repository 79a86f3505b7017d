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
