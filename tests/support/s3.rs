//! A small S3 client: requests signed with Signature Version 4, one connection each.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use super::http::Answer;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// Bytes of a streamed body that are in memory at once.
const PIECE: usize = 1 << 20;

#[derive(Clone)]
pub struct Client {
    pub address: String,
    pub key: String,
    pub secret: String,
    /// Seconds by which its clock is wrong.
    pub offset: i64,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// RFC 2104.
pub(super) fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0_u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn encode(text: &str, slash: bool) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    text.bytes()
        .map(|byte| match byte {
            b'/' if slash => "/".to_owned(),
            byte if plain(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// `YYYYMMDDTHHMMSSZ` some seconds from now; Howard Hinnant's `civil_from_days`.
fn stamp(offset: i64) -> String {
    #[allow(clippy::disallowed_methods, reason = "signatures carry the time")]
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 + offset;
    let (days, rest) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let era = days.div_euclid(146_097);
    let day = days.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{date:02}T{hour:02}{minute:02}{second:02}Z")
}

/// The same as a policy has it.
fn policy_time(offset: i64) -> String {
    let time = stamp(offset);
    let part = |from: usize, to: usize| &time[from..to];
    let date = format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8));
    format!("{date}T{}:{}:{}Z", part(9, 11), part(11, 13), part(13, 15))
}

/// A body, as far as its signature goes.
pub(super) enum Payload<'a> {
    Bytes(&'a [u8]),
    /// As many bytes, not signed.
    Stream(u64),
    /// As many bytes in the frames that this name stands for.
    Framed(&'a str, u64),
}

impl Client {
    /// Sends one request for `/BUCKET[/KEY]` and reads the whole answer.
    pub fn send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.try_send(method, path, query, headers, body).expect("a request and its answer")
    }

    /// As [`Self::send`], to an endpoint that may go away meanwhile.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let head = self.head(method, path, query, headers, &Payload::Bytes(body));
        self.exchange(&[&head, body].concat())
    }

    /// PUT of a body that stands in frames already; fewer bytes than announced when it is `cut`.
    pub fn put_framed(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        cut: usize,
    ) -> Answer {
        let name = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";
        let payload = Payload::Framed(name, (body.len() + cut) as u64);
        let head = self.head("PUT", path, &[], headers, &payload);
        self.exchange(&[&head, body].concat()).expect("a request and its answer")
    }

    /// One request with its body, after which the connection ends: for [`Self::exchange`].
    pub fn signed(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Vec<u8> {
        [&self.head(method, path, query, headers, &Payload::Bytes(body)), body].concat()
    }

    /// The fields that sign a form for a bucket, by this client's clock; by the true one it is good
    /// for `valid` seconds more. `conditions`: further ones than the fields are, in JSON.
    pub fn form(&self, bucket: &str, conditions: &[&str], valid: i64) -> Vec<(String, String)> {
        let time = stamp(self.offset);
        let credential = format!("{}/{}/us-east-1/s3/aws4_request", self.key, &time[..8]);
        let named = [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", credential.as_str()),
            ("x-amz-date", time.as_str()),
        ];
        let equal = |(name, value): &(&str, &str)| format!("{{\"{name}\":\"{value}\"}}");
        let mut all: Vec<String> = named.iter().chain(&[("bucket", bucket)]).map(equal).collect();
        all.extend(conditions.iter().map(|condition| (*condition).to_owned()));
        let (end, all) = (policy_time(valid), all.join(","));
        let policy = format!("{{\"expiration\":\"{end}\",\"conditions\":[{all}]}}");
        let policy = bucketfs::types::base64(policy.as_bytes());
        let signature = hex(&hmac(&self.signing_key(&time[..8]), policy.as_bytes()));
        let signed = [("policy", policy.as_str()), ("x-amz-signature", signature.as_str())];
        let fields = named.iter().chain(&signed);
        fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    pub(super) fn signing_key(&self, day: &str) -> Vec<u8> {
        let start = format!("AWS4{}", self.secret).into_bytes();
        let words = [day, "us-east-1", "s3", "aws4_request"];
        words.iter().fold(start, |key, word| hmac(&key, word.as_bytes()))
    }

    /// The signed head of a PUT of `len` bytes.
    pub fn put_head(&self, path: &str, len: u64) -> Vec<u8> {
        self.head("PUT", path, &[], &[], &Payload::Stream(len))
    }

    /// The signed head of a request with a body of `len` bytes, after which the connection stays.
    pub fn keep_alive_head(&self, method: &str, path: &str, len: u64) -> Vec<u8> {
        let head = self.head(method, path, &[], &[], &Payload::Stream(len));
        let text = String::from_utf8(head).expect("a head is text");
        text.replace("connection: close\r\n", "").into_bytes()
    }

    /// Sends bytes as they are, and reads what comes back until the endpoint closes.
    pub fn exchange(&self, request: &[u8]) -> io::Result<Answer> {
        let mut stream = self.connect()?;
        // An endpoint may answer, and close, before it has read everything.
        let sent = stream.write_all(request);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        match (parse(&answer), sent, read) {
            (Some(answer), _, _) => Ok(answer),
            (None, Err(error), _) | (None, _, Err(error)) => Err(error),
            (None, Ok(()), Ok(_)) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// GET of a path as it is, without a signature of ours.
    pub fn fetch(&self, path: &str) -> Answer {
        let host = &self.address;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        self.exchange(request.as_bytes()).expect("a request and its answer")
    }

    /// Sends `len` bytes, made piece by piece by `fill`.
    pub fn send_stream(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        len: u64,
        mut fill: impl FnMut(&mut [u8]),
    ) -> Answer {
        let mut stream = self.connect().expect("connecting to the endpoint");
        let head = self.head(method, path, query, &[], &Payload::Stream(len));
        stream.write_all(&head).expect("sending a head");
        let (mut piece, mut left) = (vec![0; PIECE], len);
        while left > 0 {
            let now = &mut piece[..left.min(PIECE as u64) as usize];
            fill(now);
            stream.write_all(now).expect("sending a body");
            left -= now.len() as u64;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("reading an answer");
        parse(&answer).expect("a whole answer")
    }

    /// GET that hands the body on piece by piece; its length.
    pub fn get_stream(&self, path: &str, mut take: impl FnMut(&[u8])) -> u64 {
        let mut stream = self.connect().expect("connecting to the endpoint");
        let head = self.head("GET", path, &[], &[], &Payload::Bytes(b""));
        stream.write_all(&head).expect("sending a request");
        let (mut got, mut piece) = (Vec::new(), vec![0; PIECE]);
        let end = loop {
            let read = stream.read(&mut piece).expect("reading a head");
            assert!(read > 0, "the answer ended within its head");
            got.extend_from_slice(&piece[..read]);
            if let Some(end) = got.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        assert!(got.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&got[..end]));
        let mut len = (got.len() - end) as u64;
        take(&got[end..]);
        loop {
            let read = stream.read(&mut piece).expect("reading a body");
            if read == 0 {
                return len;
            }
            take(&piece[..read]);
            len += read as u64;
        }
    }

    /// A connection of one's own.
    pub fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        Ok(stream)
    }

    /// The signed head of a request.
    pub(super) fn head(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        payload: &Payload<'_>,
    ) -> Vec<u8> {
        let path = encode(path, true);
        let mut query: Vec<String> = query
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name, false), encode(value, false)))
            .collect();
        query.sort();
        let query = query.join("&");
        let (time, (hash, len)) = (
            stamp(self.offset),
            match payload {
                Payload::Bytes(body) => (hex(&Sha256::digest(body)), body.len() as u64),
                Payload::Stream(len) => ("UNSIGNED-PAYLOAD".to_owned(), *len),
                Payload::Framed(name, len) => ((*name).to_owned(), *len),
            },
        );
        let own = [
            ("host", self.address.as_str()),
            ("x-amz-content-sha256", &hash),
            ("x-amz-date", &time),
        ];
        let mut all: Vec<(&str, &str)> = headers.iter().copied().chain(own).collect();
        all.sort_unstable();
        let signed: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
        let signed = signed.join(";");
        let lines: String = all.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{signed}\n{hash}");
        let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
        let digest = hex(&Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{digest}");
        let signature = hex(&hmac(&self.signing_key(&time[..8]), text.as_bytes()));
        let credential = format!("{}/{scope}", self.key);
        let target = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        for (name, value) in &all {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!(
            "authorization: AWS4-HMAC-SHA256 Credential={credential}, \
             SignedHeaders={signed}, Signature={signature}\r\n\
             content-length: {len}\r\nconnection: close\r\n\r\n"
        ));
        request.into_bytes()
    }
}

/// An answer with all of its body; `None` when it is cut off.
fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let body = answer[end + 4..].to_vec();
    let mut answer = Answer { status, headers, body };
    let chunked = answer.header("transfer-encoding").is_some_and(|kind| kind == "chunked");
    if chunked {
        answer.body = joined(&answer.body);
    }
    Some(answer)
}

/// The chunks of a body without their sizes; RFC 9112 section 7.1.
fn joined(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|part| part == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}
