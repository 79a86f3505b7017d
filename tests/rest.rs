//! The REST API of the running program from outside: objects as mounts and S3 show them, errors in
//! JSON, rights of keys, health from the first moment to the last, and metrics.

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use support::http::{Answer, Connection};
use support::node::{Node, Serve, program};
use support::{mounts, wait};
use tempfile::TempDir;

struct World {
    dir: TempDir,
    address: String,
    /// Of the administrator.
    token: String,
    node: Option<Node>,
}

fn token(made: &Value) -> String {
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    format!("{}.{}", text("access_key_id"), text("secret_access_key"))
}

impl World {
    fn new(name: &str) -> Self {
        mounts::own_namespace();
        let dir = mounts::scratch(name);
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let data = dir.path().join("data");
        let init = program().args(["--json", "init", "--data-dir"]).arg(&data).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let token = token(&serde_json::from_slice(&init.stdout).unwrap());
        Self { dir, address, token, node: None }
    }

    fn serving(name: &str) -> Self {
        let mut world = Self::new(name);
        let mut node = world.spawn();
        node.wait_ready();
        world.node = Some(node);
        assert_eq!(world.ask("PUT", "/buckets/bucket").status, 201);
        world
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join("mnt").join(path)
    }

    fn spawn(&self) -> Node {
        let (data, mount) = (self.data(), self.dir.path().join("mnt"));
        let options = ["--rest-listen", &self.address];
        let log = self.dir.path().join("log");
        Node::spawn(&Serve { data: &data, mount: &mount, show: None, options: &options, log: &log })
    }

    fn key(&self, words: &[&str]) -> String {
        token(&self.run(&[&["key", "create"], words].concat()))
    }

    fn run(&self, words: &[&str]) -> Value {
        let mut command = program();
        command.arg("--json").args(words).arg("--data-dir").arg(self.data());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(method, target, &[], b"")
    }

    fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send_as(&self.token, method, target, headers, body)
    }

    fn send_as(
        &self,
        token: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let bearer = format!("Bearer {token}");
        let mut all = vec![("authorization", bearer.as_str()), ("connection", "close")];
        all.extend_from_slice(headers);
        Connection::plain(&self.address).send(method, target, &all, body)
    }

    fn bare(&self, method: &str, target: &str) -> Answer {
        Connection::plain(&self.address).send(method, target, &[], b"")
    }
}

/// The status, and the code of an error, which must say what happened and what to do.
fn refused(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/json"), "{}", answer.text());
    let problem = answer.json();
    for name in ["message", "action"] {
        assert!(problem[name].as_str().is_some_and(|text| text.len() > 5), "{problem}");
    }
    (answer.status, problem["code"].as_str().unwrap().to_owned())
}

#[test]
fn objects_are_the_files_of_the_mount() {
    let world = World::serving("rest-objects");
    let headers = [("content-type", "text/x"), ("x-meta-who", "me")];
    let put = world.send("PUT", "/objects/bucket/d/a%20b.txt", &headers, b"hello world");
    assert_eq!((put.status, put.json()["size"].as_u64()), (200, Some(11)), "{}", put.text());
    assert_eq!(put.json()["key"], "d/a b.txt");
    assert_eq!(fs::read(world.file("bucket/d/a b.txt")).unwrap(), b"hello world");
    fs::write(world.file("bucket/d/mounted"), b"from the mount").unwrap();
    let got = world.ask("GET", "/objects/bucket/d/mounted");
    assert_eq!((got.status, got.text().as_str()), (200, "from the mount"));
    let head = world.ask("HEAD", "/objects/bucket/d/a%20b.txt");
    assert_eq!((head.status, head.header("content-length")), (200, Some("11")));
    assert_eq!(head.header("content-type"), Some("text/x"));
    assert_eq!(head.header("x-meta-who"), Some("me"));
    let etag = format!("\"{}\"", put.json()["etag"].as_str().unwrap());
    assert_eq!(head.header("etag"), Some(etag.as_str()));
    assert_eq!(head.header("x-request-id").map(str::len), Some(16));
    // The slash of a key may come encoded too.
    assert_eq!(world.ask("GET", "/objects/bucket/d%2Fa%20b.txt").text(), "hello world");
    assert_eq!(world.send("POST", "/objects/bucket/posted", &[], b"p").status, 200);
    assert_eq!(world.ask("DELETE", "/objects/bucket/posted").status, 204);
    assert!(!world.file("bucket/posted").exists());
    assert_eq!(world.ask("DELETE", "/objects/bucket/posted").status, 204);
    assert_eq!(refused(&world.ask("GET", "/objects/bucket/posted")), (404, "no_object".into()));
    assert_eq!(refused(&world.ask("GET", "/objects/absent/x")), (404, "no_bucket".into()));
    world.node.unwrap().stop();
}

#[test]
fn large_bodies_stream_and_ranges_are_exact() {
    let world = World::serving("rest-large");
    let body: Vec<u8> = (0..9_000_000_u32).map(|at| (at * 7 + at / 251) as u8).collect();
    assert_eq!(world.send("PUT", "/objects/bucket/big", &[], &body).status, 200);
    let whole = world.ask("GET", "/objects/bucket/big");
    assert_eq!(whole.header("content-length"), Some("9000000"));
    assert!(whole.body == body, "the bytes are others");
    let cases: [(&str, std::ops::Range<usize>); 4] = [
        ("bytes=0-0", 0..1),
        ("bytes=4194300-4194310", 4_194_300..4_194_311),
        ("bytes=-5", 8_999_995..9_000_000),
        ("bytes=1000000-", 1_000_000..9_000_000),
    ];
    for (range, expected) in cases {
        let part = world.send("GET", "/objects/bucket/big", &[("range", range)], b"");
        assert_eq!(part.status, 206, "{range}");
        assert!(part.body == body[expected.clone()], "{range}");
        let told = format!("bytes {}-{}/9000000", expected.start, expected.end - 1);
        assert_eq!(part.header("content-range"), Some(told.as_str()));
    }
    let range = [("range", "bytes=9000000-")];
    let behind = world.send("GET", "/objects/bucket/big", &range, b"");
    assert_eq!(refused(&behind), (416, "no_such_range".into()));
    let wrong = [("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")];
    let sent = world.send("PUT", "/objects/bucket/new", &wrong, b"x");
    assert_eq!(refused(&sent), (400, "bad_digest".into()));
    // A body that ends early makes no object.
    let mut connection = Connection::plain(&world.address);
    let head = format!(
        "PUT /objects/bucket/new HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-length: 100\r\n\r\nonly this",
        world.token
    );
    connection.raw(head.as_bytes());
    drop(connection);
    assert_eq!(world.ask("GET", "/objects/bucket/new").status, 404);
}

#[test]
fn conditions_hold() {
    let world = World::serving("rest-conditions");
    let key = "/objects/bucket/k";
    let put = |headers: &[(&str, &str)], body: &[u8]| world.send("PUT", key, headers, body);
    let first = put(&[("if-none-match", "*")], b"one");
    assert_eq!(first.status, 200);
    let again = put(&[("if-none-match", "*")], b"two");
    assert_eq!(refused(&again), (412, "precondition_failed".into()));
    let etag = format!("\"{}\"", first.json()["etag"].as_str().unwrap());
    assert_eq!(put(&[("if-match", "\"other\"")], b"two").status, 412);
    assert_eq!(put(&[("if-match", &etag)], b"two").status, 200);
    assert_eq!(put(&[("if-match", &etag)], b"three").status, 412);
    let got = world.ask("GET", key);
    let etag = got.header("etag").unwrap().to_owned();
    let get = |name: &str, value: &str| world.send("GET", key, &[(name, value)], b"").status;
    assert_eq!(got.text(), "two");
    assert_eq!(get("if-none-match", &etag), 304);
    assert_eq!(get("if-match", "\"other\""), 412);
    assert_eq!(get("if-modified-since", got.header("last-modified").unwrap()), 304);
    assert_eq!(get("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"), 412);
    assert_eq!(world.send("DELETE", key, &[("if-match", "\"other\"")], b"").status, 412);
    assert_eq!(world.send("DELETE", key, &[("if-match", &etag)], b"").status, 204);
    assert_eq!(put(&[("if-none-match", "\"x\"")], b"").status, 200);
    let unknown = put(&[("if-none-match", "\"x\", \"y\"")], b"");
    assert_eq!(refused(&unknown), (400, "malformed".into()));
    // What would be ignored, and the object replaced or removed all the same.
    let date = ("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT");
    let part = ("content-range", "bytes 0-1/3");
    for (method, header) in [("PUT", date), ("PUT", part), ("DELETE", date)] {
        let ignored = world.send(method, key, &[header], b"ab");
        assert_eq!(refused(&ignored), (400, "malformed".into()), "{method} {header:?}");
    }
    assert_eq!(world.ask("GET", key).text(), "");
    let absent = world.send("DELETE", "/objects/bucket/absent", &[("if-match", "*")], b"");
    assert_eq!(refused(&absent), (404, "no_object".into()));
}

#[test]
fn listings_tags_and_uploads_are_json() {
    let world = World::serving("rest-json");
    for key in ["a", "b/1", "b/2", "c"] {
        assert_eq!(world.send("PUT", &format!("/objects/bucket/{key}"), &[], b"x").status, 200);
    }
    let list = |query: &str| world.ask("GET", &format!("/objects/bucket{query}")).json();
    let keys = |page: &Value| -> Vec<String> {
        let objects = page["objects"].as_array().unwrap();
        objects.iter().map(|object| object["key"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(&list("")), ["a", "b/1", "b/2", "c"]);
    assert_eq!(keys(&list("?prefix=b/")), ["b/1", "b/2"]);
    let page = list("?delimiter=/&limit=2");
    assert_eq!((keys(&page), &page["prefixes"]), (vec!["a".to_owned()], &json!(["b/"])));
    assert_eq!(page["next"], "b/");
    let page = list("?delimiter=/&start-after=b/");
    assert_eq!((keys(&page), &page["next"]), (vec!["c".to_owned()], &Value::Null));
    for query in ["?limit=0", "?limit=1001", "?limit=x", "?bogus=1"] {
        let answer = world.ask("GET", &format!("/objects/bucket{query}"));
        assert_eq!(refused(&answer), (400, "malformed".into()), "{query}");
    }

    let tags = json!({"tags": {"project": "x y"}});
    let sent = world.send("PUT", "/tags/bucket/b/1", &[], tags.to_string().as_bytes());
    assert_eq!(sent.status, 204);
    assert_eq!(world.ask("GET", "/tags/bucket/b/1").json(), tags);
    assert_eq!(world.ask("DELETE", "/tags/bucket/b/1").status, 204);
    assert_eq!(world.ask("GET", "/tags/bucket/b/1").json(), json!({"tags": {}}));
    for body in ["", "[]", "{\"tags\":{\"\":\"x\"}}", "{\"tags\":{},\"more\":1}"] {
        let answer = world.send("PUT", "/tags/bucket/b/1", &[], body.as_bytes());
        assert_eq!(refused(&answer), (400, "malformed".into()), "{body}");
    }

    let begun = world.send("POST", "/uploads/bucket/joined", &[("content-type", "text/y")], b"");
    assert_eq!(begun.status, 201);
    let upload = begun.json()["upload"].as_str().unwrap().to_owned();
    let (first, last) = (vec![b'1'; 5 << 20], b"the end".to_vec());
    let part = |number: u16, body: &[u8]| {
        let target = format!("/uploads/bucket/joined?upload={upload}&part={number}");
        let stored = world.send("PUT", &target, &[], body).json();
        json!({"number": number, "etag": stored["etag"]})
    };
    let (two, one) = (part(2, &last), part(1, &first));
    let parts = world.ask("GET", &format!("/uploads/bucket/joined?upload={upload}")).json();
    assert_eq!(parts["parts"].as_array().unwrap().len(), 2);
    assert_eq!(parts["parts"][0]["size"], 5 << 20);
    let complete = |parts: Value| {
        let (target, body) =
            (format!("/completions/bucket/joined?upload={upload}"), json!({ "parts": parts }));
        world.send("POST", &target, &[], body.to_string().as_bytes())
    };
    assert_eq!(refused(&complete(json!([two, one]))), (400, "malformed".into()));
    let done = complete(json!([one, two]));
    assert_eq!((done.status, done.json()["size"].as_u64()), (200, Some((5 << 20) + 7)));
    let joined = world.ask("GET", "/objects/bucket/joined");
    assert!(
        joined.body == [first, last].concat() && joined.header("content-type") == Some("text/y")
    );
    let gone = world.ask("DELETE", &format!("/uploads/bucket/joined?upload={upload}"));
    assert_eq!(refused(&gone), (404, "no_upload".into()));
}

#[test]
fn what_is_wrong_is_told_in_json() {
    let world = World::serving("rest-wrong");
    let cases = [
        ("GET", "/nowhere", (404, "no_path")),
        ("GET", "/objects/bucket/a//b", (400, "malformed")),
        ("GET", "/objects/bucket/../b", (400, "malformed")),
        ("GET", "/objects/bucket/%00", (400, "malformed")),
        ("GET", "/objects/bucket/%ff", (400, "malformed")),
        ("GET", "/objects/Not_A_Bucket/k", (400, "malformed")),
        ("PUT", "/buckets/bucket", (409, "already_exists")),
        ("DELETE", "/buckets/absent", (404, "no_bucket")),
        ("PATCH", "/objects/bucket/k", (405, "no_method")),
        ("PUT", "/uploads/bucket/k", (400, "malformed")),
        ("PUT", "/uploads/bucket/k?upload=x&part=70000", (400, "malformed")),
        ("PUT", "/uploads/bucket/k?upload=x&part=1", (404, "no_upload")),
    ];
    for (method, target, (status, code)) in cases {
        let answer = world.ask(method, target);
        assert_eq!(refused(&answer), (status, code.into()), "{method} {target}");
        assert_eq!(answer.header("allow").is_some(), status == 405);
    }
    let long = format!("/objects/bucket/{}", "x".repeat(300));
    assert_eq!(refused(&world.ask("GET", &long)), (400, "name_too_long".into()));
    let huge = vec![b' '; 3 << 20];
    let answer = world.send("PUT", "/tags/bucket/k", &[], &huge);
    assert_eq!(refused(&answer), (413, "too_large".into()));
    // A head that is too long is not read to its end.
    let mut connection = Connection::plain(&world.address);
    let head =
        format!("GET /health/live HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "y".repeat(80 << 10));
    connection.raw(head.as_bytes());
    assert_eq!(connection.head().status, 431);
}

/// Which of the things that a token can be good for are allowed.
fn powers(world: &World, token: &str) -> Vec<&'static str> {
    let tries = [
        ("get", "GET", "/objects/bucket/there"),
        ("list", "GET", "/objects/bucket"),
        ("see", "GET", "/buckets/bucket"),
        ("put", "PUT", "/objects/bucket/new"),
        ("upload", "POST", "/uploads/bucket/big"),
        ("untag", "DELETE", "/tags/bucket/there"),
        ("delete", "DELETE", "/objects/bucket/new"),
        ("metrics", "GET", "/metrics"),
        ("cluster", "GET", "/health/cluster"),
        ("make", "PUT", "/buckets/another"),
    ];
    let mut allowed = Vec::new();
    for (power, method, target) in tries {
        let answer = world.send_as(token, method, target, &[], b"");
        match answer.status {
            200..=299 => allowed.push(power),
            _ => assert_eq!(refused(&answer), (403, "access_denied".into()), "{power}"),
        }
    }
    if allowed.contains(&"make") {
        let answer = world.send_as(token, "DELETE", "/buckets/another", &[], b"");
        assert_eq!(answer.status, 204);
    }
    allowed
}

#[test]
fn tokens_are_worth_what_their_keys_are() {
    let world = World::serving("rest-tokens");
    assert_eq!(world.send("PUT", "/objects/bucket/there", &[], b"x").status, 200);
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &[]),
        (&["--monitor"], &["metrics", "cluster"]),
        (&["--create-buckets"], &["make"]),
        (&["--grant", "bucket:read"], &["get", "list", "see"]),
        (&["--grant", "bucket:write"], &["see", "put", "upload", "untag", "delete"]),
        (
            &["--admin"],
            &[
                "get", "list", "see", "put", "upload", "untag", "delete", "metrics", "cluster",
                "make",
            ],
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(powers(&world, &world.key(words)), expected, "{words:?}");
    }
    let key = world.key(&["--grant", "bucket:read"]);
    let (id, secret) = key.split_once('.').unwrap();
    let status = |token: &str| {
        let answer = world.send_as(token, "GET", "/objects/bucket/there", &[], b"");
        if answer.status == 401 {
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
        if answer.status == 200 { (200, String::new()) } else { refused(&answer) }
    };
    let unknown = (401, "unauthenticated".to_owned());
    assert_eq!(status(&key), (200, String::new()));
    for wrong in [
        "",
        id,
        "x.y",
        &format!("{id}."),
        &format!("{id}.{}", &secret[1..]),
        &format!("{id}.{secret}x"),
        &format!("BFAAAAAAAAAAAAAAAAAA.{secret}"),
    ] {
        assert_eq!(status(wrong), unknown, "{wrong}");
    }
    assert_eq!(refused(&world.bare("GET", "/objects/bucket/there")), unknown);
    world.run(&["key", "disable", id]);
    assert_eq!(status(&key), (403, "key_disabled".into()));
    world.run(&["key", "enable", id]);
    let renewed = token(&world.run(&["key", "rotate", id]));
    assert_eq!((status(&key), status(&renewed).0), (unknown.clone(), 200));
    world.run(&["key", "delete", id]);
    assert_eq!(status(&renewed), unknown);
}

#[test]
fn health_is_told_from_the_first_moment_to_the_last() {
    let world = World::new("rest-health");
    // The start waits for whoever writes into the pipe.
    let (kept, away) = (world.data().join("secrets.key"), world.dir.path().join("away"));
    fs::rename(&kept, &away).unwrap();
    let path = std::ffi::CString::new(kept.to_str().unwrap()).unwrap();
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let mut node = world.spawn();
    let limit = Duration::from_secs(30);
    let listens = || std::net::TcpStream::connect(&world.address).ok();
    drop(wait::until("listening", limit, listens));
    let health = |what: &str| {
        let answer = world.bare("GET", &format!("/health/{what}"));
        (answer.status, answer.json()["status"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(health("live"), (200, "live".into()));
    assert_eq!(health("ready"), (503, "starting".into()));
    let early = world.ask("GET", "/objects/bucket");
    assert_eq!(refused(&early), (503, "not_serving".into()));
    assert!(early.header("retry-after").is_some());
    fs::write(&kept, fs::read(&away).unwrap()).unwrap();
    node.wait_ready();
    assert_eq!(health("ready"), (200, "ready".into()));
    assert_eq!(world.ask("GET", "/health/cluster").json()["status"], "healthy");
    assert_eq!(world.ask("PUT", "/buckets/bucket").status, 201);
    let body = vec![7; 24 << 20];
    assert_eq!(world.send("PUT", "/objects/bucket/big", &[], &body).status, 200);

    // Somebody holds the mount, and somebody reads slowly, when the node is told to stop.
    let held = fs::File::open(world.file("bucket/big")).unwrap();
    let mut slow = Connection::plain(&world.address);
    let bearer = format!("Bearer {}", world.token);
    slow.begin("GET", "/objects/bucket/big", &[("authorization", &bearer)], b"");
    let head = slow.head();
    node.signal(libc::SIGTERM);
    let drains = || (health("ready") == (503, "draining".into())).then_some(());
    wait::until("draining", limit, drains);
    assert_eq!(health("live"), (200, "live".into()));
    let late = world.send("PUT", "/objects/bucket/late", &[], b"x");
    assert_eq!(refused(&late), (503, "not_serving".into()));
    assert!(slow.body(&head) == body, "what was begun is finished");
    drop(slow);
    drop(held);
    assert!(node.wait(Duration::from_secs(60)).success());
    fs::remove_file(&kept).unwrap();
    fs::rename(&away, &kept).unwrap();
}

/// The value of a sample whose line begins so.
fn sample(text: &str, name: &str) -> f64 {
    let line =
        text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("{name} is not in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn metrics_are_in_the_form_that_prometheus_reads() {
    let world = World::serving("rest-metrics");
    let body = vec![1; 6 << 20];
    assert_eq!(world.send("PUT", "/objects/bucket/big", &[], &body).status, 200);
    assert_eq!(world.ask("GET", "/objects/bucket/big").body.len(), body.len());
    assert_eq!(world.ask("GET", "/objects/bucket/absent").status, 404);
    fs::write(world.file("bucket/small"), b"x").unwrap();
    let monitor = world.key(&["--monitor"]);
    let open = fs::File::create(world.file("bucket/dirty")).unwrap();
    // Any process that another test starts has this file for a moment, and its close commits.
    let limit = Duration::from_secs(60);
    let answer = wait::until("bytes that are not committed", limit, || {
        open.write_all_at(&vec![2; 1 << 20], 0).unwrap();
        let answer = world.send_as(&monitor, "GET", "/metrics", &[], b"");
        assert_eq!(answer.status, 200);
        let dirty = sample(&answer.text(), "bucketfs_dirty_bytes");
        (dirty >= f64::from(1 << 20)).then_some(answer)
    });
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = answer.text();
    check_form(&text);
    let request = |method: &str, status: &str| {
        let labels = format!("door=\"rest\",method=\"{method}\",status=\"{status}\"");
        sample(&text, &format!("bucketfs_request_seconds_count{{{labels}}}"))
    };
    assert!(request("PUT", "2xx") >= 2.0 && request("GET", "2xx") >= 1.0);
    assert_eq!(request("GET", "4xx"), 1.0);
    for (name, least) in [
        ("bucketfs_commit_seconds_count", 4.0),
        ("bucketfs_disk_sync_seconds_count{of=\"file\"}", 2.0),
        ("bucketfs_disk_sync_seconds_count{of=\"directory\"}", 1.0),
        ("bucketfs_chunk_seconds_count{kind=\"write\"}", 2.0),
        ("bucketfs_chunk_seconds_count{kind=\"read\"}", 2.0),
        ("bucketfs_fuse_operation_seconds_count{operation=\"write\"}", 1.0),
        ("bucketfs_fuse_operation_seconds_count{operation=\"lookup\"}", 1.0),
        ("bucketfs_bucket_entries{bucket=\"bucket\"}", 3.0),
        ("bucketfs_buckets", 1.0),
        ("bucketfs_data_bytes", f64::from(6 << 20)),
        ("bucketfs_disk_total_bytes", 1.0),
        ("bucketfs_log_bytes", 1.0),
        ("bucketfs_open_files", 1.0),
        ("bucketfs_inodes", 5.0),
    ] {
        let value = sample(&text, name);
        assert!(value >= least, "{name} is {value}, less than {least}");
    }
    assert_eq!(sample(&text, "bucketfs_disk_failed"), 0.0);
    let aged = || {
        open.write_all_at(b"x", 0).unwrap();
        let text = world.send_as(&monitor, "GET", "/metrics", &[], b"").text();
        (sample(&text, "bucketfs_oldest_dirty_seconds") >= 1.0).then_some(())
    };
    wait::until("a write that grows old", limit, aged);
    drop(open);
}

/// Each family is announced once, each sample belongs to one, buckets of histograms rise to the
/// count; the OpenMetrics specification.
fn check_form(text: &str) {
    assert!(text.ends_with("# EOF\n"));
    let mut families: Vec<(String, String)> = Vec::new();
    let mut last: Option<(String, f64)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(!families.iter().any(|(there, _)| there == name), "{name} twice");
            families.push((name.to_owned(), kind.to_owned()));
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap();
        let name = series.split('{').next().unwrap();
        let (family, kind) = families.last().expect("a family before samples");
        let suffix = name.strip_prefix(family.as_str()).expect("a sample of its family");
        match kind.as_str() {
            "histogram" => assert!(["_sum", "_count", "_bucket"].contains(&suffix), "{line}"),
            _ => assert_eq!((kind.as_str(), suffix), ("gauge", ""), "{line}"),
        }
        if suffix == "_bucket" {
            let (before, rest) = series.split_once("le=\"").unwrap();
            let others = format!("{before}{}", rest.split_once('"').unwrap().1);
            if let Some((series, before)) = &last {
                assert!(*series != others || *before <= value, "{line}");
            }
            last = Some((others, value));
        }
    }
    assert!(families.len() > 10);
}

#[test]
fn the_document_describes_what_is_there() {
    let world = World::serving("rest-openapi");
    let document = world.bare("GET", "/openapi.json").json();
    assert_eq!(document, serde_json::to_value(bucketfs::rest::document()).unwrap());
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let target = path.replace("{bucket}", "bucket").replace("{key}", "k");
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let answer = world.ask(&method.to_uppercase(), &target);
            let status = answer.status.to_string();
            assert!(operation["responses"][&status].is_object(), "{method} {path}: {status}");
            let open = operation["security"].is_null();
            let bare = world.bare(&method.to_uppercase(), &target).status;
            assert_eq!(bare == 401, !open, "{method} {path}");
            if path == "/buckets/{bucket}" && method == "delete" {
                world.ask("PUT", "/buckets/bucket");
            }
        }
    }
    assert_eq!(operations, 22);
}

/// A mount makes longer paths than S3 has keys: they can be read and removed, and none is made here.
#[test]
fn long_keys_are_removed_and_not_made() {
    let world = World::serving("long");
    let dir = "d/".repeat(520);
    fs::create_dir_all(world.file(&format!("bucket/{dir}"))).unwrap();
    fs::write(world.file(&format!("bucket/{dir}k")), b"by mount").unwrap();
    let (object, upload) = (format!("/objects/bucket/{dir}k"), format!("/uploads/bucket/{dir}k"));
    assert_eq!(world.ask("GET", &object).body, b"by mount");
    assert_eq!(refused(&world.send("PUT", &object, &[], b"x")), (400, "name_too_long".into()));
    assert_eq!(refused(&world.ask("POST", &upload)), (400, "name_too_long".into()));
    assert_eq!(world.ask("DELETE", &object).status, 204);
}

/// The body of a directory is small: an upload of one was begun, and refused when all its parts were there.
#[test]
fn uploads_to_directories_are_not_begun() {
    let world = World::serving("directory-upload");
    assert_eq!(refused(&world.ask("POST", "/uploads/bucket/d/")), (501, "not_supported".into()));
    assert_eq!(world.ask("POST", "/uploads/bucket/d/k").status, 201);
}
