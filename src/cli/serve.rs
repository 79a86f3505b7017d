//! `bucketfs serve`: runs one node in the foreground.

use std::ffi::OsString;
use std::fmt;

use clap::Args;
use serde::Serialize;

use super::flags::SettingFlags;
use super::logging;
use super::output::{Exit, Output};
use super::progress::Bar;
use crate::error::Result;
use crate::node::{self, Ready, Wanted};

/// Run a node in the foreground, with its mounts
///
/// Runs in the foreground, prints one line when everything is mounted, and goes on until SIGTERM
/// or Ctrl-C, or until the last mount is unmounted. Then it writes everything to disk, unmounts and
/// exits with 0; a second signal cuts the wait for programs that still use a mount short.
#[derive(Args, Debug)]
pub struct Serve {
    /// Show the store at DIR, or one bucket or directory of it; may be given several times
    #[arg(long, value_name = "DIR[=BUCKET[/PATH]]")]
    mount: Vec<OsString>,
    /// Show the store at DIR, whatever is in its name; `-o bucket=` shows a part of it
    #[arg(long, value_name = "DIR")]
    mount_at: Vec<OsString>,
    /// End when the last mount is unmounted, also when S3 or REST are served
    #[arg(long)]
    until_unmounted: bool,
    /// Options for all mounts, as mount(8) has them: ro, suid, dev, noexec, allow_other, ttl=…, …
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
    /// Become a node of the cluster whose `bucketfs cluster invite` printed TOKEN. Without effect
    /// on a store that is one already
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Serve {
    pub fn run(self, output: &Output) -> Result<Exit> {
        let config = self.settings.load_aloud()?.config;
        logging::start(config.log_level);
        node::log_panics();
        if let Some(token) = &self.join {
            node::join(&config, token)?;
        }
        let wanted = Wanted {
            mounts: self.mount,
            mount_points: self.mount_at,
            until_unmounted: self.until_unmounted,
            options: self.options.join(","),
        };
        let (bar, on_open) = Bar::shared();
        node::serve(&config, &wanted, on_open, &|ready| {
            bar.lock().clear();
            output.show(&Announced(ready.clone()))
        })?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Announced(Ready);

/// One line that begins with `ready `.
impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ready {}", self.0.data_dir.display())?;
        for (at, mount) in self.0.mounts.iter().enumerate() {
            let word = if at == 0 { " at " } else { ", " };
            write!(f, "{word}{}", mount.display())?;
        }
        let scheme = if self.0.tls { "https" } else { "http" };
        for (name, address) in [("S3", self.0.s3), ("REST", self.0.rest)] {
            if let Some(address) = address {
                write!(f, ", {name} at {scheme}://{address}")?;
            }
        }
        Ok(())
    }
}
