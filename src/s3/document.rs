//! Documents that requests bring: held against the digests they were sent with as they come in, before anybody reads
//! them. s3s leaves that to nobody.

use std::sync::OnceLock;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use parking_lot::Mutex;
use s3s::S3Result;

use super::body::{Expected, PAYLOAD_MISMATCH};
use crate::types::{ChecksumKind, from_base64, hex};
use crate::vfs::Digests;

/// The document of a request, once it is known that it brings one.
#[derive(Default)]
pub(super) struct Document(OnceLock<Mutex<Check>>);

struct Check {
    expected: Expected,
    /// In hexadecimal digits, as the signature has it.
    sha256: Option<String>,
    /// Until all is there.
    digests: Option<Digests>,
    /// Bytes that are still to come, if the request says so.
    left: Option<u64>,
    fault: Option<Fault>,
}

/// The code and the message of a document that is not what was sent.
pub(super) type Fault = (&'static str, &'static str);

impl Document {
    /// The body of the request is one.
    ///
    /// # Errors
    /// As [`Expected::from_headers`].
    pub fn begin(&self, operation: &str, headers: &HeaderMap) -> S3Result<()> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let payload = text("x-amz-content-sha256").unwrap_or_default();
        if payload.starts_with("STREAMING-") {
            // In frames, which have digests of their own.
            return Ok(());
        }
        let mut expected = match operation {
            // Its checksums are those of the object.
            "CompleteMultipartUpload" => Expected::default(),
            _ => Expected::from_headers(headers)?,
        };
        expected.add(text("content-md5"), Vec::new())?;
        let sha256 = Some(payload.to_ascii_lowercase()).filter(|text| text.len() == 64);
        let mut kinds = expected.kinds.clone();
        if sha256.is_some() && !kinds.contains(&ChecksumKind::Sha256) {
            kinds.push(ChecksumKind::Sha256);
        }
        let left = text(CONTENT_LENGTH.as_str()).and_then(|text| text.parse().ok());
        let digests = Some(Digests::new(&kinds));
        let check = Check { expected, sha256, digests, left, fault: None };
        // One request has one body.
        let _ = self.0.set(Mutex::new(check));
        Ok(())
    }

    /// Takes bytes of it; `false` when it is all there and not what was sent.
    pub fn take(&self, bytes: &[u8]) -> bool {
        let Some(check) = self.0.get() else { return true };
        let mut check = check.lock();
        if let Some(digests) = &mut check.digests {
            digests.update(bytes);
        }
        check.left = check.left.map(|left| left.saturating_sub(bytes.len() as u64));
        check.left != Some(0) || check.fits()
    }

    /// There is no more of it; as [`Self::take`].
    pub fn end(&self) -> bool {
        self.0.get().is_none_or(|check| check.lock().fits())
    }

    pub fn fault(&self) -> Option<Fault> {
        self.0.get().and_then(|check| check.lock().fault)
    }
}

impl Check {
    fn fits(&mut self) -> bool {
        if let Some(digests) = self.digests.take() {
            let (md5, sums) = digests.finish();
            let sha256 = sums.iter().find(|(kind, _)| *kind == ChecksumKind::Sha256);
            let sha256 = sha256.and_then(|(_, sum)| from_base64(sum)).map(|bytes| hex(&bytes));
            if self.sha256.is_some() && self.sha256 != sha256 {
                self.fault = Some(PAYLOAD_MISMATCH);
            } else if self.expected.check(&md5, &sums).is_err() {
                self.fault = Some(("BadDigest", "the document does not match its digest"));
            }
        }
        self.fault.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(
        operation: &str,
        headers: &[(&'static str, &str)],
        pieces: &[&str],
    ) -> Option<&'static str> {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        let document = Document::default();
        document.begin(operation, &map).unwrap();
        let all = pieces.iter().all(|piece| document.take(piece.as_bytes())) && document.end();
        assert_eq!(all, document.fault().is_none());
        document.fault().map(|(word, _)| word)
    }

    #[test]
    fn a_document_has_the_digests_it_was_sent_with() {
        let (pieces, delete) = (["hel", "lo"], "DeleteObjects");
        let crc = ("x-amz-checksum-crc32", "NhCmhg==");
        let wrong = ("x-amz-checksum-crc32", "AAAAAA==");
        let length = ("content-length", "5");
        assert_eq!(fault(delete, &[], &pieces), None);
        assert_eq!(fault(delete, &[crc, length], &pieces), None);
        assert_eq!(fault(delete, &[wrong], &pieces), Some("BadDigest"));
        assert_eq!(fault(delete, &[wrong, length], &pieces), Some("BadDigest"));
        assert_eq!(fault("CompleteMultipartUpload", &[wrong], &pieces), None);
        let md5 = ("content-md5", "XUFAKrxLKna5cZ2REBfFkg==");
        assert_eq!(fault(delete, &[md5], &pieces), None);
        assert_eq!(fault(delete, &[md5], &["hell"]), Some("BadDigest"));
        let sha = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(fault(delete, &[("x-amz-content-sha256", sha), crc], &pieces), None);
        let mismatch = Some(PAYLOAD_MISMATCH.0);
        assert_eq!(fault(delete, &[("x-amz-content-sha256", sha)], &["other"]), mismatch);
        assert_eq!(fault(delete, &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")], &pieces), None);
        assert!(Document::default().take(b"not begun"));
    }
}
