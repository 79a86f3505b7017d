//! Several real nodes of one cluster on this machine, each with a disk, an address and a mount.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Connection};
use super::links::{Flow, Links};
use super::mounts::{run, scratch};
use super::node::{Node, Serve, program};
use super::s3::Client;
use super::wait::{pause, until};

/// What a cluster may take to agree on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Nodes are named by their place, from 0.
pub struct Cluster {
    dir: TempDir,
    nodes: Vec<Option<Node>>,
    /// The second byte of the loopback addresses, so that tests at the same time do not meet.
    net: u32,
    /// What the nodes say to each other goes through here.
    links: Option<Links>,
    options: Vec<&'static str>,
    /// Id and secret of the first access key.
    key: [String; 2],
}

impl Cluster {
    /// `count` nodes that have found each other; an odd number of them votes.
    pub fn start(name: &str, count: usize) -> Self {
        Self::start_with(name, count, &[])
    }

    /// The same with more options of `serve`.
    pub fn start_with(name: &str, count: usize, options: &[&'static str]) -> Self {
        Self::found(name, count, None, options)
    }

    /// The same with links between them that can be cut, and more options of `serve`.
    pub fn start_linked(name: &str, count: usize, options: &[&'static str]) -> Self {
        Self::found(name, count, Some(Links::default()), options)
    }

    fn found(name: &str, count: usize, links: Option<Links>, options: &[&'static str]) -> Self {
        let dir = scratch(name);
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let net = 1 + (std::process::id() * 7 + number) % 250;
        let options = options.to_vec();
        let mut init = program();
        init.args(["--json", "init", "--cluster", "--data-dir"]).arg(data(dir.path(), 0));
        let made: Value = serde_json::from_str(&run(&mut init)).expect("what init has made");
        let text = |name: &str| made[name].as_str().expect("an access key").to_owned();
        let key = [text("access_key_id"), text("secret_access_key")];
        let mut cluster = Self { dir, nodes: Vec::new(), net, links, options, key };
        for _ in 0..count {
            cluster.join();
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

    /// Starts one more node, with an empty directory; its place.
    pub fn join(&mut self) -> usize {
        let place = self.nodes.len();
        std::fs::create_dir(self.mount(place)).expect("a mount point");
        let token = (place > 0).then(|| self.invite());
        self.nodes.push(None);
        let (door, listens) = (self.door(place), self.listens(place));
        if let Some(links) = &mut self.links {
            links.lead(place, &door, &listens);
        }
        self.launch(place, token.as_deref());
        place
    }

    pub fn data(&self, place: usize) -> PathBuf {
        data(self.dir.path(), place)
    }

    pub fn mount(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("mnt-{place}"))
    }

    fn listens(&self, place: usize) -> String {
        format!("127.{}.{}.1:9100", self.net, place + 1)
    }

    /// Where the others find a node whose links can be cut.
    fn door(&self, place: usize) -> String {
        format!("127.{}.{}.2:9100", self.net, place + 1)
    }

    /// A client of one node's S3 endpoint.
    pub fn s3(&self, place: usize) -> Client {
        let [key, secret] = self.key.clone();
        let address = format!("127.{}.{}.1:9000", self.net, place + 1);
        Client { address, key, secret, offset: 0 }
    }

    /// Asks one node's REST endpoint with the first access key.
    pub fn rest(&self, place: usize, method: &str, target: &str, body: &[u8]) -> Answer {
        let bearer = format!("Bearer {}", self.key.join("."));
        let headers = [("authorization", bearer.as_str()), ("connection", "close")];
        Connection::plain(&self.rest_address(place)).send(method, target, &headers, body)
    }

    fn rest_address(&self, place: usize) -> String {
        format!("127.{}.{}.1:9080", self.net, place + 1)
    }

    /// What becomes of what the nodes say to each other.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("a cluster with links")
    }

    /// Nothing reaches a node from the others and nothing leaves it, until the links are healed.
    pub fn cut_off(&self, victim: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != victim) {
            self.links().set(other, victim, Flow::Cut);
            self.links().set(victim, other, Flow::Cut);
        }
    }

    /// Returns when a node says that all is well.
    pub fn wait_for_health(&self, place: usize) {
        until("the node is a member again", LIMIT, || {
            pause(Duration::from_millis(50));
            (self.status(place)["healthy"] == true).then_some(())
        });
    }

    /// A node has every byte that was acknowledged on any.
    pub fn require(&self, place: usize, acknowledged: &BTreeMap<PathBuf, Vec<u8>>) {
        self.wait_for_health(place);
        for (name, bytes) in acknowledged {
            let found = std::fs::read(self.mount(place).join(name));
            let there = found.as_ref().map(Vec::len);
            assert!(
                found.as_ref().is_ok_and(|found| found == bytes),
                "node {place}: {} has {there:?} bytes, {} were acknowledged",
                name.display(),
                bytes.len()
            );
        }
    }

    /// A path below the mount of one node.
    pub fn path(&self, place: usize, name: &str) -> PathBuf {
        self.mount(place).join(name)
    }

    fn log_file(&self, place: usize) -> PathBuf {
        self.dir.path().join(format!("log-{place}"))
    }

    /// All that a node has said.
    pub fn log(&self, place: usize) -> String {
        std::fs::read_to_string(self.log_file(place)).expect("its log")
    }

    fn launch(&mut self, place: usize, token: Option<&str>) {
        let mut node = self.spawn(place, token);
        node.wait_ready();
        self.nodes[place] = Some(node);
    }

    fn spawn(&self, place: usize, token: Option<&str>) -> Node {
        let (listens, door, s3) = (self.listens(place), self.door(place), self.s3(place).address);
        let mut options = vec!["--peers-listen", &listens, "--replication-timeout", "5s"];
        let rest = self.rest_address(place);
        options.extend(["--s3-listen", &s3, "--rest-listen", &rest]);
        options.extend(&self.options);
        if self.links.is_some() {
            options.extend(["--peers-address", &door]);
        }
        options.extend(token.iter().flat_map(|token| ["--join", token]));
        let (data, mount, log) = (self.data(place), self.mount(place), self.log_file(place));
        let serve = Serve { data: &data, mount: &mount, show: None, options: &options, log: &log };
        let node = Node::spawn(&serve);
        if let Some(links) = &self.links {
            links.runs(place, node.pid());
        }
        node
    }

    /// SIGKILL; its mount is detached.
    pub fn kill(&mut self, place: usize) {
        self.nodes[place].take().expect("a running node").kill();
    }

    /// Waits for a node to end by itself, which is a failure; what it said last.
    pub fn wait_for_end(&mut self, place: usize) -> String {
        let mut node = self.nodes[place].take().expect("a running node");
        let status = node.wait(LIMIT);
        assert!(!status.success(), "node {place} ended with {status}");
        self.log(place).lines().last().unwrap_or_default().to_owned()
    }

    /// Starts a node without waiting until it is ready.
    pub fn begin(&mut self, place: usize) {
        self.nodes[place] = Some(self.spawn(place, None));
    }

    pub fn restart(&mut self, place: usize) {
        self.launch(place, None);
    }

    pub fn node(&self, place: usize) -> &Node {
        self.nodes[place].as_ref().expect("a running node")
    }

    /// A token of any node that runs.
    pub fn invite(&self) -> String {
        let place = self.nodes.iter().position(Option::is_some).expect("a running node");
        let mut invite = program();
        invite.args(["cluster", "invite", "--data-dir"]).arg(self.data(place));
        run(&mut invite).trim().to_owned()
    }

    /// Runs a command of the program on one node that must succeed; what it prints.
    pub fn operate(&self, place: usize, words: &[&str]) -> Value {
        let mut ask = program();
        ask.arg("--json").args(words).arg("--data-dir").arg(self.data(place));
        serde_json::from_str(&run(&mut ask)).unwrap_or_default()
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
        let id = self.id(whom).expect("a node that has been started").to_string();
        self.attempt(place, &["cluster", verb, &id])
    }

    /// Runs a command of the program on one node; what it says when it refuses.
    pub fn attempt(&self, place: usize, words: &[&str]) -> Result<(), String> {
        let mut ask = program();
        ask.args(words).arg("--data-dir").arg(self.data(place));
        let output = ask.output().expect("running the program");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// Runs a command that must succeed in the directory of one node's mount.
    pub fn shell(&self, place: usize, script: &str) -> String {
        run(Command::new("sh").arg("-ec").arg(script).current_dir(self.mount(place)))
    }
}

fn data(dir: &Path, place: usize) -> PathBuf {
    dir.join(format!("data-{place}"))
}

/// All regular files below a directory with their bytes, by path.
pub fn contents(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_owned();
                found.insert(
                    name,
                    std::fs::read(&path)
                        .unwrap_or_else(|error| panic!("{}: {error}", path.display())),
                );
            }
        }
    }
    found
}
