//! When openraft may take what it appended for synced before it is.
//!
//! Openraft's core waits for the callback of an append before it does anything else, so that a
//! leader's sync and those of the others would come one after the other. The leader says at once
//! that it is synced, and holds back what it hears from the others until it really is
//! ([`super::network`]): openraft counts another member's word for an entry only when this node has
//! that entry on disk, and without another's word it commits nothing, as long as more than one
//! votes. A node that follows answers the leader only when all its log is on disk, also what it
//! appended when it led ([`crate::replication::members::Service`]).

use openraft::EntryPayload;
use openraft::storage::StorageHelper;
use parking_lot::Mutex;

use super::{LogStore, StateMachine};
use crate::replication::types::{Entry, Membership, StorageError};

/// Whether a quorum takes more than this node, as the log has it.
#[derive(Debug, Default)]
pub struct Voters {
    /// The memberships that may be the one that counts, by index: the last one that is written, and
    /// those before it when it is truncated.
    known: Mutex<Vec<(u64, bool)>>,
}

impl Voters {
    /// What the store held when it was opened, entries after the table included.
    pub async fn learn(
        &self,
        log: &LogStore,
        machine: &mut StateMachine,
    ) -> Result<(), StorageError> {
        let state = StorageHelper::new(&mut log.clone(), machine).get_membership().await?;
        let mut known = self.known.lock();
        for membership in [state.committed(), state.effective()] {
            let index = membership.log_id().map_or(0, |id| id.index);
            known.push((index, takes_others(membership.membership())));
        }
        Ok(())
    }

    /// To be called before the entries are acknowledged.
    pub fn appended(&self, entries: &[Entry]) {
        let memberships = entries.iter().filter_map(|entry| match &entry.payload {
            EntryPayload::Membership(membership) => {
                Some((entry.log_id.index, takes_others(membership)))
            }
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        });
        self.known.lock().extend(memberships);
    }

    pub fn truncated(&self, since: u64) {
        self.known.lock().retain(|(index, _)| *index < since);
    }

    /// `whole`: the log ends with `upto`, so that a snapshot may have replaced it.
    pub fn purged(&self, upto: u64, whole: bool) {
        let mut known = self.known.lock();
        if whole {
            // What the snapshot says is learnt with the next change or start.
            known.clear();
        }
        let earlier = known.iter().take_while(|(index, _)| *index <= upto).count();
        known.drain(..earlier.saturating_sub(1));
    }

    /// False when that is not known.
    pub fn take_others(&self) -> bool {
        self.known.lock().last().is_some_and(|(_, others)| *others)
    }
}

/// In joint consensus each of the sets has to agree.
fn takes_others(membership: &Membership) -> bool {
    membership.get_joint_config().iter().any(|voters| voters.len() > 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use openraft::CommittedLeaderId;

    use super::*;
    use crate::replication::types::LogId;

    fn membership(index: u64, sets: &[&[u64]]) -> Entry {
        let nodes = |set: &&[u64]| set.iter().copied().collect::<BTreeSet<_>>();
        let sets: Vec<_> = sets.iter().map(nodes).collect();
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        let payload = EntryPayload::Membership(Membership::new(sets, None));
        Entry { log_id, payload }
    }

    #[test]
    fn one_voter_alone_acknowledges_nothing_early() {
        let voters = Voters::default();
        assert!(!voters.take_others());
        voters.appended(&[membership(3, &[&[1]])]);
        assert!(!voters.take_others());
        voters.appended(&[membership(4, &[&[1], &[1, 2, 3]])]);
        assert!(voters.take_others());
        voters.appended(&[membership(5, &[&[1, 2, 3]])]);
        assert!(voters.take_others());
        voters.appended(&[membership(6, &[&[1, 2, 3], &[1]]), membership(7, &[&[1]])]);
        assert!(!voters.take_others());
    }

    #[test]
    fn what_is_truncated_counts_no_more() {
        let voters = Voters::default();
        voters.appended(&[membership(3, &[&[1]]), membership(9, &[&[1, 2]])]);
        voters.truncated(10);
        assert!(voters.take_others());
        voters.truncated(9);
        assert!(!voters.take_others());
    }

    #[test]
    fn a_purge_keeps_the_last_membership_unless_a_snapshot_brings_its_own() {
        let voters = Voters::default();
        voters.appended(&[membership(3, &[&[1]]), membership(9, &[&[1, 2]])]);
        voters.purged(20, false);
        assert!(voters.take_others());
        voters.truncated(9);
        assert!(!voters.take_others(), "what is before it is forgotten");
        voters.appended(&[membership(21, &[&[1, 2]])]);
        voters.purged(30, true);
        assert!(!voters.take_others());
    }
}
