//! Opening a table in a process of its own first: an engine may abort the process over a damaged
//! file, and then only the probe dies.
//!
//! The child is this program with `__probe-table ENGINE DIR`. It writes one line for each step:
//! `records N` while it reads, at the end `whole` or `damaged: WHY`. Only `whole` is a yes.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use super::engine::{EngineKind, files};
use super::table::Table;
use crate::error::{Error, Result};

/// The hidden subcommand that calls [`answer`].
pub const SUBCOMMAND: &str = "__probe-table";

/// Silence after which the child hangs: an engine may loop over a damaged file.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// What is kept of its last words, in bytes.
const SAID_MAX: usize = 300;
const CACHE_BYTES: u64 = 64 << 20;

/// How a table is probed.
#[derive(Clone, Debug)]
pub enum Probe {
    /// By a child: `program arguments… ENGINE DIR`.
    Child { program: PathBuf, arguments: Vec<OsString> },
    /// In this process, which a damaged table may then abort.
    InProcess,
}

impl Probe {
    /// By a child that runs the program of this process, also when its file was replaced.
    pub fn own_program() -> Self {
        Self::Child { program: "/proc/self/exe".into(), arguments: vec![SUBCOMMAND.into()] }
    }

    /// Opens the table in `dir` and reads all of it; `progress` is told the records read.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it cannot be opened or is not what was committed; I/O errors when
    /// no child can be had.
    pub fn run(&self, kind: EngineKind, dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        match self {
            Self::InProcess => examine(kind, dir, progress),
            Self::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments).arg(kind.to_string()).arg(dir);
                ask(command, progress)
            }
        }
    }
}

/// What the child does: examines the table and says so on `out`.
pub fn answer(kind: EngineKind, dir: &Path, out: &mut dyn Write) -> io::Result<()> {
    // A parent that is gone is noticed when the last line is written.
    match examine(kind, dir, &mut |records| drop(writeln!(out, "records {records}"))) {
        Ok(()) => writeln!(out, "whole"),
        Err(Error::Damaged(why)) => writeln!(out, "damaged: {why}"),
        Err(error) => writeln!(out, "damaged: {error}"),
    }
}

fn examine(kind: EngineKind, dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
    if !files::any(dir)? {
        return Err(Error::damaged(format!("there is no table in {}", dir.display())));
    }
    Table::open(kind, dir, CACHE_BYTES)?.verify(progress)
}

fn ask(mut command: Command, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let failed = |error| Error::io("starting the probe of the metadata table", error);
    let (reader, writer) = io::pipe().map_err(failed)?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    let mut child = command.spawn().map_err(failed)?;
    // It holds the write ends, without which the reader would never see the end.
    drop(command);
    let verdict = match lines_of(reader) {
        Ok(lines) => listen(&lines, progress),
        Err(error) => Err(error),
    };
    end(&mut child);
    verdict
}

fn lines_of(reader: io::PipeReader) -> Result<Receiver<String>> {
    let (told, lines) = mpsc::channel();
    let read = move || {
        let lines = BufReader::new(reader).split(b'\n').map_while(io::Result::ok);
        // Stops when nobody listens any more.
        lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .try_for_each(|line| told.send(line))
    };
    thread::Builder::new()
        .name("meta-probe".into())
        .spawn(read)
        .map_err(|error| Error::io("starting a thread", error))?;
    Ok(lines)
}

fn listen(lines: &Receiver<String>, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut said = String::new();
    loop {
        match lines.recv_timeout(SILENCE_MAX) {
            Ok(line) if line == "whole" => return Ok(()),
            Ok(line) => match (line.strip_prefix("records "), line.strip_prefix("damaged: ")) {
                (Some(records), _) => progress(records.parse().unwrap_or_default()),
                (_, Some(why)) => return Err(Error::damaged(why)),
                _ if said.len() < SAID_MAX => said.extend([" ", line.trim()]),
                _ => {}
            },
            Err(mpsc::RecvTimeoutError::Timeout) => {
                return Err(Error::damaged("reading the metadata table takes for ever"));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Error::damaged(format!(
                    "reading the metadata table ends the process:{said}"
                )));
            }
        }
    }
}

/// Also of a child that hangs. It has said what it had to say.
fn end(child: &mut Child) {
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        log::warn!("the probe of the metadata table does not end: {error}");
    }
}
