//! What one writer may find after a crash: the state it was told of, or the one it was just asking for.

use crate::support::rng::pattern;
use crate::support::tree::Found;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The size of a block in a file that is overwritten in place.
pub const BLOCK: usize = 65_536;

/// What a name may hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Holds {
    Dir,
    /// The first bytes of the pattern of `seed`: at least `min` of them, at most `max`.
    Stream {
        seed: u64,
        min: usize,
        max: usize,
    },
    /// Blocks of one file, each with the seeds it may have been written from.
    Blocks(Vec<Vec<u64>>),
}

/// A whole stream and nothing but it.
pub fn exactly(seed: u64, len: usize) -> Holds {
    Holds::Stream { seed, min: len, max: len }
}

/// The names of one writer's directory, each with the alternatives it may hold.
pub type World = BTreeMap<PathBuf, Vec<Holds>>;

impl Holds {
    /// Narrows what may be there to what is: the answer is `None` when this is not what is there.
    fn narrow(&self, found: &Option<Vec<u8>>) -> Option<Self> {
        match (self, found) {
            (Self::Dir, None) => Some(Self::Dir),
            (Self::Stream { seed, min, max }, Some(bytes)) => {
                let fits =
                    (*min..=*max).contains(&bytes.len()) && *bytes == pattern(*seed, bytes.len());
                fits.then(|| exactly(*seed, bytes.len()))
            }
            (Self::Blocks(blocks), Some(bytes)) if bytes.len() == blocks.len() * BLOCK => {
                let narrowed = blocks.iter().zip(bytes.chunks(BLOCK)).map(|(seeds, found)| {
                    let seed = seeds.iter().find(|seed| pattern(**seed, BLOCK) == found)?;
                    Some(vec![*seed])
                });
                narrowed.collect::<Option<_>>().map(Self::Blocks)
            }
            _ => None,
        }
    }

    /// One line for a report.
    fn brief(&self) -> String {
        match self {
            Self::Blocks(blocks) => format!("{} blocks", blocks.len()),
            other => format!("{other:?}"),
        }
    }

    /// Says how what was found differs from this.
    fn differs(&self, found: &Option<Vec<u8>>) -> String {
        let (Self::Stream { seed, .. }, Some(bytes)) = (self, found) else { return self.brief() };
        let expected = pattern(*seed, bytes.len());
        let at = expected.iter().zip(bytes).position(|(a, b)| a != b);
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        format!("{} (first wrong byte {at:?}, {zeros} zeros at the end)", self.brief())
    }
}

/// Narrows a world to what is found in it, or says what does not fit.
pub fn narrow(world: &World, found: &Found) -> std::result::Result<World, String> {
    if let Some(path) = found.keys().find(|path| !world.contains_key(*path)) {
        return Err(format!("{} should not be there", path.display()));
    }
    let mut narrowed = World::new();
    for (path, may) in world {
        let Some(there) = found.get(path) else {
            return Err(format!("{} is missing", path.display()));
        };
        let Some(holds) = may.iter().find_map(|holds| holds.narrow(there)) else {
            let size = there.as_ref().map(Vec::len);
            let wanted: Vec<_> = may.iter().map(|holds| holds.differs(there)).collect();
            return Err(format!(
                "{} has {size:?} bytes, which are none of {wanted:?}",
                path.display()
            ));
        };
        narrowed.insert(path.clone(), vec![holds]);
    }
    Ok(narrowed)
}
