//! Packs all proposals that wait into one log entry: one write and one sync serve them all. On a node
//! that does not lead they go to the leader in one message, and into its own queue.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::book::Book;
use super::log::Log;
use super::members::{ASK_AGAIN, Cluster, Leader};
use super::peers::{Kind, Proposed};
use super::types::Batch;
use crate::env::within;
use crate::error::{Error, Result};
use crate::meta::{Mutation, Outcome, Request};
use crate::types::RequestId;
use crate::types::limits::{ENTRY_MAX, ENTRY_MUTATIONS_MAX};

/// Bytes of requests that are put together into one entry, which has to be sent, written and answered for
/// between two heartbeats.
const BATCH_BYTES: usize = 256 << 10;
/// Room in an entry for what is not requests.
pub const ENTRY_OVERHEAD: usize = 1024;
/// Proposals of unknown fate above which no more are made: there is no quorum, and none is due soon.
const UNKNOWN_MAX: usize = 256;
/// Bytes that an abort takes in an entry, and more.
const ABORT_BYTES: usize = 64;

/// What a proposal came to.
#[derive(Clone, Debug)]
pub struct Answered {
    pub outcome: Outcome,
    /// The record of this node's log that holds it: who needs the disk waits for its sync. 0 when
    /// it is on the disks of a quorum already.
    pub record: u64,
    /// Of the log: applied there.
    pub index: u64,
}

/// Whose proposal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    ThisNode,
    /// This node's as the leader: it is proposed by no other.
    Leader,
    /// One that takes this node for the leader, and asks again elsewhere if it is none.
    Peer,
}

pub struct Proposal {
    pub request: Request,
    /// Bytes of the request in an entry.
    pub bytes: usize,
    /// Somebody waits for it to be on disk.
    pub urgent: bool,
    pub source: Source,
    pub answer: oneshot::Sender<Result<Answered>>,
}

/// What the combiner works with.
pub struct Combiner {
    pub cluster: Cluster,
    pub log: Arc<Log>,
    pub book: Arc<Book>,
    pub retry_for: Duration,
    /// Aborts of proposals whose fate is unknown. They go before whatever is proposed next, so that
    /// a late copy of what they abort cannot follow it.
    pub unsettled: Vec<Request>,
}

impl Combiner {
    /// Works until all senders of `queue` are gone.
    pub async fn run(mut self, mut queue: mpsc::UnboundedReceiver<Proposal>) {
        let mut next = queue.recv().await;
        while let Some(first) = next.take() {
            let (group, left) = self.gather(first, &mut queue);
            self.commit(group).await;
            next = match left {
                Some(proposal) => Some(proposal),
                None => queue.recv().await,
            };
        }
    }

    /// Takes what waits, as far as it fits; also gives the first that does not.
    fn gather(
        &self,
        first: Proposal,
        queue: &mut mpsc::UnboundedReceiver<Proposal>,
    ) -> (Vec<Proposal>, Option<Proposal>) {
        let room = entry_limit(&self.log).min(BATCH_BYTES) - self.unsettled.len() * ABORT_BYTES;
        let (mut bytes, is_leaders) = (first.bytes, first.source == Source::Leader);
        let mut group = vec![first];
        while group.len() + self.unsettled.len() < ENTRY_MUTATIONS_MAX
            && let Ok(proposal) = queue.try_recv()
        {
            bytes += proposal.bytes;
            // What stays here is by itself: the rest goes to the next leader if need be.
            if bytes > room || is_leaders || proposal.source == Source::Leader {
                return (group, Some(proposal));
            }
            group.push(proposal);
        }
        (group, None)
    }

    async fn commit(&mut self, group: Vec<Proposal>) {
        let mut group: Vec<Proposal> =
            group.into_iter().filter_map(|one| self.wanted(one)).collect();
        if group.is_empty() {
            return;
        }
        if self.unsettled.len() >= UNKNOWN_MAX {
            // Earlier changes have to be settled before there are more of them.
            if let Err(error) = self.propose(Vec::new(), true, Reach::Anywhere).await {
                group.into_iter().for_each(|proposal| self.decline(proposal, error.clone()));
                return;
            }
        }
        let bytes: usize = group.iter().map(|proposal| proposal.bytes).sum();
        if let Err(error) = self.log.reserve(bytes + ENTRY_OVERHEAD) {
            // Not proposed at all when there is no room: a definite no.
            group.into_iter().for_each(|proposal| self.decline(proposal, error.clone()));
            return;
        }
        let urgent = group.iter().any(|proposal| proposal.urgent);
        let is_leaders = group.iter().any(|proposal| proposal.source == Source::Leader);
        let reach = if is_leaders { Reach::Here } else { Reach::Anywhere };
        let requests = group.iter_mut().map(|proposal| proposal.request.clone()).collect();
        match self.propose(requests, urgent, reach).await {
            Ok(done) => self.answer(group, done),
            Err(error) => self.fail(group, &error),
        }
    }

    /// Passes on what is still to be proposed here.
    fn wanted(&self, proposal: Proposal) -> Option<Proposal> {
        let leads = self.cluster.leader() == Leader::ThisNode;
        if proposal.source != Source::ThisNode && !leads {
            self.decline(proposal, Error::NoQuorum("this node does not lead".into()));
            return None;
        }
        if proposal.answer.is_closed() {
            // The proposer gave up before it was ever proposed.
            self.decline(proposal, Error::Timeout("never proposed"));
            return None;
        }
        Some(proposal)
    }

    /// Answers with an error what was never proposed.
    fn decline(&self, proposal: Proposal, error: Error) {
        self.book.settle(proposal.request.id);
        self.cluster.machine.clear_origin(proposal.request.id);
        // Nobody listens when the proposer gave up.
        let _ = proposal.answer.send(Err(error));
    }

    /// Puts `requests`, after what has to be settled first, into the log.
    async fn propose(
        &mut self,
        requests: Vec<Request>,
        urgent: bool,
        reach: Reach,
    ) -> Result<Done, Error> {
        let before = self.unsettled.len();
        let all = self.unsettled.iter().cloned().chain(requests).collect();
        let mut done = self.write(Batch::new(all, urgent), reach).await?;
        done.outcomes.drain(..before.min(done.outcomes.len()));
        for abort in std::mem::take(&mut self.unsettled) {
            if let Mutation::Abort { sequence } = abort.mutation {
                self.book.settle(RequestId { session: abort.id.session, sequence });
            }
            self.book.settle(abort.id);
        }
        Ok(done)
    }

    fn answer(&self, group: Vec<Proposal>, done: Done) {
        let Done { outcomes, record, index } = done;
        for (proposal, outcome) in group.into_iter().zip(outcomes) {
            self.book.settle(proposal.request.id);
            self.cluster.machine.clear_origin(proposal.request.id);
            // Nobody listens when the proposer gave up.
            let _ = proposal.answer.send(Ok(Answered { outcome, record, index }));
        }
    }

    /// Whether they are applied is not known.
    fn fail(&mut self, group: Vec<Proposal>, error: &Error) {
        for proposal in group {
            let id = proposal.request.id;
            let own = proposal.source != Source::Peer && id.session == self.book.session();
            if own {
                let abort = self.book.request(Mutation::Abort { sequence: id.sequence });
                self.unsettled.push(abort);
                self.cluster.machine.clear_origin(id);
                let _ = proposal.answer.send(Err(error.clone()));
            } else {
                self.decline(proposal, error.clone());
            }
        }
        // Of a session that has ended nothing late is applied anyway.
        let session = self.book.session();
        self.unsettled.retain(|abort| abort.id.session == session);
    }

    /// Proposes the batch, here or to the leader, again and again while there is none.
    async fn write(&self, batch: Batch, reach: Reach) -> Result<Done, Error> {
        let attempts = async {
            let mut is_first = true;
            loop {
                match self.attempt(&batch, reach).await {
                    Ok(done) => return Ok(done),
                    Err(Attempt::Again(error)) if reach == Reach::Anywhere => {
                        log::debug!("proposing again: {error}");
                    }
                    Err(Attempt::Never(Error::NoSpace)) if !is_first => {
                        // What was asked for before may be done.
                        return Err(Error::NoQuorum("a leader had no room for the change".into()));
                    }
                    Err(Attempt::Again(error) | Attempt::Never(error)) => return Err(error),
                }
                is_first = false;
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let given_up = || Err(Error::NoQuorum("no leader took the change in time".into()));
        within(self.retry_for, attempts).await.unwrap_or_else(given_up)
    }

    async fn attempt(&self, batch: &Batch, reach: Reach) -> Result<Done, Attempt> {
        if let Some(failure) = self.failure() {
            // Whoever leads would take it, and this node would never see it applied.
            return Err(Attempt::Never(failure));
        }
        match self.cluster.leader() {
            Leader::ThisNode => self.write_here(batch).await,
            Leader::Other(_) if reach == Reach::Here => {
                Err(Attempt::Never(Error::NoQuorum("this node does not lead".into())))
            }
            Leader::Other(node) => {
                let requests = &*batch.requests;
                let asked: Result<Proposed> =
                    self.cluster.ask(node, Kind::Propose, requests, self.retry_for).await;
                let Proposed { outcomes, index } = asked.map_err(Attempt::of)?;
                self.cluster.machine.wait_applied(index).await.map_err(Attempt::Never)?;
                Ok(Done { outcomes, record: 0, index })
            }
            Leader::Nobody => Err(Attempt::Again(Error::NoQuorum("there is no leader".into()))),
        }
    }

    async fn write_here(&self, batch: &Batch) -> Result<Done, Attempt> {
        match self.cluster.raft.client_write(batch.clone()).await {
            Ok(written) => Ok(Done {
                outcomes: written.data.0,
                record: batch.record(),
                index: written.log_id.index,
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(Attempt::Again(Error::NoQuorum(forward.to_string())))
            }
            Err(RaftError::APIError(error)) => {
                Err(Attempt::Never(Error::NoQuorum(error.to_string())))
            }
            Err(RaftError::Fatal(_)) => Err(Attempt::Never(self.why_stopped())),
        }
    }

    fn why_stopped(&self) -> Error {
        self.failure().unwrap_or(Error::ShuttingDown)
    }

    fn failure(&self) -> Option<Error> {
        self.log.failure().or_else(|| self.cluster.machine.failure())
    }
}

/// Who may propose a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Here,
    /// Whoever leads.
    Anywhere,
}

/// A batch that is in the log and applied.
struct Done {
    outcomes: Vec<Outcome>,
    record: u64,
    index: u64,
}

/// Why one attempt to write a batch did not succeed.
enum Attempt {
    Again(Error),
    Never(Error),
}

impl Attempt {
    fn of(error: Error) -> Self {
        match error {
            Error::NoSpace | Error::Store(_) | Error::InvalidArgument(_) => Self::Never(error),
            _ => Self::Again(error),
        }
    }
}

/// Bytes of requests that one entry takes.
pub fn entry_limit(log: &Log) -> usize {
    log.options().entry_max().min(ENTRY_MAX) - ENTRY_OVERHEAD
}
