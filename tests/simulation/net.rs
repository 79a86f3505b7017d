//! The network between simulated nodes: messages take their time, get lost, come twice, and do not pass where a
//! link is cut.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bucketfs::env::Seeded;
use bucketfs::error::{Error, Result};
use bucketfs::replication::{Answer, Handler, Kind, Peers, Plugged, Sender, Transport};
use bucketfs::types::NodeId;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// Ticks that a message takes at most on a good link, and on a slow one.
const GOOD: u64 = 3;
const SLOW: u64 = 400;
/// Of a thousand messages.
const LOST: u64 = 2;
const TWICE: u64 = 5;
/// Changes of a node that is no more which arrive after all, and the ticks that takes at most: whoever got them had
/// stopped for so long.
const LATE: usize = 8;
const LATE_BY: u64 = 6_000;

/// All links. Clones are the same network.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

struct State {
    now: u64,
    chance: Seeded,
    doors: BTreeMap<NodeId, Door>,
    /// By when they arrive.
    packets: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// Of a thousand messages.
    lost: u64,
    /// (from, to): nothing arrives, nor is it told that it does not.
    cut: BTreeSet<(NodeId, NodeId)>,
    slow: BTreeSet<(NodeId, NodeId)>,
    /// By who sent them: the last changes proposed.
    proposed: BTreeMap<NodeId, VecDeque<(NodeId, Bytes)>>,
    /// Who waits for an answer that was cut off: nothing tells them.
    unanswered: Vec<Asker>,
    trace: DefaultHasher,
}

#[derive(Clone)]
struct Door {
    handler: Arc<dyn Handler>,
    runtime: Handle,
}

type Asker = oneshot::Sender<Result<Bytes>>;

enum Packet {
    Request {
        from: NodeId,
        to: NodeId,
        kind: Kind,
        body: Bytes,
        asker: Asker,
    },
    /// The same request once more; its answer is not heard.
    Echo {
        from: NodeId,
        to: NodeId,
        kind: Kind,
        body: Bytes,
    },
    Reply {
        from: NodeId,
        to: NodeId,
        result: Result<Bytes>,
        asker: Asker,
    },
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: 0,
            chance: Seeded::new(seed),
            doors: BTreeMap::new(),
            packets: BTreeMap::new(),
            sent: 0,
            lost: LOST,
            cut: BTreeSet::new(),
            slow: BTreeSet::new(),
            proposed: BTreeMap::new(),
            unanswered: Vec::new(),
            trace: DefaultHasher::new(),
        })))
    }

    pub fn peers(&self) -> Peers {
        let net = self.clone();
        Peers::Wired(Arc::new(move |node| net.plug(node)))
    }

    fn plug(&self, node: NodeId) -> Plugged {
        let (net, runtime) = (self.clone(), Handle::current());
        Plugged {
            transport: Arc::new(Wire { from: node, net: self.clone() }),
            address: address(node),
            begin: Box::new(move |handler| {
                net.0.lock().doors.insert(node, Door { handler, runtime });
                Box::new(Plug { node, net })
            }),
        }
    }

    /// Nobody answers for `node` any more. What it holds is dropped by the caller.
    pub fn unplug(&self, node: NodeId) -> impl Sized {
        self.0.lock().doors.remove(&node)
    }

    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.0.lock().cut.insert((from, to));
    }

    pub fn slow(&self, from: NodeId, to: NodeId) {
        self.0.lock().slow.insert((from, to));
    }

    /// As TCP between nodes that live, on good links.
    pub fn lose_nothing(&self) {
        self.0.lock().lost = 0;
    }

    /// What a node that was killed had proposed last comes once more, when it may have started again.
    pub fn comes_late(&self, from: NodeId) {
        let mut state = self.0.lock();
        for (to, body) in state.proposed.remove(&from).unwrap_or_default() {
            let at = state.now + 1 + state.chance.below(LATE_BY);
            state.sent += 1;
            let number = state.sent;
            let echo = Packet::Echo { from, to, kind: Kind::Propose, body };
            state.packets.insert((at, number), echo);
        }
    }

    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.slow.clear();
        state.unanswered.clear();
    }

    /// All that was sent so far, as one number.
    pub fn trace(&self) -> u64 {
        self.0.lock().trace.finish()
    }

    /// A millisecond passes: what is due arrives.
    pub fn tick(&self) {
        let due = {
            let mut state = self.0.lock();
            state.now += 1;
            let rest = (state.now + 1, 0);
            let later = state.packets.split_off(&rest);
            std::mem::replace(&mut state.packets, later)
        };
        due.into_values().for_each(|packet| self.arrive(packet));
    }

    fn arrive(&self, packet: Packet) {
        match packet {
            Packet::Request { from, to, kind, body, asker } => match self.door(from, to) {
                Ok(Some(door)) => {
                    let (net, runtime) = (self.clone(), door.runtime.clone());
                    runtime.spawn(async move {
                        let result = door.handler.handle(Sender::Node(from), kind, body).await;
                        net.send(Packet::Reply { from: to, to: from, result, asker });
                    });
                }
                // The machine is there and nobody listens.
                Ok(None) => {
                    let result = Err(Error::Unreachable(format!("node {to} is down")));
                    self.send(Packet::Reply { from: to, to: from, result, asker });
                }
                Err(()) => self.0.lock().unanswered.push(asker),
            },
            Packet::Echo { from, to, kind, body } => {
                if let Ok(Some(door)) = self.door(from, to) {
                    let runtime = door.runtime.clone();
                    runtime.spawn(async move {
                        drop(door.handler.handle(Sender::Node(from), kind, body).await);
                    });
                }
            }
            Packet::Reply { from, to, result, asker } => match self.door(from, to) {
                // It may have stopped waiting.
                Ok(_) => drop(asker.send(result)),
                Err(()) => self.0.lock().unanswered.push(asker),
            },
        }
    }

    /// Who answers at `to`; an error when the way there is cut.
    fn door(&self, from: NodeId, to: NodeId) -> Result<Option<Door>, ()> {
        let state = self.0.lock();
        if state.cut.contains(&(from, to)) { Err(()) } else { Ok(state.doors.get(&to).cloned()) }
    }

    fn send(&self, packet: Packet) {
        let mut state = self.0.lock();
        let (from, to, kind, len) = match &packet {
            Packet::Request { from, to, kind, body, .. } => (*from, *to, Some(*kind), body.len()),
            Packet::Echo { from, to, kind, body } => (*from, *to, Some(*kind), body.len()),
            Packet::Reply { from, to, result, .. } => {
                (*from, *to, None, result.as_ref().map_or(0, Bytes::len))
            }
        };
        let now = state.now;
        (now, from, to, kind, len).hash(&mut state.trace);
        if state.chance.below(1000) < state.lost {
            return;
        }
        let most = if state.slow.contains(&(from, to)) { SLOW } else { GOOD };
        let due = state.now + 1 + state.chance.below(most);
        state.sent += 1;
        let number = state.sent;
        if let Packet::Request { kind, body, .. } = &packet
            && state.chance.below(1000) < TWICE
        {
            let echo = Packet::Echo { from, to, kind: *kind, body: body.clone() };
            let late = due + 1 + state.chance.below(SLOW);
            state.sent += 1;
            let number = state.sent;
            state.packets.insert((late, number), echo);
        }
        if let Packet::Request { kind: Kind::Propose, body, .. } = &packet {
            let body = body.clone();
            let last = state.proposed.entry(from).or_default();
            if last.len() == LATE {
                last.pop_front();
            }
            last.push_back((to, body));
        }
        state.packets.insert((due, number), packet);
    }
}

/// Where a node of the simulation is found.
pub fn address(node: NodeId) -> String {
    format!("sim:{node}")
}

struct Plug {
    node: NodeId,
    net: Net,
}

impl Drop for Plug {
    fn drop(&mut self) {
        drop(self.net.unplug(self.node));
    }
}

struct Wire {
    from: NodeId,
    net: Net,
}

impl Transport for Wire {
    fn call(&self, to: NodeId, kind: Kind, body: Bytes, within: Duration) -> Answer {
        let (asker, answer) = oneshot::channel();
        self.net.send(Packet::Request { from: self.from, to, kind, body, asker });
        Box::pin(async move {
            let lost = || Error::Unreachable(format!("node {to}: no answer"));
            match tokio::time::timeout(within, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(lost()),
            }
        })
    }

    fn learn(&self, _: NodeId, _: &str) {}
}
