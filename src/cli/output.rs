//! What the program answers with: text for people or JSON for programs, and its exit code.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;

use crate::error::{Error, Result};

/// The exit codes, as `--help` documents them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Damage = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

#[derive(Serialize)]
struct Failure {
    error: String,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints one answer to standard output, JSON on one line.
    ///
    /// # Errors
    /// [`Error::Io`] when standard output cannot be written, a closed pipe excepted: who closed it
    /// has read what they wanted.
    pub fn show<T: Serialize + Display>(self, answer: &T) -> Result<()> {
        let text = if self.json { to_json(answer)? } else { answer.to_string() };
        let mut stdout = std::io::stdout().lock();
        match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|error| Error::io("writing to standard output", error)),
        }
    }

    /// Says on standard error why the verb failed, with `--json` on standard output as well.
    pub fn fail(self, error: &Error) -> Exit {
        eprintln!("bucketfs: {error}");
        self.fail_in_json(&error.to_string());
        match error {
            Error::Config(_) => Exit::Usage,
            Error::Damaged(_) => Exit::Damage,
            _ => Exit::Failed,
        }
    }

    /// With `--json`, says on standard output what standard error has already.
    pub fn fail_in_json(self, why: &str) {
        if self.json {
            let failure = Failure { error: why.to_owned() };
            // The sentence is on standard error already.
            let _ = to_json(&failure).map(|text| writeln!(std::io::stdout(), "{text}"));
        }
    }
}

/// An amount of bytes as a person reads it, three digits exact.
pub fn human(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

fn to_json<T: Serialize>(answer: &T) -> Result<String> {
    serde_json::to_string(answer)
        .map_err(|error| Error::invalid(format!("an answer has no JSON form: {error}")))
}
