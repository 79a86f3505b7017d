//! The program is killed (SIGKILL) during PUT, copies, multipart uploads, completions and deletions: every change that was
//! answered is there, whole; every other is made or not, never half; and nothing is left over that no name needs.
//!
//! `BUCKETFS_ROUNDS` and `BUCKETFS_SEED` choose how often and which.
#![cfg(feature = "s3")]

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::mounts::run;
use support::node::program;
use support::rng::{Rng, number, pattern, seed};
use support::s3::Client;
use support::s3_world::{BUCKET, World};
use support::sys::fsync;
use support::wait::{self, pause};

const WRITERS: u64 = 4;
const KEYS: u64 = 6;
const PART: usize = 5 << 20;
/// How long collection may take.
const COLLECTED: Duration = Duration::from_secs(120);

/// A file that the mount has with holes; copies of it have them too.
const SPARSE: &str = "sparse";
const SPARSE_LEN: usize = 20 << 20;
/// Where it has bytes, and how many.
const SPARSE_RUNS: [(usize, usize); 3] = [(0, 100_000), (8 << 20, 300_000), (17 << 20, 5)];

/// What an object's bytes are; `None` when it is not there.
type Content = Option<Bytes>;

#[derive(Clone, Copy)]
enum Bytes {
    /// A pattern and its length.
    Pattern(u64, usize),
    Sparse,
}

impl Bytes {
    fn make(self) -> Vec<u8> {
        match self {
            Self::Pattern(seed, len) => pattern(seed, len),
            Self::Sparse => {
                let mut bytes = vec![0; SPARSE_LEN];
                for (at, len) in SPARSE_RUNS {
                    bytes[at..at + len].copy_from_slice(&pattern(at as u64, len));
                }
                bytes
            }
        }
    }

    /// What it takes on the disk, without padding.
    fn stored(self) -> usize {
        match self {
            Self::Pattern(_, len) => len,
            Self::Sparse => SPARSE_RUNS.iter().map(|(_, len)| len).sum(),
        }
    }
}

/// One client, what it was promised, and what it had asked for when the program died.
struct Writer {
    name: u64,
    rng: Rng,
    promised: BTreeMap<String, Content>,
    asked: Option<(String, Content)>,
    changes: u64,
}

impl Writer {
    fn new(name: u64, seed: u64) -> Self {
        Self { name, rng: Rng::new(seed), promised: BTreeMap::new(), asked: None, changes: 0 }
    }

    fn work(&mut self, s3: &Client, over: &AtomicBool) {
        while !over.load(Ordering::SeqCst) {
            let path = format!("/{BUCKET}/w{}/k{}", self.name, self.rng.below(KEYS));
            let seed = self.rng.next();
            let kind = self.rng.below(12);
            let wanted = match kind {
                0 => None,
                1..=3 => Some(Bytes::Pattern(seed, PART + self.rng.below(300_000) as usize)),
                4..=6 => Some(Bytes::Pattern(seed, self.rng.below(9 << 20) as usize)),
                7..=9 => Some(Bytes::Pattern(seed, self.rng.below(20_000) as usize)),
                _ => Some(Bytes::Sparse),
            };
            self.asked = Some((path.clone(), wanted));
            let status = match (kind, wanted) {
                (_, None) => plain(s3, "DELETE", &path, b""),
                (_, Some(Bytes::Sparse)) => copy(s3, &path),
                (1..=3, Some(bytes)) => multipart(s3, &path, &bytes.make()),
                (_, Some(bytes)) => plain(s3, "PUT", &path, &bytes.make()),
            };
            match status {
                Some(200 | 204) => {
                    self.promised.insert(path, wanted);
                    self.asked = None;
                    self.changes += 1;
                }
                Some(status) => panic!("answered {status} before the kill"),
                None => return,
            }
        }
    }

    /// What is there is what was promised, or what was asked for last.
    fn compare(&mut self, s3: &Client, round: u64) {
        if let Some((path, wanted)) = self.asked.take() {
            let promised = self.promised.get(&path).copied().flatten();
            let found = read(s3, &path);
            let fits = |content: &Content| is(&found, content);
            let (old, new) = (fits(&promised), fits(&wanted));
            assert!(old || new, "round {round}: {path} is neither what it was nor what it became");
            self.promised.insert(path, if new { wanted } else { promised });
        }
        for (path, content) in &self.promised {
            let found = read(s3, path);
            assert!(is(&found, content), "round {round}: {path} is not what was acknowledged");
        }
    }
}

fn is(found: &Option<Vec<u8>>, content: &Content) -> bool {
    match (found, content) {
        (None, None) => true,
        (Some(bytes), Some(content)) => *bytes == content.make(),
        _ => false,
    }
}

fn read(s3: &Client, path: &str) -> Option<Vec<u8>> {
    let got = s3.send("GET", path, &[], &[], b"");
    match got.status {
        200 => Some(got.body),
        404 => None,
        status => panic!("{path}: {status}: {}", got.text()),
    }
}

/// `None` when the program is gone.
fn plain(s3: &Client, method: &str, path: &str, body: &[u8]) -> Option<u16> {
    s3.try_send(method, path, &[], &[], body).ok().map(|answer| answer.status)
}

fn copy(s3: &Client, path: &str) -> Option<u16> {
    let source = format!("/{BUCKET}/{SPARSE}");
    let done = s3.try_send("PUT", path, &[], &[("x-amz-copy-source", &source)], b"").ok()?;
    // As a completion.
    if done.text().contains("<Error>") { Some(500) } else { Some(done.status) }
}

fn make_sparse(mount: &Path) {
    let file = File::create(mount.join(BUCKET).join(SPARSE)).unwrap();
    file.set_len(SPARSE_LEN as u64).unwrap();
    for (at, len) in SPARSE_RUNS {
        file.write_all_at(&pattern(at as u64, len), at as u64).unwrap();
    }
    fsync(file.as_raw_fd()).unwrap();
}

fn multipart(s3: &Client, path: &str, bytes: &[u8]) -> Option<u16> {
    let begun = s3.try_send("POST", path, &[("uploads", "")], &[], b"").ok()?;
    if begun.status != 200 {
        return Some(begun.status);
    }
    let id = begun.all("UploadId").pop()?;
    let mut list = String::new();
    for (number, part) in (1..).zip(bytes.chunks(PART)) {
        let number: String = format!("{number}");
        let query = [("partNumber", number.as_str()), ("uploadId", id.as_str())];
        let part = s3.try_send("PUT", path, &query, &[], part).ok()?;
        if part.status != 200 {
            return Some(part.status);
        }
        let etag = part.header("etag")?;
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
    }
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    let done = s3.try_send("POST", path, &[("uploadId", &id)], &[], list.as_bytes()).ok()?;
    // A completion answers 200 early and tells of a failure in its document.
    if done.text().contains("<Error>") { Some(500) } else { Some(done.status) }
}

#[test]
fn what_s3_acknowledged_survives_a_kill() {
    let mut rng = Rng::new(seed(3));
    let rounds = number("BUCKETFS_ROUNDS", 8);
    let mut world = World::new("s3kill");
    make_sparse(&world.mount);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|name| Writer::new(name, rng.next())).collect();
    for round in 1..=rounds {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (over, s3) = (&over, &world.s3);
            for writer in &mut writers {
                scope.spawn(move || writer.work(s3, over));
            }
            pause(Duration::from_millis(200 + rng.below(1200)));
            over.store(true, Ordering::SeqCst);
            world.node.signal(libc::SIGKILL);
        });
        world = world.kill_and_restart();
        writers.iter_mut().for_each(|writer| writer.compare(&world.s3, round));
    }
    let changes: u64 = writers.iter().map(|writer| writer.changes).sum();
    println!("{rounds} kills, {changes} changes acknowledged, none lost");
    assert!(changes > rounds, "only {changes} changes: the load does not load");
    abort_uploads(&world.s3);
    let data = world.dir.path().join("data");
    let promised = writers.iter().flat_map(|writer| writer.promised.values().flatten());
    let alive = Bytes::Sparse.stored() + promised.map(|content| content.stored()).sum::<usize>();
    // Chunks are padded to 4 KiB and have a footer of as much.
    let most = alive as u64 + (64 << 10) * WRITERS * KEYS * 4;
    wait::until("nothing but objects in the store", COLLECTED, || {
        (chunk_bytes(&data) <= most).then_some(())
    });
    let World { node, dir, .. } = world;
    node.stop();
    let said = run(program().args(["fsck", "--json", "--data-dir"]).arg(&data));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["left_over_files"], 0, "{said}");
    drop(dir);
}

fn abort_uploads(s3: &Client) {
    let listed = s3.send("GET", &format!("/{BUCKET}"), &[("uploads", "")], &[], b"");
    for (key, id) in listed.all("Key").iter().zip(listed.all("UploadId")) {
        let aborted =
            s3.send("DELETE", &format!("/{BUCKET}/{key}"), &[("uploadId", &id)], &[], b"");
        assert_eq!(aborted.status, 204, "{}", aborted.text());
    }
}

fn chunk_bytes(data: &Path) -> u64 {
    // Directories that upkeep removes meanwhile make it fail.
    let said = wait::until("a look at all chunks", COLLECTED, || {
        let du =
            Command::new("du").args(["-s", "--block-size=1"]).arg(data.join("chunks")).output();
        du.ok().filter(|du| du.status.success())
    });
    String::from_utf8_lossy(&said.stdout).split_whitespace().next().unwrap().parse().unwrap()
}
