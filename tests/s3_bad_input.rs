//! What S3 clients can send that makes no sense: an error of S3 in bounded time, nothing half-made that anybody sees, and a
//! node that goes on.
#![cfg(feature = "s3")]

mod support;

use std::io::{Read, Write};
use std::time::Duration;

use bucketfs::types::ChecksumKind;
use support::http::Answer;
use support::s3_frames::{Frames, sum};
use support::s3_world::{World, is_long};
use support::wait::now;
use support::xattr;

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.all("Code")),
        (status, vec![code.to_owned()]),
        "{}",
        answer.text()
    );
    assert_eq!(answer.all("RequestId"), [answer.header("x-amz-request-id").unwrap()]);
}

#[test]
fn documents_and_numbers_that_cannot_be() {
    let world = World::new("documents");
    let post = |query: &[(&str, &str)], body: &str| {
        world.s3.send("POST", "/views", query, &[], body.as_bytes())
    };
    let deep = "<Delete>".repeat(10_000);
    for body in ["", "<", "<Delete>", "<Delete></Delete>", "not xml", "<Other/>", deep.as_str()] {
        let answer = post(&[("delete", "")], body);
        assert!(answer.status == 400, "{}: {}", answer.status, answer.text());
    }
    let many = "<Object><Key>k</Key></Object>".repeat(1001);
    refused(&post(&[("delete", "")], &format!("<Delete>{many}</Delete>")), 400, "MalformedXML");
    let huge = "9".repeat(30);
    for (query, value) in [("max-keys", huge.as_str()), ("max-keys", "-1"), ("max-keys", "many")] {
        let answer =
            world.s3.send("GET", "/views", &[("list-type", "2"), (query, value)], &[], b"");
        assert_eq!(answer.status, 400, "{query}={value}: {}", answer.text());
    }
    let upload = world.s3.send("POST", "/views/k", &[("uploads", "")], &[], b"");
    let id = upload.all("UploadId").remove(0);
    for number in ["0", "10001", "-1", huge.as_str(), "one"] {
        let query = [("partNumber", number), ("uploadId", id.as_str())];
        let answer = world.s3.send("PUT", "/views/k", &query, &[], b"x");
        assert_eq!(answer.status, 400, "{number}: {}", answer.text());
        let copy = [("x-amz-copy-source", "/views/none")];
        let answer = world.s3.send("PUT", "/views/k", &query, &copy, b"");
        assert_eq!(answer.status, 400, "{number}: {}", answer.text());
    }
    let unknown = [("partNumber", "1"), ("uploadId", "no-such-upload")];
    refused(&world.s3.send("PUT", "/views/k", &unknown, &[], b"x"), 404, "NoSuchUpload");
    for token in ["!", "////", "AA=="] {
        let query = [("list-type", "2"), ("continuation-token", token)];
        let answer = world.s3.send("GET", "/views", &query, &[], b"");
        assert!(answer.status == 400 || answer.all("Key").is_empty(), "{token}: {}", answer.text());
    }
    assert!(world.keys().is_empty());
}

/// The log names what went wrong by the id that the client was told.
#[test]
fn an_error_is_found_in_the_log() {
    let world = World::with("logged", &["--log-level", "debug"]);
    let answer = world.get("none");
    refused(&answer, 404, "NoSuchKey");
    let id = answer.header("x-amz-request-id").unwrap();
    let log = std::fs::read_to_string(world.dir.path().join("log")).unwrap();
    let mut lines = log.lines().filter(|line| line.contains(id));
    assert!(lines.any(|line| line.contains("GET /views/none: 404")), "{log}");
}

/// XML holds no control characters, so that no answer can repeat one: a client's fault, and not one of the node.
#[test]
fn control_characters_are_refused() {
    let world = World::new("controls");
    for (name, value) in [("x-id", "\u{1}"), ("max-keys", "\u{1}")] {
        let answer = world.s3.send("GET", "/views", &[(name, value)], &[], b"");
        assert_eq!(answer.status, 400, "{name}: {}", answer.text());
        assert_eq!(world.s3.send("HEAD", "/views", &[(name, value)], &[], b"").body, b"");
    }
    let answer = world.s3.send("GET", "/views", &[("max-keys", "\u{1}")], &[], b"");
    refused(&answer, 400, "InvalidRequest");

    let tagged = world.send("PUT", "k", &[("x-amz-tagging", "a=%01")], b"x");
    refused(&tagged, 400, "InvalidTag");
    assert_eq!(world.put("k", b"x").status, 200);
    let tag = "<Tagging><TagSet><Tag><Key>a\u{1}</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let tagged = world.s3.send("PUT", "/views/k", &[("tagging", "")], &[], tag.as_bytes());
    assert_eq!(tagged.status, 400, "{}", tagged.text());
    xattr::set(&world.file("k"), "user.s3.tag.told", b"yes", 0).unwrap();
    xattr::set(&world.file("k"), "user.s3.tag.not", b"\x01", 0).unwrap();
    let tags = world.s3.send("GET", "/views/k", &[("tagging", "")], &[], b"");
    assert_eq!((tags.status, tags.all("Key")), (200, vec!["told".to_owned()]), "{}", tags.text());

    for odd in ["a\u{1}", "a&#1;"] {
        let list = format!(
            "<Delete><Object><Key>k</Key></Object><Object><Key>{odd}</Key></Object></Delete>"
        );
        let answer = world.s3.send("POST", "/views", &[("delete", "")], &[], list.as_bytes());
        refused(&answer, 400, "MalformedXML");
        assert_eq!(world.head("k").status, 200, "{odd:?}: something was deleted");
    }
}

#[test]
fn keys_and_ranges_that_cannot_be() {
    let world = World::new("keys");
    for key in ["a//b", "../x", "a/../b", "./a", "a/."] {
        let answer = world.put(key, b"x");
        assert_eq!(answer.status, 400, "{key}: {}", answer.text());
    }
    refused(&world.put(&"k".repeat(256), b"x"), 400, "KeyTooLongError");
    let long = format!("{}k", "d/".repeat(600));
    refused(&world.put(&long, b"x"), 400, "KeyTooLongError");
    assert!(world.keys().is_empty());
    assert_eq!(world.put("k", b"0123456789").status, 200);
    let get = |range: &str| world.send("GET", "k", &[("range", range)], b"");
    for (range, status, body) in [
        ("bytes=0-0", 206, "0"),
        ("bytes=-3", 206, "789"),
        ("bytes=8-99999999999", 206, "89"),
        ("bytes=10-", 416, ""),
        ("bytes=-0", 416, ""),
    ] {
        let got = get(range);
        assert_eq!(got.status, status, "{range}");
        assert!(status == 416 || got.body == body.as_bytes(), "{range}: {}", got.text());
    }
    // RFC 9110 section 14.2: as if there was none. What is signed has to stay, and s3s refuses it.
    let unsigned = |header: &str| {
        let head = world.s3.keep_alive_head("GET", "/views/k", 0);
        let lines = format!(" HTTP/1.1\r\nconnection: close\r\n{header}\r\n");
        let head = String::from_utf8(head).unwrap().replace(" HTTP/1.1\r\n", &lines);
        world.s3.exchange(head.as_bytes()).unwrap()
    };
    for range in ["bytes=5-2", "bytes=a-b", "bytes=", "bytes=--1", "lines=1-2", "bytes=0-1,3-4"] {
        assert_eq!(get(range).status, 400, "{range}");
        let got = unsigned(&format!("range: {range}"));
        assert_eq!((got.status, got.text().as_str()), (200, "0123456789"), "{range}");
    }
    assert_eq!(unsigned("range: bytes=1-2").body, b"12");
    let etag = world.head("k").header("etag").unwrap().to_owned();
    for (header, status) in [
        ("if-none-match: \"a\", \"b\"".to_owned(), 200),
        (format!("if-none-match: \"a\", {etag}"), 304),
        (format!("if-match: \"a\", {etag}"), 200),
        ("if-match: \"a\", \"b\"".to_owned(), 412),
        ("if-none-match: \"".to_owned(), 200),
        ("if-match: \"".to_owned(), 400),
        ("if-modified-since: yesterday".to_owned(), 200),
    ] {
        assert_eq!(unsigned(&header).status, status, "{header}");
    }
    assert_eq!(world.put("empty", b"").status, 200);
    refused(&world.send("GET", "empty", &[("range", "bytes=-5")], b""), 416, "InvalidRange");
    let far = format!("bytes={}-{}", "9".repeat(40), "9".repeat(41));
    assert!([200, 400, 416].contains(&get(&far).status));
}

/// Sums that do not fit, frames that are none, trailers that lie, and clients that hang up: no object.
#[test]
fn bodies_that_are_not_what_they_say() {
    let world = World::new("bodies");
    let md5 = world.send("PUT", "k", &[("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==")], b"x");
    refused(&md5, 400, "BadDigest");
    refused(&world.send("PUT", "k", &[("content-md5", "x")], b"x"), 400, "InvalidDigest");
    let crc = world.send("PUT", "k", &[("x-amz-checksum-crc32", "AAAAAA==")], b"x");
    refused(&crc, 400, "BadDigest");
    let headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "5"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ];
    let framed = |body: &str, cut| world.s3.put_framed("/views/k", &headers, body.as_bytes(), cut);
    // The CRC of "hello" is 3610a686.
    let right = "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    for body in [
        "5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n",
        "4\r\nhell\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n",
        "zz\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        // What was promised does not come.
        "5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nx-amz-checksum-sha1:qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\n\r\n",
        "hello",
    ] {
        let answer = framed(body, 0);
        assert_eq!(answer.status, 400, "{body:?}: {}", answer.text());
        assert_eq!(world.head("k").status, 404, "{body:?} has made an object");
    }
    refused(&framed("5\r\nhello\r\n0\r\n\r\n", 0), 400, "MalformedTrailerError");
    let shouted = headers.map(|(name, value)| (name, value.replace("crc32", "CRC32")));
    let shouted = [0, 1, 2].map(|at| (shouted[at].0, shouted[at].1.as_str()));
    assert_eq!(world.s3.put_framed("/views/k", &shouted, right.as_bytes(), 0).status, 200);
    assert_eq!(framed(right, 0).status, 200);
    assert_eq!(world.get("k").body, b"hello");
    assert_eq!(world.delete("k").status, 204);
    for sent in [0, 1, 100_000, 5_000_000] {
        let mut stream = world.s3.connect().unwrap();
        stream.write_all(&world.s3.put_head("/views/k", 6_000_000)).unwrap();
        stream.write_all(&vec![7; sent]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drop(stream.read_to_end(&mut Vec::new()));
        assert_eq!(world.head("k").status, 404, "{sent} bytes of more have made an object");
    }
    assert!(world.keys().is_empty() && !world.file("k").exists());
}

/// Each frame is signed with the one before: none can be changed, left out or put elsewhere.
#[test]
fn frames_are_what_was_signed() {
    let world = World::new("signed-frames");
    let (first, second) = (vec![b'a'; 70_000], vec![b'b'; 70_000]);
    let pieces = [first.as_slice(), &second, b"the rest"];
    let whole = pieces.concat();
    let sum = sum(ChecksumKind::Crc32, &whole);
    let after = |body: &[u8], text: &[u8]| {
        let last = body.windows(text.len()).rposition(|part| part == text);
        last.expect("a part of the body") + text.len()
    };
    // "11170;chunk-signature=" and 64 digits before a piece, and what ends both.
    let frame = 22 + 64 + 2 + first.len() + 2;
    type Spoil<'a> = &'a dyn Fn(&mut Vec<u8>);
    let changes: [(&str, Spoil<'_>); 4] = [
        ("a byte", &|body| body[frame + 100] ^= 1),
        ("a signature", &|body| body[frame + 40] ^= 1),
        ("another order", &|body| body[..2 * frame].rotate_left(frame)),
        ("the last signature", &|body| {
            let place = after(body, b"signature") + 20;
            body[place] ^= 1;
        }),
    ];
    for trailer in [None, Some(("x-amz-checksum-crc32", sum.as_str()))] {
        let frames = Frames { pieces: &pieces, trailer };
        for (what, change) in changes {
            let answer = world.s3.put_signed("/views/k", &frames, change);
            assert!([400, 403].contains(&answer.status), "{what}: {}", answer.text());
            assert_eq!(world.head("k").status, 404, "{what} has made an object");
        }
        let answer = world.s3.put_signed("/views/k", &frames, |_| {});
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(world.get("k").body, whole);
        assert_eq!(world.delete("k").status, 204);
    }
}

#[test]
fn heads_and_signatures_that_are_none() {
    let world = World::new("heads");
    let host = world.s3.address.clone();
    let raw = |lines: &str| {
        let request = format!("{lines}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        world.s3.exchange(request.as_bytes())
    };
    for auth in [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, SignedHeaders=, Signature=",
        "AWS4-HMAC-SHA256 Credential=a/b/c/d/e/f/g, SignedHeaders=host, Signature=zz",
        "Bearer x",
        "AWS x:y",
        "\u{7f}",
    ] {
        let answer = raw(&format!("GET /views/k HTTP/1.1\r\nauthorization: {auth}")).unwrap();
        assert!([400, 403].contains(&answer.status), "{auth}: {} {}", answer.status, answer.text());
    }
    for query in [
        "X-Amz-Signature=0",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=x&X-Amz-Signature=00&X-Amz-Date=x&X-Amz-Expires=99999999999999&X-Amz-SignedHeaders=host",
        "Signature=x&AWSAccessKeyId=y&Expires=1",
        "%zz=%zz",
    ] {
        let answer = raw(&format!("GET /views/k?{query} HTTP/1.1")).unwrap();
        assert!([400, 403].contains(&answer.status), "{query}: {}", answer.status);
    }
    let large = format!("GET /views HTTP/1.1\r\nx-large: {}", "x".repeat(200_000));
    assert!(raw(&large).is_ok_and(|answer| [400, 431].contains(&answer.status)));
    let many: String = (0..500).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert!(
        raw(&format!("GET /views HTTP/1.1\r\n{}", many.trim_end())).is_ok_and(|a| a.status >= 400)
    );
    for line in [
        "GET",
        "GET / HTTP/9.9",
        "\0\0\0\0",
        "GET  / HTTP/1.1",
        "PUT /views/k HTTP/1.1\r\ncontent-length: -1",
    ] {
        if let Ok(answer) = raw(line) {
            assert!(answer.status >= 400, "{line:?}: {}", answer.status);
        }
    }
    let twice = "PUT /views/k HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2";
    assert!(raw(twice).map_or(true, |answer| answer.status >= 400));
    assert_eq!(world.put("k", b"still here").status, 200);
}

/// What comes without a signature is in memory only as far as somebody may be let to send it.
#[test]
fn bodies_of_nobody_are_not_held() {
    let world = World::new("nobody");
    let host = world.s3.address.clone();
    let ask = |head: &str, body: &[u8]| {
        let head = format!("{head}\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        world.s3.exchange(&[head.as_bytes(), body].concat()).unwrap()
    };
    let form = "content-type: multipart/form-data; boundary=b";
    // Nothing of these bodies comes: an answer shows that nobody waits for them.
    let endless = format!("POST /views HTTP/1.1\r\n{form}\r\ntransfer-encoding: chunked");
    refused(&ask(&endless, b""), 411, "MissingContentLength");
    // s3s takes a type that is no ASCII for a form too; it held one that never ends in memory.
    let foreign = "content-type: Multipart/Form-Data; boundary=b; x=\"é\"";
    let endless = format!("POST /any HTTP/1.1\r\n{foreign}\r\ntransfer-encoding: chunked");
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
    let chunk = format!("{:x}\r\n{part}\r\n", part.len());
    refused(&ask(&endless, chunk.as_bytes()), 411, "MissingContentLength");
    let document = |line: &str, len| ask(&format!("{line} HTTP/1.1\r\ncontent-length: {len}"), b"");
    refused(&document("POST /views?delete", 4_000_000), 403, "AccessDenied");
    refused(&document("POST /views/k?uploadId=x", 4_000_000), 403, "AccessDenied");
    refused(&document("PUT /views?acl", 4_000_000), 400, "MaxMessageLengthExceeded");
    let endless = "PUT /views?tagging HTTP/1.1\r\ntransfer-encoding: chunked";
    refused(&ask(endless, b""), 411, "MissingContentLength");

    let post = |fields: &[(&str, &str)], file: &[u8]| {
        let field = |(name, value): &(&str, &str)| {
            format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let head = fields.iter().map(field).collect::<String>()
            + "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
        let body = [head.as_bytes(), file, b"\r\n--b--\r\n"].concat();
        let len = body.len();
        ask(&format!("POST /views HTTP/1.1\r\n{form}\r\ncontent-length: {len}"), &body)
    };
    let file = vec![7; 300_000];
    refused(&post(&[("key", "k")], &file), 403, "AccessDenied");
    let open = [("x-amz-acl", "public-read-write")];
    assert_eq!(world.s3.send("PUT", "/views", &[("acl", "")], &open, b"").status, 200);
    assert_eq!(post(&[("key", "k")], &file).status, 204);
    assert_eq!(world.get("k").body, file);
    let policy = "x".repeat(20_000);
    assert_eq!(post(&[("key", "k"), ("x-ignore-it", &policy)], b"new").status, 204);
    assert_eq!(world.get("k").body, b"new");
    let long = "x".repeat(100_000);
    refused(&post(&[("key", "k"), ("x-ignore-it", &long)], b""), 400, "MalformedPOSTRequest");
}

/// Clients that say little, or nothing, hold a connection and no more: others are served, and they are let go in time.
#[test]
fn clients_that_say_nothing_are_let_go() {
    let world = World::new("silence");
    let mut silent: Vec<_> = (0..200).map(|_| world.s3.connect().unwrap()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        let head: &[u8] = if number % 2 == 0 { b"GET /views HT" } else { b"" };
        stream.write_all(head).unwrap();
    }
    let mut body = world.s3.connect().unwrap();
    body.write_all(&world.s3.put_head("/views/slow", 100)).unwrap();
    body.write_all(b"ten bytes!").unwrap();
    let start = now();
    assert_eq!(world.put("k", b"served").status, 200);
    assert!(start.elapsed() < Duration::from_secs(20), "silent clients keep others waiting");
    if !is_long() {
        return;
    }
    let mut answer = Vec::new();
    body.read_to_end(&mut answer).unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("RequestTimeout"));
    assert_eq!(world.head("slow").status, 404);
    for stream in &mut silent {
        drop(stream.read_to_end(&mut Vec::new()));
    }
    assert!(start.elapsed() < Duration::from_secs(100), "a silent client is kept for long");
}
