//! The command line: one file a verb. Arguments in, one call of `node`, text or JSON out.

mod bucket;
mod cluster;
mod config;
mod flags;
mod fsck;
mod guard;
mod info;
mod init;
mod key;
mod logging;
mod operate;
mod output;
mod probe_table;
mod progress;
mod serve;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;
use crate::node;
use output::{Exit, Output};

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 it failed, the reason is on standard error; 2 wrong arguments or settings; \
3 damage was found.";

/// A mounted directory and an S3 endpoint as two views of the same replicated data.
#[derive(Debug, Parser)]
#[command(name = "bucketfs", version, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    /// Answer in JSON on standard output
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a store, with its first access key
    Init(init::Init),
    Serve(serve::Serve),
    /// How a store is, and who runs it
    Status(status::Show),
    /// Make, list, remove or look at buckets
    #[command(subcommand)]
    Bucket(bucket::Verb),
    /// Make, list, switch off, renew or remove access keys, and say what they may do
    #[command(subcommand)]
    Key(key::Verb),
    /// Look at the cluster, or let a node join it
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Where the bytes of a file are and how safe they are
    Info(info::Info),
    Fsck(fsck::Fsck),
    /// Show or check the settings
    #[command(subcommand)]
    Config(config::Verb),
    #[command(name = "__probe-table", hide = true)]
    ProbeTable(probe_table::Probe),
    #[command(name = "__guard", hide = true)]
    Guard(guard::Guard),
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    node::keep_private();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            if !error.use_stderr() {
                return Exit::Done.into();
            }
            let is_json = std::env::args_os().any(|word| word == "--json");
            Output::new(is_json).fail_in_json(error.to_string().trim());
            return Exit::Usage.into();
        }
    };
    let output = Output::new(cli.json);
    match cli.verb.run(&output) {
        Ok(exit) => exit.into(),
        Err(error) => output.fail(&error).into(),
    }
}

impl Verb {
    fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Init(verb) => verb.run(output),
            Self::Serve(verb) => verb.run(output),
            Self::Status(verb) => verb.run(output),
            Self::Bucket(verb) => verb.run(output),
            Self::Key(verb) => verb.run(output),
            Self::Cluster(verb) => verb.run(output),
            Self::Info(verb) => verb.run(output),
            Self::Fsck(verb) => verb.run(output),
            Self::Config(verb) => verb.run(output),
            Self::ProbeTable(verb) => verb.run(),
            Self::Guard(verb) => verb.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
