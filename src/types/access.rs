//! Words of access: the ids of access keys, and what a key may do with a bucket.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Characters of an access key's id.
pub const KEY_ID_LEN: usize = 20;

/// Why a text is no key id, or no list of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    #[error("an access key id has {KEY_ID_LEN} capital letters and digits")]
    NotAKeyId,
    #[error("rights are read, write, owner and chown, with commas between them")]
    NotRights,
}

/// Names an access key: 20 characters of A-Z and 0-9, as clients of S3 expect it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId([u8; KEY_ID_LEN]);

impl KeyId {
    pub fn as_str(&self) -> &str {
        // Only ASCII comes in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for KeyId {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        let bytes: [u8; KEY_ID_LEN] =
            text.as_bytes().try_into().map_err(|_| AccessError::NotAKeyId)?;
        let legal = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        if bytes.iter().all(legal) { Ok(Self(bytes)) } else { Err(AccessError::NotAKeyId) }
    }
}

impl TryFrom<String> for KeyId {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a key may do with one bucket; a set of [`Right`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rights(u8);

/// One of the rights a bucket's owner may grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Read and list objects, and what is said about the bucket.
    Read,
    /// Make, replace and remove objects.
    Write,
    /// Read, write, change what is said about the bucket, and remove it.
    Owner,
    /// Choose owner and mode of what is written (`x-amz-meta-uid`, `-gid`, `-mode`).
    Chown,
}

const ALL: [Right; 4] = [Right::Read, Right::Write, Right::Owner, Right::Chown];

impl Right {
    fn bit(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Owner => 4,
            Self::Chown => 8,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Owner => "owner",
            Self::Chown => "chown",
        }
    }
}

impl Rights {
    pub const NONE: Self = Self(0);

    pub fn with(self, right: Right) -> Self {
        Self(self.0 | right.bit())
    }

    /// Owners may read and write; to choose owners of files has to be granted by itself.
    pub fn allow(self, right: Right) -> bool {
        let owner = match right {
            Right::Read | Right::Write => Right::Owner.bit(),
            Right::Owner | Right::Chown => 0,
        };
        self.0 & (right.bit() | owner) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// `read,write`; `none` without any.
impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = ALL.into_iter().filter(|right| self.0 & right.bit() != 0);
        let words: Vec<&str> = held.map(Right::as_str).collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

impl FromStr for Rights {
    type Err = AccessError;

    fn from_str(text: &str) -> Result<Self, AccessError> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        text.split(',').try_fold(Self::NONE, |rights, word| {
            let right = ALL.into_iter().find(|right| right.as_str() == word);
            right.map(|right| rights.with(right)).ok_or(AccessError::NotRights)
        })
    }
}

impl TryFrom<String> for Rights {
    type Error = AccessError;

    fn try_from(text: String) -> Result<Self, AccessError> {
        text.parse()
    }
}

impl From<Rights> for String {
    fn from(rights: Rights) -> Self {
        rights.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_twenty_capitals_and_digits() {
        let id: KeyId = "BF234567ABCDEFGHIJKL".parse().unwrap();
        assert_eq!(id.as_str(), "BF234567ABCDEFGHIJKL");
        for bad in
            ["", "BF", "bf234567abcdefghijkl", "BF234567ABCDEFGHIJK/", "BF234567ABCDEFGHIJKLM"]
        {
            assert_eq!(bad.parse::<KeyId>(), Err(AccessError::NotAKeyId), "{bad}");
        }
    }

    #[test]
    fn rights_read_back_and_owners_may_read_and_write() {
        for text in ["none", "read", "read,write", "owner,chown", "read,write,owner,chown"] {
            assert_eq!(text.parse::<Rights>().unwrap().to_string(), text);
        }
        for bad in ["", "Read", "read,", "read write", "all"] {
            assert_eq!(bad.parse::<Rights>(), Err(AccessError::NotRights), "{bad}");
        }
        let owner = Rights::NONE.with(Right::Owner);
        assert!(
            owner.allow(Right::Read) && owner.allow(Right::Write) && !owner.allow(Right::Chown)
        );
        let reader = Rights::NONE.with(Right::Read);
        assert!(reader.allow(Right::Read) && !reader.allow(Right::Write));
        assert!(!reader.allow(Right::Owner) && !Rights::NONE.allow(Right::Read));
    }
}
