//! The thread openraft runs on: its core and the applier share it, so that a commit goes from one
//! to the other without waking a thread.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use tokio::runtime::Handle;

use super::{Campaign, LogStore, Network, StateMachine};
use crate::env::{Clock, TaskThread};
use crate::error::{Error, Result};
use crate::replication::types::Raft;
use crate::types::NodeId;

const HEARTBEAT: Duration = Duration::from_millis(250);
/// Openraft keeps to a leader that is silent for once to twice as long, and waits as long again before it stands:
/// another follows a dead leader after one and a half to three and a half seconds. A stall of a disk for one and a
/// half seconds costs nothing.
pub const ELECTION: Duration = Duration::from_millis(800);

pub struct RaftHost {
    raft: Raft,
    campaign: Arc<Campaign>,
    thread: TaskThread,
}

impl RaftHost {
    pub async fn start(
        node: NodeId,
        log: LogStore,
        machine: StateMachine,
        network: Network,
        clock: &dyn Clock,
    ) -> Result<Self> {
        let thread = TaskThread::start("raft")?;
        // Openraft would draw it once, too, but not from our clock.
        let patience = ELECTION.as_millis() as u64;
        let patience = patience + clock.random() % patience;
        let (silence, campaign) = (network.silence.clone(), Arc::clone(&network.campaign));
        let raft = thread.handle().spawn(new_raft(node, log, machine, network, patience)).await;
        let raft = raft.map_err(|_| Error::ShuttingDown)??;
        thread.handle().spawn(silence.keep_when_due(raft.clone()));
        let (stands, standing) = (Arc::clone(&campaign), raft.clone());
        thread.handle().spawn(async move { stands.stand_when_due(standing).await });
        Ok(Self { raft, campaign, thread })
    }

    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    pub fn campaign(&self) -> &Arc<Campaign> {
        &self.campaign
    }

    pub fn handle(&self) -> &Handle {
        self.thread.handle()
    }

    /// Runs `work` on the raft thread; it is dropped with the host.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.handle().spawn(work);
    }

    /// Makes this node the leader, if it can be, and waits for it.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] after `timeout`.
    pub async fn lead(&self, timeout: Duration) -> Result<()> {
        let raft = self.raft.clone();
        let led = self.handle().spawn(lead(raft, timeout)).await;
        led.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Stops openraft; nothing is written by it afterwards.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            log::warn!("openraft did not stop in order: {error}");
        }
    }
}

async fn new_raft(
    node: NodeId,
    log: LogStore,
    mut machine: StateMachine,
    network: Network,
    patience: u64,
) -> Result<Raft> {
    let config = openraft::Config {
        cluster_name: "bucketfs".into(),
        heartbeat_interval: HEARTBEAT.as_millis() as u64,
        election_timeout_min: patience,
        election_timeout_max: patience + 1,
        // Snapshots and purges are ours to trigger.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // A member that is further behind than the log reaches gets a snapshot, no other.
        replication_lag_threshold: u64::MAX,
        ..Default::default()
    };
    let config = config.validate().map_err(|error| Error::Config(error.to_string()))?;
    let learnt = log.voters().learn(&log, &mut machine).await;
    learnt.map_err(|error| Error::Store(format!("reading the membership: {error}")))?;
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
