//! What cannot work is refused: one sentence with the thing it is about, an exit code, and nothing changed.

mod support;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::mounts::{own_namespace, run, scratch};
use support::node::{Node, Serve, program, wait_child};
use support::target::{BUCKET, init};
use support::tree::{Found, differing, look};
use tempfile::TempDir;

/// A scratch directory with a store and an empty mount point.
struct Place {
    scratch: TempDir,
}

impl Place {
    fn new() -> Self {
        own_namespace();
        let place = Self { scratch: scratch("faults") };
        init(&place.data(), "sled");
        std::fs::create_dir(place.mount()).expect("the mount point");
        place
    }

    fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    fn mount(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }

    fn serve(&self) -> Command {
        let mut command = program();
        command.arg("serve").arg("--data-dir").arg(self.data()).arg("--mount").arg(self.mount());
        command
    }

    fn start(&self) -> Node {
        let (data, mount, log) = (self.data(), self.mount(), self.scratch.path().join("log"));
        Node::start(&Serve {
            data: &data,
            mount: &mount,
            show: Some(BUCKET),
            options: &[],
            log: &log,
        })
    }

    /// What the store holds.
    fn contents(&self) -> Found {
        contents(&self.data())
    }
}

fn contents(root: &Path) -> Found {
    look(root).expect("reading a tree")
}

fn unchanged(before: &Found, root: &Path) {
    let after = contents(root);
    let differing = differing(before, &after);
    assert!(differing.is_empty(), "changed: {differing:?}");
}

/// Runs what must fail and returns what it says: a sentence, and no panic.
fn refused(command: &mut Command, code: i32) -> String {
    let out = scratch("said");
    let file = std::fs::File::create(out.path().join("stderr")).expect("a file for stderr");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("the program");
    let status = wait_child(&mut child, Duration::from_secs(60));
    let said = std::fs::read_to_string(out.path().join("stderr")).expect("what it said");
    assert_eq!(status.code(), Some(code), "{command:?} said: {said}");
    assert!(!said.contains("panicked"), "{command:?} panicked: {said}");
    let last = said.lines().last().unwrap_or("").to_owned();
    assert!(last.starts_with("bucketfs: ") && last.len() > 20, "no sentence for people: {said}");
    last
}

fn says(sentence: &str, words: &[&str]) {
    for word in words {
        assert!(sentence.contains(word), "does not say `{word}`: {sentence}");
    }
}

#[test]
fn a_store_that_is_missing() {
    let place = Place::new();
    std::fs::remove_dir_all(place.data()).expect("removing the store");
    let said = refused(&mut place.serve(), 1);
    says(&said, &[place.data().to_str().expect("text"), "bucketfs init"]);
    assert!(!place.data().exists(), "it was made");
}

#[test]
fn a_directory_that_is_something_else() {
    let place = Place::new();
    let foreign = place.scratch.path().join("foreign");
    std::fs::create_dir_all(foreign.join("chunks")).expect("a foreign directory");
    std::fs::write(foreign.join("thesis.txt"), "years of work").expect("a foreign file");
    std::fs::write(foreign.join("LOCK"), "somebody's").expect("a foreign lock");
    let before = contents(&foreign);
    for verb in ["serve", "init", "fsck", "status"] {
        let said = refused(program().arg(verb).arg("--data-dir").arg(&foreign), 1);
        says(&said, &[foreign.to_str().expect("text")]);
        unchanged(&before, &foreign);
    }
}

#[test]
fn a_store_is_never_made_twice() {
    let place = Place::new();
    let before = place.contents();
    let said = refused(program().args(["init", "--data-dir"]).arg(place.data()), 1);
    says(&said, &[place.data().to_str().expect("text")]);
    unchanged(&before, &place.data());
}

#[test]
fn a_store_in_use() {
    let place = Place::new();
    let node = place.start();
    std::fs::write(place.mount().join("file"), "before").expect("writing");
    let second = place.scratch.path().join("second");
    std::fs::create_dir(&second).expect("another mount point");
    let mut command = program();
    command.arg("serve").arg("--data-dir").arg(place.data()).arg("--mount").arg(&second);
    let said = refused(&mut command, 1);
    says(&said, &["in use"]);
    assert_eq!(std::fs::read(place.mount().join("file")).expect("reading"), b"before");
    std::fs::write(place.mount().join("file"), "after").expect("the first still writes");
    node.stop();
}

#[test]
fn a_store_of_a_newer_format() {
    let place = Place::new();
    let path = place.data().join("node.json");
    let text = std::fs::read_to_string(&path).expect("node.json");
    let newer = text.replace("\"format\": 1,", "\"format\": 2,");
    let (json, _checksum) = newer.trim_end().rsplit_once('\n').expect("a checksum below the JSON");
    let json = format!("{json}\n");
    assert_ne!(text, newer, "node.json has no format");
    let sealed = format!("{json}{:08x}\n", bucketfs::types::crc32c(json.as_bytes()));
    std::fs::write(&path, sealed).expect("writing node.json");
    let before = place.contents();
    let said = refused(&mut place.serve(), 1);
    says(&said, &["format", "2"]);
    unchanged(&before, &place.data());
}

#[test]
fn a_mount_point_that_is_missing_or_no_directory_or_not_empty() {
    let place = Place::new();
    let path = place.mount();
    std::fs::write(path.join("mine"), "x").expect("a file in the way");
    let before = place.contents();
    says(&refused(&mut place.serve(), 2), &[path.to_str().expect("text"), "not empty"]);
    std::fs::remove_file(path.join("mine")).expect("it is still there");
    std::fs::remove_dir(&path).expect("removing the mount point");
    says(&refused(&mut place.serve(), 2), &[path.to_str().expect("text"), "mkdir"]);
    assert!(!path.exists(), "the mount point was made");
    std::fs::write(&path, "x").expect("a file in its place");
    says(&refused(&mut place.serve(), 2), &[path.to_str().expect("text"), "not a directory"]);
    unchanged(&before, &place.data());
}

#[test]
fn an_address_that_is_taken() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let before = place.contents();
    for door in ["--s3-listen", "--rest-listen", "--peers-listen"] {
        says(&refused(place.serve().args([door, &address]), 1), &[&address, "in use"]);
        unchanged(&before, &place.data());
    }
}

#[test]
fn a_mount_point_that_is_in_use() {
    let place = Place::new();
    let node = place.start();
    let other = place.scratch.path().join("other");
    init(&other, "redb");
    let mut command = program();
    command.arg("serve").arg("--data-dir").arg(&other).arg("--mount").arg(place.mount());
    let before = contents(&other);
    says(&refused(&mut command, 2), &[place.mount().to_str().expect("text"), "mounted"]);
    unchanged(&before, &other);
    std::fs::write(place.mount().join("file"), "still").expect("the first mount works");
    node.stop();
}

#[test]
fn a_mount_point_that_a_killed_program_left() {
    let place = Place::new();
    let mut node = place.start();
    std::fs::write(place.mount().join("file"), "kept").expect("writing");
    node.signal(libc::SIGKILL);
    node.wait(Duration::from_secs(20));
    let dead = std::fs::metadata(place.mount()).expect_err("a dead mount");
    assert_eq!(dead.raw_os_error(), Some(libc::ENOTCONN));
    let second = place.start();
    assert_eq!(std::fs::read(place.mount().join("file")).expect("reading"), b"kept");
    second.stop();
    std::mem::forget(node); // Its mount is the second one's place now.
}

#[test]
fn a_bucket_to_mount_that_is_missing() {
    let place = Place::new();
    let mut command = program();
    let mount = format!("{}=no-such-bucket", place.mount().display());
    command.arg("serve").arg("--data-dir").arg(place.data()).arg("--mount").arg(mount);
    let said = refused(&mut command, 2);
    says(&said, &["no-such-bucket"]);
}

#[test]
fn a_system_without_fuse() {
    let place = Place::new();
    run(Command::new("mount").args(["-t", "tmpfs", "none", "/dev"]));
    for (name, minor) in [("/dev/null", 3), ("/dev/urandom", 9)] {
        support::sys::mknod(Path::new(name), libc::S_IFCHR | 0o666, libc::makedev(1, minor))
            .expect("a device");
    }
    let before = place.contents();
    says(&refused(&mut place.serve(), 2), &["/dev/fuse"]);
    unchanged(&before, &place.data());
}

#[test]
fn a_user_who_may_not() {
    let place = Place::new();
    std::os::unix::fs::chown(place.mount(), Some(65_534), Some(65_534)).expect("giving it away");
    let before = place.contents();
    let said = refused(place.serve().uid(65_534).gid(65_534), 1);
    says(&said, &[place.data().to_str().expect("text"), "ermission"]);
    unchanged(&before, &place.data());
}

#[test]
fn settings_that_make_no_sense() {
    let place = Place::new();
    let file = place.scratch.path().join("bad.toml");
    let bad = [
        ("chunk_size = \"3MiB\"\n", "chunk_size"),
        ("chunksize = \"4MiB\"\n", "chunksize"),
        ("[meta]\nengine = \"mysql\"\n", "meta.engine"),
        ("write_buffer = -1\n", "write_buffer"),
        ("replication_timeout = \"soon\"\n", "replication_timeout"),
        ("write_buffer = \n", "bad.toml"),
    ];
    for (text, name) in bad {
        std::fs::write(&file, text).expect("the settings");
        let fresh = place.scratch.path().join("fresh");
        let mut command = program();
        let said = refused(
            command.arg("init").arg("--data-dir").arg(&fresh).arg("--config").arg(&file),
            2,
        );
        says(&said, &[name]);
        assert!(!fresh.exists(), "a store was made with {text}");
    }
}

/// A process whose first thread is gone and which lives until a mount is taken away.
const DYING: &str = r#"
import ctypes, fcntl, os, sys, threading, time
lock, mount = sys.argv[1:]
file = os.fdopen(os.open(lock, os.O_RDWR | os.O_CREAT), "r+")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
file.write(f"{os.getpid()}\n")
file.flush()
def wait():
    while mount in open("/proc/thread-self/mounts").read():
        time.sleep(0.05)
threading.Thread(target=wait).start()
print("dying", flush=True)
SYS_exit = 60 if os.uname().machine == "x86_64" else 93
ctypes.CDLL(None).syscall(SYS_exit, 0)
"#;

/// Killed while a thread of it waits in the kernel for its own mount, a node keeps its lock and its mount until
/// somebody ends the mount: the next start does.
#[test]
fn a_killed_node_that_cannot_end_is_freed() {
    let (place, other) = (Place::new(), Place::new());
    // Its mount, as far as the kernel is concerned.
    let mount = place.mount();
    let (data, log) = (other.data(), other.scratch.path().join("log"));
    let serve = Serve { data: &data, mount: &mount, show: Some(BUCKET), options: &[], log: &log };
    let mut mounted = Node::start(&serve);
    let mut dying = Command::new("python3");
    dying.args(["-c", DYING]).arg(place.data().join("LOCK")).arg(&mount).stdout(Stdio::piped());
    let mut dying = dying.spawn().expect("python3");
    let mut said = [0; 6];
    std::io::Read::read_exact(dying.stdout.as_mut().expect("its output"), &mut said)
        .expect("a word");
    place.start().stop();
    wait_child(&mut dying, Duration::from_secs(10));
    mounted.wait(Duration::from_secs(60));
}
