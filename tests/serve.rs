//! A node with real mounts, from outside: how it starts, stops, is told apart, and what stands in
//! its way. Needs root.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::mounts::{LoopImage, mounted, own_namespace, run, scratch};
use support::node::{Node, Serve, program};
use support::sys::fsync;
use support::target::{BUCKET, init};
use support::wait::until;
use tempfile::TempDir;

/// What a stop may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// A store with one bucket, a place to mount it, and a thread with mounts of its own.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        own_namespace();
        let place = Self { dir: scratch(name) };
        fs::create_dir(place.mount()).unwrap();
        init(&place.data(), "sled");
        place
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn mount(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.mount().join(BUCKET).join(name)
    }

    fn start(&self) -> Node {
        self.start_at(&self.mount(), None, &[])
    }

    fn start_at(&self, mount: &Path, show: Option<&str>, options: &[&str]) -> Node {
        let log = self.dir.path().join("log");
        Node::start(&Serve { data: &self.data(), mount, show, options, log: &log })
    }

    fn ask(&self, words: &[&str]) -> Command {
        let mut command = program();
        command.arg("--json").args(words).arg("--data-dir").arg(self.data());
        command
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&run(&mut self.ask(words))).unwrap()
    }

    /// `serve` with these words must fail, in one sentence, and leave nothing behind.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.ask(&[&["serve"], words].concat()).output().unwrap();
        assert!(!output.status.success(), "{words:?} were accepted");
        let said = String::from_utf8(output.stderr).unwrap();
        let sentence = said.lines().find(|line| line.starts_with("bucketfs: ")).unwrap();
        assert!(!self.data().join("serve.json").exists());
        sentence.to_owned()
    }
}

/// It ends by itself, and well.
fn stopped(mut node: Node) {
    assert_eq!(node.wait(LIMIT).code(), Some(0));
}

/// SIGTERM comes while a program holds a file open and has not saved it: its bytes are there after
/// the restart all the same.
#[test]
fn stopping_saves_what_open_files_hold() {
    let place = Place::new("drain");
    let node = place.start();
    let mut file = File::create(place.file("open")).unwrap();
    file.write_all(&[7; 300_000]).unwrap();
    let mut small = File::create(place.file("small")).unwrap();
    small.write_all(b"inline").unwrap();
    node.signal(libc::SIGTERM);
    // The mount stays usable to those who have files open; then it goes.
    drop((file, small));
    stopped(node);
    assert_eq!(mounted(&place.mount()), None);

    let node = place.start();
    assert_eq!(fs::read(place.file("open")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read(place.file("small")).unwrap(), b"inline");
    node.stop();
}

/// Two copies are a choice to be made knowingly.
#[test]
fn who_asks_for_two_copies_is_warned() {
    let place = Place::new("two");
    let warned = || {
        let log = fs::read_to_string(place.dir.path().join("log")).unwrap();
        log.matches("of 2 copies a write waits for both").count()
    };
    for (factor, warnings) in [("3", 0), ("2", 1), ("2", 1)] {
        let options = ["--replication-factor", factor];
        place.start_at(&place.mount(), None, &options).stop();
        assert_eq!(warned(), warnings, "{factor} copies");
    }
}

/// What an open file holds cannot be written when the node stops: nobody is left to be told but who
/// started it.
#[test]
fn a_stop_that_loses_what_open_files_hold_does_not_succeed() {
    own_namespace();
    let dir = scratch("lost");
    let disk = LoopImage::new(dir.path(), 256 << 20);
    let (data, mount, log) =
        (disk.path().join("data"), dir.path().join("mnt"), dir.path().join("log"));
    fs::create_dir(&mount).unwrap();
    init(&data, "sled");
    let serve = Serve { data: &data, mount: &mount, show: None, options: &[], log: &log };
    let mut node = Node::start(&serve);
    let mut file = File::create(mount.join(BUCKET).join("held")).unwrap();
    file.write_all(&[7; 3 << 20]).unwrap();
    fill(&disk.path().join("ballast"));
    node.signal(libc::SIGTERM);
    let status = node.wait(LIMIT);
    assert_eq!(status.code(), Some(1), "3 MiB are lost");
    drop(file);
    fs::remove_file(disk.path().join("ballast")).unwrap();
    let node = Node::start(&serve);
    assert_eq!(fs::read(mount.join(BUCKET).join("held")).unwrap(), b"");
    node.stop();
}

/// Writes a file until the disk is full.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
    fsync(file.as_raw_fd()).unwrap();
}

/// A file that stays open holds the first farewell up; a second signal does not wait for it, and
/// what was written is saved nevertheless.
#[test]
fn a_second_signal_hurries_but_loses_nothing() {
    let place = Place::new("hurry");
    let mut node = place.start();
    let mut file = File::create(place.file("held")).unwrap();
    file.write_all(b"written before the signals").unwrap();
    node.signal(libc::SIGINT);
    until("the mount is out of sight", LIMIT, || mounted(&place.mount()).is_none().then_some(()));
    node.signal(libc::SIGINT);
    let status = node.wait(Duration::from_secs(8));
    assert_eq!(status.code(), Some(0), "it hurried");
    assert!(file.write_all(b"late").is_err());

    let node = place.start();
    assert_eq!(fs::read(place.file("held")).unwrap(), b"written before the signals");
    node.stop();
}

#[test]
fn a_node_whose_last_mount_is_unmounted_saves_and_ends() {
    let place = Place::new("umount");
    let node = place.start();
    fs::write(place.file("kept"), b"kept").unwrap();
    run(Command::new("umount").arg(place.mount()));
    stopped(node);
    assert_eq!(place.json(&["status"])["running"], false);
    let node = place.start();
    assert_eq!(fs::read(place.file("kept")).unwrap(), b"kept");
    node.stop();
}

/// At once, too: the kernel may still know the attributes of the dead mount's root.
#[test]
fn a_dead_mount_is_replaced() {
    let place = Place::new("dead");
    let mut node = place.start();
    fs::write(place.file("kept"), b"kept").unwrap();
    node.signal(libc::SIGKILL);
    node.wait(LIMIT);
    let dead = fs::read_dir(place.mount()).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(libc::ENOTCONN));
    let again = place.start();
    assert_eq!(fs::read(place.file("kept")).unwrap(), b"kept");
    again.stop();
}

#[test]
fn what_is_in_the_way_is_one_sentence_and_changes_nothing() {
    let place = Place::new("refused");
    let inside = |name: &str| place.dir.path().join(name);
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert!(place.refused(&["--mount", &text(&inside("none"))]).contains("mkdir"));
    fs::write(inside("file"), b"").unwrap();
    assert!(place.refused(&["--mount", &text(&inside("file"))]).contains("not a directory"));
    fs::create_dir_all(inside("full/child")).unwrap();
    assert!(place.refused(&["--mount", &text(&inside("full"))]).contains("nonempty"));
    let mount = text(&place.mount());
    assert!(place.refused(&["--mount", &mount, "-o", "nonempti"]).contains("nonempti"));
    assert!(place.refused(&["--mount", &format!("{mount}=none")]).contains("none"));
    assert_eq!(mounted(&place.mount()), None);
    // The second of two mounts fails: the first is taken away again.
    let second = text(&inside("none"));
    place.refused(&["--mount", &mount, "--mount", &second]);
    assert_eq!(mounted(&place.mount()), None);
    place.start().stop();
}

/// One store at several places: all of it, and one directory of it with options of its own kind.
#[test]
fn a_store_is_shown_as_it_was_asked_for() {
    let place = Place::new("shown");
    let node = place.start_at(&place.mount(), Some(BUCKET), &[]);
    fs::create_dir(place.mount().join("deep")).unwrap();
    fs::write(place.mount().join("deep/file"), b"bytes").unwrap();
    node.stop();

    let node = place.start_at(&place.mount(), Some("suite/deep"), &["-o", "ro"]);
    assert_eq!(fs::read(place.mount().join("file")).unwrap(), b"bytes");
    let refused = fs::write(place.mount().join("other"), b"").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let status = place.json(&["status"]);
    assert_eq!(status["mounts"][0], place.mount().to_str().unwrap());
    assert_eq!(status["pid"], node.pid());
    node.stop();
}

/// > A flipped bit costs the range it is in, and nothing else; it is listed
///
/// One bit of a chunk file turns over while the node runs: that range cannot be read, the rest of
/// the file can, the node lives, and the check names the file.
#[test]
fn a_flipped_bit_costs_its_range_and_nothing_else() {
    let place = Place::new("flip");
    let node = place.start();
    fs::write(place.file("victim"), vec![3; 1 << 20]).unwrap();
    fs::write(place.file("other"), vec![4; 1 << 20]).unwrap();
    node.stop();
    let info = place.json(&["info", &format!("{BUCKET}/victim")]);
    let chunk = info["pieces"][0]["chunk"].as_str().unwrap().to_owned();
    let path = place.data().join(info["pieces"][0]["file"].as_str().unwrap());
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 700_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 700_000).unwrap();

    let node = place.start();
    let victim = File::open(place.file("victim")).unwrap();
    let mut part = vec![0; 65_536];
    victim.read_exact_at(&mut part, 0).unwrap();
    assert!(part.iter().all(|byte| *byte == 3));
    let damaged = victim.read_exact_at(&mut part, 10 * 65_536).unwrap_err();
    assert_eq!(damaged.raw_os_error(), Some(libc::EIO));
    let mut whole = Vec::new();
    File::open(place.file("other")).unwrap().read_to_end(&mut whole).unwrap();
    assert_eq!(whole, vec![4; 1 << 20]);
    let status = place.json(&["status"]);
    assert_eq!(status["damaged"][0]["chunk"], chunk);
    let output = place.ask(&["fsck"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["damaged"][0]["files"][0], format!("{BUCKET}/victim"));
    node.stop();
}

/// > A lost or damaged metadata table is made again from log and snapshot, and that is reported
///
/// The table is thrown away: the next start makes it again, says so, and nothing is missing.
#[test]
fn a_lost_table_is_made_again_and_reported() {
    let place = Place::new("rebuild");
    let node = place.start();
    for number in 0..50 {
        fs::write(place.file(&format!("file-{number}")), format!("bytes of {number}")).unwrap();
    }
    node.stop();
    fs::remove_dir_all(place.data().join("meta/sled")).unwrap();
    let node = place.start();
    for number in 0..50 {
        let bytes = fs::read(place.file(&format!("file-{number}"))).unwrap();
        assert_eq!(bytes, format!("bytes of {number}").into_bytes());
    }
    let status = place.json(&["status"]);
    assert!(status["replication"]["rebuilt"].is_string(), "{status}");
    node.stop();
}

/// Another engine is chosen for a store: its table is made from the log.
#[test]
fn the_engine_of_a_store_can_be_changed() {
    let place = Place::new("engine");
    let node = place.start();
    fs::write(place.file("kept"), b"kept").unwrap();
    node.stop();
    let node = place.start_at(&place.mount(), None, &["--meta-engine", "redb"]);
    assert_eq!(fs::read(place.file("kept")).unwrap(), b"kept");
    assert_eq!(place.json(&["status"])["engine"], "redb");
    fs::write(place.file("kept"), b"changed").unwrap();
    node.stop();
    // The engine it has now is the one it is opened with, and the old table is gone.
    let node = place.start();
    assert_eq!(place.json(&["status"])["engine"], "redb");
    assert_eq!(fs::read(place.file("kept")).unwrap(), b"changed");
    node.stop();
}
