//! Names that can only be made valid: file names and bucket names.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::limits::NAME_MAX;

/// Why bytes are not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name is empty, `.` or `..`, or contains `/` or a NUL byte")]
    Forbidden,
    #[error("a name is longer than {NAME_MAX} bytes")]
    TooLong,
    #[error(
        "a bucket name has 3 to 63 characters of a-z, 0-9, `-` and `.`, begins and ends with a \
         letter or digit, has no `..`, `.-` or `-.`, is no IPv4 address and does not begin with `xn--`"
    )]
    NotABucket,
}

/// One component of a path: 1 to 255 bytes, no `/`, no NUL, not `.` or `..`.
///
/// Bytes, not text: names that are no UTF-8 are legal on the mount.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct FileName(Vec<u8>);

impl FileName {
    /// # Errors
    /// [`NameError`] when `bytes` break the rules above.
    pub fn new(bytes: &[u8]) -> Result<Self, NameError> {
        if bytes.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        let special = matches!(bytes, b"" | b"." | b"..");
        if special || bytes.iter().any(|&byte| byte == b'/' || byte == 0) {
            return Err(NameError::Forbidden);
        }
        Ok(Self(bytes.to_vec()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<Vec<u8>> for FileName {
    type Error = NameError;

    fn try_from(bytes: Vec<u8>) -> Result<Self, NameError> {
        Self::new(&bytes)
    }
}

impl From<FileName> for Vec<u8> {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        String::from_utf8_lossy(&self.0).fmt(f)
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

/// A bucket's name under the rules S3 has for general purpose buckets.
///
/// Source: Amazon S3 User Guide, "General purpose buckets naming rules".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(String);

impl BucketName {
    /// # Errors
    /// [`NameError::NotABucket`] when S3 would refuse the name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let legal = (3..=63).contains(&bytes.len())
            && bytes.iter().all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.'))
            && bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && ["..", ".-", "-."].iter().all(|pair| !text.contains(pair))
            && !text.starts_with("xn--")
            && text.parse::<std::net::Ipv4Addr>().is_err();
        if legal { Ok(Self(text.to_owned())) } else { Err(NameError::NotABucket) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The directory entry of the bucket under the root.
    pub fn to_file_name(&self) -> FileName {
        FileName(self.0.clone().into_bytes())
    }
}

impl TryFrom<&FileName> for BucketName {
    type Error = NameError;

    fn try_from(name: &FileName) -> Result<Self, NameError> {
        let text = std::str::from_utf8(name.as_bytes()).map_err(|_| NameError::NotABucket)?;
        Self::new(text)
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_follow_the_kernel() {
        for good in [&b"a"[..], b"...", b"a b", b"\xff", &[b'x'; 255]] {
            assert_eq!(FileName::new(good).unwrap().as_bytes(), good);
        }
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert_eq!(FileName::new(bad), Err(NameError::Forbidden));
        }
        assert_eq!(FileName::new(&[b'x'; 256]), Err(NameError::TooLong));
    }

    #[test]
    fn bucket_names_follow_s3() {
        for good in ["abc", "a.b-c", "0bucket9", &"a".repeat(63)] {
            assert_eq!(BucketName::new(good).unwrap().as_str(), good);
        }
        for bad in [
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            "a..b",
            "a.-b",
            "a-.b",
            "10.0.0.1",
            "xn--abc",
            &"a".repeat(64),
        ] {
            assert_eq!(BucketName::new(bad), Err(NameError::NotABucket), "{bad}");
        }
    }
}
