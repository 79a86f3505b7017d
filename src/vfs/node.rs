//! What the vfs knows of an inode beyond its record: open handles, uncommitted bytes, errors to
//! report. Exists while a handle is open or bytes are uncommitted.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use super::layer::Layer;
use super::runs::{Run, Runs};
use crate::error::{Error, Result};
use crate::types::{ContentId, Ino, SessionId, Timestamp};

/// Uncommitted changes of one file's bytes. What is seen: the base (the inode's committed body,
/// nothing after a reset, or the staged content), under the layers in order, under the runs.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Opened with O_TRUNC: the committed bytes do not count any more.
    pub reset: bool,
    /// Pieces that went to a content of their own before the commit, to bound memory.
    pub staged: Option<ContentId>,
    /// Sealed, in order of sealing: a later one lies over an earlier one.
    pub layers: Vec<Arc<Layer>>,
    pub runs: Runs,
    /// Where appended bytes are shown, when nothing else is dirty: see `append.rs`.
    pub appended: Option<u64>,
    /// A commit of what is here is under way, planned at that version of the file.
    pub frozen: Option<u64>,
    /// Bytes of that version were taken along: a commit over another one would undo others' work.
    pub based_on: Option<u64>,
    /// End of the furthest write.
    pub end: u64,
    /// When the last write was made.
    pub written_at: Option<Timestamp>,
    /// The same on the clock that only goes forward.
    pub touched: Duration,
    /// When the first one was.
    pub since: Option<Timestamp>,
    /// The session they were written in: they are lost with it.
    pub session: Option<SessionId>,
    /// The only mount that wrote, for its page cache; `None` before any write or with several.
    pub origin: Option<u32>,
}

impl Dirty {
    /// Bytes were written since the last commit.
    pub fn has_data(&self) -> bool {
        self.staged.is_some() || !self.layers.is_empty() || !self.runs.is_empty() || self.end > 0
    }

    pub fn is_clean(&self) -> bool {
        !self.reset && !self.has_data()
    }

    /// The file's size with these changes over a committed size.
    pub fn size(&self, committed: u64) -> u64 {
        if self.reset { self.end } else { committed.max(self.end) }
    }

    /// Forgets the end of writes that are committed by now: a cut that follows must not come back.
    pub fn shrink_end(&mut self) {
        let layers = self.layers.iter().map(|layer| layer.end());
        self.end = layers.chain(self.runs.iter().map(Run::end)).max().unwrap_or(0);
    }

    /// Notes a write by `origin` that ends at `end`.
    pub fn touch(&mut self, end: u64, at: Timestamp, origin: u32, session: SessionId) {
        self.session.get_or_insert(session);
        let first = self.written_at.is_none();
        self.origin = if first || self.origin == Some(origin) { Some(origin) } else { None };
        self.end = self.end.max(end);
        self.written_at = Some(at);
        self.since = self.since.or(Some(at));
    }
}

#[derive(Debug, Default)]
pub(super) struct NodeState {
    /// Whatever keeps the file in use: open files, S3 readers, changes under way.
    pub handles: u32,
    /// Those of them that can be told of a failure: open files.
    pub files: u32,
    /// Handles of programs that run from this file.
    pub running: u32,
    pub dirty: Dirty,
    /// Made by open(O_CREAT) here and never committed: the last close publishes it.
    pub unpublished: bool,
    /// Commits so far, and how many of them are known to be on disk.
    commits: u64,
    synced: u64,
    /// The last name is gone; the inode goes with the last handle.
    pub orphan: bool,
    /// The mount that took the last name, if it was one of this node's.
    pub unnamed_by: Option<u32>,
    /// The last failure to make written bytes durable, and how many there were.
    failure: Option<Error>,
    failures: u64,
    /// No open file was there to be told of the last failure: the next one is.
    untold: bool,
}

impl NodeState {
    /// Remembers that written bytes were lost; each handle is told once.
    pub fn fail(&mut self, error: Error) {
        self.failures += 1;
        self.failure = Some(error);
        self.untold = self.files == 0;
    }

    /// Failures that a handle opened now need not be told.
    pub fn told(&mut self) -> u64 {
        self.failures - u64::from(std::mem::take(&mut self.untold))
    }

    /// Bytes were committed; `durable`: and waited for on disk, with all that came before.
    pub fn committed(&mut self, durable: bool) {
        self.commits += 1;
        if durable {
            self.synced = self.commits;
        }
    }

    /// Bytes were committed that nobody waited for on disk yet: the next flush does.
    pub fn is_unsynced(&self) -> bool {
        self.synced < self.commits
    }

    /// The commits so far: what a sync that begins now covers.
    pub fn commits(&self) -> u64 {
        self.commits
    }

    /// A sync ended that covers the first `commits`.
    pub fn synced_through(&mut self, commits: u64) {
        self.synced = self.synced.max(commits);
    }

    /// The file is gone: nobody is left who could be told anything.
    pub fn bury(&mut self) {
        self.unpublished = false;
        self.untold = false;
    }

    fn is_idle(&self) -> bool {
        self.handles == 0 && self.dirty.is_clean() && !self.unpublished && !self.untold
    }
}

#[derive(Debug)]
pub(super) struct Node {
    pub ino: Ino,
    /// A layer could not be stored: the next write hears of it, and gives up what is not committed.
    pub troubled: Arc<AtomicBool>,
    state: Mutex<NodeState>,
    /// Held through everything that changes the committed bytes, so that one commit follows the
    /// other. Taken before `state`, never under it.
    pub committing: tokio::sync::Mutex<()>,
}

impl Node {
    /// Short: never held across an await or disk access other than a record of metadata.
    pub fn state(&self) -> MutexGuard<'_, NodeState> {
        self.state.lock()
    }

    /// Each failure is reported to each handle once; sticky as in the kernel's errseq_t.
    ///
    /// # Errors
    /// The newest failure this handle has not seen.
    pub fn report(&self, seen: &AtomicU64) -> Result<()> {
        let state = self.state();
        let before = seen.swap(state.failures, Ordering::Relaxed);
        match &state.failure {
            Some(error) if before != state.failures => Err(error.clone()),
            _ => Ok(()),
        }
    }

    pub fn failures(&self) -> u64 {
        self.state().failures
    }
}

/// All nodes in use.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    by_ino: Mutex<HashMap<Ino, Arc<Node>>>,
}

impl Nodes {
    pub fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.by_ino.lock().get(&ino).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Node>> {
        self.by_ino.lock().values().cloned().collect()
    }

    /// The node with one more handle, made when there is none.
    pub fn open(&self, ino: Ino) -> Arc<Node> {
        let mut by_ino = self.by_ino.lock();
        let node = by_ino.entry(ino).or_insert_with(|| {
            Arc::new(Node {
                ino,
                troubled: Arc::default(),
                state: Mutex::default(),
                committing: tokio::sync::Mutex::new(()),
            })
        });
        node.state().handles += 1;
        Arc::clone(node)
    }

    /// One handle less. Returns how many are left.
    pub fn close(&self, node: &Node) -> u32 {
        let mut by_ino = self.by_ino.lock();
        let (left, idle) = {
            let mut state = node.state();
            state.handles = state.handles.saturating_sub(1);
            (state.handles, state.is_idle())
        };
        if idle {
            by_ino.remove(&node.ino);
        }
        left
    }

    /// Forgets the node if nothing needs it any more. It may have been forgotten before, and the
    /// file opened again since: that one's node stays.
    pub fn tidy(&self, node: &Arc<Node>) {
        let mut by_ino = self.by_ino.lock();
        let is_known = by_ino.get(&node.ino).is_some_and(|known| Arc::ptr_eq(known, node));
        let idle = is_known && node.state().is_idle();
        if idle {
            by_ino.remove(&node.ino);
        }
    }

    /// The file has lost its last name. True when a handle is open: the last one lets it go.
    pub fn orphan(&self, ino: Ino) -> bool {
        let mut by_ino = self.by_ino.lock();
        let Some(node) = by_ino.get(&ino).cloned() else { return false };
        let mut state = node.state();
        state.orphan = state.handles > 0;
        if !state.orphan {
            state.bury();
            if state.is_idle() {
                by_ino.remove(&ino);
            }
        }
        state.orphan
    }

    /// Whether a handle is open, for unlink: the inode must stay.
    pub fn is_open(&self, ino: Ino) -> bool {
        self.get(ino).is_some_and(|node| node.state().handles > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_to_each_handle_once() {
        let nodes = Nodes::default();
        let node = nodes.open(Ino(5));
        node.state().files = 2;
        let (first, second) = (AtomicU64::new(0), AtomicU64::new(0));
        assert!(node.report(&first).is_ok());
        node.state().fail(Error::NoSpace);
        assert!(matches!(node.report(&first), Err(Error::NoSpace)));
        assert!(node.report(&first).is_ok());
        assert!(matches!(node.report(&second), Err(Error::NoSpace)));
        let late = AtomicU64::new(node.state().told());
        assert!(node.report(&late).is_ok());
    }

    /// A killed process leaves bytes that are committed after its last handle is gone.
    #[test]
    fn an_error_nobody_heard_waits_for_the_next_handle() {
        let nodes = Nodes::default();
        let node = nodes.open(Ino(5));
        node.state().dirty.reset = true;
        nodes.close(&node);
        node.state().dirty.reset = false;
        node.state().fail(Error::NoSpace);
        nodes.tidy(&node);
        let node = nodes.open(Ino(5));
        let next = AtomicU64::new(node.state().told());
        let later = AtomicU64::new(node.state().told());
        assert!(matches!(node.report(&next), Err(Error::NoSpace)));
        assert!(node.report(&next).is_ok() && node.report(&later).is_ok());
        assert_eq!(nodes.close(&node), 0);
        assert!(nodes.get(Ino(5)).is_none());
    }

    /// A commit that lands while somebody syncs is not covered by that sync.
    #[test]
    fn a_sync_covers_what_was_committed_before_it_began() {
        let mut state = NodeState::default();
        state.committed(false);
        let begun = state.commits();
        state.committed(false);
        state.synced_through(begun);
        assert!(state.is_unsynced());
        state.committed(true);
        assert!(!state.is_unsynced());
    }

    #[test]
    fn a_node_lives_while_it_is_needed() {
        let nodes = Nodes::default();
        let node = nodes.open(Ino(5));
        assert!(nodes.is_open(Ino(5)));
        node.state().dirty.touch(10, Timestamp::default(), 1, SessionId(1));
        assert_eq!(nodes.close(&node), 0);
        assert!(nodes.get(Ino(5)).is_some() && !nodes.is_open(Ino(5)));
        node.state().dirty = Dirty::default();
        nodes.tidy(&node);
        assert!(nodes.get(Ino(5)).is_none());
    }

    /// A release that is slow to end took the node of a file opened again out of use: its writes
    /// were not in the size that stat(2) told.
    #[test]
    fn an_old_node_does_not_take_a_new_one_along() {
        let nodes = Nodes::default();
        let old = nodes.open(Ino(5));
        assert_eq!(nodes.close(&old), 0);
        let new = nodes.open(Ino(5));
        nodes.tidy(&old);
        assert!(nodes.get(Ino(5)).is_some_and(|known| Arc::ptr_eq(&known, &new)));
        assert_eq!(nodes.close(&new), 0);
        assert!(nodes.get(Ino(5)).is_none());
    }

    #[test]
    fn a_reset_hides_the_committed_size() {
        let mut dirty = Dirty { reset: true, ..Dirty::default() };
        assert!(!dirty.has_data() && !dirty.is_clean());
        dirty.touch(3, Timestamp::default(), 1, SessionId(1));
        assert_eq!(dirty.size(100), 3);
        dirty.touch(4, Timestamp::default(), 2, SessionId(1));
        assert_eq!(dirty.origin, None);
        dirty.reset = false;
        assert_eq!(dirty.size(100), 100);
    }
}
