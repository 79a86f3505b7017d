//! Whom a node answers, over real connections to its listener: nodes of its cluster that are who they say
//! they are, in a protocol that it knows. Strangers may ask to join, and nothing else.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rustls::ClientConfig;

use super::credentials::{Credentials, host, stranger};
use super::https::{self, NODE_HEADER, PROTOCOL_HEADER};
use super::listener::{Listener, Listening};
use super::messages::{Kind, PROTOCOL};
use super::transport::{Answer, Handler, Sender};
use crate::types::NodeId;

const CLUSTER: &str = "aa";
/// The node that listens, and one that talks to it.
const OURS: NodeId = 1;
const OTHER: NodeId = 2;
const ANYWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Answers everything, and keeps what got through to it.
#[derive(Default)]
struct Heard(Mutex<Vec<(Sender, Kind)>>);

impl Handler for Heard {
    fn handle(self: Arc<Self>, from: Sender, kind: Kind, _: Bytes) -> Answer {
        self.0.lock().push((from, kind));
        Box::pin(std::future::ready(Ok(Bytes::from_static(b"answered"))))
    }
}

/// A node that listens.
struct Node {
    credentials: Credentials,
    address: String,
    heard: Arc<Heard>,
    _listening: Listening,
}

/// What somebody asks, and what he says of himself.
#[derive(Clone, Copy)]
struct Question {
    kind: Kind,
    node: Option<NodeId>,
    protocol: Option<u16>,
}

fn question(kind: Kind, node: impl Into<Option<NodeId>>) -> Question {
    Question { kind, node: node.into(), protocol: Some(kind.since()) }
}

impl Node {
    async fn listen(protocol: u16) -> Self {
        let credentials = Credentials::generate(CLUSTER).unwrap();
        let identity = credentials.identity(CLUSTER, OURS).unwrap();
        let listener = Listener::bind(ANYWHERE, protocol).await.unwrap();
        let (address, heard) = (listener.address().to_string(), Arc::new(Heard::default()));
        let _listening = listener.answer(identity, Arc::clone(&heard) as Arc<dyn Handler>);
        Self { credentials, address, heard, _listening }
    }

    /// How a node of the cluster connects.
    fn member(&self, node: NodeId) -> ClientConfig {
        (*self.credentials.identity(CLUSTER, node).unwrap().client).clone()
    }

    /// The status of the answer; none when the connection does not come about.
    async fn ask(&self, tls: &ClientConfig, asked: Question) -> Option<u16> {
        let client = https::client(tls.clone(), &self.address).unwrap();
        let mut request =
            client.post(format!("https://{}{}", host(CLUSTER, OURS), asked.kind.path()));
        if let Some(node) = asked.node {
            request = request.header(NODE_HEADER, node);
        }
        if let Some(protocol) = asked.protocol {
            request = request.header(PROTOCOL_HEADER, protocol);
        }
        Some(request.body("body").send().await.ok()?.status().as_u16())
    }

    /// What got through since it was last asked for.
    fn heard(&self) -> Vec<(Sender, Kind)> {
        std::mem::take(&mut *self.heard.0.lock())
    }
}

#[tokio::test]
async fn a_node_of_the_cluster_is_heard_by_its_own_number_alone() {
    let node = Node::listen(PROTOCOL).await;
    let member = node.member(OTHER);
    for kind in Kind::ALL {
        assert_eq!(node.ask(&member, question(kind, OTHER)).await, Some(200), "{kind:?}");
        assert_eq!(node.heard(), [(Sender::Node(OTHER), kind)]);
    }
    // Its certificate is good, and another node's number is on the message, or the listener's, or none.
    for claimed in [Some(3), Some(OURS), Some(0), None] {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Join) {
            let refused = node.ask(&member, question(kind, claimed)).await;
            assert_eq!(refused, Some(403), "{kind:?} as {claimed:?}");
        }
        assert!(node.heard().is_empty());
        assert_eq!(node.ask(&member, question(Kind::Join, claimed)).await, Some(200));
        assert_eq!(node.heard(), [(Sender::Stranger, Kind::Join)]);
    }
}

#[tokio::test]
async fn who_has_no_certificate_may_only_ask_to_join() {
    let node = Node::listen(PROTOCOL).await;
    let nobody = stranger(&node.credentials.authority).unwrap();
    for claimed in [None, Some(OTHER), Some(OURS)] {
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Join) {
            let refused = node.ask(&nobody, question(kind, claimed)).await;
            assert_eq!(refused, Some(403), "{kind:?} as {claimed:?}");
        }
        assert!(node.heard().is_empty());
        assert_eq!(node.ask(&nobody, question(Kind::Join, claimed)).await, Some(200));
        assert_eq!(node.heard(), [(Sender::Stranger, Kind::Join)]);
    }
}

/// They trust this cluster's authority, which is no secret, and show a certificate that another one has
/// signed, for a node of theirs or as if it were one of ours: the handshake ends.
#[tokio::test]
async fn a_certificate_of_another_cluster_does_not_even_connect() {
    let node = Node::listen(PROTOCOL).await;
    let authority_key = Credentials::generate("bb").unwrap().authority_key;
    let foreign = Credentials { authority_key, ..node.credentials.clone() };
    for cluster in ["bb", CLUSTER] {
        let tls = (*foreign.identity(cluster, OTHER).unwrap().client).clone();
        for kind in [Kind::Join, Kind::About, Kind::Vote, Kind::ChunkRead] {
            let answered = node.ask(&tls, question(kind, OTHER)).await;
            assert_eq!(answered, None, "{kind:?} of cluster {cluster}");
        }
    }
    // Nor does a node talk to a listener of another cluster.
    let other =
        (*Credentials::generate(CLUSTER).unwrap().identity(CLUSTER, OTHER).unwrap().client).clone();
    assert_eq!(node.ask(&other, question(Kind::Join, OTHER)).await, None);
    assert!(node.heard().is_empty());
    let member = node.member(OTHER);
    assert_eq!(node.ask(&member, question(Kind::About, OTHER)).await, Some(200), "it goes on");
}

/// 426 says which protocols the node speaks; it is told before anything else.
#[tokio::test]
async fn a_message_of_a_protocol_that_is_not_known_is_refused() {
    for speaks in 1..=PROTOCOL {
        let node = Node::listen(speaks).await;
        let (member, nobody) = (node.member(OTHER), stranger(&node.credentials.authority).unwrap());
        for protocol in [None, Some(0), Some(speaks + 1), Some(u16::MAX)] {
            let asked = |kind| Question { kind, node: Some(OTHER), protocol };
            for kind in [Kind::Vote, Kind::ChunkSend, Kind::Join] {
                let refused = node.ask(&member, asked(kind)).await;
                assert_eq!(refused, Some(426), "{kind:?} of protocol {protocol:?}");
            }
            assert_eq!(node.ask(&nobody, asked(Kind::Join)).await, Some(426));
        }
        assert!(node.heard().is_empty());
        for protocol in 1..=speaks {
            let asked = Question { protocol: Some(protocol), ..question(Kind::Vote, OTHER) };
            assert_eq!(node.ask(&member, asked).await, Some(200), "protocol {protocol}");
        }
    }
}
