//! Schemathesis asks the running program for everything its OpenAPI document describes, and for
//! much that it does not: every answer must be one the document promises, and none a fault.
//!
//! `make` installs it; a test that is run alone installs it too, into the target directory.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use support::http::Connection;
use support::mounts;
use support::node::{Node, Serve, program};

/// Pinned: what it tries changes from version to version.
const VERSION: &str = "schemathesis==4.32.5";

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{said}\n{errors}");
    said
}

/// Its program, in a Python environment of its own beside what cargo builds.
fn installed() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let environment = target.join("schemathesis");
    let (done, bin) = (environment.join(VERSION), environment.join("bin"));
    if !done.exists() {
        run(Command::new("virtualenv").args(["-q", "--clear"]).arg(&environment));
        run(Command::new(bin.join("pip")).args(["install", "--quiet", VERSION]));
        fs::write(done, "").unwrap();
    }
    bin.join("schemathesis")
}

/// Objects are asked for in a bucket that is there; only buckets have any names.
fn with_bucket(mut document: Value) -> Value {
    for (path, item) in document["paths"].as_object_mut().unwrap() {
        let operations = item.as_object_mut().unwrap().values_mut();
        for operation in operations.filter(|_| !path.starts_with("/buckets")) {
            let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
            let parameters = parameters.into_iter().flatten();
            for parameter in parameters.filter(|parameter| parameter["name"] == "bucket") {
                parameter["schema"] = json!({"type": "string", "enum": ["bucket"]});
            }
        }
    }
    document
}

#[test]
fn every_answer_is_one_the_document_promises() {
    let schemathesis = installed();
    mounts::own_namespace();
    let dir = mounts::scratch("schemathesis");
    let (data, mount, log) =
        (dir.path().join("data"), dir.path().join("mnt"), dir.path().join("log"));
    fs::create_dir(&mount).unwrap();
    let init = run(program().args(["--json", "init", "--data-dir"]).arg(&data));
    let made: Value = serde_json::from_str(&init).unwrap();
    let text = |name: &str| made[name].as_str().unwrap();
    let token = format!("{}.{}", text("access_key_id"), text("secret_access_key"));
    let header = format!("Authorization: Bearer {token}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = ["--rest-listen", &address];
    let serve = Serve { data: &data, mount: &mount, show: None, options: &options, log: &log };
    let node = Node::start(&serve);
    run(program().args(["bucket", "create", "bucket", "--data-dir"]).arg(&data));
    let document = dir.path().join("document.json");
    let served = Connection::plain(&address).send("GET", "/openapi.json", &[], b"").json();
    fs::write(&document, with_bucket(served).to_string()).unwrap();

    let long = std::env::var_os("BUCKETFS_LONG").is_some();
    let (examples, phases) = match long {
        true => ("400", "examples,coverage,fuzzing"),
        false => ("12", "fuzzing"),
    };
    let said = run(Command::new(schemathesis)
        .current_dir(dir.path())
        .arg("run")
        .arg(&document)
        .args(["--url", &format!("http://{address}"), "--header", &header])
        .args(["--max-examples", examples, "--phases", phases, "--seed", "1"])
        // No pattern can say which names of buckets and keys there may be.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--continue-on-failure", "--request-timeout", "30"])
        .args(["--suppress-health-check", "all", "--warnings", "off"]));
    // Nothing asked is nothing shown.
    assert!(said.contains("Tested: 22"), "{said}");
    node.stop();
    run(program().args(["fsck", "--data-dir"]).arg(&data));
}
