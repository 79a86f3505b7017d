//! For tests: several replicas that apply one order of requests, each at its own pace, in one
//! process. Each is a whole replica of its own; the order between them stands in for the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::Wait;
use super::combiner::{Answered, Source};
use super::proposer::Proposer;
use crate::error::{Error, Result};
use crate::meta::Request;
use crate::types::NodeId;

/// The requests of all members in the order that all apply them in.
#[derive(Debug)]
pub struct Order {
    requests: Mutex<Vec<Request>>,
    len: watch::Sender<usize>,
}

impl Default for Order {
    fn default() -> Self {
        Self { requests: Mutex::default(), len: watch::Sender::new(0) }
    }
}

impl Order {
    pub fn end(&self) -> usize {
        *self.len.borrow()
    }

    /// Gives a request its place.
    pub fn push(&self, request: Request) -> usize {
        let mut requests = self.requests.lock();
        requests.push(request);
        self.len.send_replace(requests.len());
        requests.len() - 1
    }

    fn get(&self, at: usize) -> Option<Request> {
        self.requests.lock().get(at).cloned()
    }
}

/// One replica's place in the order; outlives the replica, as its disk does.
#[derive(Debug)]
pub struct Member {
    pub node: NodeId,
    order: Arc<Order>,
    answers: tokio::sync::Mutex<Vec<Answered>>,
    /// Nothing reaches it and nothing leaves it.
    cut: AtomicBool,
    /// How far it may apply.
    limit: watch::Sender<usize>,
}

impl Member {
    pub fn new(node: NodeId, order: &Arc<Order>) -> Arc<Self> {
        Arc::new(Self {
            node,
            order: Arc::clone(order),
            answers: tokio::sync::Mutex::default(),
            cut: AtomicBool::new(false),
            limit: watch::Sender::new(usize::MAX),
        })
    }

    /// Cuts the member off from the others, or brings it back.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
        let limit = if cut { 0 } else { usize::MAX };
        self.limit.send_replace(limit);
    }

    /// What gets its place from now on is applied here when it is let go.
    pub fn hold(&self, hold: bool) {
        let limit = if hold { self.order.end() } else { usize::MAX };
        self.limit.send_replace(limit);
    }

    /// Requests that have their place so far, of all members.
    pub fn end(&self) -> usize {
        self.order.end()
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// A proposal of this member: gets its place, and is answered once it is applied here.
    pub(super) async fn submit(&self, proposer: &Proposer, request: Request) -> Result<Answered> {
        if self.is_cut() {
            proposer.book.settle(request.id);
            return Err(Error::NoQuorum("cut off".into()));
        }
        let at = self.order.push(request);
        self.catch_up(proposer, at + 1).await?;
        let answers = self.answers.lock().await;
        answers.get(at).cloned().ok_or(Error::ShuttingDown)
    }

    /// Applies everything ordered so far.
    pub(super) async fn barrier(&self, proposer: &Proposer) -> Result<()> {
        if self.is_cut() {
            return Err(Error::NoQuorum("cut off".into()));
        }
        self.catch_up(proposer, self.order.end()).await
    }

    async fn catch_up(&self, proposer: &Proposer, upto: usize) -> Result<()> {
        let mut limit = self.limit.subscribe();
        let _ = limit.wait_for(|limit| *limit >= upto).await;
        let mut answers = self.answers.lock().await;
        while answers.len() < upto {
            let Some(request) = self.order.get(answers.len()) else { break };
            answers.push(proposer.submit_here(request, Wait::Applied, Source::ThisNode).await?);
        }
        Ok(())
    }

    /// Follows the order until the replica is gone or refuses.
    pub async fn follow(self: Arc<Self>, replica: std::sync::Weak<super::Replica>) {
        let mut len = self.order.len.subscribe();
        loop {
            let upto = *len.borrow_and_update();
            let mut limit = self.limit.subscribe();
            let _ = limit.wait_for(|limit| *limit >= upto).await;
            let Some(replica) = replica.upgrade() else { return };
            if self.catch_up(&replica.proposer, upto).await.is_err() {
                return;
            }
            drop(replica);
            if len.changed().await.is_err() {
                return;
            }
        }
    }
}
