//! What every request needs: the vfs behind the door, who asks, and where a request may wait.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use fuser::{FileAttr, INodeNo, Request};
use tokio::runtime::Handle;

use super::convert::NodeNumbers;
use super::invalidate::Told;
use crate::error::Result;
use crate::metrics::Meter;
use crate::types::{Attr, Ino};
use crate::vfs::{Access, Caller, Vfs};

/// One mount's door. Requests arrive on the event threads of fuser's session.
pub(super) struct Door {
    pub(super) vfs: Arc<Vfs>,
    pub(super) runtime: Handle,
    pub(super) numbers: NodeNumbers,
    /// Names this mount as the origin of its changes; from 1.
    pub(super) origin: u32,
    /// How long the kernel may use names and attributes without asking.
    pub(super) ttl: Duration,
    /// Extended attributes are not served.
    pub(super) no_xattr: bool,
    /// Every open bypasses the page cache.
    pub(super) direct_io: bool,
    /// POSIX ACLs are on: the umask is left to the vfs.
    pub(super) acl: bool,
    /// The kernel leaves locks to us.
    pub(super) locks: bool,
    pub(super) told: Arc<Told>,
    pub(super) writers: Gate,
    /// Counts requests by operation.
    pub(super) meter: Meter<1>,
}

/// Counts a request when it is dropped.
pub(super) struct Timed<'a> {
    meter: &'a Meter<1>,
    operation: &'static str,
    begun: Duration,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.meter.count(&[("operation", self.operation)], self.begun);
    }
}

impl Door {
    pub(super) fn ino(&self, node: INodeNo) -> Ino {
        self.numbers.to_ino(node)
    }

    pub(super) fn attr(&self, attr: &Attr) -> FileAttr {
        self.numbers.attr(attr)
    }

    pub(super) fn caller(&self, request: &Request, umask: u32) -> Caller {
        let (uid, gid, origin) = (request.uid(), request.gid(), self.origin);
        Caller { uid, gid, umask, origin, access: Access::Trusted }
    }

    /// Runs one request. It begins here on the event thread and mostly ends here; as soon as it has
    /// to wait it goes on in the runtime, so that no wait keeps other requests from being read.
    pub(super) fn run(
        &self,
        operation: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let (meter, begun) = (self.meter.clone(), self.meter.begin());
        let mut work = Box::pin(async move {
            work.await;
            meter.count(&[("operation", operation)], begun);
        });
        let _inside = self.runtime.enter();
        // The second, real poll follows at once, so nothing can be missed by a waker that does nothing.
        if work.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            drop(self.runtime.spawn(work));
        }
    }

    /// Whether the kernel asks about each name each time, and then wants to know what was acknowledged
    /// on any node before it asked.
    pub(super) fn is_exact(&self) -> bool {
        self.ttl.is_zero()
    }

    /// Calls `answer` once this node's table has all that was acknowledged anywhere before now; with
    /// an error when that cannot be known.
    pub(super) fn after_barrier(
        self: &Arc<Self>,
        operation: &'static str,
        answer: impl FnOnce(&Self, Result<()>) + Send + 'static,
    ) {
        let this = Arc::clone(self);
        self.run(operation, async move {
            let seen = this.vfs.barrier().await;
            answer(&this, seen);
        });
    }

    /// Counts a request that is answered before what this returns is dropped.
    pub(super) fn timed(&self, operation: &'static str) -> Timed<'_> {
        Timed { meter: &self.meter, operation, begun: self.meter.begin() }
    }

    /// As [`Self::run`] for work that borrows from the event thread and so has to end on it.
    pub(super) fn run_here<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(pin!(work))
    }
}

/// Lets at most `limit` event threads wait at a time; the others must stay free for requests.
pub(super) struct Gate {
    inside: AtomicUsize,
    limit: usize,
}

impl Gate {
    pub(super) fn new(limit: usize) -> Self {
        Self { inside: AtomicUsize::new(0), limit }
    }

    /// `None` when enough threads are inside; the pass is given back when dropped.
    pub(super) fn enter(&self) -> Option<Pass<'_>> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let pass = Pass { gate: self };
        (before < self.limit).then_some(pass)
    }
}

pub(super) struct Pass<'a> {
    gate: &'a Gate,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts_passes_and_takes_them_back() {
        let gate = Gate::new(2);
        let first = gate.enter();
        let second = gate.enter();
        assert!(first.is_some() && second.is_some());
        assert!(gate.enter().is_none());
        assert!(gate.enter().is_none());
        drop(first);
        assert!(gate.enter().is_some());
        drop(second);
        assert_eq!(gate.inside.load(Ordering::Relaxed), 0);
    }
}
