//! The session of this node: opened when it starts, and again when the others have ended it because
//! they did not hear of the node. What belonged to the lost one stays lost.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;

use super::{Replica, Wait};
use crate::error::{Error, Result};
use crate::meta::{Mutation, Outcome, Request};
use crate::types::{NodeId, RequestId, SessionId};

/// Proposals of one opening that were not answered in time.
const ATTEMPTS: u32 = 3;
/// Between two attempts to replace a lost session.
const PAUSE: Duration = Duration::from_millis(500);

impl Replica {
    /// Opens a session and ends those this node had before.
    pub(super) async fn open_session(&self) -> Result<()> {
        let session = self.new_session().await?;
        self.proposer.book.begin(session);
        self.end_sessions(self.node(), session).await
    }

    /// The nonce makes one session of all attempts.
    async fn new_session(&self) -> Result<SessionId> {
        let open = Mutation::OpenSession {
            node: self.node(),
            address: self.address.clone(),
            nonce: self.clock.random(),
        };
        let mut attempts = ATTEMPTS;
        loop {
            // It is nobody's yet, so no sequence is counted.
            let id = RequestId { session: SessionId(0), sequence: self.clock.random() };
            let request = Request { id, settled: 0, chunk_mark: 0, mutation: open.clone() };
            attempts -= 1;
            match self.proposer.submit(request, Wait::Durable).await {
                Err(Error::Timeout(_) | Error::NoQuorum(_)) if attempts > 0 => {}
                Err(error) => return Err(error),
                Ok(answered) => {
                    return match answered.outcome {
                        Outcome::Session(session) => {
                            self.proposer.in_time(self.log.wait_synced(answered.record)).await?;
                            Ok(session)
                        }
                        Outcome::Refused(refusal) => Err(refusal.into()),
                        _ => Err(Error::damaged("opening a session was answered out of form")),
                    };
                }
            }
        }
    }

    /// Ends every session of another node: what it holds is let go, what it has not published is,
    /// and nothing it still says is applied. If it lives it goes on with a new session.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub async fn end_session_of(&self, node: NodeId) -> Result<()> {
        self.end_sessions(node, self.session()).await
    }

    async fn end_sessions(&self, node: NodeId, but: SessionId) -> Result<()> {
        let sessions = self.table().view().sessions()?;
        for (id, record) in sessions {
            if record.node == node && id != but {
                self.end_session(id).await?;
            }
        }
        Ok(())
    }

    async fn end_session(&self, session: SessionId) -> Result<()> {
        while let Outcome::More(true) =
            self.propose(Mutation::EndSession { session }, Wait::Applied, 0).await?
        {}
        Ok(())
    }

    /// Ends this node's session for good.
    pub(super) async fn end_own_session(&self) -> Result<()> {
        self.closing.store(true, Ordering::Release);
        self.end_session(self.session()).await
    }

    /// Whether the session was ended by somebody else, as far as the table knows.
    fn has_lost_session(&self) -> Result<bool> {
        if self.closing.load(Ordering::Acquire) {
            return Ok(false);
        }
        let session = self.table().view().session(self.session())?;
        Ok(session.is_none_or(|session| session.is_ended()))
    }
}

/// Replaces the session whenever it is lost; ends with the replica, whose machine rings `ended`.
pub(super) async fn keep_renewed(replica: Weak<Replica>, mut ended: watch::Receiver<u64>) {
    while ended.changed().await.is_ok() {
        while let Some(replica) = replica.upgrade() {
            match renew(&replica).await {
                Ok(()) => break,
                Err(error) => log::warn!("no new session yet: {error}"),
            }
            drop(replica);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn renew(replica: &Replica) -> Result<()> {
    if !replica.has_lost_session()? {
        return Ok(());
    }
    let lost = replica.session();
    log::warn!("session {} was ended by other nodes: what it had not saved is lost", lost.0);
    replica.open_session().await?;
    log::info!("session {} follows session {}", replica.session().0, lost.0);
    Ok(())
}
