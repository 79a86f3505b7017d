//! Compares a bucket mount with a plain directory, and three nodes with one: the same work on both, in turns, as medians
//! and ratios.
//!
//! `make bench` runs everything and writes `docs/performance.md`. Groups can be named (`make bench GROUPS="sequential
//! random"`), `--quick` makes everything small (under a minute), single sizes have flags of their own. The plain
//! directory and the store lie on fresh journalled ext4 loop images of the same kind, new for every group.

mod cluster;
mod files;
mod machine;
mod many;
mod memory;
mod pair;
mod random;
mod report;
mod sequential;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tree;

use clap::Parser;
use report::Report;
use std::path::PathBuf;

/// Compares a bucket mount with a plain directory.
#[derive(Debug, Parser)]
struct Args {
    /// Groups to run; all of them when none is named
    groups: Vec<String>,
    /// Small sizes: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Compare the plain directory with a second one: shows what the machine's noise makes of the ratios
    #[arg(long)]
    noise: bool,
    /// Rounds of each group; medians are taken over them
    #[arg(long)]
    rounds: Option<u32>,
    /// MiB of the file that is written and read as a whole
    #[arg(long)]
    file_mib: Option<u64>,
    /// Random reads and writes in one round
    #[arg(long)]
    random: Option<u64>,
    /// Small files in one round
    #[arg(long)]
    files: Option<u64>,
    /// MiB that pass while memory is watched
    #[arg(long)]
    pass_mib: Option<u64>,
    /// Files in the largest directory
    #[arg(long)]
    many: Option<u64>,
    /// Where the report goes; nowhere but the terminal when not given
    #[arg(long)]
    output: Option<PathBuf>,
    /// Given by `cargo bench`; means nothing here
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub noise: bool,
    pub rounds: u32,
    pub file_mib: u64,
    pub random: u64,
    pub files: u64,
    pub tree_files: u64,
    pub pass_mib: u64,
    pub many: u64,
}

impl Args {
    fn sizes(&self) -> Sizes {
        let pick = |given: Option<u64>, full: u64, quick: u64| {
            given.unwrap_or(if self.quick { quick } else { full })
        };
        Sizes {
            noise: self.noise,
            rounds: self.rounds.unwrap_or(if self.quick { 1 } else { 5 }),
            file_mib: pick(self.file_mib, 1024, 64),
            random: pick(self.random, 5000, 300),
            files: pick(self.files, 5000, 300),
            tree_files: pick(None, 1600, 300),
            pass_mib: pick(self.pass_mib, 8192, 256),
            many: pick(self.many, 1_000_000, 3000),
        }
    }
}

/// A group of measurements that share their preparation.
type Group = fn(&Sizes, &mut Report);

const GROUPS: [(&str, Group); 7] = [
    ("sequential", sequential::measure),
    ("random", random::measure),
    ("files", files::measure),
    ("tree", tree::measure),
    ("memory", memory::measure),
    ("cluster", cluster::measure),
    ("many", many::measure),
];

fn main() {
    let args = Args::parse();
    let sizes = args.sizes();
    if let Some(unknown) =
        args.groups.iter().find(|name| !GROUPS.iter().any(|(group, _)| group == name))
    {
        let known = GROUPS.map(|(name, _)| name).join(", ");
        eprintln!("no group is called {unknown}; there are {known}");
        std::process::exit(2);
    }
    let mut report = Report::default();
    for (name, group) in GROUPS {
        if args.groups.is_empty() || args.groups.iter().any(|wanted| wanted == name) {
            eprintln!("{name} …");
            let mut part = Report::default();
            // A thread of its own for each group: its mounts end with it.
            std::thread::scope(|scope| {
                scope.spawn(|| group(&sizes, &mut part)).join().expect("the group")
            });
            eprintln!("{}", part.table());
            report.append(part);
        }
    }
    let text = format!("{}{}{}", machine::describe(&sizes), report.table(), report.notes());
    match &args.output {
        Some(path) => std::fs::write(path, text).expect("writing the report"),
        None => print!("{text}"),
    }
}
