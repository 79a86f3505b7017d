//! Locks of fcntl(2) and flock(2) that hold across mounts and nodes. They are records of metadata:
//! granted where the order is made, and gone with the session of the node that holds them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{MutexGuard, Notify};
use tokio::time::timeout;

use super::Vfs;
use super::hub::ChangeHub;
use super::words::{Caller, FileLock, LockKind, Locked};
use crate::error::{Error, Result};
use crate::meta::{Change, HeldLock, LockOwner, Mutation, SetLock};
use crate::types::{Ino, SessionId};

/// Between two looks at whether somebody still waits for a lock.
const LOOK: Duration = Duration::from_millis(200);
/// How long anybody may wait.
const PATIENCE: Duration = Duration::from_secs(3600);
const GATES: usize = 32;
/// The last byte that a file can have for the kernel, and a lock to the end of any file.
const LAST: u64 = i64::MAX as u64;

/// How an owner came by its locks.
#[derive(Clone, Copy, Debug)]
struct Holding {
    /// The one of its first lock: with that session all it relies on is in doubt, whatever it locks
    /// later, until it gives everything up.
    session: SessionId,
    /// The handle it locked through last. When that is gone, the owner is: it was that open file
    /// (flock, F_OFD_SETLK), or a process whose closes give up its locks.
    handle: u64,
}

/// Who may hold locks through this node: what has to be unlocked at a close.
#[derive(Default)]
pub(super) struct LockTable {
    owners: Mutex<HashMap<(Ino, LockOwner), Holding>>,
    /// How many there are, so that a close without any asks nothing else.
    count: AtomicUsize,
    /// What could not be given up when its holder was gone. The kernel may give the number to another.
    pub(super) left_over: Mutex<HashSet<(Ino, LockOwner)>>,
    unlocked: Arc<Notify>,
    /// What is noted and what is proposed of a file go together. The kernel gives the number of an
    /// open file to another as soon as it is closed, before it says so.
    gates: [tokio::sync::Mutex<()>; GATES],
}

impl LockTable {
    /// Hears when a lock is given up anywhere.
    pub fn listen(&self, hub: &ChangeHub) {
        let unlocked = Arc::clone(&self.unlocked);
        hub.subscribe(Box::new(move |change, _| {
            if matches!(change, Change::Unlocked(_) | Change::Everything) {
                unlocked.notify_waiters();
            }
        }));
    }

    async fn gate(&self, ino: Ino) -> MutexGuard<'_, ()> {
        self.gates[ino.0 as usize % GATES].lock().await
    }

    /// Notes an owner that may get a lock. Returns what is to stand there if it gets none.
    fn note(&self, ino: Ino, owner: LockOwner, new: Holding) -> Option<Holding> {
        let mut owners = self.owners.lock();
        let before = owners.get(&(ino, owner)).copied();
        let session = before.map_or(new.session, |before| before.session);
        owners.insert((ino, owner), Holding { session, ..new });
        self.count.store(owners.len(), Ordering::Release);
        before
    }

    /// The owner got no lock after all.
    fn restore(&self, ino: Ino, owner: LockOwner, before: Option<Holding>) {
        let mut owners = self.owners.lock();
        if let Entry::Occupied(mut noted) = owners.entry((ino, owner)) {
            match before {
                Some(before) => drop(noted.insert(before)),
                None => drop(noted.remove()),
            }
        }
        self.count.store(owners.len(), Ordering::Release);
    }

    /// The owner has no lock any more.
    fn forget(&self, ino: Ino, owner: LockOwner) {
        self.left_over.lock().remove(&(ino, owner));
        let mut owners = self.owners.lock();
        owners.remove(&(ino, owner));
        self.count.store(owners.len(), Ordering::Release);
    }

    fn is_left_over(&self, ino: Ino, owner: LockOwner) -> bool {
        self.left_over.lock().contains(&(ino, owner))
    }

    fn knows(&self, ino: Ino, owner: LockOwner) -> bool {
        self.count.load(Ordering::Acquire) > 0 && self.owners.lock().contains_key(&(ino, owner))
    }

    /// Whether the file was locked in a session that is not `now`.
    fn lost(&self, ino: Ino, now: SessionId) -> bool {
        let of = |((locked, _), holding): (&(Ino, LockOwner), &Holding)| {
            *locked == ino && holding.session != now
        };
        self.count.load(Ordering::Acquire) > 0 && self.owners.lock().iter().any(of)
    }

    /// Owners that locked through a handle.
    fn of_handle(&self, handle: u64) -> Vec<(Ino, LockOwner)> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let owners = self.owners.lock();
        let through = owners.iter().filter(|(_, holding)| holding.handle == handle);
        through.map(|(key, _)| *key).collect()
    }

    /// A mount is gone without closing its files.
    pub fn forget_mount(&self, mount: u32) {
        let mut owners = self.owners.lock();
        let gone = owners.extract_if(|(_, owner), _| owner.mount == mount);
        self.left_over.lock().extend(gone.map(|(key, _)| key));
        self.count.store(owners.len(), Ordering::Release);
    }
}

impl Vfs {
    /// Locks or unlocks a range. `wait` is asked now and then whether nobody waits any more; without
    /// it the answer comes at once. What was written here is seen by whoever gets the lock next.
    ///
    /// # Errors
    /// [`Error::BadHandle`]; [`Error::NoSpace`] for too many locks; what kept written bytes from
    /// being committed, at an unlock after it was done.
    pub async fn set_lock(
        &self,
        who: &Caller,
        handle: u64,
        wanted: FileLock,
        wait: Option<&(dyn Fn() -> bool + Send + Sync)>,
    ) -> Result<Locked> {
        let node = Arc::clone(&self.handles.file(handle)?.node);
        let owner = LockOwner { mount: who.origin, number: wanted.owner };
        let saved = self.settle(node.ino).await;
        let (lock, unlock) = held(&wanted);
        let set = SetLock { ino: node.ino, owner, lock, unlock };
        if unlock {
            self.unlock(set).await?;
            return saved.map(|()| Locked::Granted);
        }
        saved?;
        self.replica.barrier().await?;
        let deadline = self.clock.elapsed() + PATIENCE;
        loop {
            let mut woken = pin!(self.locks.unlocked.notified());
            woken.as_mut().enable();
            if self.try_lock(&set, handle).await? {
                return Ok(Locked::Granted);
            }
            let Some(gone) = wait else { return Ok(Locked::Taken) };
            // Whichever ends first; then it is tried again.
            let _ = timeout(LOOK, woken).await;
            if gone() || self.clock.elapsed() > deadline {
                return Ok(Locked::GivenUp);
            }
        }
    }

    /// Proposes a lock that nobody seems to keep us from.
    async fn try_lock(&self, set: &SetLock, handle: u64) -> Result<bool> {
        let _gate = self.locks.gate(set.ino).await;
        // It would be taken along when that is given up.
        if self.locks.is_left_over(set.ino, set.owner) {
            self.unlock_all(set.ino, set.owner).await?;
        }
        if self.in_the_way(set)?.is_some() {
            return Ok(false);
        }
        let session = self.replica.session();
        let before = self.locks.note(set.ino, set.owner, Holding { session, handle });
        let proposed = Mutation::SetLock(*set);
        match self.replica.propose_of(session, proposed, super::Wait::Applied, 0).await {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(Error::Conflict) => {
                self.locks.restore(set.ino, set.owner, before);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    async fn unlock(&self, set: SetLock) -> Result<()> {
        if !self.locks.knows(set.ino, set.owner) {
            return Ok(());
        }
        let _gate = self.locks.gate(set.ino).await;
        if set.lock.first == 0 && set.lock.last >= LAST {
            return self.unlock_all(set.ino, set.owner).await;
        }
        self.propose(Mutation::SetLock(set), 0).await.map(|_| ())
    }

    /// Somebody else's lock that excludes this one, and whether it is held through this node.
    fn in_the_way(&self, set: &SetLock) -> Result<Option<(HeldLock, bool)>> {
        let session = self.replica.session();
        let others = self.replica.table().view().locks(set.ino)?;
        let mut others =
            others.into_iter().filter(|(of, owner, _)| (*of, *owner) != (session, set.owner));
        Ok(others.find_map(|(of, _, locks)| {
            locks.in_the_way(&set.lock).map(|lock| (*lock, of == session))
        }))
    }

    /// F_GETLK: what excludes a lock, of this moment. Processes of other nodes have number 0.
    ///
    /// # Errors
    /// [`Error::BadHandle`].
    pub async fn get_lock(
        &self,
        who: &Caller,
        handle: u64,
        wanted: FileLock,
    ) -> Result<Option<FileLock>> {
        let ino = self.handles.file(handle)?.node.ino;
        self.replica.barrier().await?;
        let owner = LockOwner { mount: who.origin, number: wanted.owner };
        let (lock, unlock) = held(&wanted);
        let found = self.in_the_way(&SetLock { ino, owner, lock, unlock })?;
        Ok(found.map(|(lock, is_ours)| FileLock {
            owner: 0,
            first: lock.first,
            last: lock.last,
            kind: if lock.exclusive { LockKind::Exclusive } else { LockKind::Shared },
            pid: if is_ours { lock.pid } else { 0 },
        }))
    }

    /// A process has closed the file: everything it had locked of it is free.
    pub async fn drop_locks(&self, who: &Caller, handle: u64, number: u64) {
        let Ok(file) = self.handles.file(handle) else { return };
        let (ino, owner) = (file.node.ino, LockOwner { mount: who.origin, number });
        if self.locks.knows(ino, owner) {
            let _gate = self.locks.gate(ino).await;
            self.unlock_all_or_later(ino, owner).await;
        }
    }

    /// An open file is gone, and who locked through it.
    pub(super) async fn drop_handle_locks(&self, handle: u64) {
        let Some(&(ino, _)) = self.locks.of_handle(handle).first() else { return };
        let _gate = self.locks.gate(ino).await;
        for (ino, owner) in self.locks.of_handle(handle) {
            self.unlock_all_or_later(ino, owner).await;
        }
    }

    /// The caller has the file's gate.
    async fn unlock_all(&self, ino: Ino, owner: LockOwner) -> Result<()> {
        let all = HeldLock { first: 0, last: u64::MAX, exclusive: false, pid: 0 };
        let set = Mutation::SetLock(SetLock { ino, owner, lock: all, unlock: true });
        self.propose(set, 0).await.map(|_| self.locks.forget(ino, owner))
    }

    async fn unlock_all_or_later(&self, ino: Ino, owner: LockOwner) {
        if let Err(error) = self.unlock_all(ino, owner).await {
            log::warn!("inode {}: a lock is given up later: {error}", ino.0);
            self.locks.left_over.lock().insert((ino, owner));
        }
    }

    /// Gives up locks whose holders are gone, as a part of upkeep.
    pub(super) async fn drop_left_over_locks(&self) {
        let left_over = self.locks.left_over.lock().clone();
        for (ino, owner) in left_over {
            let _gate = self.locks.gate(ino).await;
            // Whoever has the number now may have seen to it meanwhile, and locked anew.
            if self.locks.is_left_over(ino, owner) {
                self.unlock_all_or_later(ino, owner).await;
            }
        }
    }

    /// # Errors
    /// [`Error::NoQuorum`] for who relies on a lock of a session that was lost: somebody else may
    /// have the lock by now. Closing the file, and opening it again, ends that, and so does
    /// unlocking all of it.
    pub(super) fn require_locks(&self, ino: Ino, opened_in: SessionId) -> Result<()> {
        let now = self.replica.session();
        if opened_in != now && self.locks.lost(ino, now) {
            return Err(crate::meta::Refusal::Fenced.into());
        }
        Ok(())
    }
}

fn held(wanted: &FileLock) -> (HeldLock, bool) {
    let FileLock { first, last, kind, pid, .. } = *wanted;
    (
        HeldLock { first, last, exclusive: kind == LockKind::Exclusive, pid },
        kind == LockKind::Unlock,
    )
}
