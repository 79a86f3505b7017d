//! The one door to the metadata: proposals in, a table with their outcomes to read.

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, watch};

use super::book::Book;
use super::combiner::Combiner;
use super::copies::ChunkServer;
use super::flusher::Flusher;
use super::log::Log;
use super::members::{Barrier, Cluster, Invitations, Leader, Leases, LedBefore};
use super::options::{OnProgress, Options};
use super::peers::{Credentials, Plugged};
use super::proposer::{Proposer, Wait};
use super::raft::{Alone, Listener, LogStore, Machine, Network, RaftHost, StateMachine};
use super::session;
use super::snapshotter::{self, Schedule, Snapshotter};
use super::start::{Opened, Starter, is_alone};
use super::store::{CleanStop, NodeFile, StoreDir};
use crate::env::{Clock, DirLock, Disk};
use crate::error::{Error, Result};
use crate::meta::{EngineKind, Mutation, Outcome, Refusal, Table};
use crate::metrics::Latency;
use crate::types::{ChunkId, ContentId, NodeId, SessionId};

pub struct Replica {
    pub(super) node: NodeFile,
    pub(super) dir: StoreDir,
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    chunk_size: u64,
    commits: Latency,
    pub(super) rebuilt: Option<String>,
    pub(super) proposer: Proposer,
    pub(super) cluster: Cluster,
    pub(super) barrier: Arc<Barrier>,
    pub(super) leases: Arc<Leases>,
    pub(super) invitations: Arc<Invitations>,
    pub(super) credentials: Option<Credentials>,
    pub(super) address: String,
    pub(super) chunk_server: Arc<OnceLock<Arc<ChunkServer>>>,
    alone: Arc<Alone>,
    /// The session ends because the node stops.
    pub(super) closing: AtomicBool,
    // Dropped in this order: who lets messages in, the threads that write, what they write to, the
    // lock on it all.
    pub(super) listening: Option<Box<dyn Any + Send + Sync>>,
    snapshotter: Snapshotter,
    flusher: Option<Flusher>,
    pub(super) host: RaftHost,
    pub(super) machine: Arc<Machine>,
    pub(super) log: Arc<Log>,
    _lock: Option<DirLock>,
}

impl Replica {
    /// Opens a store by the start-up rules and opens a session: as the leader when it is alone, else
    /// as a member of its cluster, once that has a quorum.
    /// `listener` is called by the applier after each batch can be read; it must not block.
    ///
    /// # Errors
    /// [`Error::Store`] and [`Error::Damaged`] with what is wrong and what to do.
    pub async fn open(
        options: Options,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        progress: OnProgress<'_>,
        listener: Listener,
    ) -> Result<Arc<Self>> {
        let dir = StoreDir::new(disk, &options);
        let starter = Starter { dir: &dir, options: &options, clock: &clock, progress };
        let opened = starter.open(listener)?;
        let credentials = Self::own_credentials(&opened, &dir, &options)?;
        let plugged = match (&options.peers, &credentials) {
            (Some(peers), Some(credentials)) => {
                peers.plug(&opened.node.cluster, opened.node.node, credentials).await?
            }
            _ => Plugged::nowhere(),
        };
        let alone = is_alone(&opened.machine, opened.node.node);
        if !alone && options.peers.is_none() {
            return Err(Error::Store(
                "this store belongs to a node of a cluster: set `peers.listen`, where the others \
                 reach it"
                    .into(),
            ));
        }
        let mut replica = Self::assemble(opened, credentials, plugged, dir, options, clock).await?;
        if alone {
            replica.host.lead(replica.options.timeout).await?;
        } else {
            replica.become_member(progress).await?;
        }
        let superblock = replica.machine.table.view().superblock()?;
        replica.chunk_size = superblock
            .ok_or_else(|| Error::damaged("the metadata table has no superblock"))?
            .chunk_size;
        replica.open_session().await?;
        replica.begin_duties();
        let replica = Arc::new(replica);
        let ended = replica.machine.sessions.subscribe();
        // Not on the raft thread: whoever drops a replica waits for that.
        tokio::spawn(session::keep_renewed(Arc::downgrade(&replica), ended));
        Ok(replica)
    }

    pub(super) async fn assemble(
        opened: Opened,
        credentials: Option<Credentials>,
        plugged: Plugged,
        dir: StoreDir,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let Opened { node, log, machine, behind, rebuilt, lock } = opened;
        let Plugged { transport, address, begin } = plugged;
        let alone = Arc::new(Alone::default());
        alone.set(is_alone(&machine, node.node));
        let led_before = LedBefore::of(&log.ends(), node.node);
        let due = Schedules::of(&options, &log, &machine, behind)?;
        let store = LogStore::new(node.node, Arc::clone(&log), Arc::clone(&alone), due.both());
        let state_machine = StateMachine::new(Arc::clone(&machine), Arc::clone(&log));
        let network = Network::new(&transport, &dir.disk, &log);
        let host = RaftHost::start(node.node, store, state_machine, network, &*clock).await?;
        let cluster = Cluster {
            node: node.node,
            address: address.clone(),
            raft: host.raft().clone(),
            machine: Arc::clone(&machine),
            transport,
            removed: watch::Sender::new(false),
            led_before,
        };
        #[cfg(test)]
        let node = match &options.trial {
            Some(member) => NodeFile { node: member.node, ..node },
            None => node,
        };
        let works = Works { options: &options, host: &host, log: &log, cluster: &cluster };
        let (snapshotter, flusher, proposer) = works.start(due)?;
        let (barrier, rounds) = Barrier::new(cluster.clone(), options.timeout, Arc::clone(&clock));
        host.spawn(rounds);
        let invitations =
            Invitations::new(Arc::clone(&dir.disk), dir.invitations(), Arc::clone(&clock));
        let mut replica = Self {
            node,
            dir,
            options,
            chunk_size: 0,
            commits: Latency::default(),
            rebuilt,
            proposer,
            cluster,
            barrier: Arc::new(barrier),
            leases: Arc::new(Leases::new(Arc::clone(&clock))),
            clock,
            invitations: Arc::new(invitations),
            credentials,
            address,
            chunk_server: Arc::default(),
            alone,
            closing: AtomicBool::new(false),
            listening: None,
            snapshotter,
            flusher,
            host,
            machine,
            log,
            _lock: lock,
        };
        if let Some(service) = replica.service() {
            replica.listening = Some(begin(Arc::new(service)));
        }
        Ok(replica)
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.machine.table
    }

    pub fn node(&self) -> NodeId {
        self.node.node
    }

    /// Where its peers reach this node.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn session(&self) -> SessionId {
        self.proposer.session()
    }

    /// Whether this node is the only member of its cluster.
    pub fn is_alone(&self) -> bool {
        #[cfg(test)]
        if self.options.trial.is_some() {
            return false;
        }
        self.alone.get()
    }

    /// Whether this node decides for the cluster at the moment, as far as it knows.
    pub fn leads(&self) -> bool {
        self.cluster.leader() == Leader::ThisNode
    }

    /// The term this node is in: a leader leads for one.
    pub fn term(&self) -> u64 {
        self.cluster.raft.metrics().borrow().current_term
    }

    /// Nodes whose log counts for a quorum.
    pub fn voters(&self) -> usize {
        self.machine.state().membership.voter_ids().count()
    }

    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// An id no chunk had before. It holds the chunk mark back until it is settled.
    pub fn next_chunk(&self) -> ChunkId {
        self.proposer.book.next_chunk()
    }

    /// The chunk is recorded or given up: nothing that is proposed from now on introduces or names it,
    /// and what did was answered, or is aborted before anything newer is applied.
    pub fn settle_chunk(&self, id: ChunkId) {
        self.proposer.book.settle_chunk(id);
    }

    /// Whether the chunk is one of this session's, and settled.
    pub fn is_settled_chunk(&self, id: ChunkId) -> bool {
        self.proposer.book.is_settled(id)
    }

    pub fn next_content(&self) -> ContentId {
        self.proposer.book.next_content()
    }

    #[cfg(test)]
    pub(super) fn book(&self) -> &Book {
        &self.proposer.book
    }

    /// Orders and applies a mutation. `origin` is handed to the listener with its changes.
    ///
    /// # Errors
    /// As [`Proposer::propose`].
    pub async fn propose(&self, mutation: Mutation, wait: Wait, origin: u32) -> Result<Outcome> {
        self.measured(self.proposer.propose(mutation, wait, origin)).await
    }

    async fn measured<T>(&self, proposal: impl Future<Output = T>) -> T {
        let begun = self.clock.elapsed();
        let proposed = proposal.await;
        self.commits.observe(self.clock.elapsed().saturating_sub(begun));
        proposed
    }

    /// How long proposals took, until they were answered as their callers asked.
    pub fn commits(&self) -> &Latency {
        &self.commits
    }

    /// As [`Self::propose`], for what was begun in a session. Not proposed when that is not this
    /// node's any more; neither is what brings chunks or contents of another session.
    ///
    /// # Errors
    /// As [`Self::propose`]; [`Error::NoQuorum`] of a session that was lost.
    pub async fn propose_of(
        &self,
        session: SessionId,
        mutation: Mutation,
        wait: Wait,
        origin: u32,
    ) -> Result<Outcome> {
        let request = self.proposer.book.request_of(session, mutation).ok_or(Refusal::Fenced)?;
        self.measured(self.proposer.propose_request(request, wait, origin)).await
    }

    /// Waits until the log is on disk through all that this node has applied.
    pub async fn sync(&self) -> Result<()> {
        match self.log.failure() {
            Some(error) => Err(error),
            None => self.proposer.in_time(self.log.wait_synced(self.log.written())).await,
        }
    }

    /// On return the table has everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] and [`Error::Timeout`] when nobody can say what that is;
    /// [`Error::DiskFailed`] when nothing is applied here any more.
    pub async fn barrier(&self) -> Result<()> {
        #[cfg(test)]
        if let Some(member) = &self.options.trial {
            return self.proposer.in_time(member.barrier(&self.proposer)).await;
        }
        if let Some(failure) = self.machine.failure() {
            return Err(failure);
        }
        if self.alone.get() {
            // What is acknowledged is in the table: there is no other.
            return Ok(());
        }
        if let Some(failure) = self.log.failure() {
            return Err(failure);
        }
        self.proposer.in_time(self.barrier.pass()).await
    }

    /// Ends the session and leaves everything on disk, so that the next start has nothing to do.
    /// Proposals fail afterwards.
    pub async fn close(&self) -> Result<()> {
        if let Err(error) = self.end_own_session().await {
            if self.is_alone() {
                return Err(error);
            }
            // The others end it when its lease runs out.
            log::warn!("the session was left open: {error}");
        }
        self.stop().await
    }

    pub(super) async fn stop(&self) -> Result<()> {
        self.snapshotter.stop();
        if let Some(flusher) = &self.flusher {
            flusher.stop();
        }
        self.host.stop().await;
        self.log.sync()?;
        self.machine.table.close()?;
        self.log.settle();
        self.dir.mark_clean(&CleanStop { record: self.log.written() })
    }
}

/// What is due when the log has grown.
struct Schedules {
    snapshots: Arc<Schedule>,
    flushes: Arc<Schedule>,
}

impl Schedules {
    fn of(options: &Options, log: &Log, machine: &Machine, behind: u64) -> Result<Self> {
        let pending = log.bytes_after(machine.snapshot_index()?);
        let (every, flush_every) = (options.snapshot_log_bytes, options.flush_log_bytes);
        let first = snapshotter::spacing(every, machine)?.saturating_sub(pending);
        Ok(Self {
            snapshots: Schedule::new(every, first),
            flushes: Schedule::new(flush_every, flush_every.saturating_sub(behind)),
        })
    }

    fn both(&self) -> [Arc<Schedule>; 2] {
        [Arc::clone(&self.snapshots), Arc::clone(&self.flushes)]
    }
}

/// What goes on in the background of one replica.
struct Works<'a> {
    options: &'a Options,
    host: &'a RaftHost,
    log: &'a Arc<Log>,
    cluster: &'a Cluster,
}

impl Works<'_> {
    fn start(&self, due: Schedules) -> Result<(Snapshotter, Option<Flusher>, Proposer)> {
        let (machine, log) = (&self.cluster.machine, self.log);
        let snapshotter =
            Snapshotter::start(due.snapshots, self.host, Arc::clone(machine), Arc::clone(log))?;
        let flusher = match self.options.engine {
            // A commit of redb is on disk after a flush only.
            EngineKind::Redb => {
                Some(Flusher::start(due.flushes, Arc::clone(machine), Arc::clone(log))?)
            }
            EngineKind::Sled | EngineKind::Memory => None,
        };
        Ok((snapshotter, flusher, self.combine()))
    }

    fn combine(&self) -> Proposer {
        let (queue, waiting) = mpsc::unbounded_channel();
        let book = Arc::new(Book::default());
        let combiner = Combiner {
            cluster: self.cluster.clone(),
            log: Arc::clone(self.log),
            book: Arc::clone(&book),
            retry_for: self.options.timeout,
            unsettled: Vec::new(),
        };
        self.host.spawn(combiner.run(waiting));
        let (machine, log) = (Arc::clone(&self.cluster.machine), Arc::clone(self.log));
        Proposer {
            book,
            machine,
            log,
            queue,
            timeout: self.options.timeout,
            #[cfg(test)]
            trial: self.options.trial.clone(),
        }
    }
}
