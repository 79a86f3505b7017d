//! `bucketfs init`: makes a store.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::flags::SettingFlags;
use super::logging;
use super::output::{Exit, Output};
use crate::error::Result;
use crate::node::{self, Initialised};

#[derive(Args, Debug)]
pub struct Init {
    /// Make the certificates of a cluster too, which other nodes may join: give it
    /// `--peers-listen` when you serve it
    #[arg(long)]
    cluster: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Init {
    pub fn run(self, output: &Output) -> Result<Exit> {
        let config = self.settings.load()?.config;
        logging::start(config.log_level);
        output.show(&Made(node::init(&config, self.cluster)?))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Made(Initialised);

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Initialised { data_dir, engine, access_key_id, secret_access_key, .. } = &self.0;
        let data_dir = data_dir.display();
        writeln!(f, "Made a store in {data_dir} with its metadata in {engine}.")?;
        writeln!(f, "access key id      {access_key_id}")?;
        writeln!(f, "secret access key  {secret_access_key}")?;
        writeln!(f, "The secret is not shown again; `bucketfs key rotate` makes another one.")?;
        write!(f, "Next: bucketfs serve --data-dir {data_dir} --mount DIR")
    }
}
