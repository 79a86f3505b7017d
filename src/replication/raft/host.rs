//! The thread openraft runs on: its core and the applier share it, so that a commit goes from one
//! to the other without waking a thread.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use openraft::ServerState;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::{LogStore, Network, StateMachine};
use crate::error::{Error, Result};
use crate::replication::types::Raft;
use crate::types::NodeId;

const HEARTBEAT: Duration = Duration::from_millis(250);
/// Openraft keeps to a leader that is silent for twice as long, and votes once to twice as long after
/// that: another follows a dead leader after two and a half to three seconds, or five when the first
/// vote is split. A stall of a disk for one and a half seconds costs nothing.
const ELECTION: Duration = Duration::from_millis(800);

pub struct RaftHost {
    raft: Raft,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl RaftHost {
    pub async fn start(
        node: NodeId,
        log: LogStore,
        machine: StateMachine,
        network: Network,
    ) -> Result<Self> {
        let starting = |error| Error::io("starting the raft thread", error);
        let runtime = Builder::new_current_thread().enable_time().build().map_err(starting)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("raft".into())
            .spawn(move || {
                // Sent or dropped: both mean stop.
                let _ = runtime.block_on(stopped);
            })
            .map_err(starting)?;
        let raft = handle.spawn(new_raft(node, log, machine, network)).await;
        let raft = raft.map_err(|_| Error::ShuttingDown)??;
        Ok(Self { raft, handle, stop: Some(stop), thread: Some(thread) })
    }

    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Runs `work` on the raft thread; it is dropped with the host.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(work);
    }

    /// Makes this node the leader, if it can be, and waits for it.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] after `timeout`.
    pub async fn lead(&self, timeout: Duration) -> Result<()> {
        let raft = self.raft.clone();
        let led = self.handle.spawn(lead(raft, timeout)).await;
        led.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Stops openraft; nothing is written by it afterwards.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            log::warn!("openraft did not stop in order: {error}");
        }
    }
}

impl Drop for RaftHost {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // With panic = "abort" a thread that can be joined did not panic.
            let _ = thread.join();
        }
    }
}

async fn new_raft(
    node: NodeId,
    log: LogStore,
    machine: StateMachine,
    network: Network,
) -> Result<Raft> {
    let config = openraft::Config {
        cluster_name: "bucketfs".into(),
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        election_timeout_min: ELECTION.as_millis() as u64,
        election_timeout_max: 2 * ELECTION.as_millis() as u64,
        // Snapshots and purges are ours to trigger.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A member that is further behind than the log reaches gets a snapshot, no other.
        replication_lag_threshold: u64::MAX,
        ..Default::default()
    };
    let config = config.validate().map_err(|error| Error::Config(error.to_string()))?;
    let raft = Raft::new(node, Arc::new(config), network, log, machine).await;
    raft.map_err(|error| Error::Store(format!("starting openraft: {error}")))
}

async fn lead(raft: Raft, timeout: Duration) -> Result<()> {
    let mut metrics = raft.metrics();
    if metrics.borrow().state != ServerState::Leader {
        raft.trigger().elect().await.map_err(|_| Error::ShuttingDown)?;
    }
    let leads = metrics
        .wait_for(|metrics| metrics.state == ServerState::Leader || metrics.running_state.is_err());
    match tokio::time::timeout(timeout, leads).await {
        Ok(Ok(metrics)) if metrics.state == ServerState::Leader => Ok(()),
        Ok(_) => Err(Error::ShuttingDown),
        Err(_) => Err(Error::NoQuorum("no leader was elected in time".into())),
    }
}
