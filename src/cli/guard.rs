//! `bucketfs __guard`: sees to it that a node that was killed ends. Started by the node itself.

use std::path::PathBuf;

use clap::Args;

use super::logging;
use super::output::Exit;
use crate::config::LogLevel;
use crate::error::Result;
use crate::node;

#[derive(Args, Debug)]
pub struct Guard {
    pid: u32,
    mounts: Vec<PathBuf>,
}

impl Guard {
    pub fn run(self) -> Result<Exit> {
        logging::start(LogLevel::Warn);
        node::guard(self.pid, &self.mounts)?;
        Ok(Exit::Done)
    }
}
