//! What S3 offers besides objects, on the running program: forms, hosts that name buckets, conditions, checksums,
//! and what clients are told when they ask for what is not there.
#![cfg(feature = "s3")]

mod support;

use support::http::Answer;
use support::s3::Client;
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
