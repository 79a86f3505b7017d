//! Three real nodes with real mounts: what one acknowledges all show, also when nodes are killed
//! under load. Needs root.

mod support;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::churn::{Churn, stop_if_it_waits_for_its_mount};
use support::cluster::{Cluster, contents};
use support::mounts::own_namespace;
use support::rng::{number, pattern};
use support::s3::Client;
use support::sys::fsync;
use support::wait::{pause, until};
use support::writers::Writer;

const LIMIT: Duration = Duration::from_secs(120);

/// > A close on one node is in the next open on every other
///
/// A close on one node is in the next open on any other, whatever it was: small, large, written over,
/// renamed over; and so is a PUT to the S3 endpoint of another node.
#[test]
fn a_close_is_in_the_next_open_on_every_node() {
    own_namespace();
    let cluster = Cluster::start("close", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    // All ways, lengths, writers and readers have met after 72 rounds.
    for round in 0..number("BUCKETFS_CLUSTER_ROUNDS", 72) {
        let (writer, reader) = ((round % 3) as usize, ((round + 1 + round / 3 % 2) % 3) as usize);
        let len = [10, 4000, 70_000, 5 << 20][(round / 18 % 4) as usize];
        let bytes = pattern(round, len);
        let way = Way::ALL[(round / 6 % 3) as usize];
        way.replace(&cluster, writer, &bytes);
        let seen = fs::read(cluster.path(reader, "bucket/file")).unwrap();
        assert!(
            seen == bytes,
            "round {round}: node {reader} sees {} bytes, node {writer} has {way:?} {len}",
            seen.len()
        );
    }
}

/// How a file becomes another.
#[derive(Clone, Copy, Debug)]
enum Way {
    Closed,
    RenamedOver,
    Put,
}

impl Way {
    const ALL: [Self; 3] = [Self::Closed, Self::RenamedOver, Self::Put];

    fn replace(self, cluster: &Cluster, writer: usize, bytes: &[u8]) {
        let place = cluster.path(writer, "bucket/file");
        match self {
            Self::Closed => fs::write(place, bytes).unwrap(),
            Self::RenamedOver => {
                let new = cluster.path(writer, "bucket/new");
                fs::write(&new, bytes).unwrap();
                fs::rename(new, place).unwrap();
            }
            Self::Put => {
                let put = cluster.s3(writer).send("PUT", "/bucket/file", &[], &[], bytes);
                assert_eq!(put.status, 200, "{}", put.text());
            }
        }
    }
}

/// > A new file is found by its name, and in listings, on every node as soon as its maker was
/// > answered
///
/// A new file is found by its name and in listings on any other node right away.
#[test]
fn what_one_node_made_every_other_finds_and_lists() {
    own_namespace();
    let cluster = Cluster::start("found", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    for round in 0..number("BUCKETFS_CLUSTER_ROUNDS", 60) {
        let (writer, reader) = ((round % 3) as usize, ((round + 1 + round / 3 % 2) % 3) as usize);
        // Short enough to be listed in each round.
        let dir = format!("bucket/{}", round / 100);
        fs::create_dir_all(cluster.path(writer, &dir)).unwrap();
        let (listed, named) = (format!("{dir}/{round}"), format!("{dir}/{round}-named"));
        fsync(File::create(cluster.path(writer, &listed)).unwrap().as_raw_fd()).unwrap();
        let names = fs::read_dir(cluster.path(reader, &dir)).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert!(
            names.contains(&round.to_string().into()),
            "round {round}: node {reader} does not list what node {writer} made: {names:?}"
        );
        fsync(File::create(cluster.path(writer, &named)).unwrap().as_raw_fd()).unwrap();
        let found = fs::metadata(cluster.path(reader, &named));
        assert!(
            found.is_ok(),
            "round {round}: node {reader} does not find what node {writer} made: {found:?}"
        );
    }
}

/// > Requests of S3 and REST, each to another node, find the buckets, objects, tags, uploads, parts
/// > and keys of the ones before
///
/// Requests of one client go to whatever node a load balancer chooses: each finds what the one
/// before has made. A key that was switched off anywhere is refused everywhere.
#[test]
fn each_request_finds_what_the_one_before_made_on_another_node() {
    own_namespace();
    let cluster = Cluster::start("doors", 3);
    for round in 0..number("BUCKETFS_CLUSTER_REQUESTS", 20) {
        let at = |step: u64| ((round + step) % 3) as usize;
        let name = format!("bucket-{round}");
        over_s3(&cluster, &name, at);
        over_rest(&cluster, &name, at);
        let made = cluster.operate(at(0), &["key", "create", "--grant", &format!("{name}:read")]);
        let (key, secret) = (text(&made, "access_key_id"), text(&made, "secret_access_key"));
        let client =
            |place| Client { key: key.clone(), secret: secret.clone(), ..cluster.s3(place) };
        let path = format!("/{name}/object");
        assert_eq!(client(at(1)).send("GET", &path, &[], &[], b"").status, 200, "round {round}");
        cluster.operate(at(1), &["key", "disable", &key]);
        assert_eq!(client(at(2)).send("GET", &path, &[], &[], b"").status, 403, "round {round}");
    }
}

fn text(document: &Value, name: &str) -> String {
    document[name].as_str().unwrap_or_else(|| panic!("no {name} in {document}")).to_owned()
}

/// A bucket, an object with tags and an upload, each step on the next node.
fn over_s3(cluster: &Cluster, bucket: &str, at: impl Fn(u64) -> usize) {
    let send = |step, method: &str, path: &str, query: &[(&str, &str)], body: &[u8]| {
        let answer = cluster.s3(at(step)).send(method, path, query, &[], body);
        let place = at(step);
        assert_eq!(answer.status, 200, "{method} {path} on node {place}: {}", answer.text());
        answer
    };
    let (object, parts) = (format!("/{bucket}/object"), format!("/{bucket}/parts"));
    send(0, "PUT", &format!("/{bucket}"), &[], b"");
    send(1, "PUT", &object, &[], b"bytes");
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    send(2, "PUT", &object, &[("tagging", "")], tags);
    let id = send(0, "POST", &parts, &[("uploads", "")], b"").all("UploadId").remove(0);
    let part = send(1, "PUT", &parts, &[("partNumber", "1"), ("uploadId", &id)], b"part");
    let etag = part.header("etag").unwrap();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    send(2, "POST", &parts, &[("uploadId", &id)], list.as_bytes());
    assert_eq!(send(0, "GET", &parts, &[], b"").body, b"part");
}

fn over_rest(cluster: &Cluster, bucket: &str, at: impl Fn(u64) -> usize) {
    let bucket = format!("{bucket}-rest");
    let send = |step, method: &str, path: &str, body: &[u8]| {
        let answer = cluster.rest(at(step), method, &format!("/{path}"), body);
        let place = at(step);
        let told = answer.text();
        assert!((200..300).contains(&answer.status), "{method} {path} on node {place}: {told}");
        answer
    };
    send(0, "PUT", &format!("buckets/{bucket}"), b"");
    send(1, "PUT", &format!("objects/{bucket}/object"), b"bytes");
    send(2, "PUT", &format!("tags/{bucket}/object"), br#"{"tags": {"a": "b"}}"#);
    let upload = send(0, "POST", &format!("uploads/{bucket}/parts"), b"").json();
    let upload = text(&upload, "upload");
    let part = format!("uploads/{bucket}/parts?upload={upload}&part=1");
    let etag = text(&send(1, "PUT", &part, b"part").json(), "etag");
    let list = json!({ "parts": [{ "number": 1, "etag": etag }] }).to_string();
    let complete = format!("completions/{bucket}/parts?upload={upload}");
    send(2, "POST", &complete, list.as_bytes());
    assert_eq!(send(0, "GET", &format!("objects/{bucket}/parts"), b"").body, b"part");
}

/// Two of three nodes are gone: the third tells so, to whoever watches it and to load balancers.
#[test]
fn a_node_without_a_quorum_does_not_count_as_healthy_or_ready() {
    own_namespace();
    let mut cluster = Cluster::start("health", 3);
    let status = |cluster: &Cluster, of: &str| {
        let answer = cluster.rest(2, "GET", &format!("/health/{of}"), b"");
        (answer.status, text(&answer.json(), "status"))
    };
    let (healthy, ready) = ((200, "healthy".to_owned()), (200, "ready".to_owned()));
    assert_eq!((status(&cluster, "cluster"), status(&cluster, "ready")), (healthy, ready));
    cluster.kill(0);
    cluster.kill(1);
    until("it is known that there is no quorum", LIMIT, || {
        let known = (status(&cluster, "cluster"), status(&cluster, "ready"));
        (known == ((503, "degraded".into()), (503, "no_quorum".into()))).then_some(())
    });
    assert_eq!(status(&cluster, "live"), (200, "live".into()));
}

/// > … between real mounts
///
/// Each node appends its own lines; none is lost, none torn.
#[test]
fn appends_of_several_nodes_do_not_overwrite_each_other() {
    own_namespace();
    let cluster = Cluster::start("appends", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    fsync(File::create(cluster.path(0, "bucket/log")).unwrap().as_raw_fd()).unwrap();
    const LINES: usize = 60;
    std::thread::scope(|threads| {
        for place in 0..3 {
            let path = cluster.path(place, "bucket/log");
            threads.spawn(move || {
                for line in 0..LINES {
                    let mut file = File::options().append(true).open(&path).unwrap();
                    file.write_all(format!("{place}-{line:04}-{}\n", "x".repeat(40)).as_bytes())
                        .unwrap();
                    fsync(file.as_raw_fd()).unwrap();
                }
            });
        }
    });
    let text = fs::read_to_string(cluster.path(1, "bucket/log")).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let mut expected: Vec<String> = (0..3)
        .flat_map(|place| {
            (0..LINES).map(move |line| format!("{place}-{line:04}-{}", "x".repeat(40)))
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

/// A node tells its kernel what others change in a directory that its own users have locked, with a
/// request that only the node could answer. A kill at that moment ends it all the same.
#[test]
fn a_node_that_waits_for_its_own_mount_ends_when_it_is_killed() {
    own_namespace();
    let mut cluster = Cluster::start("guarded", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    for round in 0..number("BUCKETFS_CLUSTER_KILLS", 2) {
        let victim = 1 + (round % 2) as usize;
        let churns: Vec<Churn> = (0..8)
            .map(|name| (cluster.mount(if name % 2 == 0 { 0 } else { victim }), name.to_string()))
            .map(|(mount, name)| Churn::start(mount, &name))
            .collect();
        let is_cut_off = |line: &&str| line.contains("was killed and waits for its own mount");
        let cut_off = |cluster: &Cluster| cluster.log(victim).lines().filter(is_cut_off).count();
        let before = cut_off(&cluster);
        until("the node waits for its own mount", LIMIT, || {
            stop_if_it_waits_for_its_mount(cluster.node(victim)).then_some(())
        });
        cluster.kill(victim);
        assert_eq!(cut_off(&cluster), before + 1, "its guard had nothing to do");
        drop(churns);
        cluster.restart(victim);
        fs::metadata(cluster.path(victim, "bucket")).unwrap();
    }
}

/// > Whatever node is killed under load, nothing acknowledged is lost and the others go on
///
/// Nodes are killed one after the other, the leader first, while the others write: writes go on,
/// and in the end every node shows everything that was acknowledged.
#[test]
fn killed_nodes_lose_nothing_and_the_others_go_on() {
    own_namespace();
    let mut cluster = Cluster::start("killed", 3);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    let mut expected = BTreeMap::new();
    for round in 0..number("BUCKETFS_CLUSTER_KILLS", 3) {
        let victim = match round {
            0 => until("there is a leader", LIMIT, || cluster.leader(0)),
            _ => (round % 3) as usize,
        };
        let writers: Vec<Writer> = (0..3)
            .filter(|place| *place != victim)
            .map(|place| Writer::start(cluster.mount(place), place + 10 * round as usize))
            .collect();
        until("the writers have begun", LIMIT, || {
            pause(Duration::from_millis(20));
            writers.iter().all(|writer| writer.count() > 3).then_some(())
        });
        cluster.kill(victim);
        let before: Vec<u64> = writers.iter().map(Writer::count).collect();
        until("writes go on without the killed node", LIMIT, || {
            pause(Duration::from_millis(50));
            let grown =
                writers.iter().zip(&before).all(|(writer, before)| writer.count() > before + 5);
            grown.then_some(())
        });
        cluster.restart(victim);
        writers.into_iter().for_each(|writer| expected.extend(writer.finish().acknowledged));
        for place in 0..3 {
            let found = contents(&cluster.mount(place));
            for (name, bytes) in &expected {
                let seen = found.get(name).map(|seen| (seen == bytes, seen.len()));
                assert!(
                    seen == Some((true, bytes.len())),
                    "round {round}, node {place}: {} is right, with its length: {seen:?}",
                    name.display()
                );
            }
        }
    }
}

/// With five copies and five voters any two may go, the leader among them; a sixth node learns and serves.
#[test]
fn of_five_voters_two_may_be_killed() {
    own_namespace();
    const NODES: usize = 6;
    let mut cluster = Cluster::start_with("five", NODES, &["--replication-factor", "5"]);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    let role = |cluster: &Cluster, place: usize| {
        let status = cluster.status(0);
        let members = status["members"].as_array().cloned().unwrap_or_default();
        let id = cluster.id(place);
        let member = members.into_iter().find(|member| member["node"].as_u64() == id);
        member.map(|member| text(&member, "role")).unwrap_or_default()
    };
    let learner = (0..NODES).find(|place| role(&cluster, *place) == "learner").expect("a learner");
    let leader = until("there is a leader", LIMIT, || cluster.leader(0));
    let other = (0..NODES).find(|place| ![leader, learner].contains(place)).unwrap();
    let writers = (0..NODES).filter(|place| ![leader, other].contains(place));
    let writers: Vec<Writer> =
        writers.map(|place| Writer::start(cluster.mount(place), place)).collect();
    let grow = |what: &str| {
        let before: Vec<u64> = writers.iter().map(Writer::count).collect();
        until(what, LIMIT, || {
            pause(Duration::from_millis(50));
            let mut pairs = writers.iter().zip(&before);
            pairs.all(|(writer, before)| writer.count() > before + 3).then_some(())
        });
    };
    grow("the writers have begun");
    cluster.kill(leader);
    cluster.kill(other);
    grow("writes go on with three of five voters");
    let mut expected = BTreeMap::new();
    writers.into_iter().for_each(|writer| expected.extend(writer.finish().acknowledged));
    let check = |cluster: &Cluster, place: usize| {
        let found = contents(&cluster.mount(place));
        for (name, bytes) in &expected {
            assert!(found.get(name) == Some(bytes), "node {place}: {}", name.display());
        }
    };
    let alive = (0..NODES).filter(|place| ![leader, other].contains(place));
    alive.for_each(|place| check(&cluster, place));
    for place in [leader, other] {
        cluster.restart(place);
        check(&cluster, place);
    }
}

/// A voter is drained and removed while its data is in use; then its disk is gone, and nothing is
/// missing.
#[test]
fn a_drained_node_takes_nothing_along() {
    own_namespace();
    let mut cluster = Cluster::start("drained", 4);
    fs::create_dir(cluster.path(0, "bucket")).unwrap();
    let mut expected = BTreeMap::new();
    for number in 0..24 {
        let name = PathBuf::from(format!("bucket/{number}"));
        let bytes = pattern(number, if number % 3 == 0 { 3 << 20 } else { 90_000 });
        let mount = cluster.mount((number % 4) as usize);
        let mut file = File::create(mount.join(&name)).unwrap();
        file.write_all(&bytes).unwrap();
        fsync(file.as_raw_fd()).unwrap();
        expected.insert(name, bytes);
    }
    let leaving = 1;
    let refused = cluster.decide(0, "remove", leaving).unwrap_err();
    assert!(refused.contains("drain"), "{refused}");
    cluster.decide(0, "drain", leaving).unwrap();
    let refused = cluster.decide(0, "drain", 2).unwrap_err();
    assert!(refused.contains("let another node join first"), "{refused}");
    until("everything is copied elsewhere", LIMIT, || {
        pause(Duration::from_millis(200));
        cluster.decide(0, "remove", leaving).ok()
    });
    until("others vote instead", LIMIT, || {
        pause(Duration::from_millis(200));
        let status = cluster.status(0);
        let members = status["members"].as_array()?.iter();
        let votes = members.filter(|member| member["role"] != "learner").count();
        (status["healthy"] == true && votes == 3).then_some(())
    });
    let said = cluster.wait_for_end(leaving);
    assert!(said.contains("was removed from the cluster"), "{said}");
    cluster.begin(leaving);
    let said = cluster.wait_for_end(leaving);
    assert!(said.contains("was removed from the cluster"), "{said}");
    fs::remove_dir_all(cluster.data(leaving)).unwrap();
    for place in [0, 2, 3] {
        let found = contents(&cluster.mount(place));
        assert!(found == expected, "node {place} misses something");
    }
    for place in [0, 2, 3] {
        fsync(File::create(cluster.path(place, "bucket/new")).unwrap().as_raw_fd()).unwrap();
        fs::remove_file(cluster.path(place, "bucket/new")).unwrap();
    }
}
