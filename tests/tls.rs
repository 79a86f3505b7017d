//! TLS of the S3 and REST listeners: what is served, that a new certificate is taken while
//! connections go on, and that a broken one does no harm.

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;
use support::http::Connection;
use support::node::{Node, Serve, program};
use support::{mounts, wait};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

struct World {
    dir: TempDir,
    rest: String,
    s3: String,
    node: Option<Node>,
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A certificate for localhost that stands for itself, and its key, both PEM.
fn certificate() -> (CertificateDer<'static>, String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.der().clone(), made.pem(), key.serialize_pem())
}

impl World {
    fn new(name: &str) -> Self {
        mounts::own_namespace();
        let dir = mounts::scratch(name);
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let init =
            program().args(["init", "--data-dir"]).arg(dir.path().join("data")).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        Self { dir, rest: free_address(), s3: free_address(), node: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a certificate where the node reads it; returns what clients trust.
    fn renew(&self) -> CertificateDer<'static> {
        let (root, chain, key) = certificate();
        fs::write(self.path("chain.pem"), chain).unwrap();
        fs::write(self.path("key.pem"), key).unwrap();
        root
    }

    fn start(&mut self) {
        let (data, mount, log) = (self.path("data"), self.path("mnt"), self.path("log"));
        let (chain, key) = (self.path("chain.pem"), self.path("key.pem"));
        let mut options = vec!["--rest-listen", &self.rest];
        options.extend(["--tls-certificate", chain.to_str().unwrap()]);
        options.extend(["--tls-key", key.to_str().unwrap()]);
        if cfg!(feature = "s3") {
            options.extend(["--s3-listen", &self.s3]);
        }
        let serve = Serve { data: &data, mount: &mount, show: None, options: &options, log: &log };
        self.node = Some(Node::start(&serve));
    }

    fn connect(&self, root: &CertificateDer<'static>) -> Result<Connection, String> {
        Connection::tls(&self.rest, root)
    }
}

fn live(connection: &mut Connection) -> u16 {
    connection.send("GET", "/health/live", &[], b"").status
}

#[test]
fn both_listeners_show_the_certificate() {
    let mut world = World::new("tls-serve");
    let root = world.renew();
    world.start();
    assert_eq!(live(&mut world.connect(&root).unwrap()), 200);
    let (stranger, _, _) = certificate();
    assert!(world.connect(&stranger).is_err(), "a client that trusts another");
    if cfg!(feature = "s3") {
        let answer = Connection::tls(&world.s3, &root).unwrap().send("GET", "/", &[], b"");
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("<Code>AccessDenied</Code>"), "{}", answer.text());
    }
    // Who speaks in the clear gets no answer, and harms nobody.
    let mut clear = Connection::plain(&world.rest);
    clear.raw(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(!String::from_utf8_lossy(&clear.until_closed()).contains("200 OK"));
    assert_eq!(live(&mut world.connect(&root).unwrap()), 200);
    world.node.unwrap().stop();
}

#[test]
fn a_new_certificate_is_taken_while_connections_go_on() {
    let mut world = World::new("tls-renew");
    let first = world.renew();
    world.start();
    let mut old = world.connect(&first).unwrap();
    assert_eq!(live(&mut old), 200);

    // At a signal.
    let second = world.renew();
    world.node.as_ref().unwrap().signal(libc::SIGHUP);
    wait::until("the second certificate", LIMIT, || world.connect(&second).ok());
    assert!(world.connect(&first).is_err());

    // By itself, within some seconds.
    let third = world.renew();
    wait::until("the third certificate", LIMIT, || world.connect(&third).ok());
    assert_eq!(live(&mut old), 200, "the connection goes on with what it began with");

    // What cannot be used is not: the old one stays, until the next that can.
    fs::write(world.path("key.pem"), "no key").unwrap();
    world.node.as_ref().unwrap().signal(libc::SIGHUP);
    let complained = || {
        let log = fs::read_to_string(world.path("log")).unwrap();
        log.contains("the old certificate stays in use").then_some(())
    };
    wait::until("a complaint", LIMIT, complained);
    assert_eq!(live(&mut world.connect(&third).unwrap()), 200);
    let fourth = world.renew();
    wait::until("the fourth certificate", LIMIT, || world.connect(&fourth).ok());
    assert_eq!(live(&mut old), 200);
    drop(old);
    world.node.unwrap().stop();
}

#[test]
fn what_cannot_be_used_is_refused_by_name_before_anything_is_served() {
    let world = World::new("tls-refuse");
    let refused = || {
        let output = program()
            .args(["serve", "--rest-listen", "127.0.0.1:0", "--data-dir"])
            .arg(world.path("data"))
            .arg("--tls-certificate")
            .arg(world.path("chain.pem"))
            .arg("--tls-key")
            .arg(world.path("key.pem"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refused().contains("chain.pem"));
    world.renew();
    let (_, other_chain, _) = certificate();
    fs::write(world.path("chain.pem"), other_chain).unwrap();
    assert!(refused().contains("chain.pem"), "a key of another certificate");
    fs::write(world.path("chain.pem"), "").unwrap();
    assert!(refused().contains("holds no certificate"));
    world.renew();
    fs::remove_file(world.path("key.pem")).unwrap();
    assert!(refused().contains("key.pem"));
}
