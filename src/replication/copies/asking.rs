//! Asks the nodes that have a chunk for it: one after the other, and the next one too when an answer
//! does not come for a while.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;

use super::keeper::Copies;
use super::peers::Later;
use crate::env::within;
use crate::error::{Error, Result};
use crate::types::{ChunkId, NodeId};

/// Between two rounds of asking everybody who might have a chunk.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Asks a node.
pub(super) type Question<'a, T> = &'a (dyn Fn(NodeId) -> Later<'static, T> + Send + Sync);

/// How long is waited for an answer.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    /// Those that fail are asked again and again for so long; once in any case.
    pub total: Duration,
    /// After it the next node is asked too: a disk that hangs, in a node that lives, tells nobody.
    pub hedge: Duration,
}

impl Copies {
    /// Asks those first that answer, until one has it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        id: ChunkId,
        mut nodes: Vec<NodeId>,
        ask: Question<'_, T>,
        patience: Patience,
    ) -> Result<T> {
        let rounds = async {
            let mut worst = Error::NotFound;
            while !nodes.is_empty() {
                self.health.sort(&mut nodes);
                let asked = self.ask_once(id, std::mem::take(&mut nodes), ask, patience.hedge);
                match asked.await {
                    Ok(found) => return Ok(found),
                    Err((error, left)) => (worst, nodes) = (graver(worst, error), left),
                }
                if patience.total.is_zero() {
                    break;
                }
                if !nodes.is_empty() {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
            Err(worst)
        };
        match within(patience.total.max(self.timeout), rounds).await {
            Some(result) => result,
            None => Err(Error::Unreachable(format!("no node that has chunk {id} answers"))),
        }
    }

    /// The failure comes with the nodes that may have it all the same. Who is still asked when somebody
    /// has answered is given up.
    async fn ask_once<T: Send + 'static>(
        &self,
        id: ChunkId,
        nodes: Vec<NodeId>,
        ask: Question<'_, T>,
        hedge: Duration,
    ) -> Result<T, (Error, Vec<NodeId>)> {
        let (mut waiting, mut under_way) = (nodes.into_iter(), JoinSet::new());
        let (mut worst, mut left) = (Error::NotFound, Vec::new());
        let mut last = self.node;
        loop {
            if let Some(node) = waiting.next() {
                let answer = ask(node);
                under_way.spawn(async move { (node, answer.await) });
                last = node;
            }
            let answered = if waiting.as_slice().is_empty() {
                under_way.join_next().await
            } else if let Ok(answered) = timeout(hedge, under_way.join_next()).await {
                answered
            } else {
                self.health.note(last, false);
                continue;
            };
            match answered {
                Some(Ok((node, Ok(found)))) => {
                    self.health.note(node, true);
                    return Ok(found);
                }
                Some(Ok((_, Err(error)))) if is_final(&error) => worst = graver(worst, error),
                Some(Ok((node, Err(error)))) => {
                    log::debug!("chunk {id} from node {node}: {error}");
                    self.health.note(node, false);
                    left.push(node);
                    worst = graver(worst, error);
                }
                Some(Err(_)) => return Err((Error::ShuttingDown, Vec::new())),
                None => return Err((worst, left)),
            }
        }
    }
}

/// Whether a node will say the same when it is asked again.
fn is_final(error: &Error) -> bool {
    matches!(error, Error::NotFound | Error::Damaged(_) | Error::InvalidArgument(_))
}

/// What a reader is told of two failures: that somebody may still have it outweighs that it is bad,
/// and that outweighs that it is missing.
pub(super) fn graver(one: Error, other: Error) -> Error {
    let weight = |error: &Error| match error {
        Error::NotFound => 0,
        Error::Damaged(_) => 1,
        Error::Io { .. } => 2,
        _ => 3,
    };
    if weight(&other) > weight(&one) { other } else { one }
}
