//! Calls over the network: what is given up ends at both sides, and what a node takes in is bounded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::credentials::Credentials;
use super::https::Https;
use super::listener::{Listener, READS_MAX, RECEIVED_MAX};
use super::messages::{Kind, PROTOCOL};
use super::transport::{Answer, Handler, Sender, Transport};

/// Longest wait for what has to come; a message may take as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that answers nothing but censuses, and knows how many messages it works on.
struct Slow(watch::Sender<usize>);

struct Working(Arc<Slow>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.0.send_modify(|working| *working -= 1);
    }
}

impl Handler for Slow {
    fn handle(self: Arc<Self>, _: Sender, kind: Kind, body: Bytes) -> Answer {
        Box::pin(async move {
            if kind == Kind::Census {
                return Ok(body);
            }
            self.0.send_modify(|working| *working += 1);
            let _working = Working(self);
            std::future::pending().await
        })
    }
}

impl Slow {
    async fn until(&self, wanted: usize) {
        let mut working = self.0.subscribe();
        let reached = working.wait_for(|working| *working == wanted);
        let reached = tokio::time::timeout(PATIENCE / 4, reached).await.map(|_| ());
        reached.unwrap_or_else(|_| panic!("{} at work, not {wanted}", *self.0.borrow()));
    }
}

/// Node 2, and the way to it from node 1.
async fn connected() -> (Arc<Slow>, impl Sized, Https) {
    let credentials = Credentials::generate("aa").unwrap();
    let anywhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let listener = Listener::bind(anywhere, PROTOCOL).await.unwrap();
    let address = listener.address().to_string();
    let slow = Arc::new(Slow(watch::Sender::new(0)));
    let handler = Arc::clone(&slow) as Arc<dyn Handler>;
    let listening = listener.answer(credentials.identity("aa", 2).unwrap(), handler);
    let https = Https::new(credentials.identity("aa", 1).unwrap(), Handle::current());
    https.learn(2, &address);
    (slow, listening, https)
}

/// Whoever gave an answer up had the request, with a chunk in it, go on until its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_given_up_ends_there_too() {
    let (slow, _listening, https) = connected().await;
    for kind in [Kind::ChunkWhich, Kind::ChunkSend, Kind::Propose] {
        let call = tokio::spawn(https.call(2, kind, Bytes::from_static(b"body"), PATIENCE));
        slow.until(1).await;
        call.abort();
        slow.until(0).await;
    }
}

/// All that peers read at a time would fill the memory of a node whose disk is slow.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_of_chunks_wait_while_many_are_answered() {
    let (slow, _listening, https) = connected().await;
    let mut calls = JoinSet::new();
    for _ in 0..READS_MAX + 8 {
        calls.spawn(https.call(2, Kind::ChunkRead, Bytes::from_static(b"body"), PATIENCE));
    }
    slow.until(READS_MAX).await;
    // What comes after them on the same connection shows that they had their time.
    for _ in 0..20 {
        https.call(2, Kind::Census, Bytes::new(), PATIENCE).await.unwrap();
        assert_eq!(*slow.0.borrow(), READS_MAX);
    }
    calls.abort_all();
    slow.until(0).await;
}

/// The same for what they send: more than there is room for is refused before it is received, and what
/// else is on the connection goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_there_is_no_room_for_are_refused() {
    let (slow, _listening, https) = connected().await;
    let largest = Bytes::from(vec![0; 60 << 20]);
    let mut calls = JoinSet::new();
    for _ in 0..RECEIVED_MAX / 60 + 1 {
        calls.spawn(https.call(2, Kind::ChunkSend, largest.clone(), PATIENCE));
    }
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert!(refused.to_string().contains("too many chunks"), "{refused}");
    https.call(2, Kind::Census, Bytes::new(), PATIENCE).await.unwrap();
    calls.abort_all();
    slow.until(0).await;
    let sent = https.call(2, Kind::ChunkSend, Bytes::from_static(b"small"), PATIENCE);
    let sent = tokio::spawn(sent);
    slow.until(1).await;
    sent.abort();
}
