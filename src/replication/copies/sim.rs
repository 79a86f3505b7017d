//! Peers within one process, whose ways can be cut, slowed down and falsified.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::peers::{ChunkPeers, Later};
use super::server::ChunkServer;
use crate::chunk::SealedChunk;
use crate::env::{AlignedBuf, blocking};
use crate::error::{Error, Result};
use crate::types::{ChunkId, NodeId};

/// Between two looks whether a node is still held.
const HELD_FOR: Duration = Duration::from_millis(2);

/// [`ChunkPeers`] for tests: calls reach the servers of other nodes directly. Clones share
/// everything.
#[derive(Clone, Default)]
pub struct SimPeers {
    net: Arc<Mutex<Net>>,
}

#[derive(Default)]
struct Net {
    servers: BTreeMap<NodeId, Arc<ChunkServer>>,
    down: BTreeSet<NodeId>,
    lying: BTreeSet<NodeId>,
    /// No answer ever comes.
    silent: BTreeSet<NodeId>,
    slow: BTreeMap<NodeId, Duration>,
    held: BTreeSet<NodeId>,
    /// Calls that still reach a node before it is down.
    calls_left: BTreeMap<NodeId, u64>,
    calls: u64,
}

/// How one call goes.
struct Way {
    server: Arc<ChunkServer>,
    delay: Option<Duration>,
    lies: bool,
    silent: bool,
}

impl SimPeers {
    /// Puts a node, or its next start, into the net.
    pub fn join(&self, node: NodeId, server: ChunkServer) {
        let mut net = self.net.lock();
        net.servers.insert(node, Arc::new(server));
        net.down.remove(&node);
    }

    pub fn set_down(&self, node: NodeId, is_down: bool) {
        let mut net = self.net.lock();
        net.calls_left.remove(&node);
        if is_down {
            net.down.insert(node)
        } else {
            net.down.remove(&node)
        };
    }

    /// The next `calls` reach the node; the one after them fails when it was carried out there, and
    /// all that follow do not get there.
    pub fn down_after(&self, node: NodeId, calls: u64) {
        self.net.lock().calls_left.insert(node, calls);
    }

    /// One bit of what the node sends and gets is another.
    pub fn set_lying(&self, node: NodeId, is_lying: bool) {
        let mut net = self.net.lock();
        if is_lying {
            net.lying.insert(node)
        } else {
            net.lying.remove(&node)
        };
    }

    /// The node takes requests and never answers.
    pub fn set_silent(&self, node: NodeId, is_silent: bool) {
        let mut net = self.net.lock();
        if is_silent {
            net.silent.insert(node)
        } else {
            net.silent.remove(&node)
        };
    }

    /// Each call to the node takes so long.
    pub fn set_delay(&self, node: NodeId, delay: Duration) {
        self.net.lock().slow.insert(node, delay);
    }

    /// Calls to the node are on their way until it is held no more.
    pub fn set_held(&self, node: NodeId, is_held: bool) {
        let mut net = self.net.lock();
        if is_held {
            net.held.insert(node)
        } else {
            net.held.remove(&node)
        };
    }

    fn is_held(&self, node: NodeId) -> bool {
        self.net.lock().held.contains(&node)
    }

    /// Calls so far, those that failed too.
    pub fn calls(&self) -> u64 {
        self.net.lock().calls
    }

    fn way(&self, node: NodeId) -> Result<(Way, bool)> {
        let gone = || Error::Unreachable(format!("node {node} does not answer"));
        let mut net = self.net.lock();
        net.calls += 1;
        if net.down.contains(&node) {
            return Err(gone());
        }
        let last = match net.calls_left.get_mut(&node) {
            Some(0) => {
                net.down.insert(node);
                true
            }
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        };
        let way = Way {
            server: net.servers.get(&node).cloned().ok_or_else(gone)?,
            delay: net.slow.get(&node).copied(),
            lies: net.lying.contains(&node),
            silent: net.silent.contains(&node),
        };
        Ok((way, last))
    }

    /// Runs `work` on the node's server, with what the net does to it.
    fn call<T: Send + 'static>(
        &self,
        node: NodeId,
        work: impl FnOnce(&ChunkServer, bool) -> Result<T> + Send + 'static,
    ) -> Later<'_, T> {
        Box::pin(async move {
            let (way, last) = self.way(node)?;
            if let Some(delay) = way.delay {
                tokio::time::sleep(delay).await;
            }
            while self.is_held(node) {
                tokio::time::sleep(HELD_FOR).await;
            }
            if way.silent {
                return std::future::pending().await;
            }
            let done = blocking(move || work(&way.server, way.lies)).await;
            if last {
                return Err(Error::Unreachable(format!("node {node} broke off")));
            }
            done.unwrap_or(Err(Error::ShuttingDown))
        })
    }
}

/// The bytes after a way that may change one.
fn carry(mut file: AlignedBuf, lies: bool) -> AlignedBuf {
    if let (true, Some(byte)) = (lies, file.first_mut()) {
        *byte ^= 1;
    }
    file
}

impl ChunkPeers for SimPeers {
    fn send(&self, to: NodeId, chunk: SealedChunk) -> Later<'_, ()> {
        self.call(to, move |server, lies| server.accept(carry(chunk.to_file(), lies)).map(|_| ()))
    }

    fn read(&self, from: NodeId, id: ChunkId, offset: u32, len: u32) -> Later<'_, Vec<u8>> {
        self.call(from, move |server, lies| {
            let mut range = server.read(id, offset, len)?;
            if let (true, Some(byte)) = (lies, range.bytes.first_mut()) {
                *byte ^= 1;
            }
            range.checked(len)
        })
    }

    fn fetch(&self, from: NodeId, id: ChunkId) -> Later<'_, SealedChunk> {
        self.call(from, move |server, lies| {
            SealedChunk::from_file(carry(server.load(id)?.to_file(), lies))
        })
    }

    fn which(&self, at: NodeId, ids: Vec<ChunkId>) -> Later<'_, Vec<ChunkId>> {
        self.call(at, move |server, _| server.which(&ids))
    }
}
