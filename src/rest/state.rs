//! What the requests are answered from, and whether they are answered yet, or still.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{OwnedRwLockReadGuard, RwLock as Gate};

use super::error::{Answer, Refused};
use crate::metrics::Latencies;
use crate::replication::Replica;
use crate::vfs::Vfs;

/// How long open requests may go on when the node stops.
const DRAIN: Duration = Duration::from_secs(20);

/// What a node serves, once it does.
pub struct Served {
    pub vfs: Arc<Vfs>,
    pub replica: Arc<Replica>,
    /// Of all doors.
    pub requests: Latencies<3>,
    /// Of the kernel's requests, by operation.
    pub kernel: Latencies<1>,
    /// Of syncs, by what is synced.
    pub syncs: Latencies<1>,
    /// Of chunk files read and written.
    pub chunks: Latencies<1>,
}

#[derive(Clone)]
enum Phase {
    Starting,
    Serving(Arc<Served>),
    Draining(Option<Arc<Served>>),
}

/// Shared by all requests.
#[derive(Clone)]
pub(super) struct Shared(Arc<Inner>);

struct Inner {
    phase: RwLock<Phase>,
    /// Held by each request that uses the store, to its last byte.
    gate: Arc<Gate<()>>,
}

/// The store, for as long as a request may use it. Clones hold it too.
#[derive(Clone)]
pub(super) struct Serving {
    pub served: Arc<Served>,
    _pass: Arc<OwnedRwLockReadGuard<()>>,
}

impl Shared {
    pub fn new() -> Self {
        let phase = RwLock::new(Phase::Starting);
        Self(Arc::new(Inner { phase, gate: Arc::default() }))
    }

    pub fn serve(&self, served: Served) {
        *self.0.phase.write() = Phase::Serving(Arc::new(served));
    }

    /// # Errors
    /// 503 while the node starts, and when it stops.
    pub fn serving(&self) -> Answer<Serving> {
        let pass = Arc::clone(&self.0.gate).try_read_owned();
        let phase = self.0.phase.read().clone();
        match (phase, pass) {
            (Phase::Serving(served), Ok(pass)) => Ok(Serving { served, _pass: Arc::new(pass) }),
            (Phase::Starting, _) => Err(Refused::not_serving("the node is starting")),
            (Phase::Draining(_), _) | (_, Err(_)) => {
                Err(Refused::not_serving("the node is stopping"))
            }
        }
    }

    /// What there is to look at, also while it stops.
    ///
    /// # Errors
    /// 503 while the node starts.
    pub fn watched(&self) -> Answer<Arc<Served>> {
        match &*self.0.phase.read() {
            Phase::Serving(served) | Phase::Draining(Some(served)) => Ok(Arc::clone(served)),
            Phase::Starting | Phase::Draining(None) => {
                Err(Refused::not_serving("the node is starting"))
            }
        }
    }

    /// Whether requests are answered.
    pub fn is_ready(&self) -> Result<(), &'static str> {
        match &*self.0.phase.read() {
            Phase::Serving(served) if served.replica.is_cut_off() => Err("no_quorum"),
            Phase::Serving(_) => Ok(()),
            Phase::Starting => Err("starting"),
            Phase::Draining(_) => Err("draining"),
        }
    }

    /// Takes no more requests that use the store, and waits for those that do.
    pub async fn drain(&self) {
        self.stop_serving();
        if tokio::time::timeout(DRAIN, self.0.gate.write()).await.is_err() {
            log::warn!("REST requests were broken off after {} s", DRAIN.as_secs());
        }
    }

    fn stop_serving(&self) {
        let mut phase = self.0.phase.write();
        let served = match &*phase {
            Phase::Serving(served) => Some(Arc::clone(served)),
            Phase::Starting | Phase::Draining(_) => None,
        };
        *phase = Phase::Draining(served);
    }
}
