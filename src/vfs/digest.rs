//! What S3 says of an upload's bytes: their md5 and the checksums a client asks for.

use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;

use crate::types::{ChecksumKind, base64, from_base64, hex};

/// Sums over bytes as they come.
pub struct Digests {
    md5: Md5,
    sums: Vec<(ChecksumKind, Sum)>,
}

enum Sum {
    Crc(crc_fast::Digest, usize),
    Sha1(Sha1),
    Sha256(Sha256),
}

fn crc(kind: ChecksumKind) -> Option<(CrcAlgorithm, usize)> {
    match kind {
        ChecksumKind::Crc32 => Some((CrcAlgorithm::Crc32IsoHdlc, 4)),
        ChecksumKind::Crc32c => Some((CrcAlgorithm::Crc32Iscsi, 4)),
        ChecksumKind::Crc64Nvme => Some((CrcAlgorithm::Crc64Nvme, 8)),
        ChecksumKind::Sha1 | ChecksumKind::Sha256 => None,
    }
}

impl Sum {
    fn new(kind: ChecksumKind) -> Self {
        match (crc(kind), kind) {
            (Some((algorithm, width)), _) => Self::Crc(crc_fast::Digest::new(algorithm), width),
            (None, ChecksumKind::Sha1) => Self::Sha1(Sha1::new()),
            (None, _) => Self::Sha256(Sha256::new()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(digest, width) => digest.finalize().to_be_bytes()[8 - width..].to_vec(),
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

impl Digests {
    pub fn new(kinds: &[ChecksumKind]) -> Self {
        let sums = kinds.iter().map(|&kind| (kind, Sum::new(kind))).collect();
        Self { md5: Md5::new(), sums }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sums.iter_mut().for_each(|(_, sum)| sum.update(bytes));
    }

    /// The md5, and the checksums in base64.
    pub fn finish(self) -> ([u8; 16], Vec<(ChecksumKind, String)>) {
        let sums = self.sums.into_iter();
        let sums = sums.map(|(kind, sum)| (kind, base64(&sum.finish()))).collect();
        (self.md5.finalize().into(), sums)
    }
}

/// The entity tag of a multipart object: the md5 of its parts' md5s, and how many there are.
pub(super) fn multipart_etag<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    let (mut md5, mut count) = (Md5::new(), 0);
    for part in parts {
        md5.update(from_hex(part));
        count += 1;
    }
    format!("{}-{count}", hex(&md5.finalize()))
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map_while(|pair| std::str::from_utf8(pair).ok());
    digits.map_while(|pair| u8::from_str_radix(pair, 16).ok()).collect()
}

/// The checksum of a whole made of parts with these checksums and sizes: of all bytes for the CRCs,
/// of the parts' checksums when `composite`. `None` where it cannot be told.
pub(super) fn combine<'a>(
    kind: ChecksumKind,
    composite: bool,
    parts: impl Iterator<Item = (&'a str, u64)>,
) -> Option<String> {
    if composite {
        let (mut sum, mut count) = (Sum::new(kind), 0);
        for (part, _) in parts {
            sum.update(&from_base64(part)?);
            count += 1;
        }
        return Some(format!("{}-{count}", base64(&sum.finish())));
    }
    let (algorithm, width) = crc(kind)?;
    let mut whole = crc_fast::Digest::new(algorithm).finalize();
    for (part, size) in parts {
        let part = from_base64(part)?.into_iter().fold(0, |crc, byte| crc << 8 | u64::from(byte));
        whole = crc_fast::checksum_combine(algorithm, whole, part, size);
    }
    Some(base64(&whole.to_be_bytes()[8 - width..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ChecksumKind; 5] = [
        ChecksumKind::Crc32,
        ChecksumKind::Crc32c,
        ChecksumKind::Crc64Nvme,
        ChecksumKind::Sha1,
        ChecksumKind::Sha256,
    ];

    fn of(bytes: &[u8]) -> ([u8; 16], Vec<(ChecksumKind, String)>) {
        let mut digests = Digests::new(&ALL);
        bytes.chunks(3).for_each(|part| digests.update(part));
        digests.finish()
    }

    /// The catalogues' check values, over "123456789"; those of the digests from coreutils.
    #[test]
    fn known_values() {
        let (md5, sums) = of(b"123456789");
        assert_eq!(hex(&md5), "25f9e794323b453885f5181f1b624d0b");
        let expected = [
            "cbf43926",
            "e3069283",
            "ae8b14860a799888",
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
        ];
        for ((_, sum), expected) in sums.iter().zip(expected) {
            assert_eq!(hex(&from_base64(sum).unwrap()), expected);
        }
    }

    #[test]
    fn parts_combine_to_the_whole() {
        let (whole, (first, second)) = (of(b"one and two"), (of(b"one and"), of(b" two")));
        for (index, kind) in ALL.into_iter().enumerate() {
            let parts = [(first.1[index].1.as_str(), 7), (second.1[index].1.as_str(), 4)];
            let combined = combine(kind, false, parts.into_iter());
            assert_eq!(combined, crc(kind).map(|_| whole.1[index].1.clone()));
            assert!(combine(kind, true, parts.into_iter()).unwrap().ends_with("-2"));
        }
        let tags = [hex(&first.0), hex(&second.0)];
        let joined: Vec<u8> = [first.0, second.0].concat();
        let expected = format!("{}-2", hex(&Md5::digest(&joined)));
        assert_eq!(multipart_etag(tags.iter().map(String::as_str)), expected);
    }
}
