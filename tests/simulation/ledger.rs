//! What clients were promised, and what they therefore must find.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bucketfs::env::Seeded;
use parking_lot::Mutex;

/// Bytes before the pattern: name, attempt, length.
const HEAD: usize = 24;
/// The pattern repeats after so many bytes, but for a number at its start.
const BLOCK: usize = 1024;

/// Shared by everybody outside the nodes: it survives them all.
pub type Ledger = Arc<Mutex<Books>>;

#[derive(Default)]
pub struct Books {
    /// Names that are written by one client each.
    pub names: BTreeMap<String, Name>,
    /// Of each client: records appended to the file that all append to.
    pub appends: BTreeMap<u64, Appends>,
    pub counter: Counter,
    /// Answers that said yes, and no.
    pub acknowledged: u64,
    pub failed: u64,
    /// Contents that were read and compared.
    pub compared: u64,
}

/// The fate of one name: attempts to give it a content, or none, one after the other.
#[derive(Default)]
pub struct Name {
    /// Length of each attempt's content; `None`: to remove it. The first is that it is not there.
    attempts: Vec<Option<usize>>,
    /// The last attempt that was acknowledged.
    acknowledged: usize,
}

#[derive(Default)]
pub struct Appends {
    pub next: u64,
    pub acknowledged: BTreeSet<u64>,
}

/// A number in an object that clients raise by compare-and-swap.
#[derive(Default)]
pub struct Counter {
    pub acknowledged: BTreeSet<u64>,
    pub attempted: BTreeSet<u64>,
}

impl Name {
    fn last(&self) -> usize {
        self.attempts.len().saturating_sub(1)
    }

    /// What may be found by who began to look when `since` was the last that was acknowledged.
    fn allows(&self, since: usize, found: Option<usize>) -> bool {
        match found {
            Some(attempt) => {
                (since..=self.last()).contains(&attempt)
                    && self.attempts.get(attempt).is_some_and(Option::is_some)
            }
            None => {
                self.attempts.get(since..).is_none_or(|later| later.iter().any(Option::is_none))
            }
        }
    }
}

impl Books {
    /// Notes that `name` is about to become a content of `len` bytes, or to vanish; the number of
    /// the attempt.
    pub fn attempt(&mut self, name: &str, len: Option<usize>) -> usize {
        let name = self.names.entry(name.to_owned()).or_default();
        if name.attempts.is_empty() {
            name.attempts.push(None);
        }
        name.attempts.push(len);
        name.last()
    }

    pub fn acknowledge(&mut self, name: &str, attempt: usize) {
        self.acknowledged += 1;
        self.names.entry(name.to_owned()).or_default().acknowledged = attempt;
    }

    /// The last attempt on a name that was acknowledged by now.
    pub fn acknowledged(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |name| name.acknowledged)
    }

    /// `bytes` are what somebody found under a name, who began to look when `since` was the last
    /// attempt that had been acknowledged.
    pub fn compare(
        &mut self,
        name: &str,
        since: usize,
        bytes: Option<&[u8]>,
    ) -> Result<(), String> {
        self.compared += 1;
        let found = match bytes {
            Some(bytes) => Some(attempt_of(name, bytes)?),
            None => None,
        };
        let Some(known) = self.names.get(name) else { return Ok(()) };
        if known.allows(since, found) {
            return Ok(());
        }
        Err(format!(
            "{name}: attempt {found:?} was found, {since} was acknowledged before, {} is the last",
            known.last()
        ))
    }
}

fn number_of(name: &str) -> u64 {
    name.bytes().fold(7, |sum, byte| Seeded::new(sum ^ u64::from(byte)).draw())
}

/// The content of one attempt; no two are alike, nor is any part of them.
pub fn content(name: &str, attempt: usize, len: usize) -> Vec<u8> {
    let len = len.max(HEAD);
    let numbers = [number_of(name), attempt as u64, len as u64];
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut chance = Seeded::new(numbers[0] ^ numbers[1] << 32);
    let mut block: Vec<u8> = (0..BLOCK / 8).flat_map(|_| chance.draw().to_le_bytes()).collect();
    for number in 0_u64.. {
        block[..8].copy_from_slice(&number.to_le_bytes());
        let missing = len - bytes.len();
        bytes.extend_from_slice(&block[..BLOCK.min(missing)]);
        if missing <= BLOCK {
            break;
        }
    }
    bytes
}

/// Which attempt's content these bytes are, whole.
fn attempt_of(name: &str, bytes: &[u8]) -> Result<usize, String> {
    let Some(head) = bytes.get(..HEAD) else {
        return Err(format!("{name}: {} bytes are no content", bytes.len()));
    };
    let number = |at: usize| {
        let mut raw = [0; 8];
        raw.copy_from_slice(&head[at..at + 8]);
        u64::from_le_bytes(raw)
    };
    let attempt = number(8) as usize;
    if number(0) != number_of(name) || content(name, attempt, number(16) as usize) != bytes {
        return Err(format!("{name}: {} bytes are not those of attempt {attempt}", bytes.len()));
    }
    Ok(attempt)
}
