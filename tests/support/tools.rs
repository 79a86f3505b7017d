//! Other people's suites, at the versions we name: installed into `target/tools` when they are missing.

use super::mounts::run;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program of a crate at exactly this version; built by cargo the first time, which needs a registry.
pub fn tool(name: &str, version: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let root = target.join("tools").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    std::fs::create_dir_all(&root).expect("the directory of the tools");
    let alone = File::create(root.join("lock")).expect("the lock of a tool");
    alone.lock().expect("waiting for another test that installs the same tool");
    if !program.exists() {
        println!("installing {name} {version}");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["install", "--locked", "--version", version, "--root"]).arg(&root).arg(name);
        run(cargo.env("CARGO_TARGET_DIR", root.join("build")));
        std::fs::remove_dir_all(root.join("build")).expect("removing what the build left");
    }
    program
}
