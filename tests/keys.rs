//! Access keys from outside: what each may do through S3 and what not, and that a change of a key
//! counts from the next request on, made while the node runs or while it does not.
#![cfg(feature = "s3")]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::mounts;
use support::node::{Node, Serve, program};
use support::s3::Client;
use tempfile::TempDir;

struct World {
    dir: TempDir,
    address: String,
    admin: Client,
    node: Option<Node>,
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn client(address: &str, made: &Value) -> Client {
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    let (key, secret) = (text("access_key_id"), text("secret_access_key"));
    Client { address: address.to_owned(), key, secret, offset: 0 }
}

impl World {
    fn new(name: &str) -> Self {
        mounts::own_namespace();
        let dir = mounts::scratch(name);
        fs::create_dir(dir.path().join("mnt")).unwrap();
        let address = free_address();
        let data = dir.path().join("data");
        let init = program().args(["--json", "init", "--data-dir"]).arg(&data).output().unwrap();
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let admin = client(&address, &serde_json::from_slice(&init.stdout).unwrap());
        let mut world = Self { dir, address, admin, node: None };
        world.start();
        world
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.dir.path().join("mnt").join(path)
    }

    fn start(&mut self) {
        self.start_with(|_| {});
    }

    /// As [`Self::start`], with an environment.
    fn start_with(&mut self, set: impl Fn(&mut Command)) {
        let (data, mount) = (self.data(), self.dir.path().join("mnt"));
        let options = ["--s3-listen", &self.address];
        let log = self.dir.path().join("log");
        let serve = Serve { data: &data, mount: &mount, show: None, options: &options, log: &log };
        let mut command = serve.command();
        set(&mut command);
        let node = self.node.insert(Node::spawn_command(&serve, &mut command));
        node.wait_ready();
    }

    fn stop(&mut self) {
        self.node.take().unwrap().stop();
    }

    fn run(&self, words: &[&str]) -> Result<Value, String> {
        let output = program()
            .arg("--json")
            .args(words)
            .arg("--data-dir")
            .arg(self.data())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(said);
        }
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    }

    fn key(&self, words: &[&str]) -> Client {
        client(&self.address, &self.run(&[&["key", "create"], words].concat()).unwrap())
    }
}

/// The files below a directory that have `text` in them.
fn files_with(dir: &Path, text: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).unwrap().windows(text.len()).any(|part| part == text) {
            found.push(path);
        }
    }
    found
}

/// Status and, when there is one, the code of the error.
fn ask(client: &Client, method: &str, path: &str, query: &[(&str, &str)], body: &[u8]) -> String {
    let answer = client.send(method, path, query, &[], body);
    let code = answer.all("Code").first().cloned().unwrap_or_default();
    format!("{} {code}", answer.status).trim_end().to_owned()
}

/// What is tried, and how: method, path, query, body.
type Try<'a> = (&'static str, &'a str, String, &'a [(&'a str, &'a str)], &'a [u8]);

/// What a key may do, as words: each is tried.
fn powers(client: &Client, bucket: &str) -> Vec<&'static str> {
    let path = |key: &str| format!("/{bucket}/{key}");
    let list = [("list-type", "2")];
    let tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let tries: [Try; 9] = [
        ("get", "GET", path("there"), &[], b""),
        ("list", "GET", format!("/{bucket}"), &list, b""),
        ("see", "HEAD", format!("/{bucket}"), &[], b""),
        ("put", "PUT", path("new"), &[], b"x"),
        ("tag", "PUT", path("there"), &[("tagging", "")], tags),
        ("upload", "POST", path("big"), &[("uploads", "")], b""),
        ("delete", "DELETE", path("new"), &[], b""),
        ("tag bucket", "PUT", format!("/{bucket}"), &[("tagging", "")], tags),
        ("untag bucket", "DELETE", format!("/{bucket}"), &[("tagging", "")], b""),
    ];
    let mut allowed = Vec::new();
    for (power, method, path, query, body) in tries {
        match ask(client, method, &path, query, body).as_str() {
            "200" | "204" => allowed.push(power),
            // An answer to HEAD has no body.
            "403 AccessDenied" | "403" => {}
            other => panic!("{power}: {other}"),
        }
    }
    allowed
}

#[test]
fn each_right_allows_what_it_says_and_nothing_else() {
    let world = World::new("rights");
    assert_eq!(ask(&world.admin, "PUT", "/photos", &[], b""), "200");
    assert_eq!(ask(&world.admin, "PUT", "/photos/there", &[], b"x"), "200");
    let all = powers(&world.admin, "photos");
    assert_eq!(all.len(), 9);
    let read = ["get", "list", "see"];
    let write = ["see", "put", "tag", "upload", "delete"];
    let both = ["get", "list", "see", "put", "tag", "upload", "delete"];
    let cases: [(&str, &[&str]); 5] = [
        ("photos:read", &read),
        ("photos:write", &write),
        ("photos:read,write", &both),
        ("photos:owner", &all),
        ("photos:chown", &[]),
    ];
    for (grant, expected) in cases {
        assert_eq!(powers(&world.key(&["--grant", grant]), "photos"), expected, "{grant}");
    }
    let none = world.key(&[]);
    assert_eq!(powers(&none, "photos"), [""; 0]);
    assert_eq!(ask(&none, "GET", "/", &[], b""), "200");
    assert_eq!(ask(&none, "PUT", "/another", &[], b""), "403 AccessDenied");
    assert_eq!(ask(&none, "GET", "/absent", &[], b""), "404 NoSuchBucket");
}

#[test]
fn two_who_make_buckets_do_not_see_each_others() {
    let world = World::new("tenants");
    let (main, alt) = (world.key(&["--create-buckets"]), world.key(&["--create-buckets"]));
    assert_eq!(ask(&main, "PUT", "/of-main", &[], b""), "200");
    assert_eq!(ask(&alt, "PUT", "/of-alt", &[], b""), "200");
    // As in Amazon's first region.
    assert_eq!(ask(&main, "PUT", "/of-main", &[], b""), "200");
    assert_eq!(ask(&alt, "PUT", "/of-main", &[], b""), "409 BucketAlreadyExists");
    assert_eq!(ask(&main, "PUT", "/of-main/k", &[], b"x"), "200");
    assert_eq!(powers(&alt, "of-main"), [""; 0]);
    let names = |client: &Client| client.send("GET", "/", &[], &[], b"").all("Name");
    assert_eq!((names(&main), names(&alt)), (vec!["of-main".into()], vec!["of-alt".into()]));
    assert_eq!(names(&world.admin), ["of-alt", "of-main"]);
    // A copy needs the right to read where it comes from.
    let source = [("x-amz-copy-source", "/of-main/k")];
    assert_eq!(alt.send("PUT", "/of-alt/k", &[], &source, b"").status, 403);
    world.run(&["key", "grant", &alt.key, "of-main:read"]).unwrap();
    assert_eq!(alt.send("PUT", "/of-alt/k", &[], &source, b"").status, 200);
    assert_eq!(names(&alt), ["of-alt", "of-main"]);
    world.run(&["key", "revoke", &alt.key, "of-main"]).unwrap();
    assert_eq!(ask(&alt, "GET", "/of-main/k", &[], b""), "403 AccessDenied");
    assert_eq!(ask(&alt, "DELETE", "/of-main", &[], b""), "403 AccessDenied");
    // A bucket of the same name later is another one: old grants say nothing of it.
    world.run(&["key", "grant", &alt.key, "of-main:read,write"]).unwrap();
    assert_eq!(ask(&main, "DELETE", "/of-main/k", &[], b""), "204");
    assert_eq!(ask(&main, "DELETE", "/of-main", &[], b""), "204");
    assert_eq!(ask(&main, "PUT", "/of-main", &[], b""), "200");
    assert_eq!(ask(&alt, "PUT", "/of-main/k", &[], b"x"), "403 AccessDenied");
}

#[test]
fn changes_count_at_once_running_or_not() {
    let mut world = World::new("changes");
    let mut key = world.key(&["--create-buckets"]);
    assert_eq!(ask(&key, "PUT", "/bucket", &[], b""), "200");
    for running in [true, false] {
        let change = |world: &mut World, words: &[&str]| {
            if !running {
                world.stop();
            }
            let said = world.run(&[&["key"], words].concat()).unwrap();
            if !running {
                world.start();
            }
            said
        };
        change(&mut world, &["disable", &key.key]);
        assert_eq!(ask(&key, "GET", "/bucket", &[], b""), "403 InvalidAccessKeyId");
        change(&mut world, &["enable", &key.key]);
        assert_eq!(ask(&key, "GET", "/bucket", &[], b""), "200");
        let made = change(&mut world, &["rotate", &key.key]);
        let renewed = client(&world.address, &made);
        assert_eq!((&renewed.key, renewed.secret == key.secret), (&key.key, false));
        assert_eq!(ask(&key, "GET", "/bucket", &[], b""), "403 SignatureDoesNotMatch");
        assert_eq!(ask(&renewed, "GET", "/bucket", &[], b""), "200");
        key = renewed;
        let listed = change(&mut world, &["list"]);
        let keys = listed["keys"].as_array().unwrap();
        let found = keys.iter().find(|found| found["access_key_id"] == key.key.as_str()).unwrap();
        assert_eq!((&found["role"], &found["state"]), (&"creator".into(), &"active".into()));
        assert_eq!(found["grants"]["bucket"], "owner");
        assert!(!listed.to_string().contains(&key.secret));
        let made = change(&mut world, &["create", "--admin"]);
        let other = client(&world.address, &made);
        assert_eq!(ask(&other, "GET", "/bucket", &[], b""), "200");
        change(&mut world, &["delete", &other.key]);
        assert_eq!(ask(&other, "GET", "/bucket", &[], b""), "403 InvalidAccessKeyId");
    }
}

#[test]
fn files_belong_to_whom_the_key_is_for() {
    let world = World::new("owners");
    world.run(&["bucket", "create", "bucket"]).unwrap();
    let for_whom = ["--uid", "1234", "--gid", "2345", "--umask", "027"];
    let plain = world.key(&[&for_whom[..], &["--grant", "bucket:write"]].concat());
    let choosing = world.key(&[&for_whom[..], &["--grant", "bucket:write,chown"]].concat());
    let headers = [("x-amz-meta-mode", "104711"), ("x-amz-meta-uid", "7")];
    assert_eq!(plain.send("PUT", "/bucket/d/plain", &[], &headers, b"x").status, 200);
    assert_eq!(choosing.send("PUT", "/bucket/d/chosen", &[], &headers, b"x").status, 200);
    let shown = |path: &str| {
        let meta = fs::metadata(world.file(path)).unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    };
    assert_eq!(shown("bucket/d"), (1234, 2345, 0o750));
    assert_eq!(shown("bucket/d/plain"), (1234, 2345, 0o640));
    assert_eq!(shown("bucket/d/chosen"), (7, 2345, 0o711));
    // What is there keeps its owner and mode, unless they are chosen.
    assert_eq!(world.admin.send("PUT", "/bucket/d/plain", &[], &[], b"y").status, 200);
    assert_eq!(shown("bucket/d/plain"), (1234, 2345, 0o640));
    assert_eq!(world.admin.send("PUT", "/bucket/d/plain", &[], &headers, b"z").status, 200);
    assert_eq!(shown("bucket/d/plain"), (7, 2345, 0o711));
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let world = World::new("wrong");
    let before = world.run(&["key", "list"]).unwrap();
    let refused = |words: &[&str]| world.run(words).unwrap_err();
    let unknown = "BFAAAAAAAAAAAAAAAAAA";
    for verb in ["delete", "disable", "enable", "rotate"] {
        assert!(refused(&["key", verb, unknown]).contains("no such access key"), "{verb}");
        assert!(refused(&["key", verb, "short"]).contains("20 capital"), "{verb}");
    }
    assert!(refused(&["key", "create", "--grant", "absent:read"]).contains("no such bucket"));
    assert!(refused(&["key", "create", "--grant", "absent"]).contains("BUCKET:RIGHT"));
    assert!(refused(&["key", "create", "--grant", "absent:all"]).contains("read, write"));
    assert!(refused(&["key", "create", "--umask", "999"]).contains("octal"));
    assert!(refused(&["key", "create", "--admin", "--create-buckets"]).contains("cannot be used"));
    world.run(&["bucket", "create", "bucket"]).unwrap();
    assert!(refused(&["key", "grant", unknown, "bucket:read"]).contains("no such access key"));
    assert_eq!(world.run(&["key", "list"]).unwrap(), before);
    let forged = Client { secret: "x".repeat(40), ..world.admin.clone() };
    assert_eq!(ask(&forged, "GET", "/bucket", &[], b""), "403 SignatureDoesNotMatch");
}

/// What was signed long ago may have been overheard, what will be signed is none of a clock's business.
#[test]
fn signatures_of_other_times_are_refused() {
    let world = World::new("skew");
    let code = |offset: i64| {
        let answer = Client { offset, ..world.admin.clone() }.send("GET", "/", &[], &[], b"");
        (answer.status, answer.all("Code").first().cloned().unwrap_or_default())
    };
    for offset in [0, -600, 600] {
        assert_eq!(code(offset).0, 200, "{offset}");
    }
    for offset in [-1200, 1200, -86_400] {
        assert_eq!(code(offset), (403, "RequestTimeTooSkewed".into()), "{offset}");
    }
}

#[test]
fn a_secret_is_nowhere_in_the_store_and_no_use_without_the_sealing_key() {
    let mut world = World::new("sealed");
    world.run(&["bucket", "create", "bucket"]).unwrap();
    world.stop();
    let found = files_with(&world.data(), world.admin.secret.as_bytes());
    assert_eq!(found, [""; 0].map(PathBuf::from));
    let (kept, away) = (world.data().join("secrets.key"), world.dir.path().join("away"));
    fs::rename(&kept, &away).unwrap();
    world.start();
    assert!(!kept.exists(), "a new one could not open the secrets there are");
    assert_eq!(ask(&world.admin, "GET", "/bucket", &[], b""), "500 InternalError");
    let said = world.run(&["key", "create", "--admin"]).unwrap_err();
    assert!(said.contains("secrets.key"), "{said}");
    world.stop();
    fs::write(&kept, format!("{}\n", "0".repeat(64))).unwrap();
    world.start();
    assert_eq!(ask(&world.admin, "GET", "/bucket", &[], b""), "500 InternalError");
    let renewed = client(&world.address, &world.run(&["key", "rotate", &world.admin.key]).unwrap());
    assert_eq!(ask(&renewed, "GET", "/bucket", &[], b""), "200");
    world.stop();
    fs::rename(&away, &kept).unwrap();
    world.start();
    assert_eq!(ask(&renewed, "GET", "/bucket", &[], b""), "500 InternalError");
    world.run(&["key", "delete", &world.admin.key]).unwrap();
    world.stop();
    fs::remove_file(&kept).unwrap();
    world.start();
    let made = world.key(&["--admin"]);
    assert_eq!(ask(&made, "GET", "/bucket", &[], b""), "200");
}

/// systemd.exec(5), "Credentials": the service manager hands the key over, and the data directory has none.
#[test]
fn the_sealing_key_may_be_a_credential_of_the_service() {
    let mut world = World::new("credential");
    world.run(&["bucket", "create", "bucket"]).unwrap();
    world.stop();
    let (kept, handed) = (world.data().join("secrets.key"), world.dir.path().join("credentials"));
    fs::create_dir(&handed).unwrap();
    fs::rename(&kept, handed.join("bucketfs.secrets-key")).unwrap();
    let handed = handed.as_path();
    world.start_with(|command| {
        command.env("CREDENTIALS_DIRECTORY", handed);
    });
    assert_eq!(ask(&world.admin, "GET", "/bucket", &[], b""), "200");
    let made = world.key(&["--admin"]);
    assert_eq!(ask(&made, "GET", "/bucket", &[], b""), "200");
    assert!(!kept.exists());
    world.stop();
    world.start();
    assert_eq!(ask(&made, "GET", "/bucket", &[], b""), "500 InternalError");
}
