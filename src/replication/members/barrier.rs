//! Read barriers: what was acknowledged anywhere before the question is in this node's table when it
//! is answered. All who wait at a time share one round to the leader.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{ASK_AGAIN, Cluster, Leader};
use crate::env::{Clock, within};
use crate::error::{Error, Result};
use crate::replication::peers::Kind;

type Waiting = oneshot::Sender<Result<u64>>;

/// Between two rounds that only look whether there is a quorum.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Longer than an election that goes well: a node that had no quorum for so long is cut off.
const CUT_OFF: Duration = Duration::from_secs(10);

/// Where barriers are asked for.
pub struct Barrier {
    cluster: Cluster,
    queue: mpsc::UnboundedSender<Waiting>,
    clock: Arc<dyn Clock>,
    /// When a leader with a quorum was found last.
    found: Arc<Mutex<Duration>>,
}

impl Barrier {
    /// `within`: how long a round may look for a leader. The second value has to run somewhere.
    pub fn new(
        cluster: Cluster,
        within: Duration,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, waiting) = mpsc::unbounded_channel();
        let found = Arc::new(Mutex::new(clock.elapsed()));
        let barrier = Self { cluster: cluster.clone(), queue, clock, found };
        let (clock, found) = (Arc::clone(&barrier.clock), Arc::clone(&barrier.found));
        let note = move || *found.lock() = clock.elapsed();
        (barrier, rounds(cluster, waiting, within, note))
    }

    /// Whether no leader with a quorum was found for longer than an election takes, while
    /// [`Self::keep_looking`] runs.
    pub fn is_cut_off(&self) -> bool {
        self.clock.elapsed().saturating_sub(*self.found.lock()) > CUT_OFF
    }

    /// Looks again and again whether there is a quorum; runs until raft ends.
    pub async fn keep_looking(self: Arc<Self>) {
        while !matches!(self.index().await, Err(Error::ShuttingDown)) {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Returns the log index through which a read has to see.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] when no leader with a quorum was found in time.
    pub async fn index(&self) -> Result<u64> {
        let (tell, told) = oneshot::channel();
        self.queue.send(tell).map_err(|_| Error::ShuttingDown)?;
        told.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Returns when this node's table has all that was acknowledged before the call.
    ///
    /// # Errors
    /// As [`Self::index`].
    pub async fn pass(&self) -> Result<()> {
        let index = self.index().await?;
        self.cluster.machine.wait_applied(index).await
    }
}

/// Every round begins after those it serves have asked.
async fn rounds(
    cluster: Cluster,
    mut queue: mpsc::UnboundedReceiver<Waiting>,
    limit: Duration,
    note_found: impl Fn() + Send,
) {
    while let Some(first) = queue.recv().await {
        let mut group = vec![first];
        while let Ok(next) = queue.try_recv() {
            group.push(next);
        }
        let found = within(limit, find(&cluster)).await;
        let no_leader =
            || Error::NoQuorum("no leader could confirm in time what is committed".into());
        if found.is_some() {
            note_found();
        }
        let index = found.ok_or_else(no_leader);
        for waiting in group {
            // Nobody listens when the asker gave up.
            let _ = waiting.send(index.clone());
        }
    }
}

/// Asks until a leader answers.
async fn find(cluster: &Cluster) -> u64 {
    loop {
        let asked = match cluster.leader() {
            Leader::ThisNode => own(cluster).await,
            Leader::Other(node) => {
                cluster.ask(node, Kind::ReadIndex, &(), Duration::from_secs(2)).await
            }
            Leader::Nobody => Err(Error::NoQuorum("there is no leader".into())),
        };
        match asked {
            Ok(index) => return index,
            Err(error) => log::debug!("a read waits for a leader: {error}"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// As the leader, confirmed by a quorum.
async fn own(cluster: &Cluster) -> Result<u64> {
    let term = cluster.raft.metrics().borrow().current_term;
    match cluster.raft.get_read_log_id().await {
        Ok((read, _)) => {
            let read = read.map_or(0, |read| read.index);
            Ok(read.max(cluster.led_before.index(term)))
        }
        Err(error) => Err(Error::NoQuorum(error.to_string())),
    }
}
