//! Nodes of one process wired to each other: messages go through memory, and can be cut off.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::error::Error;
use crate::replication::peers::{Answer, Handler, Kind, Peers, Plugged, Sender, Transport};
use crate::types::NodeId;

/// All nodes and what is between them.
#[derive(Clone)]
pub struct Wires {
    runtime: Handle,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    handlers: HashMap<NodeId, Arc<dyn Handler>>,
    /// Pairs (from, to) whose messages do not arrive.
    cut: BTreeSet<(NodeId, NodeId)>,
    held: Option<Held>,
    /// Bytes a second.
    rate: Option<u64>,
}

/// Messages that wait.
#[derive(Clone, Copy)]
struct Held {
    kind: Kind,
    /// Shorter ones do not.
    from: usize,
    /// How many came.
    count: usize,
}

impl Wires {
    /// To be called in the runtime that carries the messages.
    pub fn new() -> Self {
        Self { runtime: Handle::current(), state: Arc::default() }
    }

    pub fn peers(&self) -> Peers {
        let wires = self.clone();
        Peers::Wired(Arc::new(move |node| wires.plug(node)))
    }

    fn plug(&self, node: NodeId) -> Plugged {
        let (transport, wires) = (Wire { from: node, wires: self.clone() }, self.clone());
        Plugged {
            transport: Arc::new(transport),
            address: format!("wire:{node}"),
            begin: Box::new(move |handler| {
                wires.state.lock().handlers.insert(node, handler);
                Box::new(Unplug { node, wires })
            }),
        }
    }

    /// Nothing goes between `node` and `others` any more, either way.
    pub fn isolate(&self, node: NodeId, others: &[NodeId]) {
        let mut state = self.state.lock();
        for other in others.iter().filter(|other| **other != node) {
            state.cut.extend([(node, *other), (*other, node)]);
        }
    }

    /// Nothing that `others` say arrives at `node` any more, and all that it says does.
    pub fn deafen(&self, node: NodeId, others: &[NodeId]) {
        let mut state = self.state.lock();
        state.cut.extend(others.iter().filter(|other| **other != node).map(|other| (*other, node)));
    }

    /// Only the link between these two is good again.
    pub fn reconnect(&self, one: NodeId, other: NodeId) {
        self.state.lock().cut.retain(|pair| *pair != (one, other) && *pair != (other, one));
    }

    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// Messages take their time from now on: bytes a second.
    pub fn slow_down(&self, rate: u64) {
        self.state.lock().rate = Some(rate);
    }

    async fn travel(&self, bytes: usize) {
        let rate = self.state.lock().rate;
        if let Some(rate) = rate {
            tokio::time::sleep(Duration::from_secs_f64(bytes as f64 / rate as f64)).await;
        }
    }

    /// Messages of that kind wait from now on, or go on.
    pub fn hold(&self, kind: Option<Kind>) {
        self.state.lock().held = kind.map(|kind| Held { kind, from: 0, count: 0 });
    }

    /// Messages of that kind with so many bytes, or more, wait from now on.
    pub fn hold_long(&self, kind: Kind, from: usize) {
        self.state.lock().held = Some(Held { kind, from, count: 0 });
    }

    pub fn held(&self) -> usize {
        self.state.lock().held.map_or(0, |held| held.count)
    }

    async fn wait_while_held(&self, kind: Kind, bytes: usize) {
        let waits = |held: &Held| held.kind == kind && held.from <= bytes;
        if let Some(held) = self.state.lock().held.as_mut().filter(|held| waits(held)) {
            held.count += 1;
        }
        while self.state.lock().held.is_some_and(|held| waits(&held)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

struct Unplug {
    node: NodeId,
    wires: Wires,
}

impl Drop for Unplug {
    fn drop(&mut self) {
        self.wires.state.lock().handlers.remove(&self.node);
    }
}

struct Wire {
    from: NodeId,
    wires: Wires,
}

impl Transport for Wire {
    fn call(&self, to: NodeId, kind: Kind, body: Bytes, within: Duration) -> Answer {
        let (from, wires) = (self.from, self.wires.clone());
        let carried = self.wires.runtime.spawn(async move {
            let lost = || Error::Unreachable(format!("node {to}: cut off"));
            let handler = {
                let state = wires.state.lock();
                let cut = state.cut.contains(&(from, to));
                state.handlers.get(&to).filter(|_| !cut).cloned().ok_or_else(lost)?
            };
            wires.wait_while_held(kind, body.len()).await;
            let answer = async {
                wires.travel(body.len()).await;
                handler.handle(Sender::Node(from), kind, body).await
            };
            let answer = tokio::time::timeout(within, answer).await.map_err(|_| lost())??;
            if wires.state.lock().cut.contains(&(to, from)) { Err(lost()) } else { Ok(answer) }
        });
        Box::pin(async move { carried.await.unwrap_or(Err(Error::ShuttingDown)) })
    }

    fn learn(&self, _: NodeId, _: &str) {}
}
