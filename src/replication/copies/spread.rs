//! One chunk on its way to all its places.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::keeper::{Copies, Need};
use crate::chunk::SealedChunk;
use crate::env::{blocking, within};
use crate::error::{Error, Result};
use crate::types::{ChunkId, NodeId, quorum};

/// Between two attempts to send a chunk to one node.
const PAUSE: Duration = Duration::from_millis(200);
/// Without an answer for so long, those that failed lately get the chunk too: a third of the timeout
/// at most.
const SPARE_AFTER: Duration = Duration::from_millis(500);

/// What became of one attempt.
type Attempt = (NodeId, Result<()>);

pub(super) struct Spread {
    copies: Arc<Copies>,
    chunk: SealedChunk,
    /// Who has it so far.
    on: Vec<NodeId>,
    /// Places that do not.
    missing: Vec<NodeId>,
    /// Of them those that failed lately, while the others are enough.
    spare: Vec<NodeId>,
    /// Copies on places that are still needed.
    needed: usize,
    places: usize,
    under_way: JoinSet<Attempt>,
    /// Who has not answered yet.
    asked: BTreeSet<NodeId>,
    failure: Option<Error>,
}

impl Spread {
    pub fn new(
        copies: Arc<Copies>,
        chunk: SealedChunk,
        places: Vec<NodeId>,
        on: Vec<NodeId>,
        need: Need,
    ) -> Self {
        let needed = match need {
            Need::Quorum => quorum(places.len()),
            Need::One => 1,
        };
        let there = match need {
            Need::Quorum => places.iter().filter(|node| on.contains(node)).count(),
            Need::One => on.len(),
        };
        let mut missing: Vec<NodeId> =
            places.iter().copied().filter(|node| !on.contains(node)).collect();
        copies.health.sort(&mut missing);
        Self {
            needed: needed.saturating_sub(there),
            places: places.len(),
            copies,
            chunk,
            on,
            missing,
            spare: Vec::new(),
            under_way: JoinSet::new(),
            asked: BTreeSet::new(),
            failure: None,
        }
    }

    pub async fn run(mut self) -> Result<Vec<NodeId>> {
        self.begin();
        let deadline = self.copies.timeout;
        match within(deadline, self.until_enough()).await {
            Some(Ok(())) => {
                let on = self.on.clone();
                self.go_on_alone();
                Ok(on)
            }
            Some(Err(error)) => Err(error),
            None => {
                self.note_silence();
                Err(self.too_few())
            }
        }
    }

    /// Starts with everybody, but leaves those that failed lately alone while others are enough.
    fn begin(&mut self) {
        let (ailing, well): (Vec<_>, Vec<_>) =
            self.missing.iter().partition(|node| self.copies.health.is_ailing(**node));
        well.iter().for_each(|node| self.attempt(*node, Duration::ZERO));
        self.spare = ailing;
        if well.len() < self.needed {
            self.try_spare();
        }
    }

    fn try_spare(&mut self) {
        std::mem::take(&mut self.spare)
            .into_iter()
            .for_each(|node| self.attempt(node, Duration::ZERO));
    }

    fn attempt(&mut self, node: NodeId, after: Duration) {
        let (copies, chunk) = (Arc::clone(&self.copies), self.chunk.clone());
        self.asked.insert(node);
        self.under_way.spawn(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let result = if node == copies.node {
                keep(&copies, chunk).await
            } else {
                let sent = copies.peers.send(node, chunk).await;
                copies.health.note(node, sent.is_ok());
                sent
            };
            (node, result)
        });
    }

    async fn until_enough(&mut self) -> Result<()> {
        while self.needed > 0 {
            // Cancelled at the deadline; then nothing is needed of what is under way.
            let next = self.under_way.join_next();
            let joined = if self.spare.is_empty() {
                next.await
            } else if let Ok(joined) = timeout(SPARE_AFTER.min(self.copies.timeout / 3), next).await
            {
                joined
            } else {
                // A node that lives may have a disk that hangs.
                self.note_silence();
                self.try_spare();
                continue;
            };
            let Some(joined) = joined else { return Err(self.too_few()) };
            let Ok((node, result)) = joined else { return Err(Error::ShuttingDown) };
            self.asked.remove(&node);
            match result {
                Ok(()) => {
                    self.on.push(node);
                    self.needed -= 1;
                }
                Err(error) => self.failed(node, error)?,
            }
        }
        Ok(())
    }

    /// Tries again what may succeed later.
    fn failed(&mut self, node: NodeId, error: Error) -> Result<()> {
        log::debug!("chunk {} to node {node}: {error}", self.chunk.id());
        let is_local = node == self.copies.node;
        // A disk that cannot be vouched for takes no part; nor will what is wrong be right.
        let is_final = matches!(error, Error::DiskFailed(_) | Error::InvalidArgument(_));
        if is_local && (self.places == 1 || matches!(error, Error::DiskFailed(_))) {
            return Err(error);
        }
        if !is_final {
            self.attempt(node, PAUSE);
        }
        self.try_spare();
        self.failure = Some(error);
        Ok(())
    }

    /// The next chunks do not wait for those who have not answered.
    fn note_silence(&self) {
        let others = self.asked.iter().filter(|node| **node != self.copies.node);
        others.for_each(|node| self.copies.health.note(*node, false));
    }

    fn too_few(&self) -> Error {
        if let Some(Error::NoSpace) = self.failure {
            return Error::NoSpace;
        }
        let (count, places) = (self.on.len(), self.places);
        let why = self.failure.as_ref().map_or_else(String::new, |error| format!(": {error}"));
        Error::NoQuorum(format!("{count} of {places} nodes have the data on disk{why}"))
    }

    /// What is under way goes on, if not too much does already; who fails now is left to the repair.
    fn go_on_alone(mut self) {
        if self.under_way.is_empty() {
            return;
        }
        if let Ok(permit) = Arc::clone(&self.copies.late).try_acquire_owned() {
            let (copies, id) = (self.copies, self.chunk.id());
            let under_way = std::mem::take(&mut self.under_way);
            tokio::spawn(finish(copies, id, under_way, permit));
        }
    }
}

async fn finish(
    copies: Arc<Copies>,
    id: ChunkId,
    mut under_way: JoinSet<Attempt>,
    _permit: OwnedSemaphorePermit,
) {
    let all = async {
        while let Some(joined) = under_way.join_next().await {
            if let Ok((node, Ok(()))) = joined {
                copies.tally.landed(node, id);
            }
        }
    };
    // Whoever is slower is left to the repair.
    let _ = tokio::time::timeout(copies.timeout, all).await;
}

async fn keep(copies: &Copies, chunk: SealedChunk) -> Result<()> {
    let permit = Arc::clone(&copies.local).acquire_owned().await;
    let permit = permit.map_err(|_| Error::ShuttingDown)?;
    let chunks = Arc::clone(&copies.chunks);
    let write = move || {
        let kept = chunks.keep(&chunk);
        drop(permit);
        kept
    };
    let kept = blocking(write).await;
    kept.unwrap_or(Err(Error::ShuttingDown))
}
