//! A leader that no quorum answers falls silent.
//!
//! Where its messages arrive and the answers do not, the others would go on following it: they hear from it
//! all the time, and nothing that anybody proposes is ever acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use openraft::ServerState;

use crate::replication::types::Raft;

/// How long a quorum may leave a leader without an answer. A stall of their disks that is a little longer
/// costs nothing: the others keep to a silent leader for as long again.
const UNANSWERED_MAX: Duration = Duration::from_millis(1500);
/// From then on it is silent for as long as an election takes, then speaks for a while, and so on: where
/// nobody else can be elected, it finds out so that it is heard again.
const SILENT: Duration = Duration::from_secs(5);
const SPEAKING: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Shared by who sends and who looks.
#[derive(Clone, Debug, Default)]
pub struct Silence(Arc<AtomicBool>);

impl Silence {
    /// Whether nothing is to be sent to those that follow.
    pub fn is_kept(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks whether it is due; runs until it is dropped.
    pub async fn keep_when_due(self, raft: Raft) {
        loop {
            let is_due = {
                let metrics = raft.metrics();
                let metrics = metrics.borrow();
                let voters = metrics.membership_config.membership().voter_ids().count();
                let leads_others = metrics.state == ServerState::Leader && voters > 1;
                let unanswered = metrics.millis_since_quorum_ack.map(Duration::from_millis);
                leads_others && unanswered.is_some_and(is_due)
            };
            if self.0.swap(is_due, Ordering::Relaxed) != is_due && is_due {
                log::warn!(
                    "no quorum answers this leader: it is silent, so that another one is found"
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn is_due(unanswered: Duration) -> bool {
    let Some(since) = unanswered.checked_sub(UNANSWERED_MAX) else { return false };
    let cycle = (SILENT + SPEAKING).as_millis();
    since.as_millis() % cycle < SILENT.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_answered_speaks_now_and_then() {
        let due = |millis| is_due(Duration::from_millis(millis));
        assert_eq!([due(0), due(1400), due(1500), due(6400)], [false, false, true, true]);
        assert_eq!([due(6600), due(7400), due(7600)], [false, false, true]);
    }
}
