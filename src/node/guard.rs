//! A process beside the node, for the case that the node is killed and cannot end: a thread of it may
//! wait in the kernel, telling it what changed in a directory (`fuse_reverse_inval_entry` takes the
//! directory's lock), while a request that only the node could answer has that directory locked. Such
//! a process never ends, a service manager never sees it end, and whoever uses the mount waits too.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::env::Parent;
use crate::error::{Error, Result};
use crate::fuse::Hold;

/// The verb that it is started with.
const VERB: &str = "__guard";
/// What a killed process may take to end: it has gigabytes of memory to give back.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts the guard of this process over its mounts. To be called by the first thread: when that ends,
/// the guard looks.
///
/// # Errors
/// [`Error::Io`] when it cannot be started.
pub(super) fn start(mounts: &[PathBuf]) -> Result<()> {
    let failed = |error| Error::io("starting the guard of the mounts", error);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.arg(VERB).arg(std::process::id().to_string()).args(mounts);
    // It must hold neither a directory nor the line that says `ready`, and Ctrl-C is not for it.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    // It ends after this process, which therefore never waits for it.
    command.spawn().map(drop).map_err(failed)
}

/// Guards the mounts of the process that started this one, until that ends; then sees to it that it
/// does.
///
/// # Errors
/// [`Error::Io`] when the system does not let us.
pub fn guard(pid: u32, mounts: &[PathBuf]) -> Result<()> {
    let Some(parent) = Parent::watch(pid)? else { return Ok(()) };
    let mounts: Vec<Hold> =
        mounts.iter().filter_map(|path| Hold::find(path).transpose()).collect::<Result<_>>()?;
    if !parent.gets_stuck(PATIENCE)? {
        return Ok(());
    }
    for mount in &mounts {
        log::warn!(
            "process {pid} was killed and waits for its own mount {}: that is cut off",
            mount.path().display()
        );
    }
    // Each of them, whatever becomes of the others.
    let cut: Vec<Result<()>> = mounts.iter().map(Hold::cut_off).collect();
    cut.into_iter().collect()
}
