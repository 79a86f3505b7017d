//! Several real nodes of one cluster on this machine, each with a disk, an address and a mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::mounts::{run, scratch};
use super::node::{Node, Serve, program};
use super::wait::{pause, until};

/// What a cluster may take to agree on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Nodes are named by their place, from 0.
pub struct Cluster {
    dir: TempDir,
    nodes: Vec<Option<Node>>,
    /// The second byte of the loopback addresses, so that tests at the same time do not meet.
    net: u32,
}

impl Cluster {
    /// `count` nodes that have found each other; an odd number of them votes.
    pub fn start(name: &str, count: usize) -> Self {
        let dir = scratch(name);
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let net = 1 + (std::process::id() * 7 + number) % 250;
        let mut cluster = Self { dir, nodes: Vec::new(), net };
        let mut init = program();
        init.args(["init", "--cluster", "--data-dir"]).arg(cluster.data(0));
        run(&mut init);
        for place in 0..count {
            std::fs::create_dir(cluster.mount(place)).expect("a mount point");
            let token = (place > 0).then(|| cluster.invite());
            cluster.nodes.push(None);
            cluster.launch(place, token.as_deref());
        }
        let voters = if count.is_multiple_of(2) { count - 1 } else { count };
        until("all nodes have found each other", LIMIT, || {
            pause(Duration::from_millis(200));
            let status = cluster.status(0);
            let members = status["members"].as_array().cloned().unwrap_or_default();
            let votes = members.iter().filter(|member| member["role"] != "learner").count();
            (status["healthy"] == true && votes == voters).then_some(())
        });
        cluster
    }

    pub fn data(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("data-{place}"))
    }

    pub fn mount(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("mnt-{place}"))
    }

    /// A path below the mount of one node.
    pub fn path(&self, place: usize, name: &str) -> PathBuf {
        self.mount(place).join(name)
    }

    fn log(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("log-{place}"))
    }

    fn launch(&mut self, place: usize, token: Option<&str>) {
        let listen = format!("127.{}.{}.1:9100", self.net, place + 1);
        let mut options = vec!["--peers-listen", &listen, "--replication-timeout", "5s"];
        options.extend(token.iter().flat_map(|token| ["--join", token]));
        let (data, mount, log) = (self.data(place), self.mount(place), self.log(place));
        let serve = Serve { data: &data, mount: &mount, show: None, options: &options, log: &log };
        self.nodes[place] = Some(Node::start(&serve));
    }

    /// SIGKILL; its mount is detached.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].take().expect("a running node").kill();
    }

    pub fn restart(&mut self, place: usize) {
        self.launch(place, None);
    }

    pub fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().expect("a running node")
    }

    pub fn invite(&self) -> String {
        let mut invite = program();
        invite.args(["cluster", "invite", "--data-dir"]).arg(self.data(0));
        run(&mut invite).trim().to_owned()
    }

    /// As one node sees it; null when it cannot be asked.
    pub fn status(&self, place: usize) -> Value {
        let mut ask = program();
        ask.args(["--json", "cluster", "status", "--data-dir"]).arg(self.data(place));
        let output = ask.output().expect("running the program");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The place of the node that leads, as `place` sees it.
    pub fn leader(&self, place: usize) -> Option<usize> {
        let status = self.status(place);
        let leader = status["leader"].as_u64()?;
        (0..self.nodes.len()).find(|place| self.id(*place) == Some(leader))
    }

    /// The number by which the cluster knows a node.
    pub fn id(&self, place: usize) -> Option<u64> {
        let text = std::fs::read_to_string(self.data(place).join("node.json")).ok()?;
        // The last line is a checksum.
        let json = text.get(..text.trim_end().rfind('\n')?)?;
        serde_json::from_str::<Value>(json).ok()?["node"].as_u64()
    }

    /// Asks `place` to `drain` or `remove` the node `whom`; what it says when it refuses.
    pub fn decide(&self, place: usize, verb: &str, whom: usize) -> Result<(), String> {
        let mut ask = program();
        let id = self.id(whom).expect("a node that has been started").to_string();
        ask.args(["cluster", verb, &id, "--data-dir"]).arg(self.data(place));
        let output = ask.output().expect("running the program");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Runs a command that must succeed in the directory of one node's mount.
    pub fn shell(&self, place: usize, script: &str) -> String {
        run(Command::new("sh").arg("-ec").arg(script).current_dir(self.mount(place)))
    }
}

/// All regular files below a directory with their bytes, by path.
pub fn contents(root: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_owned();
                found.insert(name, std::fs::read(&path).expect("reading a file"));
            }
        }
    }
    found
}
