//! The mount and the S3 endpoint of one running node show the same data, at the same moments.
#![cfg(feature = "s3")]

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::http::Answer;
use support::mounts::run;
use support::s3::Client;
use support::s3_world::World;
use support::wait::until;
use support::{sys, xattr};

fn status(answer: &Answer, code: u16) {
    assert_eq!(answer.status, code, "{}", answer.text());
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}

/// > What one view writes the other shows at once
#[test]
fn what_one_view_writes_the_other_shows() {
    let world = World::new("views");
    fs::create_dir(world.file("d")).unwrap();
    fs::write(world.file("d/by mount.txt"), b"from the mount").unwrap();
    assert_eq!(world.keys(), ["d/", "d/by mount.txt"]);
    let got = world.get("d/by mount.txt");
    assert_eq!((got.status, got.body.as_slice()), (200, &b"from the mount"[..]));
    assert_eq!(got.header("content-type"), Some("text/plain"));
    let before = got.header("etag").unwrap().to_owned();
    assert!(before.contains('-'), "{before}");
    let mut file = File::options().append(true).open(world.file("d/by mount.txt")).unwrap();
    file.write_all(b", twice").unwrap();
    assert_eq!(world.head("d/by mount.txt").header("etag"), Some(before.as_str()));
    drop(file);
    assert_ne!(world.head("d/by mount.txt").header("etag"), Some(before.as_str()));

    let data: Vec<u8> = (0..9_000_000_u32).map(|at| (at / 7) as u8).collect();
    status(&world.put("new/by s3", &data), 200);
    assert_eq!(read(&world.file("new/by s3")), data);
    assert_eq!(world.get("new/by s3").body, data);
    let stat = fs::metadata(world.file("new/by s3")).unwrap();
    assert_eq!((stat.len(), stat.mode() & 0o777), (data.len() as u64, 0o644));
    fs::set_permissions(world.file("new/by s3"), fs::Permissions::from_mode(0o600)).unwrap();
    status(&world.put("new/by s3", b"short"), 200);
    let stat = fs::metadata(world.file("new/by s3")).unwrap();
    assert_eq!((stat.len(), stat.mode() & 0o777), (5, 0o600));

    let headers = [("content-type", "image/png"), ("x-amz-meta-name", "value")];
    let put = world.send("PUT", "meta", &headers, b"x");
    status(&put, 200);
    assert_eq!(xattr::get(&world.file("meta"), "user.s3.meta.name").unwrap(), b"value");
    xattr::set(&world.file("meta"), "user.s3.meta.other", b"by mount", 0).unwrap();
    let head = world.head("meta");
    assert_eq!(head.header("x-amz-meta-other"), Some("by mount"));
    assert_eq!(head.header("content-type"), Some("image/png"));
}

/// > A file that is being written is in S3 after its close, not before
#[test]
fn open_files_and_unclosed_ones_stay_what_they_are() {
    let world = World::new("open");
    let mut writing = File::create(world.file("unclosed")).unwrap();
    writing.write_all(b"not yet").unwrap();
    status(&world.head("unclosed"), 404);
    assert!(world.keys().is_empty());
    drop(writing);
    assert_eq!(world.get("unclosed").body, b"not yet");

    let old = vec![7_u8; 300_000];
    status(&world.put("k", &old), 200);
    let mut open = File::open(world.file("k")).unwrap();
    status(&world.put("k", b"new"), 200);
    assert_eq!(read(&world.file("k")), b"new");
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert!(bytes == old, "an open file changed under its reader");
    let mut open = File::open(world.file("k")).unwrap();
    status(&world.delete("k"), 204);
    assert!(!world.file("k").exists());
    bytes.clear();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"new");
}

#[test]
fn directories_and_names_are_one_tree() {
    let world = World::new("names");
    status(&world.put("implicit/k", b""), 200);
    status(&world.delete("implicit/k"), 204);
    assert!(!world.file("implicit").exists());
    fs::create_dir(world.file("explicit")).unwrap();
    status(&world.put("explicit/k", b""), 200);
    status(&world.delete("explicit/k"), 204);
    assert!(world.file("explicit").is_dir());
    status(&world.put("made/", b""), 200);
    assert!(world.file("made").is_dir());
    fs::remove_dir(world.file("made")).unwrap();
    status(&world.head("made/"), 404);

    status(&world.put("a", b"file"), 200);
    status(&world.put("a/b", b""), 409);
    assert!(fs::create_dir(world.file("a")).is_err());
    fs::write(world.file("explicit/f"), b"").unwrap();
    status(&world.put("explicit", b""), 409);

    for key in ["odd/a b", "odd/ü", "odd/a+b", "odd/%41", "odd/q?x=1&y", "odd/~"] {
        status(&world.put(key, key.as_bytes()), 200);
        assert_eq!(read(&world.file(key)), key.as_bytes());
        assert_eq!(world.get(key).body, key.as_bytes());
    }
    std::os::unix::fs::symlink("a", world.file("link")).unwrap();
    assert!(!world.keys().contains(&"link".to_owned()));
    status(&world.head("link"), 404);

    let full = world.s3.send("DELETE", "/views", &[], &[], b"");
    assert_eq!((full.status, full.all("Code")), (409, vec!["BucketNotEmpty".to_owned()]));
    status(&world.s3.send("PUT", "/second", &[], &[], b""), 200);
    let upload = world.s3.send("POST", "/second/k", &[("uploads", "")], &[], b"");
    status(&upload, 200);
    fs::remove_dir(world.mount.join("second")).unwrap();
    status(&world.s3.send("HEAD", "/second", &[], &[], b""), 404);
    let buckets = world.s3.send("GET", "/", &[], &[], b"").all("Name");
    assert_eq!(buckets, ["views"]);
}

/// What close(2) has answered is in the next listing, with all that a listing says.
#[test]
fn a_closed_file_is_listed_as_it_is() {
    let world = World::new("listed");
    for round in 0..20_u32 {
        let bytes = vec![round as u8; 1 + 7000 * round as usize];
        fs::write(world.file("f.json"), &bytes).unwrap();
        let listed = world.s3.send("GET", "/views", &[("list-type", "2")], &[], b"");
        let head = world.head("f.json");
        assert_eq!(listed.all("Size"), [bytes.len().to_string()]);
        assert_eq!(listed.all("ETag"), [head.header("etag").unwrap()]);
        assert_eq!(head.header("content-type"), Some("application/json"));
        assert_eq!(head.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert!(head.header("last-modified").is_some_and(|date| date.ends_with(" GMT")));
        assert_eq!(world.get("f.json").body, bytes);
    }
    fs::remove_file(world.file("f.json")).unwrap();
    assert!(world.keys().is_empty());
    status(&world.get("f.json"), 404);
}

/// > `Last-Modified` is when the bytes were last committed, whatever a mount says of the times of the file
#[test]
fn last_modified_moves_with_commits_and_not_with_times() {
    let world = World::new("modified");
    let path = world.file("k");
    fs::write(&path, b"one").unwrap();
    let told = || httpdate::parse_http_date(world.head("k").header("last-modified").unwrap());
    let written = told().unwrap();
    sys::utimens(&path, [(1_000_000, 0); 2]).unwrap();
    assert_eq!(told().unwrap(), written);
    assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_000_000);
    let later = until("a later time of a commit", Duration::from_secs(30), || {
        fs::write(&path, b"two").unwrap();
        told().ok().filter(|time| *time > written)
    });
    fs::rename(&path, world.file("moved")).unwrap();
    let moved = world.head("moved");
    let moved = httpdate::parse_http_date(moved.header("last-modified").unwrap());
    assert_eq!(moved.unwrap(), later);
}

#[test]
fn a_rename_in_one_view_is_one_in_the_other() {
    let world = World::new("rename");
    status(&world.put("d/one", b"1"), 200);
    let etag = world.head("d/one").header("etag").unwrap().to_owned();
    fs::rename(world.file("d/one"), world.file("two")).unwrap();
    assert_eq!(world.keys(), ["d/", "two"]);
    assert_eq!(world.head("two").header("etag"), Some(etag.as_str()));
    let mut open = File::open(world.file("two")).unwrap();
    status(&world.put("three", b"replaced"), 200);
    let rename = [("x-amz-rename-source", "/views/two")];
    let query = [("renameObject", "")];
    let renamed = world.s3.send("PUT", "/views/x/three", &query, &rename, b"");
    status(&renamed, 200);
    assert_eq!(world.keys(), ["d/", "three", "x/three"]);
    assert_eq!(fs::read(world.file("x/three")).unwrap(), b"1");
    let mut bytes = Vec::new();
    open.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"1", "a handle goes on with the file whose name moved");
    let rename = [("x-amz-rename-source", "/views/x/"), ("if-none-match", "*")];
    status(&world.s3.send("PUT", "/views/y/z/", &query, &rename, b""), 200);
    assert_eq!(world.keys(), ["d/", "three", "y/z/three"]);
    assert!(!world.file("x").exists() && world.file("y/z/three").exists());
    let taken = [("x-amz-rename-source", "/views/y/z/three"), ("if-none-match", "*")];
    status(&world.s3.send("PUT", "/views/three", &query, &taken, b""), 412);
    assert_eq!(fs::read(world.file("three")).unwrap(), b"replaced");
}

/// Few bytes and a size of a terabyte: a copy takes no more memory than the bytes.
#[test]
fn a_sparse_file_is_copied_as_one() {
    let world = World::new("sparse");
    for (name, data) in [("bytes", &b"few"[..]), ("none", b"")] {
        fs::write(world.file(name), data).unwrap();
        let file = File::options().write(true).open(world.file(name)).unwrap();
        file.set_len(1 << 40).unwrap();
        drop(file);
        let source = format!("/views/{name}");
        let headers = [("x-amz-copy-source", source.as_str())];
        status(&world.send("PUT", "copy", &headers, b""), 200);
        assert_eq!(world.head("copy").header("content-length"), Some("1099511627776"));
        let mut start = vec![0; 1 << 20];
        File::open(world.file("copy")).unwrap().read_exact(&mut start).unwrap();
        assert!(start[..data.len()] == *data && start[data.len()..].iter().all(|byte| *byte == 0));
        let range = [("range", "bytes=1-5")];
        assert_eq!(world.send("GET", "copy", &range, b"").body, start[1..6]);
    }
}

/// The answer to a completion may be lost: asked again, with the size it is to have, it is given
/// again.
#[test]
fn a_completion_is_answered_twice() {
    let world = World::new("twice");
    let path = "/views/parts";
    let begun = world.s3.send("POST", path, &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    let part = world.s3.send("PUT", path, &[("partNumber", "1"), ("uploadId", &id)], &[], b"part");
    let etag = part.header("etag").unwrap();
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let complete = |size| {
        let headers = [("x-amz-mp-object-size", size)];
        world.s3.send("POST", path, &[("uploadId", &id)], &headers, list.as_bytes())
    };
    assert_eq!(complete("5").all("Code"), ["InvalidRequest"]);
    let first = complete("4");
    status(&first, 200);
    let second = complete("4");
    status(&second, 200);
    assert_eq!(second.all("ETag"), first.all("ETag"));
    assert_eq!(read(&world.file("parts")), b"part");
}

#[test]
fn metadata_and_tags_are_attributes_both_ways() {
    let world = World::new("attributes");
    let headers = [
        ("cache-control", "no-store"),
        ("content-disposition", "inline"),
        ("x-amz-meta-one", "1"),
        ("x-amz-tagging", "colour=blue"),
    ];
    status(&world.send("PUT", "k", &headers, b"x"), 200);
    let get = |name| xattr::get(&world.file("k"), name).unwrap();
    assert_eq!(get("user.s3.meta.one"), b"1");
    assert_eq!(get("user.s3.tag.colour"), b"blue");
    assert_eq!(get("user.s3.header.cache-control"), b"no-store");
    xattr::set(&world.file("k"), "user.s3.tag.shape", b"round", 0).unwrap();
    xattr::set(&world.file("k"), "user.s3.header.cache-control", b"max-age=1", 0).unwrap();
    let tags = world.s3.send("GET", "/views/k", &[("tagging", "")], &[], b"");
    assert_eq!(
        (tags.all("Key"), tags.all("Value")),
        (strings(["colour", "shape"]), strings(["blue", "round"]))
    );
    assert_eq!(world.head("k").header("cache-control"), Some("max-age=1"));
    assert!(xattr::set(&world.file("k"), "user.s3.acl", b"everyone=full", 0).is_err());
    // A PUT replaces all of them; what else a mount has set stays private.
    xattr::set(&world.file("k"), "user.private", b"p", 0).unwrap();
    status(&world.put("k", b"y"), 200);
    assert!(xattr::get(&world.file("k"), "user.s3.meta.one").is_err());
    assert_eq!(world.head("k").header("x-amz-meta-one"), None);
}

/// XML can hold no control character: one name must not make a bucket unlistable.
#[test]
fn names_that_xml_cannot_hold_hide_nothing_else() {
    let world = World::new("controls");
    fs::create_dir(world.file("d\u{2}")).unwrap();
    for name in ["a", "a\u{1}", "b\u{1}", "c", "d\u{2}/x", "e"] {
        fs::write(world.file(name), name).unwrap();
    }
    let list = |query: &[(&str, &str)]| {
        let answer = world.s3.send("GET", "/views", query, &[], b"");
        status(&answer, 200);
        answer
    };
    let shown = ["a", "c", "e"];
    for query in [&[("list-type", "2")][..], &[][..], &[("versions", "")][..]] {
        assert_eq!(list(query).all("Key"), shown, "{query:?}");
    }
    let encoded = list(&[("list-type", "2"), ("encoding-type", "url")]).all("Key");
    assert_eq!(encoded, ["a", "a%01", "b%01", "c", "d%02/", "d%02/x", "e"]);
    // Page by page, each as full as it can be.
    let (mut after, mut found) = (String::new(), Vec::new());
    loop {
        let page = list(&[("delimiter", "/"), ("marker", &after), ("max-keys", "1")]);
        found.extend(page.all("Key"));
        match page.all("NextMarker").pop() {
            Some(next) => after = next,
            None => break,
        }
    }
    assert_eq!(found, shown);
    let asked = world.s3.send("GET", "/views", &[("prefix", "\u{1}")], &[], b"");
    assert_eq!((asked.status, asked.all("Code")), (400, vec!["InvalidArgument".into()]));
    let begun = world.s3.send("POST", "/views/a\u{1}", &[("uploads", "")], &[], b"");
    status(&begun, 400);
    status(&world.s3.send("POST", "/views/u", &[("uploads", "")], &[], b""), 200);
    assert_eq!(list(&[("uploads", "")]).all("Key"), ["u"]);
    assert_eq!(world.get("a\u{1}").body, b"a\x01");
}

#[test]
fn metadata_that_no_header_can_hold_is_counted() {
    let world = World::new("missing");
    status(&world.send("PUT", "k", &[("x-amz-meta-one", "1")], b"x"), 200);
    assert_eq!(world.head("k").header("x-amz-missing-meta"), None);
    xattr::set(&world.file("k"), "user.s3.meta.a b", b"v", 0).unwrap();
    xattr::set(&world.file("k"), "user.s3.meta.two", b"line\nline", 0).unwrap();
    xattr::set(&world.file("k"), "user.s3.header.content-type", b"text\nplain", 0).unwrap();
    for answer in [world.head("k"), world.get("k")] {
        status(&answer, 200);
        assert_eq!(answer.header("x-amz-missing-meta"), Some("1"));
        assert_eq!(answer.header("x-amz-meta-one"), Some("1"));
        // RFC 2047.
        assert_eq!(answer.header("x-amz-meta-two"), Some("=?UTF-8?B?bGluZQpsaW5l?="));
    }
}

fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

/// What a mount copies in, `rsync -a` and all, is what S3 gives out, and the other way round.
#[test]
fn a_tree_is_the_same_from_both_sides() {
    let world = World::new("tree");
    let here = world.scratch("here");
    for (index, name) in
        ["a", "a b", "a-b", "a.b", "a0", "ü/x", "d/e/f", "d/e.f", "%41"].iter().enumerate()
    {
        let path = here.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, support::rng::pattern(index as u64, index * 30_000)).unwrap();
    }
    run(Command::new("rsync").arg("-a").arg(format!("{}/", here.display())).arg(world.file("t")));
    let keys: Vec<String> = world.keys().into_iter().filter(|key| !key.ends_with('/')).collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!((keys.len(), &keys), (9, &sorted), "S3 lists in byte order");
    for key in keys {
        let name = key.strip_prefix("t/").unwrap();
        assert_eq!(world.get(&key).body, fs::read(here.join(name)).unwrap(), "{key}");
        status(&world.put(&format!("u/{name}"), &world.get(&key).body), 200);
    }
    run(Command::new("diff").arg("-r").arg(&here).arg(world.file("u")));
}

/// No key, no access, unless an access list says so; and what it says ends where it ends.
#[test]
fn access_lists_open_what_they_name_and_no_more() {
    let world = World::new("lists");
    status(&world.put("closed", b"c"), 200);
    status(&world.send("PUT", "open", &[("x-amz-acl", "public-read")], b"o"), 200);
    let anonymous = |path: &str| world.s3.fetch(path);
    assert_eq!(anonymous("/views/open").body, b"o");
    status(&anonymous("/views/closed"), 403);
    status(&anonymous("/views"), 403);
    status(&anonymous("/"), 403);
    // A missing key is told to those who may list.
    status(&anonymous("/views/none"), 403);
    let acl = world.s3.send("PUT", "/views", &[("acl", "")], &[("x-amz-acl", "public-read")], b"");
    status(&acl, 200);
    assert_eq!(anonymous("/views?list-type=2").all("Key"), ["closed", "open"]);
    status(&anonymous("/views/none"), 404);
    status(&anonymous("/views/closed"), 403);
    let host = &world.s3.address;
    let forged = format!(
        "PUT /views/new HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx"
    );
    status(&world.s3.exchange(forged.as_bytes()).unwrap(), 403);
    // A new PUT closes what the old one had opened.
    status(&world.put("open", b"closed now"), 200);
    status(&anonymous("/views/open"), 403);
    let shown = world.s3.send("GET", "/views", &[("acl", "")], &[], b"");
    assert_eq!(shown.all("Permission"), ["READ", "FULL_CONTROL"]);
}

#[test]
fn nobody_comes_in_without_a_key() {
    let world = World::new("auth");
    status(&world.put("k", b"secret"), 200);
    let forged = Client { secret: "x".repeat(40), ..world.s3.clone() };
    let refused = forged.send("GET", "/views/k", &[], &[], b"");
    assert_eq!((refused.status, refused.all("Code")), (403, vec!["SignatureDoesNotMatch".into()]));
    let unknown = Client { key: "BFNOBODY".into(), ..forged };
    status(&unknown.send("GET", "/views/k", &[], &[], b""), 403);
    let policy = world.s3.send("PUT", "/views", &[("policy", "")], &[], b"{}");
    assert_eq!((policy.status, policy.all("Code")), (501, vec!["NotImplemented".into()]));
    assert!(world.dir.path().join("log").exists());
}

/// awscli 1.46 takes a later answer of such a connection for this one.
#[test]
fn an_empty_put_that_expects_to_go_on_ends_its_connection() {
    let world = World::new("expect");
    let head = world.s3.keep_alive_head("PUT", "/views/empty", 0);
    let head = String::from_utf8(head)
        .unwrap()
        .replace(" HTTP/1.1\r\n", " HTTP/1.1\r\nexpect: 100-continue\r\n");
    let answer = world.s3.exchange(head.as_bytes()).unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}
