//! A running node with one bucket, mounted and served over S3, as the tests of both views use it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::http::Answer;
use super::mounts;
use super::node::{Node, Serve, program};
use super::s3::Client;

pub const BUCKET: &str = "views";

pub struct World {
    pub dir: TempDir,
    pub mount: PathBuf,
    pub s3: Client,
    pub node: Node,
    /// Options of `serve` besides.
    options: Vec<&'static str>,
}

/// An address of the loopback that is free now.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

impl World {
    /// A node with the bucket `views`, mounted.
    pub fn new(name: &str) -> Self {
        Self::with(name, &[])
    }

    /// The same with further options of `serve`.
    pub fn with(name: &str, options: &[&'static str]) -> Self {
        mounts::own_namespace();
        let dir = mounts::scratch(name);
        let (data, mount) = (dir.path().join("data"), dir.path().join("mnt"));
        fs::create_dir(&mount).unwrap();
        let init = program().args(["--json", "init", "--data-dir"]).arg(&data).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let made: serde_json::Value = serde_json::from_slice(&init.stdout).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        let address = free_address();
        let node = serve(dir.path(), &mount, &address, options);
        let options = options.to_vec();
        let (key, secret) = (text("access_key_id"), text("secret_access_key"));
        let s3 = Client { address, key, secret, offset: 0 };
        let world = Self { s3, dir, mount, node, options };
        assert_eq!(world.s3.send("PUT", &format!("/{BUCKET}"), &[], &[], b"").status, 200);
        world
    }

    /// Kills the node and starts it again on the same store and address.
    pub fn kill_and_restart(self) -> Self {
        let Self { dir, mount, s3, node, options } = self;
        node.kill();
        let node = serve(dir.path(), &mount, &s3.address, &options);
        Self { dir, mount, s3, node, options }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.s3.address)
    }

    /// An empty directory beside the store.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// A client that knows the node and nothing of whoever runs the tests.
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.scratch("home");
        command.env_clear().env("HOME", &home).env("LC_ALL", "C.UTF-8").current_dir(&home);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("AWS_ACCESS_KEY_ID", &self.s3.key);
        command.env("AWS_SECRET_ACCESS_KEY", &self.s3.secret);
        command.env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_ENDPOINT_URL", self.endpoint());
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        command
    }

    pub fn file(&self, key: &str) -> PathBuf {
        self.mount.join(BUCKET).join(key)
    }

    pub fn send(&self, method: &str, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.s3.send(method, &format!("/{BUCKET}/{key}"), &[], headers, body)
    }

    pub fn put(&self, key: &str, body: &[u8]) -> Answer {
        self.send("PUT", key, &[], body)
    }

    pub fn get(&self, key: &str) -> Answer {
        self.send("GET", key, &[], b"")
    }

    pub fn head(&self, key: &str) -> Answer {
        self.send("HEAD", key, &[], b"")
    }

    pub fn delete(&self, key: &str) -> Answer {
        self.send("DELETE", key, &[], b"")
    }

    pub fn keys(&self) -> Vec<String> {
        let query = [("list-type", "2")];
        self.s3.send("GET", &format!("/{BUCKET}"), &query, &[], b"").all("Key")
    }
}

fn serve(dir: &Path, mount: &Path, address: &str, more: &[&str]) -> Node {
    let (data, log) = (dir.join("data"), dir.join("log"));
    let options = [&["--s3-listen", address], more].concat();
    Node::start(&Serve { data: &data, mount, show: None, options: &options, log: &log })
}

/// Whether the full tables are asked for.
pub fn is_long() -> bool {
    std::env::var_os("BUCKETFS_LONG").is_some()
}
