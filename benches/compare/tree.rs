//! A source tree copied by rsync, copied again, removed.

use crate::Sizes;
use crate::pair::{Pair, Side, settle, timed};
use crate::report::{Goal, Report};
use crate::support::rng::{Rng, pattern};
use std::path::Path;
use std::process::Command;

/// Directories that hold files, in a dozen larger ones.
const MODULES: u64 = 131;

/// Makes a tree as sources have them: a dozen names in each directory, most files of a few KiB, some large.
fn plant(root: &Path, files: u64) {
    let mut rng = Rng::new(11);
    for n in 0..files {
        let module = n % MODULES;
        let dir = root.join(format!("part-{}", module % 12)).join(format!("module-{module}"));
        std::fs::create_dir_all(&dir).expect("a directory");
        let len = match rng.below(100) {
            0..50 => rng.below(4096),
            50..90 => rng.below(20_000),
            90..99 => rng.below(120_000),
            _ => rng.below(2 << 20),
        };
        std::fs::write(dir.join(format!("source-{n}.rs")), pattern(n, len as usize))
            .expect("a file");
    }
}

/// Measures the group.
pub fn measure(sizes: &Sizes, report: &mut Report) {
    let pair = Pair::new(4096, sizes.noise);
    let source = pair.scratch().join("source");
    plant(&source, sizes.tree_files);
    for round in 0..sizes.rounds {
        for side in Pair::sides(round) {
            let copy = pair.root(side).join(format!("copy-{round}"));
            let rsync = |options: &[&str]| {
                timed(Command::new("rsync").args(options).arg(&source).arg(&copy))
            };
            settle();
            let options: &[&str] = if side == Side::Plain { &["-a", "--fsync"] } else { &["-a"] };
            let name = "rsync -a of a tree, each file on disk (plain: --fsync)";
            report.add(name, "s", Goal::Ratio(1.5), side, rsync(options));
            settle();
            report.add("rsync -a again", "s", Goal::Ratio(2.0), side, rsync(&["-a"]));
            settle();
            report.add(
                "rm -rf",
                "s",
                Goal::Ratio(2.0),
                side,
                timed(Command::new("rm").arg("-rf").arg(&copy)),
            );
        }
    }
}
