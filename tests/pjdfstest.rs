//! pjdfstest, the POSIX suite, as root on a real mount: everything that can run here passes, nothing is excused.

mod support;

use std::path::Path;
use std::process::Command;
use support::mounts::{Bound, scratch};
use support::target::{Stage, Target};
use support::tools::tool;

const VERSION: &str = "0.2.2";
/// All cases of this version.
const CASES: u64 = 398;
/// Those that remount the file system read-only.
const REMOUNTS: u64 = 13;

/// The users are those of Debian's base system. The nap is longer than a tick of the slowest kernel clock.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
expected_failures = []
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Runs the suite in a short directory: it binds sockets, whose paths end after 107 bytes, and stumbles (0 − 1) over
/// directories of 9 bytes.
fn passes_on(target: Target) {
    let stage = Stage::new("posix", target);
    let short = Bound::new(stage.root(), Path::new("/mnt"));
    let outside = scratch("other");
    let config = outside.path().join("pjdfstest.toml");
    std::fs::write(&config, CONFIG).expect("the configuration");
    let mut suite = Command::new(tool("pjdfstest", VERSION));
    suite.arg("-c").arg(&config).arg("-s").arg(outside.path()).arg("-p").arg(short.path());
    let output = suite.env_remove("RUST_BACKTRACE").output().expect("the suite");
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().find(|line| line.starts_with("Summary:")).unwrap_or("no summary");
    println!("{target:?}: {summary}");
    // The C library knows the greatest link count of ext4, but not that of FUSE (it answers 127,
    // for "unknown"): there `link_count_max` cannot run.
    let skipped = if target == Target::PlainDir { REMOUNTS } else { REMOUNTS + 1 };
    let passed = CASES - skipped;
    let right =
        format!("Summary: 0 failed, {skipped} skipped, {passed} passed, 0 expected failures");
    assert!(summary.starts_with(&right), "{target:?}: {summary}\n{}", failures(&said));
}

/// The cases that failed or were left out, with what they say; the remounts are known.
fn failures(said: &str) -> String {
    let lines: Vec<_> = said.lines().collect();
    let bad = |line: &str| line.ends_with("FAILED") || line.ends_with("skipped");
    let known = |at: usize| lines.get(at + 1).is_some_and(|line| line.contains("allow_remount"));
    let failed = (0..lines.len()).filter(|at| bad(lines[*at]) && !known(*at));
    failed.map(|at| lines[at..(at + 2).min(lines.len())].join("\n")).collect::<Vec<_>>().join("\n")
}

#[test]
fn all_cases_pass_on_a_plain_directory() {
    passes_on(Target::PlainDir);
}

#[test]
fn all_cases_pass_on_a_bucket() {
    passes_on(Target::BucketFs("sled"));
}

/// Minutes long: only with `BUCKETFS_LONG=1`.
#[test]
fn all_cases_pass_on_three_nodes() {
    if std::env::var_os("BUCKETFS_LONG").is_some() {
        passes_on(Target::ThreeNodes);
    }
}
