//! How a node is connected with its peers: over the network, or within one process.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::credentials::Credentials;
use super::https::Https;
use super::listener::Listener;
#[cfg(doc)]
use super::messages::PROTOCOL;
use super::transport::{Handler, NoPeers, Transport};
use crate::error::Result;
use crate::types::NodeId;

#[derive(Clone)]
pub enum Peers {
    Https(PeerSettings),
    /// Tests connect nodes of one process, and cut them off from each other.
    Wired(Arc<dyn Fn(NodeId) -> Plugged + Send + Sync>),
}

#[derive(Clone, Debug)]
pub struct PeerSettings {
    pub listen: SocketAddr,
    /// Where the others find this node, `HOST:PORT`; `None`: where it listens.
    pub address: Option<String>,
    /// [`PROTOCOL`], or less to be a node of a version before.
    pub protocol: u16,
}

/// Answers the messages of others from when it is called until what it returns is dropped.
type Begin = Box<dyn FnOnce(Arc<dyn Handler>) -> Box<dyn Any + Send + Sync> + Send>;

/// One node's connection with its peers.
pub struct Plugged {
    pub transport: Arc<dyn Transport>,
    /// Where the others find this node.
    pub address: String,
    pub begin: Begin,
}

impl Plugged {
    /// Of a node without peers.
    pub fn nowhere() -> Self {
        let begin: Begin = Box::new(|_| Box::new(()));
        Self { transport: Arc::new(NoPeers), address: "local".into(), begin }
    }
}

impl Peers {
    /// Takes the address, and answers nobody yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] when it is taken.
    pub async fn plug(
        &self,
        cluster: &str,
        node: NodeId,
        credentials: &Credentials,
    ) -> Result<Plugged> {
        match self {
            Self::Wired(plug) => Ok(plug(node)),
            Self::Https(settings) => {
                let identity = credentials.identity(cluster, node)?;
                let listener = Listener::bind(settings.listen, settings.protocol).await?;
                let address = settings.address.clone();
                let address = address.unwrap_or_else(|| listener.address().to_string());
                let transport = Arc::new(Https::new(identity.clone(), Handle::current()));
                let runtime = Handle::current();
                let begin: Begin = Box::new(move |handler| {
                    let _inside = runtime.enter();
                    Box::new(listener.answer(identity, handler))
                });
                Ok(Plugged { transport, address, begin })
            }
        }
    }
}
