//! What each mount's kernel holds: lookup counts, attributes, and the version of the pages it cached.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};

use parking_lot::Mutex;

use super::moves::Count;
use crate::types::{Attr, Ino};

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// References the kernel has to the inode; it returns them by FORGET.
    lookups: u64,
    /// Version whose pages it may hold.
    version: Option<u64>,
    /// What it was told last with a reference: see [`print`].
    shown: u64,
    /// How many moves there had been when it was looked up last.
    named: Count,
}

/// Tells attributes of one moment from those of another, in little room: there are as many as the kernel
/// knows inodes.
fn print(attr: &Attr) -> u64 {
    let mut hasher = DefaultHasher::new();
    for time in [attr.mtime, attr.ctime] {
        (time.seconds, time.nanos).hash(&mut hasher);
    }
    attr.size.hash(&mut hasher);
    hasher.finish()
}

/// By mount and inode; an entry goes when the kernel forgets the inode, and its pages with it.
#[derive(Debug, Default)]
pub(super) struct KernelState {
    known: Mutex<HashMap<u32, HashMap<Ino, Known>>>,
}

impl KernelState {
    pub fn remember(&self, origin: u32, attr: &Attr, named: Count) {
        let mut known = self.known.lock();
        let entry = known.entry(origin).or_default().entry(attr.ino).or_default();
        entry.lookups += 1;
        entry.shown = print(attr);
        entry.named = entry.named.max(named);
    }

    /// How many moves there had been when this kernel looked the inode up last; `None` when it does not know it.
    pub fn named(&self, origin: u32, ino: Ino) -> Option<Count> {
        let known = self.known.lock();
        known.get(&origin).and_then(|mount| mount.get(&ino)).map(|entry| entry.named)
    }

    /// The kernel is told to look the inode up again.
    pub fn look_again(&self, origin: u32, ino: Ino, named: Count) {
        let mut known = self.known.lock();
        if let Some(entry) = known.get_mut(&origin).and_then(|mount| mount.get_mut(&ino)) {
            entry.named = named;
        }
    }

    /// Whether these are the attributes that the kernel got with its last reference.
    pub fn was_shown(&self, origin: u32, attr: &Attr) -> bool {
        let known = self.known.lock();
        let entry = known.get(&origin).and_then(|mount| mount.get(&attr.ino));
        entry.is_some_and(|entry| entry.shown == print(attr))
    }

    /// Returns whether the kernel has no reference left.
    pub fn forget(&self, origin: u32, ino: Ino, count: u64) -> bool {
        let mut known = self.known.lock();
        let Some(mount) = known.get_mut(&origin) else {
            return true;
        };
        let Some(entry) = mount.get_mut(&ino) else {
            return true;
        };
        entry.lookups = entry.lookups.saturating_sub(count);
        let gone = entry.lookups == 0;
        if gone {
            mount.remove(&ino);
        }
        gone
    }

    /// Notes that `version` is opened now; true when the kernel's pages are of this version.
    pub fn opened(&self, origin: u32, ino: Ino, version: u64) -> bool {
        let mut known = self.known.lock();
        known
            .get_mut(&origin)
            .and_then(|mount| mount.get_mut(&ino))
            .is_some_and(|entry| entry.version.replace(version) == Some(version))
    }

    /// The mount itself wrote what turned `old` into `new`: its pages are of `new` now.
    pub fn wrote(&self, origin: u32, ino: Ino, old: u64, new: u64) {
        let mut known = self.known.lock();
        if let Some(entry) = known.get_mut(&origin).and_then(|mount| mount.get_mut(&ino))
            && entry.version == Some(old)
        {
            entry.version = Some(new);
        }
    }

    /// Pages that any kernel may hold of the inode are of no version.
    pub fn distrust(&self, ino: Ino) {
        let mut known = self.known.lock();
        for entry in known.values_mut().filter_map(|mount| mount.get_mut(&ino)) {
            entry.version = None;
        }
    }

    /// Whether any of these kernels has a reference to the inode.
    pub fn knows(&self, origins: impl IntoIterator<Item = u32>, ino: Ino) -> bool {
        let known = self.known.lock();
        let knows = |origin| known.get(&origin).is_some_and(|mount| mount.contains_key(&ino));
        origins.into_iter().any(knows)
    }

    /// All inodes that a mount's kernel has a reference to.
    pub fn of(&self, origin: u32) -> Vec<Ino> {
        let known = self.known.lock();
        known.get(&origin).into_iter().flat_map(HashMap::keys).copied().collect()
    }

    /// A mount is gone. Returns what no kernel has a reference to any more.
    pub fn forget_mount(&self, origin: u32) -> BTreeSet<Ino> {
        let mut known = self.known.lock();
        let gone = known.remove(&origin).unwrap_or_default().into_keys();
        gone.filter(|ino| !known.values().any(|others| others.contains_key(ino))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FileKind, Mode, Timestamp};

    fn attr(ino: Ino) -> Attr {
        let at = Timestamp::default();
        let (mode, kind) = (Mode::new(0o644), FileKind::Regular);
        let (uid, gid, nlink, size, allocated, rdev) = (0, 0, 1, 0, 0, 0);
        let (atime, mtime, ctime, crtime) = (at, at, at, at);
        Attr {
            ino,
            kind,
            mode,
            uid,
            gid,
            nlink,
            size,
            allocated,
            rdev,
            atime,
            mtime,
            ctime,
            crtime,
        }
    }

    #[test]
    fn what_was_shown_is_told_from_what_is() {
        let (kernel, ino) = (KernelState::default(), Ino(7));
        let (empty, full) = (attr(ino), Attr { size: 1, ..attr(ino) });
        assert!(!kernel.was_shown(1, &empty));
        kernel.remember(1, &empty, 0);
        assert!(kernel.was_shown(1, &empty) && !kernel.was_shown(1, &full));
        kernel.remember(1, &full, 0);
        assert!(kernel.was_shown(1, &full) && !kernel.was_shown(2, &full));
        let later = Attr { ctime: Timestamp { seconds: 1, nanos: 0 }, ..full };
        assert!(!kernel.was_shown(1, &later));
    }

    #[test]
    fn pages_are_kept_for_the_same_version_only() {
        let (kernel, ino) = (KernelState::default(), Ino(7));
        assert!(!kernel.opened(1, ino, 3), "unknown to the kernel: nothing to keep");
        kernel.remember(1, &attr(ino), 0);
        assert!(!kernel.opened(1, ino, 3));
        assert!(kernel.opened(1, ino, 3));
        kernel.wrote(1, ino, 3, 4);
        assert!(kernel.opened(1, ino, 4));
        kernel.wrote(1, ino, 9, 10);
        assert!(!kernel.opened(1, ino, 10));
        kernel.distrust(ino);
        assert!(!kernel.opened(1, ino, 10));
        assert!(kernel.opened(1, ino, 10));
        kernel.remember(1, &attr(ino), 0);
        kernel.remember(2, &attr(Ino(8)), 0);
        assert_eq!((kernel.of(1), kernel.of(2), kernel.of(3)), (vec![ino], vec![Ino(8)], vec![]));
        assert!(!kernel.forget(1, ino, 1));
        assert!(kernel.forget(1, ino, 1));
        kernel.remember(2, &attr(ino), 0);
        kernel.remember(3, &attr(Ino(8)), 0);
        assert_eq!(kernel.forget_mount(2), BTreeSet::from([ino]), "the third knows the other");
        assert_eq!(kernel.of(2), []);
    }
}
