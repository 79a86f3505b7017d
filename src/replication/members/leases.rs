//! Leases of sessions: nodes tell the leader that they live, and the leader ends the session of one
//! that has been silent for too long. From then on nothing of it is committed.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::LogIdOptionExt;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{Cluster, Leader};
use crate::env::{Clock, Disk};
use crate::error::Result;
use crate::replication::book::Book;
use crate::replication::disk_health::DiskHealth;
use crate::replication::peers::Kind;
use crate::types::{NodeId, SessionId};

/// How long a session lives without a word of its node.
pub const LEASE: Duration = Duration::from_secs(20);
/// Between two signs of life.
const EVERY: Duration = Duration::from_secs(2);
/// A node that leads hears itself at least, and looks, more often than that: if it did not, it stood
/// still, and the others may have spoken all the time.
const STOOD_STILL: Duration = Duration::from_secs(3);
const _: () = assert!(STOOD_STILL.as_secs() > EVERY.as_secs());

/// A node lives, where it can be reached, and how it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Alive {
    pub session: SessionId,
    pub address: String,
    /// Index of the last log entry in its table.
    pub applied: u64,
    /// Bytes of its disk, and those that are free.
    pub disk_total: u64,
    pub disk_free: u64,
}

/// A node lives and writes nothing any more: only a restart can help it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DiskFailed {
    pub session: SessionId,
    /// One sentence.
    pub why: String,
}

/// The last word of a node.
#[derive(Clone, Debug)]
pub struct Heard {
    pub alive: Alive,
    pub ago: Duration,
    /// Why it writes nothing any more, if that is so.
    pub disk_failed: Option<String>,
}

/// What this node, while it leads, knows about the sessions of others.
pub struct Leases {
    clock: Arc<dyn Clock>,
    heard: Mutex<Ears>,
}

#[derive(Default)]
struct Ears {
    /// The term it is known for: a new leader has heard nobody yet, and waits a whole lease.
    term: u64,
    since: Duration,
    /// When it heard somebody, or looked, last.
    awake: Duration,
    sessions: HashMap<SessionId, Duration>,
    nodes: BTreeMap<NodeId, (Alive, Duration)>,
    failed: BTreeMap<NodeId, DiskFailed>,
}

impl Ears {
    fn listen_for(&mut self, term: u64, now: Duration) {
        if self.term != term {
            *self = Self { term, since: now, awake: now, ..Self::default() };
        }
        self.wake(now);
    }

    /// After a pause of the process every session has a whole lease again.
    fn wake(&mut self, now: Duration) {
        if now.saturating_sub(self.awake) > STOOD_STILL {
            self.since = now;
            self.sessions.clear();
        }
        self.awake = now;
    }
}

impl Leases {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, heard: Mutex::default() }
    }

    /// A node has said that it lives.
    pub fn note(&self, node: NodeId, alive: Alive) {
        let now = self.clock.elapsed();
        let mut ears = self.heard.lock();
        ears.wake(now);
        ears.sessions.insert(alive.session, now);
        ears.nodes.insert(node, (alive, now));
    }

    /// A node has said that its disk failed. That holds for as long as it has this session.
    pub fn note_failure(&self, node: NodeId, failed: DiskFailed) {
        self.heard.lock().failed.insert(node, failed);
    }

    /// The last word of each node.
    pub fn heard(&self) -> BTreeMap<NodeId, Heard> {
        let now = self.clock.elapsed();
        let ears = self.heard.lock();
        let heard = |(node, (alive, at)): (&NodeId, &(Alive, Duration))| {
            let failed = ears.failed.get(node).filter(|failed| failed.session == alive.session);
            let disk_failed = failed.map(|failed| failed.why.clone());
            (*node, Heard { alive: alive.clone(), ago: now.saturating_sub(*at), disk_failed })
        };
        ears.nodes.iter().map(heard).collect()
    }

    /// For how long the leader of `term` has listened.
    pub fn listening(&self, term: u64) -> Duration {
        let now = self.clock.elapsed();
        let mut heard = self.heard.lock();
        heard.listen_for(term, now);
        now.saturating_sub(heard.since)
    }

    /// Those of `sessions` whose lease has run out, asked by the leader of `term`.
    pub fn run_out(&self, term: u64, sessions: &[SessionId]) -> Vec<SessionId> {
        let now = self.clock.elapsed();
        let mut heard = self.heard.lock();
        heard.listen_for(term, now);
        heard.sessions.retain(|session, _| sessions.contains(session));
        let last = |session: &&SessionId| {
            let last = heard.sessions.get(session).copied().unwrap_or(heard.since);
            now.saturating_sub(last) > LEASE
        };
        sessions.iter().filter(last).copied().collect()
    }
}

/// A node that tells the leader that it lives.
pub struct Living {
    pub cluster: Cluster,
    pub book: Arc<Book>,
    pub address: String,
    pub leases: Arc<Leases>,
    pub disk: Arc<dyn Disk>,
    pub disk_health: DiskHealth,
    pub data_dir: PathBuf,
}

impl Living {
    /// Tells it again and again; runs until it is dropped.
    pub async fn keep_alive(self) {
        loop {
            match self.cluster.leader() {
                Leader::ThisNode => {
                    self.leases.note(self.cluster.node, self.alive());
                    if let Some(failed) = self.failed() {
                        self.leases.note_failure(self.cluster.node, failed);
                    }
                }
                Leader::Other(node) => self.tell(node).await,
                Leader::Nobody => self.look_whether_removed().await,
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    async fn tell(&self, leader: NodeId) {
        let told: Result<()> = self.cluster.ask(leader, Kind::Alive, &self.alive(), EVERY).await;
        if let Err(error) = told {
            log::debug!("the leader was not told that this node lives: {error}");
            return self.look_whether_removed().await;
        }
        let Some(failed) = self.failed() else { return };
        let told: Result<()> = self.cluster.ask(leader, Kind::DiskFailed, &failed, EVERY).await;
        if let Err(error) = told {
            // One of a version before does not know the word.
            log::debug!("the leader was not told that the disk failed: {error}");
        }
    }

    async fn look_whether_removed(&self) {
        if let Err(error) = self.cluster.require_membership().await {
            log::error!("{error}");
        }
    }

    fn failed(&self) -> Option<DiskFailed> {
        let why = self.disk_health.failure()?.to_string();
        Some(DiskFailed { session: self.book.session(), why })
    }

    fn alive(&self) -> Alive {
        // A disk that cannot say is no reason to keep silent.
        let space = self.disk.space(&self.data_dir).unwrap_or_default();
        Alive {
            session: self.book.session(),
            address: self.address.clone(),
            applied: self.cluster.machine.last().index().unwrap_or(0),
            disk_total: space.total,
            disk_free: space.available,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SimClock;

    fn word(session: u64) -> Alive {
        let (address, session) = (String::new(), SessionId(session));
        Alive { session, address, applied: 0, disk_total: 0, disk_free: 0 }
    }

    /// Time passes while the leader of `term` looks again and again.
    fn pass(clock: &SimClock, leases: &Leases, term: u64, time: Duration) {
        let step = Duration::from_millis(500);
        let mut left = time;
        while !left.is_zero() {
            clock.advance(left.min(step));
            leases.run_out(term, &[SessionId(1), SessionId(2)]);
            left = left.saturating_sub(step);
        }
    }

    #[test]
    fn a_lease_runs_out_a_whole_lease_after_the_last_word() {
        let clock = Arc::new(SimClock::new(1));
        let leases = Leases::new(clock.clone());
        let all = [SessionId(1), SessionId(2)];
        assert!(leases.run_out(7, &all).is_empty());
        pass(&clock, &leases, 7, LEASE);
        leases.note(2, word(2));
        pass(&clock, &leases, 7, Duration::from_millis(1));
        assert_eq!(leases.run_out(7, &all), [SessionId(1)]);
        // A new leader has heard nobody and must not take that for death.
        assert!(leases.run_out(8, &all).is_empty());
        pass(&clock, &leases, 8, LEASE + Duration::from_millis(1));
        assert_eq!(leases.run_out(8, &all), all);
        assert_eq!(leases.listening(8), LEASE + Duration::from_millis(1));
        leases.note(2, word(2));
        assert_eq!((leases.listening(9), leases.heard().len()), (Duration::ZERO, 0));
    }

    /// A leader that was stopped for a while has not listened: nobody was silent.
    #[test]
    fn a_pause_of_the_leader_is_nobodys_silence() {
        let clock = Arc::new(SimClock::new(1));
        let leases = Leases::new(clock.clone());
        let all = [SessionId(1), SessionId(2)];
        leases.note(1, word(1));
        assert!(leases.run_out(7, &all).is_empty());
        clock.advance(LEASE * 2);
        assert!(leases.run_out(7, &all).is_empty());
        clock.advance(LEASE * 2);
        // The first that happens may be that another one is heard.
        leases.note(2, word(2));
        assert!(leases.run_out(7, &all).is_empty());
        pass(&clock, &leases, 7, LEASE + Duration::from_millis(1));
        assert_eq!(leases.run_out(7, &all), all);
    }
}
