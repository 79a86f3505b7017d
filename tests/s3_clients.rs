//! Other people's S3 clients, unchanged, do their usual work on a node, and the mount shows what they did.
//! `BUCKETFS_LONG` makes the trees and files larger.
#![cfg(feature = "s3")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use support::clients::{finish, node_modules, python, succeed};
use support::mounts::{detach, mounted, run};
use support::node::wait_child;
use support::rng::{Rng, pattern};
use support::s3_world::{BUCKET, World, is_long};
use support::wait;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const MIB: usize = 1 << 20;
/// How long a client that mounts may take to start, and to write what is left.
const MOUNT_LIMIT: Duration = Duration::from_secs(120);

/// A tree with odd names, empty files and directories, small files and one large one.
fn tree(at: &Path, seed: u64) {
    let mut rng = Rng::new(seed);
    let count = if is_long() { 400 } else { 24 };
    for number in 0..count {
        let dir = at.join(format!("dir {}/{}", number % 5, ["ä", "b+c", "d&e"][number % 3]));
        fs::create_dir_all(&dir).unwrap();
        let len = if number % 7 == 0 { 0 } else { rng.below(60_000) as usize };
        fs::write(dir.join(format!("file-{number}.txt")), pattern(rng.next(), len)).unwrap();
    }
    let large = if is_long() { 200 } else { 20 };
    fs::write(at.join("large.bin"), pattern(rng.next(), large * MIB)).unwrap();
}

fn same(one: &Path, two: &Path) {
    run(Command::new("diff").arg("-r").arg(one).arg(two));
}

#[test]
fn awscli_syncs_copies_signs_and_removes() {
    let world = World::new("awscli");
    let aws = || world.client(python("aws"));
    let (here, back) = (world.scratch("here"), world.scratch("back"));
    tree(&here, 1);
    let (at, one) = (format!("s3://{BUCKET}/sync"), format!("s3://{BUCKET}/one"));
    succeed(aws().args(["s3", "sync", "--only-show-errors"]).arg(&here).arg(&at));
    same(&here, &world.file("sync"));
    succeed(aws().args(["s3", "sync", "--only-show-errors", &at]).arg(&back));
    same(&here, &back);
    let again = succeed(aws().args(["s3", "sync"]).arg(&here).arg(&at));
    assert_eq!(again, "", "a second sync has nothing to do");
    succeed(aws().args(["s3", "cp", "--only-show-errors"]).arg(here.join("large.bin")).arg(&one));
    succeed(aws().args(["s3", "mv", "--only-show-errors", &one, &format!("s3://{BUCKET}/moved")]));
    let large = fs::read(here.join("large.bin")).unwrap();
    assert!(fs::read(world.file("moved")).unwrap() == large);
    // Its presigned URLs have the old signatures otherwise.
    succeed(aws().args(["configure", "set", "default.s3.signature_version", "s3v4"]));
    let url = succeed(aws().args(["s3", "presign", &format!("s3://{BUCKET}/moved")]));
    let path = url.trim().strip_prefix(&world.endpoint()).expect("a URL of the endpoint");
    let fetched = world.s3.fetch(path);
    assert_eq!(fetched.status, 200, "{url}: {}", fetched.text());
    assert!(fetched.body == large, "the presigned URL gives other bytes");
    assert_eq!(world.s3.fetch(&path.replace("Expires=", "Expires=9")).status, 403);
    succeed(aws().args(["s3", "rm", "--recursive", "--only-show-errors", &at]));
    assert_eq!(world.keys(), ["moved"]);
    assert!(!world.file("sync").exists());
    succeed(aws().args(["s3", "rb", "--force", &format!("s3://{BUCKET}")]));
    assert!(!world.mount.join(BUCKET).exists());
}

#[test]
fn boto3_does_all_it_does_elsewhere() {
    let world = World::new("boto3");
    let scratch = world.scratch("transfers");
    let mib = if is_long() { "300" } else { "20" };
    let mut script = world.client(python("python"));
    script.arg(format!("{SCRIPTS}/boto.py")).args([&world.endpoint(), BUCKET]);
    succeed(script.arg(scratch).arg(mib));
    assert_eq!(fs::read(world.file("form/name.txt")).unwrap(), b"by form");
}

#[test]
fn the_javascript_sdk_does_all_it_does_elsewhere() {
    let world = World::new("sdk");
    let mut script = world.client("node");
    script.arg(format!("{SCRIPTS}/sdk.mjs")).arg(node_modules());
    succeed(script.args([world.endpoint().as_str(), BUCKET, if is_long() { "300" } else { "20" }]));
    assert!(world.file("stream").exists());
}

#[test]
fn duckdb_reads_parquet_by_ranges() {
    let world = World::new("duckdb");
    let rows = if is_long() { "20000000" } else { "500000" };
    let mut script = world.client(python("python"));
    script.arg(format!("{SCRIPTS}/duck.py")).args([&world.s3.address, BUCKET, &world.s3.key]);
    succeed(script.args([&world.s3.secret, rows]));
}

fn rclone(world: &World) -> Command {
    let mut command = world.client("rclone");
    command.env("RCLONE_CONFIG_BF_TYPE", "s3").env("RCLONE_CONFIG_BF_PROVIDER", "Other");
    command.env("RCLONE_CONFIG_BF_ENV_AUTH", "true");
    command.env("RCLONE_CONFIG_BF_ENDPOINT", world.endpoint());
    command.env("RCLONE_CONFIG_BF_REGION", "us-east-1");
    command
}

#[test]
fn rclone_syncs_checks_moves_and_mounts() {
    let world = World::new("rclone");
    let (here, there) = (world.scratch("here"), format!("bf:{BUCKET}/tree"));
    tree(&here, 2);
    succeed(rclone(&world).arg("sync").arg(&here).arg(&there));
    same(&here, &world.file("tree"));
    succeed(rclone(&world).args(["check", "--download"]).arg(&here).arg(&there));
    fs::write(world.file("tree/large.bin"), b"changed by the mount").unwrap();
    let check = finish(rclone(&world).args(["check"]).arg(&here).arg(&there));
    assert!(!check.status.success(), "a change through the mount goes unnoticed");
    succeed(rclone(&world).arg("sync").arg(&here).arg(&there));
    same(&here, &world.file("tree"));
    succeed(rclone(&world).args(["moveto", &there, &format!("bf:{BUCKET}/moved")]));
    same(&here, &world.file("moved"));
    // rsync's tree is rclone's: the other way round.
    run(Command::new("rsync")
        .args(["-a"])
        .arg(format!("{}/", here.display()))
        .arg(world.file("rsync")));
    succeed(rclone(&world).args(["check"]).arg(&here).arg(format!("bf:{BUCKET}/rsync")));
    let mount = world.scratch("rclone-mount");
    let mut fuse = rclone(&world);
    fuse.args(["mount", "--vfs-cache-mode", "writes", "--dir-cache-time", "1s"]);
    let fuse = Mounted::start(fuse.arg(format!("bf:{BUCKET}")).arg(&mount), &mount);
    same(&here, &mount.join("moved"));
    fs::write(mount.join("by-rclone"), b"written through rclone").unwrap();
    // It uploads when it thinks fit, and an unmount does not wait for it.
    wait::until("the upload by rclone", MOUNT_LIMIT, || {
        fs::read(world.file("by-rclone")).ok().filter(|bytes| bytes == b"written through rclone")
    });
    fuse.end();
    succeed(rclone(&world).args(["purge", &format!("bf:{BUCKET}/moved")]));
    assert!(!world.file("moved").exists());
}

#[test]
fn restic_backs_up_checks_restores_and_prunes() {
    let world = World::new("restic");
    let restic = || {
        let mut command = world.client("restic");
        command.env("RESTIC_PASSWORD", "test").args(["--no-cache", "-q", "-r"]);
        command.arg(format!("s3:{}/{BUCKET}/repo", world.endpoint()));
        command
    };
    let (here, back) = (world.scratch("here"), world.scratch("back"));
    tree(&here, 3);
    succeed(restic().arg("init"));
    succeed(restic().arg("backup").arg(&here));
    fs::remove_file(here.join("large.bin")).unwrap();
    succeed(restic().arg("backup").arg(&here));
    succeed(restic().args(["check", "--read-data"]));
    succeed(restic().args(["forget", "--keep-last", "1", "--prune"]));
    succeed(restic().args(["check", "--read-data"]));
    succeed(restic().args(["restore", "latest", "--target"]).arg(&back));
    same(&here, &back.join(here.strip_prefix("/").unwrap()));
}

#[test]
fn s3cmd_puts_gets_syncs_and_deletes() {
    let world = World::new("s3cmd");
    let address = world.s3.address.clone();
    let s3cmd = || {
        let mut command = world.client("s3cmd");
        command.args(["--no-ssl", "--no-progress", "-q", "--region=us-east-1"]);
        command.arg(format!("--host={address}")).arg(format!("--host-bucket={address}"));
        command.arg(format!("--access_key={}", world.s3.key));
        command.arg(format!("--secret_key={}", world.s3.secret));
        command
    };
    let (here, back) = (world.scratch("here"), world.scratch("back"));
    tree(&here, 4);
    succeed(s3cmd().args(["mb", "s3://second"]));
    succeed(s3cmd().arg("sync").arg(format!("{}/", here.display())).arg("s3://second/tree/"));
    same(&here, &world.mount.join("second/tree"));
    succeed(s3cmd().args(["sync", "s3://second/tree/"]).arg(format!("{}/", back.display())));
    same(&here, &back);
    succeed(s3cmd().args(["cp", "s3://second/tree/large.bin", "s3://second/copy"]));
    succeed(s3cmd().args(["mv", "s3://second/copy", "s3://second/moved"]));
    succeed(s3cmd().args(["info", "s3://second/moved"]));
    succeed(s3cmd().args(["get", "s3://second/moved"]).arg(back.join("moved")));
    assert!(fs::read(back.join("moved")).unwrap() == fs::read(here.join("large.bin")).unwrap());
    succeed(s3cmd().args(["del", "--recursive", "--force", "s3://second"]));
    succeed(s3cmd().args(["rb", "s3://second"]));
    assert!(!world.mount.join("second").exists());
}

#[test]
fn s3fs_mounts_what_the_mount_shows() {
    let world = World::new("s3fs");
    let (here, mount) = (world.scratch("here"), world.scratch("s3fs-mount"));
    tree(&here, 5);
    fs::create_dir(world.file("made by mount")).unwrap();
    fs::write(world.file("made by mount/f"), b"mount").unwrap();
    let mut fuse = world.client("s3fs");
    fuse.arg(BUCKET)
        .arg(&mount)
        .arg("-f")
        .args(["-o", "use_path_request_style,endpoint=us-east-1"]);
    fuse.args(["-o", &format!("url={}", world.endpoint())]);
    let fuse = Mounted::start(&mut fuse, &mount);
    assert_eq!(fs::read(mount.join("made by mount/f")).unwrap(), b"mount");
    run(Command::new("cp").arg("-r").arg(&here).arg(mount.join("tree")));
    same(&here, &world.file("tree"));
    fs::rename(mount.join("tree/large.bin"), mount.join("renamed")).unwrap();
    fs::remove_dir_all(mount.join("tree")).unwrap();
    fuse.end();
    assert!(fs::read(world.file("renamed")).unwrap() == fs::read(here.join("large.bin")).unwrap());
    assert!(!world.file("tree").exists());
}

/// A client that mounts and runs until it is unmounted.
struct Mounted<'a> {
    child: Child,
    at: &'a Path,
}

impl<'a> Mounted<'a> {
    fn start(command: &mut Command, at: &'a Path) -> Self {
        let child = command.stdin(Stdio::null()).spawn().expect("starting a client that mounts");
        let fuse = Self { child, at };
        wait::until("the client's mount", MOUNT_LIMIT, || mounted(at));
        fuse
    }

    /// Unmounts; what was written is stored when it returns.
    fn end(mut self) {
        run(Command::new("umount").arg(self.at));
        let status = wait_child(&mut self.child, MOUNT_LIMIT);
        assert!(status.success(), "the client ended with {status}");
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        detach(self.at);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
