//! What the daemon says: a line that begins with `ready` when it serves, else why not.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// Waits for the daemon's first word. True when it is ready; false when it ended without it.
pub fn wait(said: impl Read) -> io::Result<bool> {
    let mut line = String::new();
    let mut said = BufReader::new(said);
    while said.read_line(&mut line)? > 0 {
        if line.split_whitespace().next() == Some("ready") {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

/// The last line of `log` after `from` bytes: the sentence with which the daemon gave up.
pub fn last_words(log: &Path, from: u64) -> Option<String> {
    /// More than a few lines are not wanted, however long the log is.
    const ENOUGH: u64 = 64 << 10;
    let mut file = File::open(log).ok()?;
    let end = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(from.max(end.saturating_sub(ENOUGH)))).ok()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let last = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(last.strip_prefix("bucketfs: ").unwrap_or(last).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_word_at_the_start_of_a_line() {
        assert!(wait(&b"ready /srv at /mnt\n"[..]).unwrap());
        assert!(wait(&b"replaying 5 %\nready\n"[..]).unwrap());
        assert!(!wait(&b"already\nnot ready\n"[..]).unwrap());
        assert!(!wait(&b""[..]).unwrap());
    }

    #[test]
    fn the_last_line_of_this_start_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "bucketfs: yesterday\n[INFO] opening\nbucketfs: in use\n\n").unwrap();
        assert_eq!(last_words(&log, 20).unwrap(), "in use");
        assert_eq!(last_words(&log, 53), None);
        assert_eq!(last_words(&dir.path().join("none"), 0), None);
    }
}
