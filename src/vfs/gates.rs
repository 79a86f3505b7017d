//! Keeps a file from being opened while its last name may be going: whoever removes a name first
//! asks whether the file is open, and the answer has to hold until the name is gone.

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Vfs;
use crate::error::Result;
use crate::types::Ino;

/// Files share gates by number: openers pass together, a remover alone.
#[derive(Debug)]
pub(super) struct Gates {
    gates: [RwLock<()>; GATES],
}

const GATES: usize = 64;

impl Default for Gates {
    fn default() -> Self {
        Self { gates: std::array::from_fn(|_| RwLock::new(())) }
    }
}

impl Gates {
    /// Read to open, write to remove. Who needs two takes them by [`Self::both`].
    pub fn of(&self, ino: Ino) -> &RwLock<()> {
        &self.gates[number(ino)]
    }

    /// For a change of names that moves one file and removes another: either may be nobody. The
    /// lower number comes first, so that no two wait for each other.
    async fn both(&self, files: Files) -> Gate<'_> {
        let removed = files.removed.map(number);
        let moved = files.moved.map(number).filter(|moved| Some(*moved) != removed);
        let mut gate = Gate::default();
        if moved < removed {
            gate.moved = self.read(moved).await;
        }
        if let Some(removed) = removed {
            gate.removed = Some(self.gates[removed].write().await);
        }
        if moved > removed {
            gate.moved = self.read(moved).await;
        }
        gate
    }

    async fn read(&self, number: Option<usize>) -> Option<RwLockReadGuard<'_, ()>> {
        match number {
            Some(number) => Some(self.gates[number].read().await),
            None => None,
        }
    }
}

fn number(ino: Ino) -> usize {
    (ino.0 % GATES as u64) as usize
}

/// What stands behind the names of a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Files {
    /// Gets another name: whoever removes it by the one it has goes first, or looks again.
    pub moved: Option<Ino>,
    /// Loses its name.
    pub removed: Option<Ino>,
}

/// Kept until the change it was taken for is made.
#[derive(Default)]
pub(super) struct Gate<'a> {
    moved: Option<RwLockReadGuard<'a, ()>>,
    removed: Option<RwLockWriteGuard<'a, ()>>,
}

impl Vfs {
    /// Whether the file that loses its name is open here, so that it outlives the name. `find` looks
    /// the names up. Nobody opens it between this answer and the change it is for, and on a node
    /// that is alone nothing else gets the name: hold the gate until then. What has none, and may
    /// have one by then, counts as open: if it is not, upkeep lets it go.
    pub(super) async fn gated(&self, find: impl Fn() -> Result<Files>) -> Result<(bool, Gate<'_>)> {
        loop {
            let files = find()?;
            let gate = self.gates.both(files).await;
            if find()? == files {
                let held = files.removed.is_none_or(|ino| self.nodes.is_open(ino));
                return Ok((held, gate));
            }
        }
    }
}
