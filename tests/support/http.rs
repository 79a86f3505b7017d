//! A small HTTP/1.1 client, in the clear or with TLS: one request a connection, or several.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(there, _)| there == name);
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The contents of every element of this name in a body of XML.
    pub fn all(&self, element: &str) -> Vec<String> {
        let (open, close) = (format!("<{element}>"), format!("</{element}>"));
        let text = self.text();
        let parts = text.split(&open).skip(1);
        parts.map(|part| part.split(&close).next().unwrap_or_default().to_owned()).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// One connection, kept alive.
pub struct Connection {
    stream: Box<dyn Stream>,
    host: String,
    /// What was read beyond an answer.
    rest: Vec<u8>,
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connecting");
    stream.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Connection {
    pub fn plain(address: &str) -> Self {
        Self { stream: Box::new(connect(address)), host: address.into(), rest: Vec::new() }
    }

    /// TLS with a server that has to be `localhost` by a certificate that `root` stands for.
    pub fn tls(address: &str, root: &CertificateDer<'static>) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        roots.add(root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = connect(address);
        while client.is_handshaking() {
            client.complete_io(&mut stream).map_err(|error| error.to_string())?;
        }
        let stream = Box::new(StreamOwned::new(client, stream));
        Ok(Self { stream, host: address.into(), rest: Vec::new() })
    }

    /// Sends a request and reads its whole answer.
    pub fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.begin(method, target, headers, body);
        let mut answer = self.head();
        answer.body = if method == "HEAD" { Vec::new() } else { self.body(&answer) };
        answer
    }

    /// Sends a request.
    pub fn begin(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        self.raw(request.as_bytes());
        // A server that refuses may close before it has read a long body.
        let _ = self.stream.write_all(body);
        let _ = self.stream.flush();
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sending");
        self.stream.flush().expect("sending");
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        let count = self.stream.read(&mut buffer).expect("reading");
        self.rest.extend_from_slice(&buffer[..count]);
        count > 0
    }

    /// Everything until the other side closes.
    pub fn until_closed(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.rest)
    }

    /// Reads the head of an answer.
    pub fn head(&mut self) -> Answer {
        let end = loop {
            let found = self.rest.windows(4).position(|part| part == b"\r\n\r\n");
            match found {
                Some(end) => break end,
                None => assert!(self.more(), "closed before an answer"),
            }
        };
        let rest = self.rest.split_off(end + 4);
        let head = String::from_utf8(std::mem::replace(&mut self.rest, rest)).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Answer { status, headers, body: Vec::new() }
    }

    /// Reads the body that a head announced.
    pub fn body(&mut self, head: &Answer) -> Vec<u8> {
        if head.header("transfer-encoding") == Some("chunked") {
            return self.chunks();
        }
        let length: usize = head.header("content-length").map_or(0, |text| text.parse().unwrap());
        self.take(length)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            assert!(self.more(), "closed in a body");
        }
        let rest = self.rest.split_off(length);
        std::mem::replace(&mut self.rest, rest)
    }

    /// RFC 9112 section 7.1.
    fn chunks(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            while !self.rest.windows(2).any(|part| part == b"\r\n") {
                assert!(self.more(), "closed in a body");
            }
            let end = self.rest.windows(2).position(|part| part == b"\r\n").unwrap();
            let line = self.take(end + 2);
            let size = usize::from_str_radix(std::str::from_utf8(&line[..end]).unwrap(), 16);
            let chunk = self.take(size.unwrap() + 2);
            if chunk.len() == 2 {
                return whole;
            }
            whole.extend_from_slice(&chunk[..chunk.len() - 2]);
        }
    }
}
