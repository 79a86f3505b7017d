//! The transport over HTTP/2 and TLS: two connections a peer, one for what orders changes and one for the
//! rest, opened when they are needed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Response, StatusCode};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::credentials::{self, Identity};
use super::messages::Kind;
use super::transport::{Answer, Transport};
use crate::error::{Error, Result};
use crate::types::NodeId;

/// Names the sender; its certificate has to agree.
pub const NODE_HEADER: &str = "x-bucketfs-node";
/// [`Kind::since`] of the message.
pub const PROTOCOL_HEADER: &str = "x-bucketfs-protocol";
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// A connection that is silent so long is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// What may be under way on one connection: some chunks.
const WINDOW: u32 = 32 << 20;

/// Carries messages for one node.
pub struct Https {
    identity: Identity,
    /// Where the connections for the rest are looked after.
    runtime: Handle,
    peers: Mutex<HashMap<NodeId, Peer>>,
}

#[derive(Clone)]
struct Peer {
    address: String,
    /// Its connection belongs to the thread that asks first, the one of the log: no other thread has to
    /// wake for a change to be sent.
    order: Client,
    rest: Client,
}

impl Https {
    pub fn new(identity: Identity, runtime: Handle) -> Self {
        Self { identity, runtime, peers: Mutex::default() }
    }
}

impl Transport for Https {
    fn call(&self, to: NodeId, kind: Kind, body: Bytes, within: Duration) -> Answer {
        let peer = self.peers.lock().get(&to).cloned();
        let Some(peer) = peer else {
            let error = Error::Unreachable(format!("node {to}: its address is not known"));
            return Box::pin(std::future::ready(Err(error)));
        };
        let client = if kind.is_order() { &peer.order } else { &peer.rest };
        let request = client
            .post(format!("https://{}{}", self.identity.host(to), kind.path()))
            .header(NODE_HEADER, self.identity.node)
            .header(PROTOCOL_HEADER, kind.since())
            .timeout(within)
            .body(body);
        let sent = async move { answer(request.send().await?, kind).await };
        let failed = move |failure: Failure| {
            Error::Unreachable(format!("node {to} at {}: {failure}", peer.address))
        };
        if kind.is_order() {
            return Box::pin(async move { sent.await.map_err(failed) });
        }
        // Who gives the answer up gives the request up, and the body's memory with it.
        let mut under_way = JoinSet::new();
        under_way.spawn_on(sent, &self.runtime);
        Box::pin(async move {
            match under_way.join_next().await {
                Some(Ok(sent)) => sent.map_err(failed),
                Some(Err(_)) | None => Err(Error::ShuttingDown),
            }
        })
    }

    fn learn(&self, node: NodeId, address: &str) {
        let mut peers = self.peers.lock();
        if peers.get(&node).is_some_and(|known| known.address == address) {
            return;
        }
        let client = || client((*self.identity.client).clone(), address);
        match client().and_then(|order| Ok((order, client()?))) {
            Ok((order, rest)) => {
                peers.insert(node, Peer { address: address.to_owned(), order, rest });
            }
            Err(error) => log::error!("node {node} at {address} cannot be talked to: {error}"),
        }
    }
}

/// Sends one message to `address`, whose authority is known and which does not know the sender.
///
/// # Errors
/// [`Error::Unreachable`] with what is in the way.
pub async fn ask_as_stranger(
    authority: &str,
    (host, address): (&str, &str),
    kind: Kind,
    body: Bytes,
    within: Duration,
) -> Result<Bytes> {
    let client = client(credentials::stranger(authority)?, address)?;
    let request = client
        .post(format!("https://{host}{}", kind.path()))
        .header(PROTOCOL_HEADER, kind.since())
        .timeout(within)
        .body(body);
    let asked = async { answer(request.send().await?, kind).await };
    asked.await.map_err(|error: Failure| Error::Unreachable(format!("{address}: {error}")))
}

/// A client of one address, under whatever name.
pub(super) fn client(mut tls: rustls::ClientConfig, address: &str) -> Result<Client> {
    tls.alpn_protocols = vec![b"h2".to_vec()];
    Client::builder()
        .tls_backend_preconfigured(tls)
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(WINDOW / 4)
        .http2_initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .http2_keep_alive_timeout(KEEP_ALIVE)
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .no_proxy()
        .dns_resolver(Arc::new(OneAddress(address.to_owned())))
        .build()
        .map_err(|error| Error::Store(format!("preparing to talk to {address}: {error}")))
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", chain(.0))]
    Http(#[from] reqwest::Error),
    #[error("it answered {0}: {1}")]
    Status(StatusCode, String),
    #[error("its answer is too long")]
    TooLong,
}

/// An error with its causes: reqwest's own text stops at "error sending request".
fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn answer(mut response: Response, kind: Kind) -> Result<Bytes, Failure> {
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(part) = response.chunk().await? {
        if body.len() + part.len() > kind.limit() {
            return Err(Failure::TooLong);
        }
        if body.is_empty() && response.content_length() == Some(part.len() as u64) {
            return checked(status, part);
        }
        body.extend_from_slice(&part);
    }
    checked(status, body.freeze())
}

fn checked(status: StatusCode, body: Bytes) -> Result<Bytes, Failure> {
    match status {
        StatusCode::OK => Ok(body),
        _ => Err(Failure::Status(status, String::from_utf8_lossy(&body).into_owned())),
    }
}

/// Resolves every name to one address: in TLS nodes go by their ids, not by their hosts.
struct OneAddress(String);

impl Resolve for OneAddress {
    fn resolve(&self, _: Name) -> Resolving {
        let address = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
