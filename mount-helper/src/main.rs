//! What mount(8) and umount(8) start for `-t bucketfs`: by its name it mounts or unmounts.
//!
//! `mount.bucketfs` and `mount.fuse.bucketfs` start `bucketfs serve` as a daemon and return when it
//! is ready; `umount.bucketfs` and `umount.fuse.bucketfs` return when it has saved everything.
//! Exit codes as in mount(8).

mod arguments;
mod daemon;
mod mounts;
mod program;
mod ready;
mod unmount;

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

use arguments::{MountArguments, UnmountArguments};

/// Why it failed, for one line on standard error.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The arguments make no sense.
    Usage(String),
    /// This system lacks something.
    System(String),
    /// It was not mounted, or not unmounted.
    Mount(String),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => 1,
            Self::System(_) => 2,
            Self::Mount(_) => 32,
        }
    }

    fn text(&self) -> &str {
        let (Self::Usage(text) | Self::System(text) | Self::Mount(text)) = self;
        text
    }

    fn system(context: impl Display, error: impl Display) -> Self {
        Self::System(format!("{context}: {error}"))
    }
}

fn main() -> ExitCode {
    let mut words = env::args_os();
    let name = words.next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let words: Vec<OsString> = words.collect();
    let result = match name.starts_with("umount") {
        true => UnmountArguments::parse(&words).and_then(|arguments| unmount::run(&arguments)),
        false => MountArguments::parse(&words).and_then(|arguments| daemon::run(&arguments)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {}", failure.text());
            ExitCode::from(failure.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn exit_codes_are_those_of_mount() {
        assert_eq!(Failure::Usage("a".into()).code(), 1);
        assert_eq!(Failure::system("a", "b").code(), 2);
        assert_eq!(Failure::system("a", "b").text(), "a: b");
        assert_eq!(Failure::Mount("a".into()).code(), 32);
    }
}
