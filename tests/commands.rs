//! The program from outside, without mounts: what each verb answers, refuses and leaves behind.

use std::fs::Permissions;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A directory for a store, and the program pointed at it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// With a store in it.
    fn made() -> Self {
        let place = Self::new();
        let made = place.run(&["init"]);
        assert!(made.status.success(), "{}", said(&made));
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bucketfs"));
        command.args(words).env("BUCKETFS_DATA_DIR", self.data());
        for name in ["BUCKETFS_CONFIG", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.run(&[&["--json"], words].concat());
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Runs a verb that must fail with `code`, and returns its one sentence.
    fn refused(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
        said(&output)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.data()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `serve`; stopped by SIGTERM, killed when a test fails.
struct Serving {
    child: Child,
    ready: String,
}

impl Serving {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        Self { child, ready }
    }

    fn stop(mut self) {
        // SAFETY: the child is ours and has not been waited for; kill(2).
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn init_makes_a_private_store_and_shows_its_secret_once() {
    let place = Place::new();
    let made = place.json(&["init"]);
    let secret = made["secret_access_key"].as_str().unwrap();
    assert_eq!((made["access_key_id"].as_str().unwrap().len(), secret.len()), (20, 40));
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(place.data()), 0o700);
    assert_eq!(mode(place.data().join("secrets.key")), 0o600);
    let status = place.run(&["--json", "status"]);
    assert!(!String::from_utf8_lossy(&status.stdout).contains(secret));
}

/// The directory was there, and anybody may enter it: what is in it is for the owner all the same.
#[test]
fn a_store_in_an_open_directory_is_private() {
    for engine in ["sled", "redb"] {
        let place = Place::new();
        std::fs::create_dir(place.data()).unwrap();
        std::fs::set_permissions(place.data(), Permissions::from_mode(0o755)).unwrap();
        let words = format!("umask 022; exec \"$0\" init --meta-engine {engine}");
        let program = env!("CARGO_BIN_EXE_bucketfs");
        let mut init = Command::new("sh");
        init.args(["-c", &words, program]).env("BUCKETFS_DATA_DIR", place.data());
        assert!(init.status().unwrap().success());
        let node = Serving::start(&mut place.command(&["serve"]));
        assert_eq!(open_to_others(place.data()), Vec::<PathBuf>::new());
        node.stop();
        assert_eq!(open_to_others(place.data()), Vec::<PathBuf>::new());
    }
}

/// What below `root` others may read, write or enter. A running node renames and removes files meanwhile: what is gone
/// before it is looked at is open to nobody.
fn open_to_others(root: PathBuf) -> Vec<PathBuf> {
    let mut open = Vec::new();
    let mut directories = vec![root];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let facts = match entry.metadata() {
                Err(gone) if gone.kind() == ErrorKind::NotFound => continue,
                facts => facts.unwrap(),
            };
            if facts.permissions().mode() & 0o077 != 0 {
                open.push(entry.path());
            }
            if facts.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    open
}

#[test]
fn init_leaves_an_existing_store_and_other_files_alone() {
    let place = Place::made();
    let before = std::fs::read(place.data().join("secrets.key")).unwrap();
    assert!(place.refused(&["init"], 1).contains("holds a store already"));
    assert_eq!(std::fs::read(place.data().join("secrets.key")).unwrap(), before);

    let place = Place::new();
    std::fs::create_dir(place.data()).unwrap();
    std::fs::write(place.data().join("thesis.tex"), "x").unwrap();
    assert!(place.refused(&["init"], 1).contains("thesis.tex"));
    assert_eq!(std::fs::read(place.data().join("thesis.tex")).unwrap(), b"x");
}

#[test]
fn settings_are_refused_by_name_before_anything_is_done() {
    let place = Place::new();
    let sentence = place.refused(&["init", "--chunk-size", "3MiB"], 2);
    assert!(sentence.contains("`chunk_size`") && sentence.contains("power of two"), "{sentence}");
    assert!(!place.data().exists());
    let file = place.dir.path().join("node.toml");
    std::fs::write(&file, "listen.s3 = '127.0.0.1:9000'").unwrap();
    let sentence = place.refused(&["config", "check", "--config", file.to_str().unwrap()], 2);
    assert!(sentence.contains("`listen.s3`"), "{sentence}");
    place.refused(&["serve", "--mout", "/mnt"], 2);
    place.refused(&["bucket", "create", "No_Bucket"], 2);
    place.refused(&[], 2);
    assert_eq!(place.run(&["--help"]).status.code(), Some(0));
}

/// The others are told where this node listens, unless it is told them apart: that has to be an
/// address they can use.
#[test]
fn an_address_nobody_can_use_is_not_told_to_others() {
    let place = Place::new();
    for listen in ["0.0.0.0:9100", "[::]:9100", "127.0.0.1:0"] {
        let words = ["config", "check", "--peers-listen", listen];
        assert!(place.refused(&words, 2).contains("`peers.address`"), "{listen}");
        let named = [&words[..], &["--peers-address", "node1.example.com:9100"]].concat();
        assert_eq!(place.json(&named)["allowed"], true);
    }
    assert_eq!(
        place.json(&["config", "check", "--peers-listen", "10.0.0.1:9100"])["allowed"],
        true
    );
}

/// Login shells allow 1024 open files, fewer than the listeners take connections.
#[test]
fn a_node_opens_as_many_files_as_it_may() {
    let place = Place::made();
    let mut serve = Command::new("sh");
    let words = "ulimit -Sn 256; exec \"$0\" serve";
    serve.args(["-c", words, env!("CARGO_BIN_EXE_bucketfs")]);
    let node = Serving::start(serve.env("BUCKETFS_DATA_DIR", place.data()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|column| files.split_whitespace().nth(column).unwrap());
    assert!(soft == hard || soft.parse::<u64>().unwrap() >= 1 << 20, "{files}");
    node.stop();
}

/// A store with small chunks needs no more than two of them.
#[test]
fn the_write_buffer_is_measured_by_the_chunks_of_the_store() {
    let place = Place::new();
    let sentence = place.refused(&["init", "--write-buffer", "1MiB"], 2);
    assert!(sentence.contains("`write_buffer`") && sentence.contains("8MiB"), "{sentence}");
    assert!(!place.data().exists());
    place.json(&["init", "--chunk-size", "64KiB", "--write-buffer", "1MiB"]);
    Serving::start(&mut place.command(&["serve", "--write-buffer", "1MiB"])).stop();
    let large = Place::made();
    let sentence = large.refused(&["serve", "--write-buffer", "1MiB"], 2);
    assert!(sentence.contains("two chunks of this store"), "{sentence}");
}

#[test]
fn config_show_says_where_a_value_comes_from() {
    let place = Place::new();
    let shown = place.json(&["config", "show", "--write-buffer", "32MiB"]);
    let rows = shown["settings"].as_array().unwrap();
    let row = |key: &str| rows.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(row("write_buffer")["value"], "32MiB");
    assert_eq!(row("write_buffer")["from"], "the command line (--write-buffer)");
    assert_eq!(row("data_dir")["from"], "the environment (BUCKETFS_DATA_DIR)");
    assert_eq!(row("chunk_size")["from"], "the default");

    // What is shown can be used as the file.
    let text = place.run(&["config", "show", "--write-buffer", "32MiB"]).stdout;
    let file = place.dir.path().join("shown.toml");
    std::fs::write(&file, text).unwrap();
    let again = place.json(&["config", "show", "--config", file.to_str().unwrap()]);
    assert_eq!(again["settings"][8]["value"], "32MiB");
}

#[test]
fn a_missing_store_is_one_sentence_and_nothing_made() {
    let place = Place::new();
    for words in [&["status"][..], &["fsck"], &["serve"], &["bucket", "list"]] {
        let sentence = place.refused(words, 1);
        assert_eq!(sentence.trim_end().lines().count(), 1, "{sentence}");
        assert!(sentence.contains("init"), "{sentence}");
        assert!(!place.data().exists());
    }
}

#[test]
fn a_store_that_nobody_runs_can_be_asked_and_changed() {
    for engine in ["sled", "redb"] {
        let place = Place::new();
        place.json(&["init", "--meta-engine", engine]);
        let status = place.json(&["status"]);
        assert_eq!((&status["running"], &status["engine"]), (&false.into(), &engine.into()));
        assert_eq!(place.json(&["bucket", "create", "photos"])["name"], "photos");
        assert!(place.refused(&["bucket", "create", "photos"], 1).contains("exists"));
        assert_eq!(place.json(&["bucket", "info", "photos"])["entries"], 0);
        assert_eq!(place.json(&["info", "photos"])["kind"], "Directory");
        assert!(place.refused(&["info", "photos/none"], 1).contains("no such"));
        let report = place.json(&["fsck"]);
        assert_eq!(report["damaged"].as_array().unwrap().len(), 0);
        place.json(&["bucket", "delete", "photos"]);
        assert_eq!(place.json(&["bucket", "list"])["buckets"].as_array().unwrap().len(), 0);
    }
}

/// The same verbs against a running node go through its socket; a second node is refused.
/// Whoever waits for a node by asking must not keep it from the store.
#[test]
fn the_cluster_is_asked_through_a_running_node_only() {
    let place = Place::made();
    let node = std::fs::read(place.data().join("clean.json")).unwrap();
    let asked: [&[&str]; 4] = [
        &["cluster", "status"],
        &["cluster", "invite"],
        &["cluster", "drain", "2"],
        &["cluster", "remove", "2", "--lost"],
    ];
    for words in asked {
        assert!(place.refused(words, 1).contains("no node serves this store"));
    }
    assert_eq!(std::fs::read(place.data().join("clean.json")).unwrap(), node, "it was opened");
}

#[test]
fn a_running_node_answers_for_its_store() {
    let place = Place::made();
    let node = Serving::start(&mut place.command(&["serve"]));
    assert!(node.ready.starts_with("ready "), "{}", node.ready);
    let status = place.json(&["status"]);
    assert_eq!((&status["running"], &status["pid"]), (&true.into(), &node.child.id().into()));
    assert!(place.refused(&["serve"], 1).contains(&node.child.id().to_string()));
    place.json(&["bucket", "create", "photos"]);
    assert!(place.refused(&["bucket", "create", "photos"], 1).contains("exists"));
    assert_eq!(place.run(&["bucket", "list"]).stdout, b"photos\n");
    assert_eq!(place.json(&["bucket", "info", "photos"])["name"], "photos");
    assert_eq!(place.json(&["info", "photos"])["kind"], "Directory");
    assert_eq!(place.json(&["fsck", "--repair"])["contradictions"].as_array().unwrap().len(), 0);
    place.json(&["bucket", "delete", "photos"]);
    assert!(place.refused(&["bucket", "delete", "photos"], 1).contains("no such"));
    node.stop();
    let names = place.names();
    assert!(!names.iter().any(|name| ["admin.sock", "serve.json"].contains(&name.as_str())));
}

/// kill -9 leaves socket, run file and lock file behind: none of them is in the way.
#[test]
fn what_a_killed_node_leaves_is_not_in_the_way() {
    let place = Place::made();
    let node = Serving::start(&mut place.command(&["serve"]));
    place.json(&["bucket", "create", "photos"]);
    drop(node);
    assert_eq!(place.json(&["status"])["running"], false);
    assert_eq!(place.run(&["bucket", "list"]).stdout, b"photos\n");
    let node = Serving::start(&mut place.command(&["serve", "--json"]));
    let ready: Value = serde_json::from_str(&node.ready).unwrap();
    assert_eq!(ready["ready"], true);
    let run: Value =
        serde_json::from_slice(&std::fs::read(place.data().join("serve.json")).unwrap()).unwrap();
    assert_eq!(run["pid"], node.child.id());
    assert_eq!(run["admin"], ready["admin"]);
    node.stop();
}

#[test]
fn the_service_manager_hears_ready_and_stopping() {
    let place = Place::made();
    let path = place.dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let node = Serving::start(place.command(&["serve"]).env("NOTIFY_SOCKET", &path));
    node.stop();
    manager.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(len) = manager.recv(&mut buffer) {
        heard.push(String::from_utf8_lossy(&buffer[..len]).into_owned());
    }
    let ready = heard.iter().position(|text| text.contains("READY=1")).unwrap();
    let stopping = heard.iter().position(|text| text.contains("STOPPING=1")).unwrap();
    assert!(ready < stopping, "{heard:?}");
}

#[test]
fn a_failure_in_json_is_json() {
    let place = Place::new();
    let output = place.run(&["--json", "status"]);
    let failure: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(failure["error"].as_str().unwrap().contains("init"));
}

#[test]
fn a_table_can_be_probed_in_a_process_of_its_own() {
    let place = Place::made();
    let table = place.data().join("meta/sled");
    let table = table.to_str().unwrap();
    let says = |dir| String::from_utf8(place.run(&["__probe-table", "sled", dir]).stdout).unwrap();
    assert_eq!(says(table), "whole\n");
    assert!(says("/nonexistent").starts_with("damaged: "));
    assert!(!std::path::Path::new("/nonexistent").exists());
    place.refused(&["__probe-table", "bolt", table], 2);
}
