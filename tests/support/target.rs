//! What a suite runs on: a bucket of the real program, or a plain ext4 directory that checks the suite itself.

use super::cluster::Cluster;
use super::mounts::{LoopImage, own_namespace, run, scratch};
use super::node::{Node, Serve, program};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The bucket every suite works in.
pub const BUCKET: &str = "suite";

/// Where a suite runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A fresh ext4: what fails here is a fault of the suite.
    PlainDir,
    /// A bucket mount of a new store whose metadata lies in this engine (`sled` or `redb`).
    BucketFs(&'static str),
    /// A bucket on the mount of one of three nodes.
    ThreeNodes,
}

/// A mounted directory to work in, made by `Stage::new` in a mount namespace of the calling thread.
pub struct Stage {
    node: Option<Node>,
    cluster: Option<Cluster>,
    disk: Option<LoopImage>,
    mount: PathBuf,
    options: [&'static str; 2],
    scratch: TempDir,
}

impl Stage {
    /// Makes the target new and mounts it, as complete a file system as it can be.
    pub fn new(name: &str, target: Target) -> Self {
        Self::with(name, target, "suid,dev,acl")
    }

    /// The same with mount options of its own, which a plain directory does not look at.
    pub fn with(name: &str, target: Target, options: &'static str) -> Self {
        own_namespace();
        let scratch = scratch(name);
        match target {
            Target::PlainDir => Self::plain(scratch, options),
            Target::BucketFs(engine) => Self::bucket(scratch, engine, options),
            Target::ThreeNodes => Self::three_nodes(name, scratch, options),
        }
    }

    fn plain(scratch: TempDir, options: &'static str) -> Self {
        let disk = LoopImage::new(scratch.path(), 4 << 30);
        let mount = disk.path().join("dir");
        std::fs::create_dir(&mount).expect("the plain directory");
        let options = ["-o", options];
        Self { node: None, cluster: None, disk: Some(disk), mount, options, scratch }
    }

    fn bucket(scratch: TempDir, engine: &str, options: &'static str) -> Self {
        let mount = scratch.path().join("mnt");
        std::fs::create_dir(&mount).expect("the mount point");
        init(&scratch.path().join("data"), engine);
        let options = ["-o", options];
        let mut stage = Self { node: None, cluster: None, disk: None, mount, options, scratch };
        stage.start();
        stage
    }

    fn three_nodes(name: &str, scratch: TempDir, options: &'static str) -> Self {
        let options = ["-o", options];
        let cluster = Cluster::start_with(name, 3, &options);
        let mount = cluster.path(1, BUCKET);
        std::fs::create_dir(&mount).expect("the bucket");
        Self { node: None, cluster: Some(cluster), disk: None, mount, options, scratch }
    }

    /// The directory to work in.
    pub fn root(&self) -> &Path {
        &self.mount
    }

    /// Where the store's data lies.
    pub fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// The running program, if this is one.
    pub fn node(&self) -> Option<&Node> {
        self.node.as_ref()
    }

    /// Starts the program that was stopped or killed.
    pub fn start(&mut self) {
        let (data, log) = (self.data(), self.log());
        let mut node = Node::spawn(&self.serve(&data, &log));
        node.wait_ready();
        self.node = Some(node);
    }

    /// What the program says, all its starts in one file.
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    fn serve<'a>(&'a self, data: &'a Path, log: &'a Path) -> Serve<'a> {
        Serve { data, mount: &self.mount, show: Some(BUCKET), options: &self.options, log }
    }

    /// Stops cleanly and starts again; a plain directory is unmounted and mounted.
    pub fn restart(&mut self) {
        if let Some(disk) = &self.disk {
            disk.remount();
            return;
        }
        self.stop();
        self.start();
    }

    /// Stops the program cleanly.
    pub fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }

    /// Lets the program check its store, which must be sound, and what it found.
    pub fn check(&self) -> Value {
        let found = run(program().args(["fsck", "--json", "--data-dir"]).arg(self.data()));
        serde_json::from_str(&found).expect("what fsck has found")
    }

    /// Sends SIGKILL to the program; its dead mount stays where it is. A plain directory lives on.
    pub fn kill_program(&self) {
        if let Some(node) = &self.node {
            node.signal(libc::SIGKILL);
        }
    }

    /// Takes the dead program and its mount away.
    pub fn detach(&mut self) {
        if let Some(node) = self.node.take() {
            node.kill();
        }
    }

    /// Starts the program and kills it after `time`, ready or not.
    pub fn start_and_kill(&mut self, time: Duration) {
        let (data, log) = (self.data(), self.log());
        Node::spawn(&self.serve(&data, &log)).kill_after(time);
    }

    /// Whether there is a program to kill.
    pub fn is_plain(&self) -> bool {
        self.disk.is_some()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.node.take());
        drop(self.cluster.take());
    }
}

/// Makes a new store with one bucket in it.
pub fn init(data: &Path, engine: &str) {
    let config = data.with_extension("toml");
    std::fs::write(&config, format!("[meta]\nengine = \"{engine}\"\n")).expect("the config file");
    run(program().args(["init", "--data-dir"]).arg(data).arg("--config").arg(&config));
    run(program().args(["bucket", "create", "--data-dir"]).arg(data).arg(BUCKET));
}
