//! A node with more of the log than a candidate stands for election itself, at once.
//!
//! Openraft lets it wait for its own time, in which the candidate, which cannot win, may have become one of a higher vote:
//! then it is refused for that, waits once more, and may be too late again. A leader that dies under load leaves such logs,
//! for one of the others has its last entry and one has not.

use std::time::Duration;

use openraft::raft::{VoteRequest, VoteResponse};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::host::ELECTION;
use crate::replication::types::Raft;
use crate::types::NodeId;

/// Shared by who answers votes, who asks for them, and who has openraft stand.
#[derive(Debug, Default)]
pub struct Campaign {
    /// When a leader was heard last, by the node's clock.
    heard: Mutex<Option<Duration>>,
    due: Notify,
}

impl Campaign {
    /// A leader has spoken.
    pub fn heard_leader(&self, now: Duration) {
        *self.heard.lock() = Some(now);
    }

    /// This node answers a candidate. While it hears a leader itself, the candidate is who has gone astray.
    pub fn answers(
        &self,
        asked: &VoteRequest<NodeId>,
        answer: &VoteResponse<NodeId>,
        now: Duration,
    ) {
        let heard = *self.heard.lock();
        let is_led = heard.is_some_and(|heard| now.saturating_sub(heard) < ELECTION);
        let has_more = answer.last_log_id > asked.last_log_id;
        if !answer.vote_granted && has_more && !is_led {
            self.due.notify_one();
        }
    }

    /// This node is answered as a candidate. Who follows a leader by now is left alone.
    pub fn is_answered(&self, asked: &VoteRequest<NodeId>, answer: &VoteResponse<NodeId>) {
        let has_more = asked.last_log_id > answer.last_log_id;
        let is_outbid = answer.vote > asked.vote && !answer.vote.is_committed();
        if !answer.vote_granted && has_more && is_outbid {
            self.due.notify_one();
        }
    }

    /// Has openraft stand whenever that is due; runs until it is dropped. Openraft leaves a leader one.
    pub async fn stand_when_due(&self, raft: Raft) {
        loop {
            self.due.notified().await;
            if raft.trigger().elect().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, LogId, Vote};

    use super::*;

    fn log(index: u64) -> Option<LogId<NodeId>> {
        Some(LogId::new(CommittedLeaderId::new(1, 1), index))
    }

    /// Whether it was decided to stand, once.
    fn stands(campaign: &Campaign) -> bool {
        use std::pin::pin;
        use std::task::{Context, Poll, Waker};
        let notified = pin!(campaign.due.notified());
        notified.poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
    }

    #[test]
    fn who_has_more_than_a_candidate_stands() {
        let campaign = Campaign::default();
        let asked = VoteRequest::new(Vote::new(2, 7), log(10));
        let answers = |last, granted, now: Duration| {
            let vote = Vote::new_committed(1, 1);
            let answer = VoteResponse { vote, vote_granted: granted, last_log_id: log(last) };
            campaign.answers(&asked, &answer, now);
            stands(&campaign)
        };
        let second = Duration::from_secs(1);
        campaign.heard_leader(second);
        assert!(!answers(11, false, second + ELECTION / 2), "there is a leader");
        assert!(answers(11, false, second + ELECTION));
        assert!(!answers(10, false, second + ELECTION), "the candidate has as much");
        assert!(!answers(10, true, second + ELECTION), "it was voted for");
    }

    #[test]
    fn a_candidate_that_is_outbid_by_one_with_less_stands_again() {
        let campaign = Campaign::default();
        let asked = VoteRequest::new(Vote::new(2, 7), log(10));
        let is_answered = |vote, last| {
            let answer = VoteResponse { vote, vote_granted: false, last_log_id: log(last) };
            campaign.is_answered(&asked, &answer);
            stands(&campaign)
        };
        assert!(is_answered(Vote::new(2, 8), 9));
        assert!(!is_answered(Vote::new(2, 8), 10), "the other has as much");
        assert!(!is_answered(Vote::new(1, 8), 9), "the other's time is not over");
        assert!(!is_answered(Vote::new_committed(3, 8), 9), "the other has a leader");
    }
}
