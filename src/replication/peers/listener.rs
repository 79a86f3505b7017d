//! Where other nodes' messages come in: TLS, HTTP/2, one POST a message. Nobody is answered who has
//! not proved to be a node of this cluster, except for the question whether he may join.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::credentials::Identity;
use super::https::{NODE_HEADER, PROTOCOL_HEADER};
use super::messages::Kind;
use super::transport::{Handler, Sender};
use crate::error::{Error, Result};
use crate::types::NodeId;

/// How long a peer may take for the TLS handshake, and for sending one message.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
const BODY_MAX: Duration = Duration::from_secs(30);
/// Messages of one peer that are worked on at a time.
const STREAMS_MAX: u32 = 256;
const WINDOW: u32 = 32 << 20;
/// Connections at a time of those who have not proved to be a node, and how long each may stay: one
/// that joins asks one thing.
const STRANGERS_MAX: usize = 32;
const STRANGER_STAYS: Duration = Duration::from_secs(30);
/// Connections that are in their handshake; more of them wait to be accepted.
const HANDSHAKES_MAX: usize = 128;
/// Chunks that are being received, from all peers, in MiB. Beyond it they are refused, and sent again: a
/// body that waited to be read would hold up what else is on its connection. One whose sender has gone
/// counts until the disk is done with it.
pub const RECEIVED_MAX: usize = 256;
/// Reads of chunks that are answered at a time, from all peers; others wait.
pub const READS_MAX: usize = 32;

/// A bound address that does not answer yet.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    protocol: u16,
}

/// Answers until it is dropped.
pub struct Listening {
    task: JoinHandle<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    /// # Errors
    /// [`Error::Io`] when the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, protocol: u16) -> Result<Self> {
        let failed = |error| Error::io(format!("listening for peers at {address}"), error);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, protocol })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to answer with `handler`, as the node of `identity`.
    pub fn answer(self, identity: Identity, handler: Arc<dyn Handler>) -> Listening {
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        let received = Arc::new(Semaphore::new(RECEIVED_MAX));
        let reads = Arc::new(Semaphore::new(READS_MAX));
        let protocol = self.protocol;
        let node = Answering { identity, handler, protocol, strangers, received, reads };
        Listening { task: tokio::spawn(accept(self.socket, node)) }
    }
}

/// The node that answers.
#[derive(Clone)]
struct Answering {
    identity: Identity,
    handler: Arc<dyn Handler>,
    /// Messages of later protocols are refused.
    protocol: u16,
    strangers: Arc<Semaphore>,
    received: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

async fn accept(socket: TcpListener, node: Answering) {
    // Connections end with the listener, not some time later.
    let mut connections = tokio::task::JoinSet::new();
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let next = async || {
        let room = Arc::clone(&handshakes).acquire_owned().await;
        Ok::<_, std::io::Error>((socket.accept().await?, room))
    };
    loop {
        tokio::select! {
            accepted = next() => match accepted {
                Ok(((stream, from), room)) => {
                    let node = node.clone();
                    connections.spawn(async move {
                        if let Err(what) = serve(stream, node, room.ok()).await {
                            log::debug!("a connection from {from} ended: {what}");
                        }
                    });
                }
                Err(error) => {
                    // Too many open files, most likely: others have to go first.
                    log::warn!("a peer's connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    stream: TcpStream,
    node: Answering,
    handshaking: Option<OwnedSemaphorePermit>,
) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let acceptor = TlsAcceptor::from(Arc::clone(&node.identity.server));
    let stream = tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await??;
    drop(handshaking);
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(|first| first.clone().into_owned());
    let stranger = match certificate {
        // The handshake has shown that it is of this cluster.
        Some(_) => None,
        None => Some(Arc::clone(&node.strangers).try_acquire_owned()?),
    };
    let peer = Arc::new(Connected { node, certificate });
    let mut routes = Router::new();
    for kind in Kind::ALL {
        let handle = move |State(peer): State<Arc<Connected>>, request: Request| async move {
            peer.message(kind, request).await
        };
        routes = routes.route(kind.path(), post(handle));
    }
    let service = TowerToHyperService::new(routes.with_state(peer));
    let mut builder =
        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new()).http2_only();
    builder
        .http2()
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(WINDOW / 4)
        .initial_connection_window_size(WINDOW);
    let served = builder.serve_connection(TokioIo::new(stream), service);
    match stranger {
        None => served.await,
        Some(_pass) => tokio::time::timeout(STRANGER_STAYS, served).await?,
    }
}

/// A body that has its room until whoever works on it, on whatever thread, has dropped it.
struct Held {
    body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// One connection: who is at its other end does not change.
struct Connected {
    node: Answering,
    certificate: Option<CertificateDer<'static>>,
}

impl Connected {
    async fn message(&self, kind: Kind, request: Request) -> Response {
        let sender = match self.sender(kind, request.headers()) {
            Ok(sender) => sender,
            Err(refusal) => return refusal.into_response(),
        };
        let Ok(room) = self.room(kind, request.headers()).await else {
            let busy = "too many chunks are being received";
            return (StatusCode::SERVICE_UNAVAILABLE, busy).into_response();
        };
        let body = tokio::time::timeout(BODY_MAX, to_bytes(request.into_body(), kind.limit()));
        let body = match body.await {
            Ok(Ok(body)) => Bytes::from_owner(Held { body, _room: room }),
            Ok(Err(_)) => {
                return (StatusCode::PAYLOAD_TOO_LARGE, "cut off or too long").into_response();
            }
            Err(_) => return (StatusCode::REQUEST_TIMEOUT, "too slow").into_response(),
        };
        match Arc::clone(&self.node.handler).handle(sender, kind, body).await {
            Ok(answer) => Response::new(Body::from(answer)),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        }
    }

    /// The room for a message with a chunk, or for the answer that has one.
    async fn room(
        &self,
        kind: Kind,
        headers: &HeaderMap,
    ) -> std::result::Result<Option<OwnedSemaphorePermit>, TryAcquireError> {
        match kind {
            Kind::ChunkSend => {
                let len =
                    headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
                let mib = len.unwrap_or(kind.limit()).div_ceil(1 << 20).clamp(1, RECEIVED_MAX);
                let received = Arc::clone(&self.node.received);
                received.try_acquire_many_owned(mib as u32).map(Some)
            }
            Kind::ChunkRead | Kind::ChunkFetch => {
                let room = Arc::clone(&self.node.reads).acquire_owned().await;
                room.map(Some).map_err(|_| TryAcquireError::Closed)
            }
            _ => Ok(None),
        }
    }

    fn sender(
        &self,
        kind: Kind,
        headers: &HeaderMap,
    ) -> std::result::Result<Sender, (StatusCode, String)> {
        let number = |name| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let known = 1..=u64::from(self.node.protocol);
        if !number(PROTOCOL_HEADER).is_some_and(|protocol| known.contains(&protocol)) {
            let what = format!(
                "this node speaks protocols up to {}: run a newer version on it",
                self.node.protocol
            );
            return Err((StatusCode::UPGRADE_REQUIRED, what));
        }
        let claimed: Option<NodeId> = number(NODE_HEADER);
        match (&self.certificate, claimed) {
            (Some(certificate), Some(node)) if self.node.identity.is_node(certificate, node) => {
                Ok(Sender::Node(node))
            }
            _ if kind.is_open() => Ok(Sender::Stranger),
            _ => Err((StatusCode::FORBIDDEN, "this is another cluster, or another node".into())),
        }
    }
}
