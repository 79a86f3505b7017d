//! Keeps a file from being opened while its last name may be going: whoever removes a name first
//! asks whether the file is open, and the answer has to hold until the name is gone.

use tokio::sync::RwLock;

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
    /// Read to open, write to remove. Nobody holds two.
    pub fn of(&self, ino: Ino) -> &RwLock<()> {
        &self.gates[(ino.0 % GATES as u64) as usize]
    }
}
