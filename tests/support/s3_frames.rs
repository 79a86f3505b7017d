//! Bodies in frames that are signed one by one: Amazon S3 API reference, "Signature calculations for the Authorization
//! header: Transferring payload in multiple chunks".

use bucketfs::types::ChecksumKind;
use bucketfs::vfs::Digests;
use sha2::{Digest, Sha256};

use super::http::Answer;
use super::s3::{Client, Payload, hex, hmac};

/// The checksum of some bytes, as headers have it.
pub fn sum(kind: ChecksumKind, bytes: &[u8]) -> String {
    let mut digests = Digests::new(&[kind]);
    digests.update(bytes);
    digests.finish().1.remove(0).1
}

/// A body that is sent in frames.
pub struct Frames<'a> {
    pub pieces: &'a [&'a [u8]],
    /// What follows the last frame, signed too.
    pub trailer: Option<(&'a str, &'a str)>,
}

/// What a frame is signed with: the time, the scope of the key, and the signature before.
struct Chain {
    key: Vec<u8>,
    time: String,
    scope: String,
    last: String,
}

impl Chain {
    fn of(client: &Client, head: &[u8]) -> Self {
        let head = String::from_utf8(head.to_vec()).expect("a head is text");
        let after = |mark: &str| {
            let from = head.find(mark).expect("a signed head") + mark.len();
            head[from..].split(['\r', ',']).next().unwrap_or_default().to_owned()
        };
        let (time, last) = (after("x-amz-date: "), after("Signature="));
        let scope = format!("{}/us-east-1/s3/aws4_request", &time[..8]);
        Self { key: client.signing_key(&time[..8]), time, scope, last }
    }

    fn sign(&mut self, kind: &str, digests: &str) -> &str {
        let (time, scope, last) = (&self.time, &self.scope, &self.last);
        let text = format!("AWS4-HMAC-SHA256-{kind}\n{time}\n{scope}\n{last}\n{digests}");
        self.last = hex(&hmac(&self.key, text.as_bytes()));
        &self.last
    }
}

impl Frames<'_> {
    fn signed(&self, mut chain: Chain) -> Vec<u8> {
        let digest = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        let mut body = Vec::new();
        for piece in self.pieces.iter().chain(&[&b""[..]]) {
            let signature = chain.sign("PAYLOAD", &format!("{}\n{}", digest(b""), digest(piece)));
            body.extend(format!("{:x};chunk-signature={signature}\r\n", piece.len()).bytes());
            body.extend_from_slice(piece);
            let is_last = piece.is_empty() && self.trailer.is_some();
            body.extend(if is_last { "" } else { "\r\n" }.bytes());
        }
        if let Some((name, value)) = self.trailer {
            let signature = chain.sign("TRAILER", &digest(format!("{name}:{value}\n").as_bytes()));
            let end = format!("{name}:{value}\r\nx-amz-trailer-signature:{signature}\r\n\r\n");
            body.extend(end.bytes());
        }
        body
    }
}

impl Client {
    /// PUT of a body in signed frames, which `spoil` may change before they are sent.
    pub fn put_signed(
        &self,
        path: &str,
        frames: &Frames<'_>,
        spoil: impl Fn(&mut Vec<u8>),
    ) -> Answer {
        let len: usize = frames.pieces.iter().map(|piece| piece.len()).sum();
        let len = len.to_string();
        let mut headers = vec![
            ("content-encoding", "aws-chunked"),
            ("x-amz-decoded-content-length", len.as_str()),
        ];
        headers.extend(frames.trailer.map(|(name, _)| ("x-amz-trailer", name)));
        let name = match frames.trailer {
            None => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
            Some(_) => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        };
        let head = |len| self.head("PUT", path, &[], &headers, &Payload::Framed(name, len));
        // All signatures are of one length, so that the first ones tell that of the body.
        let first = frames.signed(Chain::of(self, &head(0)));
        let head = head(first.len() as u64);
        let mut body = frames.signed(Chain::of(self, &head));
        spoil(&mut body);
        self.exchange(&[head, body].concat()).expect("a request and its answer")
    }
}
