//! fsx, the file system exerciser: random reads, writes, mappings and sizes of one file, compared byte for byte.
//!
//! `BUCKETFS_FSX_SEEDS` and `BUCKETFS_FSX_OPERATIONS` make it longer: `make test-long` takes 8 and 20,000.

mod support;

use std::process::Command;
use support::mounts::scratch;
use support::rng::number;
use support::target::{Stage, Target};
use support::tools::tool;

const VERSION: &str = "0.3.2";

/// A way of using fsx.
struct Mix {
    name: &'static str,
    config: &'static str,
    /// How many times fewer operations than the others, because each moves more.
    share: u64,
}

const BASIC: &str = "
[weights]
close_open = 1
invalidate = 1
fsync = 1
fdatasync = 1
";

const ALLOCATING: &str = "
[weights]
close_open = 1
invalidate = 1
fsync = 1
fdatasync = 1
posix_fallocate = 5
punch_hole = 5
copy_file_range = 5
sendfile = 2
posix_fadvise = 1
";

/// Operations that cross chunks of 4 MiB.
const LARGE: &str = "
flen = 33554432
[opsize]
max = 4194304
[weights]
close_open = 1
invalidate = 1
fsync = 1
posix_fallocate = 2
punch_hole = 5
copy_file_range = 5
";

const MIXES: [Mix; 3] = [
    Mix { name: "basic", config: BASIC, share: 1 },
    Mix { name: "allocating", config: ALLOCATING, share: 1 },
    Mix { name: "large", config: LARGE, share: 20 },
];

fn agrees_on(target: Target) {
    let stage = Stage::new("fsx", target);
    let seeds = number("BUCKETFS_FSX_SEEDS", 1);
    let usual = if target == Target::ThreeNodes { 600 } else { 2_500 };
    let operations = number("BUCKETFS_FSX_OPERATIONS", usual);
    for mix in &MIXES {
        for seed in 1..=seeds {
            exercise(&stage, target, mix, seed, operations / mix.share);
        }
    }
}

fn exercise(stage: &Stage, target: Target, mix: &Mix, seed: u64, operations: u64) {
    let scratch = scratch("fsx-artifacts");
    let config = scratch.path().join("fsx.toml");
    std::fs::write(&config, mix.config).expect("the configuration");
    let file = stage.root().join(format!("{}-{seed}", mix.name));
    let mut fsx = Command::new(tool("fsx", VERSION));
    fsx.arg("-f").arg(&config).arg("-P").arg(scratch.path());
    fsx.args(["-S", &seed.to_string(), "-N", &operations.to_string()]).arg(&file);
    let output = fsx.output().expect("fsx");
    let what = format!("{target:?}, {}: seed {seed}, {operations} operations", mix.name);
    println!("{what}: {}", output.status);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<_> = said.lines().collect();
        panic!("{what}\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
    }
}

#[test]
fn a_plain_directory_agrees_with_fsx() {
    agrees_on(Target::PlainDir);
}

#[test]
fn a_bucket_on_sled_agrees_with_fsx() {
    agrees_on(Target::BucketFs("sled"));
}

#[test]
fn a_bucket_on_three_nodes_agrees_with_fsx() {
    agrees_on(Target::ThreeNodes);
}

#[test]
fn a_bucket_on_redb_agrees_with_fsx() {
    agrees_on(Target::BucketFs("redb"));
}
