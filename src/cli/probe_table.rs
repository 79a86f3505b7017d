//! `bucketfs __probe-table`: opens a table in a process of its own, because an engine may abort on
//! a table that is damaged. Speaks to the node that started it, not to people.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::output::Exit;
use crate::config::Engine;
use crate::error::Result;
use crate::node;

#[derive(Args, Debug)]
pub struct Probe {
    #[arg(value_parser = engine)]
    engine: Engine,
    dir: PathBuf,
}

fn engine(text: &str) -> Result<Engine, String> {
    let engines = [Engine::Sled, Engine::Redb];
    let found = engines.into_iter().find(|engine| engine.as_str() == text);
    found.ok_or_else(|| "sled or redb is wanted".into())
}

impl Probe {
    pub fn run(self) -> Result<Exit> {
        node::probe_table(self.engine, &self.dir, &mut io::stdout())?;
        Ok(Exit::Done)
    }
}
