//! Proposals: what goes into the log, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::book::Book;
use super::combiner::{Answered, Proposal, Source, entry_limit};
use super::log::Log;
use super::raft::Machine;
use crate::env::within;
use crate::error::{Error, Result};
use crate::meta::{Mutation, Outcome, Refusal, Request, codec};
use crate::types::SessionId;

/// When a proposal is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Ordered and applied: survives the process, and the machine after the next sync.
    Applied,
    /// And on disk.
    Durable,
}

/// Proposes for this node's session. Clones share everything.
#[derive(Clone)]
pub struct Proposer {
    pub book: Arc<Book>,
    pub machine: Arc<Machine>,
    pub log: Arc<Log>,
    pub queue: mpsc::UnboundedSender<Proposal>,
    /// How long a proposal waits for its answer.
    pub timeout: Duration,
    #[cfg(test)]
    pub trial: Option<Arc<super::trial::Member>>,
}

impl Proposer {
    pub fn session(&self) -> SessionId {
        self.book.session()
    }

    /// Orders and applies a mutation. `origin` is handed to the listener with its changes.
    ///
    /// # Errors
    /// What the mutation was refused for: it changed nothing. [`Error::NoSpace`]: not proposed.
    /// [`Error::Timeout`] and others: whether it is applied is not known. The combiner sees to it
    /// that it is not applied after anything newer.
    pub async fn propose(&self, mutation: Mutation, wait: Wait, origin: u32) -> Result<Outcome> {
        let request = match mutation.session() {
            Some(session) => self.book.request_of(session, mutation).ok_or(Refusal::Fenced)?,
            None => self.book.request(mutation),
        };
        self.propose_request(request, wait, origin).await
    }

    /// As [`Self::propose`].
    pub async fn propose_request(
        &self,
        request: Request,
        wait: Wait,
        origin: u32,
    ) -> Result<Outcome> {
        self.machine.set_origin(request.id, origin);
        let answered = self.submit(request, wait).await?;
        let (outcome, record) = (self.accepted(answered.outcome)?, answered.record);
        if wait == Wait::Durable {
            self.in_time(self.log.wait_synced(record)).await?;
        }
        Ok(outcome)
    }

    /// As [`Self::propose`], for what only the leader may decide: it goes to no other node, whatever
    /// happens.
    ///
    /// # Errors
    /// [`Error::NoQuorum`] when this node does not lead, or not long enough.
    pub async fn propose_as_leader(&self, mutation: Mutation) -> Result<Outcome> {
        let request = self.book.request(mutation);
        self.accepted(self.submit_here(request, Wait::Applied, Source::Leader).await?.outcome)
    }

    fn accepted(&self, outcome: Outcome) -> Result<Outcome> {
        if let Outcome::Refused(refusal) = outcome {
            if refusal == Refusal::Fenced {
                self.machine.ring_sessions();
            }
            return Err(refusal.into());
        }
        Ok(outcome)
    }

    /// Puts a request into the order, for the first time or again.
    pub async fn submit(&self, request: Request, wait: Wait) -> Result<Answered> {
        #[cfg(test)]
        if let Some(member) = &self.trial {
            return self.in_time(member.submit(self, request)).await;
        }
        self.submit_here(request, wait, Source::ThisNode).await
    }

    pub(super) async fn submit_here(
        &self,
        request: Request,
        wait: Wait,
        source: Source,
    ) -> Result<Answered> {
        let id = request.id;
        let bytes = self.measure(&request).inspect_err(|_| {
            self.book.settle(id);
            self.machine.clear_origin(id);
        })?;
        let urgent = wait == Wait::Durable;
        let answered = self.enqueue(request, bytes, urgent, source)?;
        self.in_time(async { answered.await.unwrap_or(Err(Error::ShuttingDown)) }).await
    }

    /// Puts another node's requests into the queue. One answer each; none comes late, for the
    /// asker's own patience bounds the wait.
    pub fn submit_for_peer(
        &self,
        requests: Vec<Request>,
    ) -> Result<Vec<oneshot::Receiver<Result<Answered>>>> {
        let enqueue = |request: Request| {
            let bytes = self.measure(&request)?;
            self.enqueue(request, bytes, true, Source::Peer)
        };
        requests.into_iter().map(enqueue).collect()
    }

    fn enqueue(
        &self,
        request: Request,
        bytes: usize,
        urgent: bool,
        source: Source,
    ) -> Result<oneshot::Receiver<Result<Answered>>> {
        let (answer, answered) = oneshot::channel();
        let proposal = Proposal { request, bytes, urgent, source, answer };
        self.queue.send(proposal).map_err(|_| Error::ShuttingDown)?;
        Ok(answered)
    }

    fn measure(&self, request: &Request) -> Result<usize> {
        let limit = entry_limit(&self.log);
        let fits = codec::encoded_len(request).filter(|bytes| *bytes <= limit);
        fits.ok_or_else(|| Error::invalid(format!("a change takes more than {limit} bytes")))
    }

    pub async fn in_time<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let done = within(self.timeout, work).await;
        done.unwrap_or(Err(Error::Timeout("the change may or may not have been made")))
    }
}
