//! What users are told of their copies, and what the copies are for, on three real nodes: a file says how safe it is, and a
//! lost disk is replaced by an empty one without anything missing. Needs root.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use support::cluster::{Cluster, contents};
use support::mounts::own_namespace;
use support::rng::pattern;
use support::sys::fsync;
use support::wait::{pause, until};
use support::xattr;

const LIMIT: Duration = Duration::from_secs(120);

fn save(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    fsync(file.as_raw_fd()).unwrap();
}

/// What a mount says of a file, as getfattr(1) shows it.
fn told(path: &Path) -> String {
    String::from_utf8(xattr::get(path, "user.bucketfs.durability").unwrap()).unwrap()
}

/// The same on a node that opens it, which shows it what was committed elsewhere.
fn told_to(cluster: &Cluster, place: usize) -> String {
    let path = cluster.path(place, "bucket/file");
    File::open(&path).unwrap();
    told(&path)
}

/// What the S3 endpoint of one node says of an object.
fn told_by_s3(cluster: &Cluster, place: usize, path: &str) -> String {
    let answer = cluster.s3(place).send("HEAD", path, &[], &[], b"");
    assert_eq!(answer.status, 200, "{path}");
    answer.header("x-bucketfs-durability").expect("how safe it is").to_owned()
}

/// A user can see which promise a file has: copies on disk and copies wanted, and whether something was
/// written since. It changes with each of them, through both doors, on each node.
#[test]
fn a_file_says_how_safe_it_is() {
    own_namespace();
    let mut cluster = Cluster::start("durability", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    cluster.kill(2);
    let path = cluster.path(0, "bucket/file");
    let bytes = pattern(1, 1 << 20);
    let mut file = File::create(&path).unwrap();
    file.write_all(&bytes).unwrap();
    assert!(told(&path).ends_with(" state=dirty"), "{}", told(&path));
    fsync(file.as_raw_fd()).unwrap();
    assert_eq!(told(&path), "copies=2/3 version=1 state=committed");
    assert_eq!(told_to(&cluster, 1), told(&path));
    assert_eq!(told_by_s3(&cluster, 1, "/bucket/file"), told(&path));

    cluster.restart(2);
    for place in [2, 0, 1] {
        until("all copies are there", LIMIT, || {
            pause(Duration::from_millis(100));
            let told = told_to(&cluster, place);
            assert!(told.ends_with("/3 version=1 state=committed"), "{told}");
            told.starts_with("copies=3/").then_some(())
        });
        assert_eq!(told_by_s3(&cluster, place, "/bucket/file"), told(&path));
    }

    file.write_all(b"more").unwrap();
    assert_eq!(told(&path), "copies=3/3 version=1 state=dirty");
    assert_eq!(told_to(&cluster, 1), "copies=3/3 version=1 state=committed");
    drop(file);
    assert!(told(&path).ends_with(" version=2 state=committed"), "{}", told(&path));
}

/// The disk of a node, the leader's, is gone: the node is removed as lost, an empty one joins, and when
/// no copy is wanting the new one has everything itself, also without one of the old ones.
#[test]
fn a_lost_disk_is_replaced_by_an_empty_one() {
    own_namespace();
    let mut cluster = Cluster::start("replaced", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    let mut files = Files::default();
    files.write(&cluster, &[0, 1, 2]);
    let lost = until("there is a leader", LIMIT, || cluster.leader(0));
    let left: Vec<usize> = (0..3).filter(|place| *place != lost).collect();
    let id = cluster.id(lost).expect("its number");
    cluster.kill(lost);
    fs::remove_dir_all(cluster.data(lost)).unwrap();
    files.write(&cluster, &left);

    until("the lost node is removed", LIMIT, || {
        pause(Duration::from_millis(200));
        cluster.attempt(left[0], &["cluster", "remove", &id.to_string(), "--lost"]).ok()
    });
    let new = cluster.join();
    let now: BTreeSet<u64> = [left[0], left[1], new].map(|place| cluster.id(place).unwrap()).into();
    assert!(now.len() == 3 && !now.contains(&id), "{now:?} after {id}");
    until("no copies are wanting", LIMIT, || {
        pause(Duration::from_millis(200));
        is_complete(&cluster.status(left[0]), &now).then_some(())
    });

    files.compare(&cluster, new);
    let reads = cluster.operate(new, &["status"])["copies"]["read_elsewhere"].clone();
    assert_eq!(reads, 0, "its copies are its own");
    cluster.kill(left[0]);
    // Nothing that it has read is in its memory or the kernel's.
    cluster.kill(new);
    cluster.restart(new);
    files.compare(&cluster, new);
    files.write(&cluster, &[new, left[1]]);
    files.compare(&cluster, left[1]);
}

/// Whether the members are these, all vote, and each has all its copies.
fn is_complete(status: &Value, nodes: &BTreeSet<u64>) -> bool {
    let numbers = |list: &Value| -> BTreeSet<u64> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|of| of["node"].as_u64()).collect()
    };
    let all = |list: &Value, is: &dyn Fn(&Value) -> bool| {
        list.as_array().is_some_and(|list| list.iter().all(is))
    };
    status["healthy"] == true
        && status["is_surveying"] == false
        && numbers(&status["members"]) == *nodes
        && numbers(&status["places"]) == *nodes
        && all(&status["members"], &|member| member["role"] != "learner")
        && all(&status["places"], &|place| place["wanting"] == 0)
}

/// Everything that was ever acknowledged, by path below a mount.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    /// Small ones, some of one chunk and of several, and an object, on each of the nodes.
    fn write(&mut self, cluster: &Cluster, places: &[usize]) {
        for place in places {
            for len in [10, 90_000, 3 << 20, 9 << 20] {
                let number = self.0.len();
                let (name, bytes) = (format!("bucket/{number}"), pattern(number as u64, len));
                save(&cluster.path(*place, &name), &bytes);
                self.0.insert(name.into(), bytes);
            }
            let number = self.0.len();
            let (name, bytes) = (format!("bucket/{number}"), pattern(number as u64, 200_000));
            let put = cluster.s3(*place).send("PUT", &format!("/{name}"), &[], &[], &bytes);
            assert_eq!(put.status, 200, "{}", put.text());
            self.0.insert(name.into(), bytes);
        }
    }

    /// The mount of a node and its S3 endpoint have these, and nothing else.
    fn compare(&self, cluster: &Cluster, place: usize) {
        let found = contents(&cluster.mount(place));
        assert!(found == self.0, "the mount of node {place} misses something");
        for (name, bytes) in &self.0 {
            let path = format!("/{}", name.display());
            let got = cluster.s3(place).send("GET", &path, &[], &[], b"");
            assert!(got.status == 200 && got.body == *bytes, "{path} on node {place}");
        }
    }
}
