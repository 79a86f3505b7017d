//! The first bytes of a connection, which say whether it is HTTP/2: read here, so that whoever
//! sends none can be given up.

use std::io::{Cursor, Result};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, join, split};

/// What an HTTP/2 client begins with; RFC 9113 section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The bytes that were read to find out.
pub struct Begun {
    bytes: Vec<u8>,
}

/// Reads until it is certain which protocol it is, or nothing more comes.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Begun> {
    let mut bytes = Vec::with_capacity(PREFACE.len());
    while bytes.len() < PREFACE.len() && PREFACE.starts_with(&bytes) {
        let missing = (PREFACE.len() - bytes.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut bytes).await? == 0 {
            break;
        }
    }
    Ok(Begun { bytes })
}

impl Begun {
    pub fn is_http2(&self) -> bool {
        self.bytes == PREFACE
    }

    /// The stream as if nothing had been read.
    pub fn before<IO: AsyncRead + AsyncWrite>(
        self,
        stream: IO,
    ) -> impl AsyncRead + AsyncWrite + use<IO> {
        let (read, write) = split(stream);
        join(Cursor::new(self.bytes).chain(read), write)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_protocol_is_told_and_nothing_is_lost() {
        let cases: [(&[u8], bool); 5] = [
            (b"GET / HTTP/1.1\r\n\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nmore", true),
            (b"PRI * HTTP/1.1\r\n\r\n", false),
            (b"PRI", false),
            (b"", false),
        ];
        for (sent, is_http2) in cases {
            let (mut client, mut server) = tokio::io::duplex(64);
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let begun = read(&mut server).await.unwrap();
            assert_eq!(begun.is_http2(), is_http2);
            let mut whole = Vec::new();
            begun.before(server).read_to_end(&mut whole).await.unwrap();
            assert_eq!(whole, sent);
        }
    }
}
