//! Other people's S3 clients: where those that are no Debian packages live, and how all are run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::mounts::run;
use super::node::wait_child;

/// How long one run of a client may take on a busy machine.
const RUN_LIMIT: Duration = Duration::from_secs(1200);
/// Python packages, at the versions we name.
const PYTHON: [&str; 4] =
    ["awscli==1.46.3", "boto3==1.44.3", "duckdb==1.4.4", "duckdb-extension-httpfs==1.4.4"];
/// The last versions for the Node.js that Debian 12 has.
const NODE: [&str; 3] = [
    "@aws-sdk/client-s3@3.901.0",
    "@aws-sdk/lib-storage@3.901.0",
    "@aws-sdk/s3-request-presigner@3.901.0",
];

/// A directory below `target/tools`, filled by `install` the first time.
fn tools(name: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let root = target.join("tools").join(name);
    std::fs::create_dir_all(&root).expect("the directory of the clients");
    let alone = File::create(root.join("lock")).expect("the lock of the clients");
    alone.lock().expect("waiting for another test that installs the same clients");
    let done = root.join("done");
    if !done.exists() {
        println!("installing {name}");
        install(&root);
        File::create(done).expect("noting that the clients are there");
    }
    root
}

/// A program of the Python packages: `aws`, or `python` with boto3 and DuckDB.
pub fn python(program: &str) -> PathBuf {
    let root = tools("python-clients-1", |root| {
        run(Command::new("virtualenv").arg("-q").arg(root.join("venv")));
        let pip = root.join("venv/bin/pip");
        run(Command::new(pip).args(["-q", "install"]).args(PYTHON));
    });
    root.join("venv/bin").join(program)
}

/// The directory whose `node_modules` has the AWS SDK.
pub fn node_modules() -> PathBuf {
    tools("node-clients-1", |root| {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(root);
        run(npm.args(NODE));
    })
}

/// Runs a client to its end; it must succeed. Answers what it wrote to stdout.
pub fn succeed(command: &mut Command) -> String {
    let output = finish(command);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// Runs a client to its end, in bounded time, however it ends.
pub fn finish(command: &mut Command) -> Output {
    let dir = tempfile::tempdir().expect("a directory for what a client says");
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    command.stdin(Stdio::null());
    command.stdout(File::create(&out).expect("a file")).stderr(File::create(&err).expect("a file"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let status = wait_child(&mut child, RUN_LIMIT);
    let read = |path| std::fs::read(path).expect("what a client said");
    Output { status, stdout: read(&out), stderr: read(&err) }
}
