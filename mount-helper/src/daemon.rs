//! Starts `bucketfs serve` as a daemon and stays until it is ready.

use std::env;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Failure;
use crate::arguments::MountArguments;
use crate::{program, ready};

/// The daemon's standard error, in the data directory unless `-o log=` says otherwise.
const LOG: &str = "serve.log";

/// Mounts. Returns when the file system can be used.
///
/// # Errors
/// [`Failure::Mount`] with the daemon's last words; [`Failure::System`] when it could not start.
pub fn run(arguments: &MountArguments) -> Result<(), Failure> {
    let data_dir = absolute(&arguments.data_dir)?;
    if !data_dir.is_dir() {
        return Err(Failure::Mount(format!(
            "{0} is no data directory: make one with bucketfs init --data-dir {0}",
            data_dir.display()
        )));
    }
    let mut command = command(&program::find()?, &data_dir, arguments)?;
    if arguments.verbose {
        eprintln!("{command:?}");
    }
    if arguments.fake {
        return Ok(());
    }
    if let Some(namespace) = &arguments.namespace {
        enter(namespace)?;
    }
    let (log, path) = open_log(&data_dir, arguments)?;
    let from = log.metadata().map_or(0, |facts| facts.len());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/");
    detach(&mut command);
    let child = command.spawn().map_err(|error| Failure::system("starting bucketfs", error))?;
    attend(child, &path, from)
}

fn command(
    program: &Path,
    data_dir: &Path,
    arguments: &MountArguments,
) -> Result<Command, Failure> {
    let mut command = Command::new(program);
    command.arg("serve").arg("--data-dir").arg(data_dir);
    if let Some(config) = &arguments.config {
        command.arg("--config").arg(absolute(config)?);
    }
    // A `=` in the path is a part of it.
    command.arg("--mount-at").arg(absolute(&arguments.mount_point)?);
    // Who unmounts has ended it, whatever else its settings let it serve.
    command.arg("--until-unmounted");
    command.arg("-o").arg(&arguments.options);
    if env::var_os("PATH").is_none() {
        command.env("PATH", program::PATH);
    }
    // That socket belongs to whoever called mount.
    command.env_remove("NOTIFY_SOCKET");
    Ok(command)
}

/// Without looking at what is there: below an automount point that would wait for ourselves.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::system(path.display(), error))
}

fn open_log(data_dir: &Path, arguments: &MountArguments) -> Result<(File, PathBuf), Failure> {
    let path = match &arguments.log {
        Some(log) => absolute(log)?,
        None => data_dir.join(LOG),
    };
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    log.map(|log| (log, path.clone())).map_err(|error| Failure::system(path.display(), error))
}

/// Waits for the daemon to be ready or to end. Whoever kills this process before that has a daemon
/// that still becomes ready.
fn attend(mut child: Child, log: &Path, from: u64) -> Result<(), Failure> {
    let is_ready = match child.stdout.take() {
        Some(said) => ready::wait(said),
        None => Ok(false),
    };
    if is_ready.map_err(|error| Failure::system("waiting for bucketfs", error))? {
        return Ok(());
    }
    let status = child.wait().map_err(|error| Failure::system("waiting for bucketfs", error))?;
    let why = ready::last_words(log, from);
    Err(Failure::Mount(why.unwrap_or_else(|| format!("bucketfs serve ended with {status}"))))
}

/// A session of its own, so that no terminal's end or Ctrl-C reaches the daemon. Not where systemd
/// mounts for its automount point: only its own process group may look below that point until the
/// mount is reported, everyone else waits for it.
fn detach(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and only makes system calls.
    unsafe {
        command.pre_exec(|| {
            // Descriptors that mount(8) left open must not live as long as the daemon.
            libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
            if libc::getpgrp() == libc::getpgid(1) {
                return Ok(());
            }
            match libc::setsid() {
                -1 => Err(io::Error::last_os_error()),
                _ => Ok(()),
            }
        });
    }
}

/// mount(8)'s `-N`: the rest happens in that mount namespace.
pub fn enter(namespace: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::system(namespace.display(), error);
    let file = File::open(namespace).map_err(failed)?;
    // SAFETY: the descriptor is open; setns(2). This process has one thread.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(failed(io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn arguments(words: &[&str]) -> MountArguments {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        MountArguments::parse(&words).unwrap()
    }

    #[test]
    fn the_daemon_is_told_everything_with_whole_paths() {
        let arguments = arguments(&["x", "mnt", "-o", "ro,config=c.toml"]);
        let command = command(Path::new("/bin/bucketfs"), Path::new("/srv"), &arguments).unwrap();
        let here = env::current_dir().unwrap();
        let (config, mount) = (here.join("c.toml"), here.join("mnt"));
        let expected = [
            "serve".as_ref(),
            "--data-dir".as_ref(),
            "/srv".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "--mount-at".as_ref(),
            mount.as_os_str(),
            "--until-unmounted".as_ref(),
            "-o".as_ref(),
            "ro".as_ref(),
        ];
        assert_eq!(command.get_args().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_missing_data_directory_is_said_to_be_missing() {
        let failure = run(&arguments(&["/no/such/data", "/mnt"])).unwrap_err();
        assert!(matches!(failure, Failure::Mount(text) if text.contains("bucketfs init")));
    }

    /// Shells stand in for the daemon.
    fn attended(script: &str, log: &Path) -> Result<(), Failure> {
        let log_file = OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script).stdout(Stdio::piped()).stderr(log_file);
        detach(&mut command);
        attend(command.spawn().unwrap(), log, 0)
    }

    #[test]
    fn it_returns_when_the_daemon_is_ready_though_that_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (log, fifo) = (dir.path().join("log"), dir.path().join("fifo"));
        // The shell stays until somebody opens the pipe: after `attended` has returned.
        let script = format!("mkfifo {0}; echo ready; read line < {0}", fifo.display());
        attended(&script, &log).unwrap();
        std::fs::write(fifo, "end\n").unwrap();
    }

    #[test]
    fn a_daemon_that_gives_up_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let failure = attended("echo 'bucketfs: no room' >&2; exit 1", &log).unwrap_err();
        assert_eq!(failure, Failure::Mount("no room".into()));
        let silent = attended("exit 3", &dir.path().join("other")).unwrap_err();
        assert!(silent.text().contains("exit status: 3"), "{}", silent.text());
    }
}
