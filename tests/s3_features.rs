//! What S3 offers besides objects, on the running program: forms, hosts that name buckets, conditions, checksums,
//! and what clients are told when they ask for what is not there.
#![cfg(feature = "s3")]

mod support;

use bucketfs::types::{ChecksumKind, from_base64};
use support::http::Answer;
use support::rng::pattern;
use support::s3::Client;
use support::s3_frames::sum;
use support::s3_world::World;

fn status(answer: &Answer, code: u16) {
    assert_eq!(answer.status, code, "{}", answer.text());
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, answer.all("Code")),
        (status, vec![code.to_owned()]),
        "{}",
        answer.text()
    );
}

/// Posts a form to the bucket, with a file.
fn post(world: &World, fields: &[(String, String)], file: &str) -> Answer {
    let mut body = String::new();
    for (name, value) in fields {
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.push_str(&format!("{head}{value}\r\n"));
    }
    let head = "content-disposition: form-data; name=\"file\"; filename=\"f\"";
    body.push_str(&format!("--b\r\n{head}\r\n\r\n{file}\r\n--b--\r\n"));
    let (host, len) = (&world.s3.address, body.len());
    let head = format!(
        "POST /views HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\
         content-type: multipart/form-data; boundary=b\r\ncontent-length: {len}\r\n\r\n"
    );
    world.s3.exchange(&[head.as_bytes(), body.as_bytes()].concat()).unwrap()
}

/// A request without a signature.
fn bare(world: &World, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut lines = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", world.s3.address);
    for (name, value) in headers {
        lines.push_str(&format!("{name}: {value}\r\n"));
    }
    world.s3.exchange(format!("{lines}connection: close\r\n\r\n").as_bytes()).unwrap()
}

/// A form for any key, signed by a client, with fields besides.
fn form(client: &Client, valid: i64, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let condition = |(name, _): &(&str, &str)| format!("[\"starts-with\", \"${name}\", \"\"]");
    let conditions: Vec<String> = more.iter().map(condition).collect();
    let conditions: Vec<&str> = conditions.iter().map(String::as_str).collect();
    let mut fields = client.form("views", &conditions, valid);
    fields.extend(more.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    fields
}

/// A page with a form may be hours old when somebody sends it.
#[test]
fn a_form_is_good_until_its_policy_ends() {
    let world = World::new("forms");
    let hour = Client { offset: -3600, ..world.s3.clone() };
    status(&post(&world, &form(&hour, 3600, &[("key", "k")]), "by form"), 204);
    assert_eq!(world.get("k").body, b"by form");
    refused(&post(&world, &form(&hour, -60, &[("key", "k")]), ""), 403, "AccessDenied");
    let month = Client { offset: -30 * 86_400, ..world.s3.clone() };
    let answer = post(&world, &form(&month, 3600, &[("key", "k")]), "");
    refused(&answer, 403, "RequestTimeTooSkewed");
    // Any other request still has to be of the moment, whatever it calls itself.
    let headers = [("content-type", "multipart/form-data; b")];
    let answer = hour.send("POST", "/views/u", &[("uploads", "")], &headers, b"");
    refused(&answer, 403, "RequestTimeTooSkewed");
}

/// Whoever does not meet a policy is denied access; a policy that is none is a bad request.
#[test]
fn a_form_that_breaks_its_policy_is_denied() {
    let world = World::new("policies");
    let conditions = ["[\"starts-with\", \"$key\", \"mine/\"]", "{\"acl\":\"private\"}"];
    let form = |key: &str, acl: &str| {
        let mut fields = world.s3.form("views", &conditions, 60);
        fields.extend([("key".into(), key.into()), ("acl".into(), acl.into())]);
        post(&world, &fields, "x")
    };
    status(&form("mine/k", "private"), 204);
    for (key, acl) in [("yours/k", "private"), ("mine/k", "public-read")] {
        let answer = form(key, acl);
        refused(&answer, 403, "AccessDenied");
        assert!(answer.all("Message")[0].starts_with("Invalid according to Policy"));
        assert_eq!(answer.all("RequestId").len(), 1);
    }
    let none = [("key", "k"), ("policy", "bm9uZQ==")];
    let fields: Vec<_> = none.map(|(name, value)| (name.into(), value.into())).to_vec();
    refused(&post(&world, &fields, "x"), 400, "InvalidPolicyDocument");
}

/// Amazon S3 names the access list and the tags of a form otherwise than their headers.
#[test]
fn a_form_names_its_list_and_tags() {
    let world = World::new("fields");
    let form = |more: &[(&str, &str)]| {
        let fields = [&[("key", "k")], more].concat();
        post(&world, &form(&world.s3, 60, &fields), "x")
    };
    let tags = "<Tagging><TagSet><Tag><Key>a b</Key><Value>&amp;c</Value></Tag></TagSet></Tagging>";
    status(&bare(&world, "GET", "/views/k", &[]), 403);
    status(&form(&[("acl", "public-read"), ("tagging", tags)]), 204);
    status(&bare(&world, "GET", "/views/k", &[]), 200);
    let kept = world.s3.send("GET", "/views/k", &[("tagging", "")], &[], b"");
    assert_eq!((kept.all("Key"), kept.all("Value")), (vec!["a b".into()], vec!["&amp;c".into()]));
    status(&form(&[("x-amz-acl", "private"), ("x-amz-tagging", "d=e")]), 204);
    status(&bare(&world, "GET", "/views/k", &[]), 403);
    let eleven = "<Tag><Key>k</Key><Value/></Tag>".repeat(11);
    let eleven = format!("<Tagging><TagSet>{eleven}</TagSet></Tagging>");
    for (fields, code) in [
        (vec![("acl", "everybody")], "InvalidArgument"),
        (vec![("acl", "private"), ("x-amz-acl", "private")], "InvalidArgument"),
        (vec![("tagging", "a=b")], "MalformedXML"),
        (vec![("tagging", eleven.as_str())], "InvalidTag"),
        (vec![("tagging", tags), ("x-amz-tagging", "a=b")], "InvalidArgument"),
    ] {
        refused(&form(&fields), 400, code);
    }
    let kept = world.s3.send("GET", "/views/k", &[("tagging", "")], &[], b"");
    assert_eq!(kept.all("Key"), ["d"]);
}

/// A page goes on by what it is told of the object: tag and address, in three forms.
#[test]
fn a_form_is_answered_with_tag_and_address() {
    let world = World::new("answers");
    let form = |more: &[(&str, &str)]| {
        let fields = [&[("key", "d/a b")], more].concat();
        post(&world, &form(&world.s3, 60, &fields), "x")
    };
    let etag = "\"9dd4e461268c8034f5c8564e155c67a6\"";
    let place = format!("{}/views/d/a%20b", world.endpoint());
    for code in ["200", "201", "204"] {
        let answer = form(&[("success_action_status", code)]);
        status(&answer, code.parse().unwrap());
        assert_eq!(answer.header("etag"), Some(etag), "{code}");
        assert_eq!(answer.header("location"), Some(place.as_str()), "{code}");
    }
    let document = form(&[("success_action_status", "201")]);
    assert_eq!(document.all("ETag"), [etag.replace('"', "&quot;")]);
    let answer = form(&[("success_action_redirect", "http://page/done?x=1")]);
    status(&answer, 303);
    assert_eq!(
        answer.header("location"),
        Some(
            "http://page/done?x=1&bucket=views&key=d%2Fa+b&etag=%229dd4e461268c8034f5c8564e155c67a6%22"
        )
    );
}

/// No way to make an object takes a key that the others refuse.
#[test]
fn keys_have_one_length_in_forms_too() {
    let world = World::new("lengths");
    let (longest, long) = ("d/".repeat(511) + "kk", "d/".repeat(511) + "kkk");
    let form = |key: &str| post(&world, &form(&world.s3, 60, &[("key", key)]), "x");
    status(&form(&longest), 204);
    status(&world.delete(&longest), 204);
    refused(&form(&long), 400, "KeyTooLongError");
    assert!(world.keys().is_empty());
}

/// `s3.domain` makes hosts below it buckets, and nothing else: a proxy, a service's name or the domain itself have
/// buckets in the path.
#[test]
fn a_domain_gives_buckets_hosts_of_their_own() {
    let world = World::with("hosts", &["--s3-domain", "s3.example.com"]);
    status(&world.put("d/k", b"by path"), 200);
    let ask = |host: &str, method: &str, path: &str, body: &[u8]| {
        let named = Client { address: host.to_owned(), ..world.s3.clone() };
        world.s3.exchange(&named.signed(method, path, &[], &[], body)).unwrap()
    };
    for host in ["node", "node_1:9000", "localhost", "s3.example.com", "s3.example.com:9000"] {
        let got = ask(host, "GET", "/views/d/k", b"");
        assert_eq!((got.status, got.body.as_slice()), (200, &b"by path"[..]), "{host}");
        assert_eq!(ask(host, "GET", "/", b"").all("Name"), ["views"], "{host}");
    }
    for host in ["views.s3.example.com", "Views.S3.example.com:9000"] {
        assert_eq!(ask(host, "GET", "/d/k", b"").body, b"by path", "{host}");
        assert_eq!(ask(host, "GET", "/", b"").all("Key"), ["d/k"], "{host}");
        status(&ask(host, "PUT", "/views/k", b"by host"), 200);
        assert_eq!(world.get("views/k").body, b"by host");
        status(&ask(host, "DELETE", "/views/k", b""), 204);
    }
    status(&ask("other.s3.example.com", "GET", "/d/k", b""), 404);
}

/// An empty delimiter is none: no upload was shown with one.
#[test]
fn uploads_are_listed_with_an_empty_delimiter() {
    let world = World::new("delimiter");
    status(&world.s3.send("POST", "/views/d/u", &[("uploads", "")], &[], b""), 200);
    let list = |query: &[(&str, &str)]| world.s3.send("GET", "/views", query, &[], b"");
    assert_eq!(list(&[("uploads", ""), ("delimiter", "")]).all("Key"), ["d/u"]);
    let rolled = list(&[("uploads", ""), ("delimiter", "/")]);
    assert!(rolled.all("Key").is_empty() && rolled.text().contains("<Prefix>d/</Prefix>"));
}

/// An object that was put whole is its own first part.
#[test]
fn the_only_part_is_the_object() {
    let world = World::new("onepart");
    status(&world.send("PUT", "k", &[("x-amz-checksum-crc32", "NhCmhg==")], b"hello"), 200);
    for method in ["GET", "HEAD"] {
        let ask = |number: &str| {
            let headers = [("x-amz-checksum-mode", "ENABLED")];
            world.s3.send(method, "/views/k", &[("partNumber", number)], &headers, b"")
        };
        let one = ask("1");
        status(&one, 206);
        assert_eq!(one.header("content-range"), Some("bytes 0-4/5"));
        assert_eq!(one.header("content-length"), Some("5"));
        assert_eq!(one.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
        assert_eq!(one.header("x-amz-mp-parts-count"), None);
        status(&ask("2"), 416);
    }
}

/// A download that goes on takes the rest of the version it began with, or all of another one.
#[test]
fn a_range_of_another_version_is_not_sent() {
    let world = World::new("ifrange");
    status(&world.put("k", b"0123456789"), 200);
    let head = world.head("k");
    let (etag, date) = (head.header("etag").unwrap(), head.header("last-modified").unwrap());
    for method in ["GET", "HEAD"] {
        let ask = |version: &str| {
            let answer =
                world.send(method, "k", &[("range", "bytes=8-"), ("if-range", version)], b"");
            (answer.status, answer.header("content-length").unwrap().to_owned())
        };
        for same in [etag, date] {
            assert_eq!(ask(same), (206, "2".into()), "{same}");
        }
        let weak = format!("W/{etag}");
        for other in ["\"another\"", weak.as_str(), "Thu, 01 Jan 1970 00:00:00 GMT"] {
            assert_eq!(ask(other), (200, "10".into()), "{other}");
        }
    }
}

/// Whoever asks for too much is told how much there is.
#[test]
fn a_range_behind_the_end_tells_the_size() {
    let world = World::new("size");
    status(&world.put("k", b"0123456789"), 200);
    let range = [("range", "bytes=10-20")];
    for answer in [world.send("GET", "k", &range, b""), world.send("HEAD", "k", &range, b"")] {
        status(&answer, 416);
        assert_eq!(answer.header("content-range"), Some("bytes */10"));
    }
    let answer = world.send("GET", "k", &range, b"");
    refused(&answer, 416, "InvalidRange");
    assert_eq!(answer.header("content-type"), Some("application/xml"));
    assert_eq!(answer.all("ActualObjectSize"), ["10"]);
    assert_eq!(answer.all("RangeRequested"), ["bytes=10-20"]);
    assert_eq!(answer.all("RequestId").len(), 1);
}

/// Whoever signs a request chooses headers of its answer; nobody else does.
#[test]
fn answers_have_the_headers_a_signed_request_asks_for() {
    let world = World::new("overrides");
    let headers = [("content-type", "image/png"), ("x-amz-acl", "public-read")];
    status(&world.send("PUT", "k", &headers, b"x"), 200);
    let query = [
        ("response-cache-control", "no-store"),
        ("response-content-disposition", "attachment; filename=\"a b\""),
        ("response-content-encoding", "identity"),
        ("response-content-language", "de"),
        ("response-content-type", "text/plain"),
        ("response-expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ];
    for method in ["GET", "HEAD"] {
        let answer = world.s3.send(method, "/views/k", &query, &[], b"");
        status(&answer, 200);
        for (name, value) in query {
            let name = name.strip_prefix("response-").unwrap();
            assert_eq!(answer.header(name), Some(value), "{method} {name}");
        }
        let bad = [("response-content-type", "text\u{1}")];
        status(&world.s3.send(method, "/views/k", &bad, &[], b""), 400);
        status(&bare(&world, method, "/views/k", &[]), 200);
        status(&bare(&world, method, "/views/k?response-content-type=text/html", &[]), 400);
    }
}

/// Begins an upload, stores its parts and completes it; answers what was answered then, and the parts' answers.
fn multipart(
    world: &World,
    key: &str,
    begin: &[(&str, &str)],
    parts: &[&[u8]],
) -> (Answer, Vec<Answer>) {
    let path = format!("/views/{key}");
    let begun = world.s3.send("POST", &path, &[("uploads", "")], begin, b"");
    status(&begun, 200);
    let id = begun.all("UploadId").remove(0);
    let (mut list, mut stored) = (String::new(), Vec::new());
    for (number, bytes) in (1..).zip(parts) {
        let number = format!("{number}");
        let query = [("partNumber", number.as_str()), ("uploadId", id.as_str())];
        let part = world.s3.send("PUT", &path, &query, &[], bytes);
        status(&part, 200);
        let etag = part.header("etag").unwrap();
        list.push_str(&format!(
            "<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        ));
        stored.push(part);
    }
    let list = format!("<CompleteMultipartUpload>{list}</CompleteMultipartUpload>");
    (world.s3.send("POST", &path, &[("uploadId", &id)], &[], list.as_bytes()), stored)
}

/// Some clients go on with the address that a completion answers.
#[test]
fn a_completion_tells_where_the_object_is() {
    let world = World::new("location");
    let (done, _) = multipart(&world, "d/a b", &[], &[b"part"]);
    status(&done, 200);
    assert_eq!(done.all("Location"), [format!("{}/views/d/a%20b", world.endpoint())]);
}

/// Amazon's clients name the source by its key alone.
#[test]
fn an_object_is_renamed_by_its_key() {
    let world = World::new("sources");
    status(&world.put("dir/a b", b"moved"), 200);
    let rename = |from: &str, to: &str| {
        let source = [("x-amz-rename-source", from)];
        world.s3.send("PUT", &format!("/views/{to}"), &[("renameObject", "")], &source, b"")
    };
    status(&rename("dir/a%20b", "dir/c"), 200);
    status(&rename("/views/dir/c", "views/d"), 200);
    status(&rename("views/d", "e"), 200);
    assert_eq!(world.get("e").body, b"moved");
    refused(&rename("/other/e", "f"), 400, "InvalidArgument");
    refused(&rename("none", "f"), 404, "NoSuchKey");
}

/// What is not there is refused by all that make an object, not taken and forgotten.
#[test]
fn locks_and_keys_of_encryption_are_refused() {
    let world = World::new("demands");
    status(&world.put("k", b"x"), 200);
    let copy = ("x-amz-copy-source", "/views/k");
    for demand in [
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00Z"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256"),
        ("x-amz-storage-class", "GLACIER"),
    ] {
        let begun = world.s3.send("POST", "/views/new", &[("uploads", "")], &[demand], b"");
        for answer in [
            world.send("PUT", "new", &[demand], b"x"),
            world.send("PUT", "new", &[copy, demand], b""),
            begun,
        ] {
            refused(&answer, 501, "NotImplemented");
        }
    }
    // A key that nothing is encrypted with is no good for any request.
    let key = ("x-amz-server-side-encryption-customer-algorithm", "AES256");
    let of_source = ("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256");
    let begun = world.s3.send("POST", "/views/new", &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    let (upload, part) = (("uploadId", id.as_str()), ("partNumber", "1"));
    let attributes = ("x-amz-object-attributes", "ETag");
    for (method, path, query, headers) in [
        ("GET", "/views/k", vec![], vec![key]),
        ("GET", "/views/k", vec![("attributes", "")], vec![attributes, key]),
        ("PUT", "/views/new", vec![upload, part], vec![key]),
        ("PUT", "/views/new", vec![upload, part], vec![copy, key]),
        ("PUT", "/views/new", vec![upload, part], vec![copy, of_source]),
        ("PUT", "/views/new", vec![], vec![copy, of_source]),
    ] {
        refused(&world.s3.send(method, path, &query, &headers, b""), 501, "NotImplemented");
    }
    status(&world.send("HEAD", "k", &[key], b""), 501);
    let list = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>\
                </CompleteMultipartUpload>";
    let complete = world.s3.send("POST", "/views/new", &[upload], &[key], list.as_bytes());
    refused(&complete, 501, "NotImplemented");
    assert_eq!(world.keys(), ["k"]);
}

/// A copy takes over what its directives say; one onto itself has to change something.
#[test]
fn a_copy_takes_over_what_its_directives_say() {
    let world = World::new("copies");
    let kept = [
        ("cache-control", "no-store"),
        ("content-type", "image/png"),
        ("x-amz-meta-one", "1"),
        ("x-amz-tagging", "colour=blue"),
        ("x-amz-website-redirect-location", "/old"),
    ];
    status(&world.send("PUT", "k", &kept, b"x"), 200);
    let copy = |to: &str, more: &[(&str, &str)]| {
        let headers = [&[("x-amz-copy-source", "/views/k")], more].concat();
        let answer = world.send("PUT", to, &headers, b"");
        if answer.status == 200 {
            assert!(answer.all("ETag")[0].contains("9dd4e461268c8034f5c8564e155c67a6"));
        }
        answer
    };
    let told = |key: &str| {
        let head = world.head(key);
        let text = |name| head.header(name).unwrap_or("").to_owned();
        let tags = world.s3.send("GET", &format!("/views/{key}"), &[("tagging", "")], &[], b"");
        [
            text("cache-control"),
            text("content-type"),
            text("x-amz-meta-one"),
            tags.all("Value").concat(),
        ]
    };
    let new =
        [("content-type", "text/plain"), ("x-amz-meta-one", "2"), ("x-amz-tagging", "colour=red")];
    let directed = |directives: &[(&'static str, &'static str)]| [&new[..], directives].concat();
    let meta = ("x-amz-metadata-directive", "REPLACE");
    let tags = ("x-amz-tagging-directive", "REPLACE");
    status(&copy("same", &new), 200);
    assert_eq!(told("same"), ["no-store", "image/png", "1", "blue"]);
    status(&copy("meta", &directed(&[meta])), 200);
    assert_eq!(told("meta"), ["", "text/plain", "2", "blue"]);
    status(&copy("tags", &directed(&[tags])), 200);
    assert_eq!(told("tags"), ["no-store", "image/png", "1", "red"]);
    status(&copy("both", &directed(&[meta, tags])), 200);
    assert_eq!(told("both"), ["", "text/plain", "2", "red"]);

    for name in ["x-amz-metadata-directive", "x-amz-tagging-directive"] {
        refused(&copy("same", &directed(&[(name, "replace")])), 400, "InvalidArgument");
    }

    refused(&copy("k", &[]), 400, "InvalidRequest");
    let redirect =
        |key: &str| world.head(key).header("x-amz-website-redirect-location").map(str::to_owned);
    assert_eq!((redirect("k").as_deref(), redirect("same")), (Some("/old"), None));
    status(&copy("k", &[("x-amz-website-redirect-location", "/new")]), 200);
    assert_eq!(redirect("k").as_deref(), Some("/new"));
    status(&copy("k", &[("x-amz-storage-class", "STANDARD")]), 200);
    assert_eq!(told("k"), ["no-store", "image/png", "1", "blue"]);
}

/// Of two kinds of checksums one would go unchecked by others; a part has the checksums it was stored with.
#[test]
fn checksums_that_are_not_there_are_not_taken() {
    let world = World::new("sums");
    let two = [("x-amz-checksum-crc32", "NhCmhg=="), ("x-amz-checksum-crc32c", "mnG7TA==")];
    refused(&world.send("PUT", "k", &two, b"hello"), 400, "InvalidRequest");
    let begun = world.s3.send("POST", "/views/k", &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    let part = world.s3.send("PUT", "/views/k", &query, &two[..1], b"hello");
    let etag = part.header("etag").unwrap();
    let complete = |sum: &str| {
        let part = format!("<PartNumber>1</PartNumber><ETag>{etag}</ETag>{sum}");
        let list =
            format!("<CompleteMultipartUpload><Part>{part}</Part></CompleteMultipartUpload>");
        world.s3.send("POST", "/views/k", &[("uploadId", &id)], &[], list.as_bytes())
    };
    for sum in
        ["<ChecksumCRC32C>mnG7TA==</ChecksumCRC32C>", "<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"]
    {
        refused(&complete(sum), 400, "InvalidPart");
    }
    let composite = [("x-amz-checksum-type", "COMPOSITE")];
    let list = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>\
         </CompleteMultipartUpload>"
    );
    let query = [("uploadId", id.as_str())];
    let other = world.s3.send("POST", "/views/k", &query, &composite, list.as_bytes());
    refused(&other, 400, "InvalidRequest");
    status(&complete("<ChecksumCRC32>NhCmhg==</ChecksumCRC32>"), 200);
}

/// A copy by reference has a checksum of its bytes that its source does not have.
#[test]
fn a_copy_has_the_checksum_that_was_asked_for() {
    let world = World::new("copied-sums");
    let bytes = pattern(3, 2_500_000);
    let crc = sum(ChecksumKind::Crc32, &bytes);
    status(&world.send("PUT", "k", &[("x-amz-checksum-crc32", &crc)], &bytes), 200);
    let copy = |to: &str, algorithm: &str| {
        let headers = [("x-amz-copy-source", "/views/k"), ("x-amz-checksum-algorithm", algorithm)];
        world.send("PUT", to, &headers, b"")
    };
    refused(&copy("new", "SHA3"), 501, "NotImplemented");
    status(&world.head("new"), 404);
    for (name, kind) in [("CRC32", ChecksumKind::Crc32), ("SHA256", ChecksumKind::Sha256)] {
        let right = sum(kind, &bytes);
        let copied = copy(name, name);
        status(&copied, 200);
        assert_eq!(copied.all(&format!("Checksum{name}")), [right.as_str()]);
        let head = world.send("HEAD", name, &[("x-amz-checksum-mode", "ENABLED")], b"");
        let header = format!("x-amz-checksum-{}", name.to_lowercase());
        assert_eq!(head.header(&header), Some(right.as_str()));
        assert_eq!(world.get(name).body, bytes);
    }
}

/// A bucket has the tags it is made with, and is what was asked for, or is not made.
#[test]
fn a_bucket_is_made_as_it_was_asked_for() {
    let world = World::new("made");
    let made = |name: &str, headers: &[(&str, &str)], inside: &str| {
        let open = "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
        let document = format!("{open}{inside}</CreateBucketConfiguration>");
        world.s3.send("PUT", &format!("/{name}"), &[], headers, document.as_bytes())
    };
    let tag = "<Tags><Tag><Key>cost</Key><Value>9</Value></Tag></Tags>";
    status(&made("tagged", &[("x-amz-bucket-namespace", "global")], tag), 200);
    let told = world.s3.send("GET", "/tagged", &[("tagging", "")], &[], b"");
    assert_eq!((told.all("Key"), told.all("Value")), (vec!["cost".into()], vec!["9".into()]));
    let twice = tag.replace("</Tags>", "<Tag><Key>cost</Key><Value>8</Value></Tag></Tags>");
    refused(&made("other", &[], &twice), 400, "InvalidTag");
    let zone = "<Location><Name>zone</Name><Type>AvailabilityZone</Type></Location>";
    refused(&made("other", &[], zone), 501, "NotImplemented");
    let own = [("x-amz-bucket-namespace", "account-regional")];
    refused(&made("other", &own, ""), 501, "NotImplemented");
    status(&world.s3.send("HEAD", "/other", &[], &[], b""), 404);
    let list = |query: (&str, &str)| world.s3.send("GET", "/", &[query], &[], b"");
    assert_eq!(list(("max-buckets", "1")).all("Name"), ["tagged"]);
    assert_eq!(list(("bucket-region", "us-east-1")).all("Name"), ["tagged", "views"]);
    assert!(list(("bucket-region", "eu-west-1")).all("Name").is_empty());
    for most in ["0", "-1"] {
        refused(&list(("max-buckets", most)), 400, "InvalidArgument");
    }
}

/// Who may list a bucket may not read what its owner has noted of it.
#[test]
fn tags_of_a_bucket_are_not_listed_with_it() {
    let world = World::new("bucket-tags");
    let tags = "<Tagging><TagSet><Tag><Key>cost</Key><Value>9</Value></Tag></TagSet></Tagging>";
    status(&world.s3.send("PUT", "/views", &[("tagging", "")], &[], tags.as_bytes()), 200);
    let open = [("x-amz-acl", "public-read")];
    status(&world.s3.send("PUT", "/views", &[("acl", "")], &open, b""), 200);
    status(&bare(&world, "GET", "/views", &[]), 200);
    refused(&bare(&world, "GET", "/views?tagging", &[]), 403, "AccessDenied");
    let told = world.s3.send("GET", "/views", &[("tagging", "")], &[], b"");
    assert_eq!(told.all("Value"), ["9"]);
}

/// A list of keys that was changed on its way deletes nothing, and the like of it: whatever says so.
#[test]
fn documents_that_are_not_what_was_sent_do_nothing() {
    let world = World::new("documents");
    status(&world.put("k", b"x"), 200);
    let begun = world.s3.send("POST", "/views/u", &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    let query = [("partNumber", "1"), ("uploadId", id.as_str())];
    let part = world.s3.send("PUT", "/views/u", &query, &[], b"part");
    let part = format!("<PartNumber>1</PartNumber><ETag>{}</ETag>", part.header("etag").unwrap());
    let complete =
        format!("<CompleteMultipartUpload><Part>{part}</Part></CompleteMultipartUpload>");
    let delete = "<Delete><Object><Key>k</Key></Object></Delete>";
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>";
    let acl = "<AccessControlPolicy/>";
    let documents = [
        ("POST", "/views", ("delete", ""), delete),
        ("POST", "/views/u", ("uploadId", id.as_str()), &complete),
        ("PUT", "/views/k", ("tagging", ""), tags),
        ("PUT", "/views", ("tagging", ""), tags),
        ("PUT", "/views/k", ("acl", ""), acl),
        ("PUT", "/views", ("acl", ""), acl),
    ];
    for (method, path, query, document) in documents {
        let send = |header: (&str, &str)| {
            world.s3.send(method, path, &[query], &[header], document.as_bytes())
        };
        let md5 = ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA==");
        refused(&send(md5), 400, "BadDigest");
        refused(&send(("content-md5", "x")), 400, "InvalidDigest");
        if query.0 != "uploadId" {
            refused(&send(("x-amz-checksum-crc32", "AAAAAA==")), 400, "BadDigest");
            refused(
                &send(("x-amz-checksum-sha1", "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
                400,
                "BadDigest",
            );
        }
        // Signed as it was, and changed after that.
        let mut changed = world.s3.signed(method, path, &[query], &[], document.as_bytes());
        *changed.last_mut().unwrap() = b' ';
        let answer = world.s3.exchange(&changed).unwrap();
        refused(&answer, 400, "XAmzContentSHA256Mismatch");
    }
    status(&world.head("k"), 200);
    status(&world.head("u"), 404);
    let mut changed = world.s3.signed("PUT", "/views/new", &[], &[], b"bytes");
    *changed.last_mut().unwrap() = b'!';
    refused(&world.s3.exchange(&changed).unwrap(), 400, "XAmzContentSHA256Mismatch");
    status(&world.head("new"), 404);

    let md5 = [("content-md5", "5DKh5iefM5MSKvRILIuFwQ==")];
    let sent = world.s3.send("POST", "/views", &[("delete", "")], &md5, delete.as_bytes());
    status(&sent, 200);
    status(&world.head("k"), 404);
}

/// A signature for another region is told which one to use.
#[test]
fn another_region_is_named() {
    let world = World::new("region");
    let request = String::from_utf8(world.s3.signed("GET", "/views", &[], &[], b"")).unwrap();
    let elsewhere = request.replace("us-east-1", "eu-west-1");
    let answer = world.s3.exchange(elsewhere.as_bytes()).unwrap();
    refused(&answer, 400, "AuthorizationHeaderMalformed");
    assert!(answer.all("Message")[0].contains("us-east-1"), "{}", answer.text());
    status(&world.s3.exchange(request.as_bytes()).unwrap(), 200);
}

/// Parts come page by page, in their order.
#[test]
fn parts_are_listed_in_pages() {
    let world = World::new("pages");
    let begun = world.s3.send("POST", "/views/k", &[("uploads", "")], &[], b"");
    let id = begun.all("UploadId").remove(0);
    for number in ["7", "1", "300", "2", "9999"] {
        let query = [("partNumber", number), ("uploadId", id.as_str())];
        status(&world.s3.send("PUT", "/views/k", &query, &[], number.as_bytes()), 200);
    }
    let (mut after, mut found) = ("0".to_owned(), Vec::new());
    loop {
        let query =
            [("uploadId", id.as_str()), ("max-parts", "2"), ("part-number-marker", after.as_str())];
        let page = world.s3.send("GET", "/views/k", &query, &[], b"");
        assert_eq!((page.status, page.all("MaxParts")), (200, vec!["2".to_owned()]));
        let numbers = page.all("PartNumber");
        assert!(numbers.len() <= 2 && page.all("Size").len() == numbers.len());
        found.extend(numbers);
        if page.all("IsTruncated") == ["false"] {
            break;
        }
        after = page.all("NextPartNumberMarker").remove(0);
    }
    assert_eq!(found, ["1", "2", "7", "300", "9999"]);
}

/// Owners are told to those who ask for them.
#[test]
fn owners_are_listed_when_asked_for() {
    let world = World::new("owners");
    status(&world.put("k", b"x"), 200);
    let list = |more: &[(&str, &str)]| {
        let query = [&[("list-type", "2")], more].concat();
        world.s3.send("GET", "/views", &query, &[], b"")
    };
    assert!(list(&[]).all("Owner").is_empty());
    assert!(list(&[("fetch-owner", "false")]).all("Owner").is_empty());
    let owners = list(&[("fetch-owner", "true")]).all("Owner");
    assert!(owners.len() == 1 && owners[0].contains(&format!("<ID>{:064x}</ID>", 0)), "{owners:?}");
}

/// The kinds of checksums that no client of the other tests sends, as headers and behind the body.
#[test]
fn rare_checksums_are_checked_and_kept() {
    let world = World::new("rare");
    for (kind, right, wrong) in
        [("crc32c", "mnG7TA==", "mnG7TQ=="), ("crc64nvme", "M3eFcAZSQlc=", "M3eFcAZSQlg=")]
    {
        let name = format!("x-amz-checksum-{kind}");
        let put = |value: &str| world.send("PUT", kind, &[(&name, value)], b"hello");
        refused(&put(wrong), 400, "BadDigest");
        assert_eq!(put(right).header(&name), Some(right));
        let behind = |value: &str| {
            let headers = [
                ("content-encoding", "aws-chunked"),
                ("x-amz-decoded-content-length", "5"),
                ("x-amz-trailer", name.as_str()),
            ];
            let body = format!("5\r\nhello\r\n0\r\n{name}:{value}\r\n\r\n");
            world.s3.put_framed("/views/behind", &headers, body.as_bytes(), 0)
        };
        refused(&behind(wrong), 400, "BadDigest");
        status(&behind(right), 200);
        for key in [kind, "behind"] {
            let head = world.send("HEAD", key, &[("x-amz-checksum-mode", "ENABLED")], b"");
            assert_eq!(head.header(&name), Some(right), "{key}");
            assert_eq!(head.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
            assert_eq!(world.head(key).header(&name), None);
        }
    }
}

/// Checksums of parts become one of the object: over all bytes, or over those of the parts.
#[test]
fn checksums_of_parts_become_one_of_the_object() {
    let world = World::new("composite");
    let (first, second) = (pattern(1, 5 << 20), pattern(2, 300_000));
    let whole = [first.as_slice(), &second].concat();
    for (name, kind, of) in [
        ("CRC32", ChecksumKind::Crc32, "COMPOSITE"),
        ("CRC32", ChecksumKind::Crc32, "FULL_OBJECT"),
        ("CRC32C", ChecksumKind::Crc32c, "FULL_OBJECT"),
        ("CRC64NVME", ChecksumKind::Crc64Nvme, "FULL_OBJECT"),
        ("SHA256", ChecksumKind::Sha256, "COMPOSITE"),
    ] {
        let begin = [("x-amz-checksum-algorithm", name), ("x-amz-checksum-type", of)];
        let (done, parts) = multipart(&world, "k", &begin, &[&first, &second]);
        status(&done, 200);
        let header = format!("x-amz-checksum-{}", name.to_lowercase());
        let of_parts = [sum(kind, &first), sum(kind, &second)];
        for (part, sum) in parts.iter().zip(&of_parts) {
            assert_eq!(part.header(&header), Some(sum.as_str()), "{name}");
        }
        let expected = match of {
            "COMPOSITE" => {
                let sums = of_parts.each_ref().map(|sum| from_base64(sum).unwrap()).concat();
                format!("{}-2", sum(kind, &sums))
            }
            _ => sum(kind, &whole),
        };
        assert_eq!(done.all(&format!("Checksum{name}")), [expected.as_str()], "{name} {of}");
        assert_eq!(done.all("ChecksumType"), [of]);
        let mode = [("x-amz-checksum-mode", "ENABLED")];
        let head = world.send("HEAD", "k", &mode, b"");
        assert_eq!(head.header(&header), Some(expected.as_str()), "{name} {of}");
        assert_eq!(head.header("x-amz-checksum-type"), Some(of));
        let part = world.s3.send("GET", "/views/k", &[("partNumber", "2")], &mode, b"");
        assert_eq!(part.header(&header), Some(of_parts[1].as_str()), "{name} {of}");
        assert!(part.body == second && world.get("k").body == whole);
    }
}

/// Clients that know that the endpoint speaks HTTP/2 begin with it, in the clear too.
#[test]
fn http2_is_spoken_in_the_clear() {
    let world = World::new("http2");
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let send = async |method: &str, key: &str, body: &[u8]| {
        let path = format!("/views/{key}");
        let signed = world.s3.signed(method, &path, &[], &[], body);
        let head = String::from_utf8(signed[..signed.len() - body.len()].to_vec()).unwrap();
        let url = format!("{}{path}", world.endpoint());
        let mut request = client.request(method.parse().unwrap(), url).body(body.to_vec());
        // Names the connection and the body by itself.
        let own = ["host", "connection", "content-length"];
        for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(": ")) {
            if !own.contains(&name) {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.version(), reqwest::Version::HTTP_2);
        (answer.status().as_u16(), answer.bytes().await.unwrap().to_vec())
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let data = pattern(3, 3 << 20);
        assert_eq!(send("PUT", "k", &data).await.0, 200);
        let (status, body) = send("GET", "k", b"").await;
        assert!(status == 200 && body == data);
        // Several at a time on the one connection.
        let (one, two) = tokio::join!(send("GET", "k", b""), send("GET", "none", b""));
        assert!(one.1 == data && two.0 == 404);
        assert_eq!(send("DELETE", "k", b"").await.0, 204);
    });
}
