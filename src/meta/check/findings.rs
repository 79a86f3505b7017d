//! What a check found, bounded.

use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::meta::codec;
use crate::meta::keys;
use crate::meta::kv::KvRead;

/// Lines kept; of the rest only the number is told.
const LINES_MAX: usize = 1000;

#[derive(Default)]
pub struct Findings {
    lines: Vec<String>,
    more: u64,
}

impl Findings {
    pub fn say(&mut self, line: String) {
        if self.lines.len() < LINES_MAX {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    /// Says `line()` unless `holds`.
    pub fn require(&mut self, holds: bool, line: impl FnOnce() -> String) {
        if !holds {
            self.say(line());
        }
    }

    /// The record, or a finding about `what`.
    pub fn decode<T: DeserializeOwned>(&mut self, what: &str, bytes: &[u8]) -> Option<T> {
        match codec::decode(bytes) {
            Ok(record) => Some(record),
            Err(error) => {
                self.say(format!("{what}: {error}"));
                None
            }
        }
    }

    pub fn into_lines(mut self) -> Vec<String> {
        if self.more > 0 {
            self.lines.push(format!("and {} more", self.more));
        }
        self.lines
    }
}

/// Visits all entries with a prefix.
pub fn each(
    view: &dyn KvRead,
    prefix: u8,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let (from, to) = keys::family(prefix);
    view.scan(&from, &to, &mut |key, value| visit(key, value).map(|()| true))
}

/// The parts of a key, whose form was wrong if they are not there.
pub fn part<T>(part: Option<T>) -> Result<T> {
    part.ok_or_else(|| Error::damaged("a key of the table is cut short"))
}
