//! The seam between a node and its peers: one message there, one answer back.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::messages::Kind;
use crate::error::{Error, Result};
use crate::types::NodeId;

/// The answer to a message, when it comes.
pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

/// Carries messages to other nodes.
///
/// A message that fails may have arrived all the same, and one that was sent once may arrive twice:
/// whoever handles it must not mind. Nothing is carried to or from a node that cannot prove its id.
pub trait Transport: Send + Sync {
    /// Sends `body` to node `to` and returns what it answers.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when it did not get there or no answer came back `within` that time.
    fn call(&self, to: NodeId, kind: Kind, body: Bytes, within: Duration) -> Answer;

    /// From now on node `node` is found at `address`.
    fn learn(&self, node: NodeId, address: &str);
}

/// Who sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// A node of the cluster, by its certificate.
    Node(NodeId),
    /// Whoever reached the listener without a certificate: it may ask to join.
    Stranger,
}

/// Answers the messages of other nodes.
pub trait Handler: Send + Sync {
    fn handle(self: Arc<Self>, from: Sender, kind: Kind, body: Bytes) -> Answer;
}

/// The transport of a node that was given no address: nobody can be reached.
pub struct NoPeers;

impl Transport for NoPeers {
    fn call(&self, to: NodeId, _: Kind, _: Bytes, _: Duration) -> Answer {
        let error = Error::Unreachable(format!("node {to}: this node has no `peers.listen`"));
        Box::pin(std::future::ready(Err(error)))
    }

    fn learn(&self, _: NodeId, _: &str) {}
}
