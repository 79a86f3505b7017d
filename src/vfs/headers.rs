//! What S3 keeps with an object besides its bytes, as extended attributes that mounts see too.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::types::Acl;
use crate::types::limits::{RECORD_MAX, XATTR_NAME_MAX, XATTR_VALUE_MAX};

const HEADER: &str = "user.s3.header.";
pub(super) const META: &str = "user.s3.meta.";
pub(super) const TAG: &str = "user.s3.tag.";
/// The access list of an object or bucket; told to mounts, and not set by them.
pub(super) const ACL: &[u8] = b"user.s3.acl";
/// Bytes of all names and values of user metadata; S3's own limit.
pub(super) const META_MAX: usize = 2048;
/// Bytes of all names and values that an object, or an upload's record, keeps: one is as large as
/// all may be.
const ALL_MAX: usize = XATTR_VALUE_MAX;

// The two lengths of a name and a value, one or three bytes each, are less than a quarter of both.
const _: () = assert!(TAG.len() >= 12 && ALL_MAX + ALL_MAX / 4 + 1024 < RECORD_MAX);

/// Headers, user metadata and tags of one object, each by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// `content-type` and the like, in lower case.
    pub standard: BTreeMap<String, String>,
    /// Without `x-amz-meta-`.
    pub meta: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
    /// The access list of what is put; `None`: that of everything, its owner alone.
    pub acl: Option<Acl>,
}

type Xattr = (Vec<u8>, Vec<u8>);

impl ObjectHeaders {
    /// # Errors
    /// [`Error::AttributeTooLarge`] beyond 2 KiB of metadata or 48 KiB of all there is, or names
    /// beyond an attribute's.
    /// `own_list`: the access list without one.
    pub(super) fn to_xattrs(&self, own_list: Option<&Acl>) -> Result<Vec<Xattr>> {
        let bytes: usize = self.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > META_MAX {
            return Err(Error::AttributeTooLarge);
        }
        let mut xattrs = pairs(HEADER, &self.standard)?;
        xattrs.extend(pairs(META, &self.meta)?);
        xattrs.extend(pairs(TAG, &self.tags)?);
        let acl = self.acl.as_ref().or(own_list);
        xattrs.extend(acl.map(|acl| (ACL.to_vec(), acl.to_string().into_bytes())));
        let all: usize = xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if all > ALL_MAX { Err(Error::AttributeTooLarge) } else { Ok(xattrs) }
    }

    pub(super) fn from_xattrs(xattrs: impl IntoIterator<Item = Xattr>) -> Self {
        let mut headers = Self::default();
        for (name, value) in xattrs {
            // A mount may have set what no header can say.
            let (Ok(name), Ok(value)) = (String::from_utf8(name), String::from_utf8(value)) else {
                continue;
            };
            if name.as_bytes() == ACL {
                headers.acl = value.parse().ok();
                continue;
            }
            let Self { standard, meta, tags, .. } = &mut headers;
            for (prefix, map) in [(HEADER, standard), (META, meta), (TAG, tags)] {
                if let Some(name) = name.strip_prefix(prefix) {
                    map.insert(name.to_owned(), value.clone());
                }
            }
        }
        headers
    }
}

pub(super) fn pairs(prefix: &str, map: &BTreeMap<String, String>) -> Result<Vec<Xattr>> {
    let pair = |(name, value): (&String, &String)| {
        let name = format!("{prefix}{name}").into_bytes();
        if name.len() > XATTR_NAME_MAX || name.contains(&0) {
            return Err(Error::AttributeTooLarge);
        }
        Ok((name, value.clone().into_bytes()))
    };
    map.iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_as_attributes() {
        let map = |name: &str| BTreeMap::from([(name.to_owned(), "v ü".to_owned())]);
        let headers = ObjectHeaders {
            standard: map("content-type"),
            meta: map("a.b"),
            tags: map("k e"),
            acl: Some("7=full,everyone=read".parse().unwrap()),
        };
        let mut xattrs = headers.to_xattrs(Some(&Acl::private(8))).unwrap();
        assert_eq!(xattrs[0].0, b"user.s3.header.content-type");
        xattrs.push((b"user.other".to_vec(), b"private".to_vec()));
        xattrs.push((b"user.s3.meta.bin".to_vec(), vec![0xff]));
        assert_eq!(ObjectHeaders::from_xattrs(xattrs), headers);
        let long = ObjectHeaders {
            meta: BTreeMap::from([("k".into(), "v".repeat(META_MAX))]),
            ..ObjectHeaders::default()
        };
        assert!(matches!(long.to_xattrs(None), Err(Error::AttributeTooLarge)));
        let long = ObjectHeaders {
            standard: BTreeMap::from([("content-type".into(), "v".repeat(ALL_MAX))]),
            ..ObjectHeaders::default()
        };
        assert!(matches!(long.to_xattrs(None), Err(Error::AttributeTooLarge)));
    }
}
