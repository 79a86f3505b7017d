//! S3's words ↔ those of the domain: names, times, headers, tags of entities, encodings.

use std::collections::BTreeMap;

use s3s::dto::{ETag, EncodingType, Owner, Timestamp as S3Time, TimestampFormat};
use s3s::{S3Result, s3_error};

use super::error::refuse;
use crate::error::Error;
use crate::types::{BucketName, ChecksumKind, ObjectKey, Timestamp};

pub(super) use crate::vfs::content_type;
use crate::vfs::fits_xml;

/// What a version id of an object is, where versions are not kept.
pub(super) const NULL_VERSION: &str = "null";

pub(super) const ENCRYPTION: &str = "encryption by the server";

pub(super) fn bucket(name: &str) -> S3Result<BucketName> {
    BucketName::new(name).map_err(|_| refuse(&Error::NoBucket))
}

pub(super) fn key(text: &str) -> S3Result<ObjectKey> {
    ObjectKey::new(text).map_err(|error| refuse(&error.into()))
}

pub(super) fn time(time: Timestamp) -> S3Time {
    S3Time::from(time.to_system_time())
}

pub(super) fn etag(text: &str) -> ETag {
    ETag::Strong(text.to_owned())
}

/// Whole seconds since 1970.
pub(super) fn seconds(time: &S3Time) -> S3Result<i64> {
    let whole = || {
        let mut text = Vec::new();
        time.format(TimestampFormat::EpochSeconds, &mut text).ok()?;
        let text = String::from_utf8(text).ok()?;
        text.split('.').next()?.parse().ok()
    };
    whole().ok_or_else(|| s3_error!(InvalidArgument, "a date"))
}

pub(super) fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

pub(super) fn owner(uid: u32) -> Owner {
    let (id, display_name) = (Some(format!("{uid:064x}")), Some(format!("uid {uid}")));
    Owner { id, display_name }
}

/// # Errors
/// Only the null version is there.
pub(super) fn check_version(version: Option<&str>) -> S3Result<()> {
    match version {
        None | Some(NULL_VERSION) => Ok(()),
        Some(_) => Err(s3_error!(NoSuchVersion)),
    }
}

/// # Errors
/// Features that a request demands, and that are not there.
pub(super) fn check_absent(present: bool, what: &'static str) -> S3Result<()> {
    if present { Err(s3_error!(NotImplemented, "{what}")) } else { Ok(()) }
}

/// # Errors
/// Storage classes do not exist; all is standard.
pub(super) fn check_class(class: Option<&str>) -> S3Result<()> {
    match class {
        None | Some("STANDARD") => Ok(()),
        Some(_) => Err(s3_error!(NotImplemented, "storage classes")),
    }
}

/// What a request wants of the object it makes, and would not get.
///
/// # Errors
/// `NotImplemented`.
macro_rules! check_demands {
    ($input:expr) => {{
        words::check_class($input.storage_class.as_ref().map(StorageClass::as_str))?;
        let encrypted = $input.server_side_encryption.is_some() || $input.ssekms_key_id.is_some();
        words::check_absent(encrypted, words::ENCRYPTION)?;
        let algorithm = $input.sse_customer_algorithm.as_deref();
        words::check_no_key(algorithm, $input.sse_customer_key.as_deref())?;
        let locked = $input.object_lock_mode.is_some()
            || $input.object_lock_legal_hold_status.is_some()
            || $input.object_lock_retain_until_date.is_some();
        words::check_absent(locked, "object lock")?;
    }};
}
pub(super) use check_demands;

/// # Errors
/// `NotImplemented` for a request that says how the object is encrypted.
pub(super) fn check_no_key(algorithm: Option<&str>, key: Option<&str>) -> S3Result<()> {
    check_absent(algorithm.is_some() || key.is_some(), ENCRYPTION)
}

/// # Errors
/// `InvalidArgument` for a text that an XML answer could not repeat.
pub(super) fn check_repeatable(text: &str, encoding: Option<&EncodingType>) -> S3Result<()> {
    match encoding {
        None if !fits_xml(text) => Err(s3_error!(InvalidArgument, "a control character")),
        None | Some(_) => Ok(()),
    }
}

/// Encodes a key for an XML answer when the client asked for it.
pub(super) fn encoded(text: &str, encoding: Option<&EncodingType>) -> String {
    match encoding.is_some_and(|encoding| encoding.as_str() == EncodingType::URL) {
        true => url_encoded(text),
        false => text.to_owned(),
    }
}

/// As a part of an address; slashes stay.
pub(super) fn url_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-_.~/*".contains(&byte);
        if plain {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The pairs of a query string; `None` when its encoding is wrong.
pub(super) fn query_pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decoded(name)?, decoded(value)?))
    };
    text.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

/// As in a query, where a plus is a blank.
fn decoded(text: &str) -> Option<String> {
    percent_decoded(&text.replace('+', " "))
}

/// `None` when the encoding is wrong.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, later)) = rest.split_first() {
        rest = later;
        match first {
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = &rest[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

/// The kind a client means by a name of an algorithm.
pub(super) fn checksum_kind(name: &str) -> Option<ChecksumKind> {
    match name.to_ascii_uppercase().as_str() {
        "CRC32" => Some(ChecksumKind::Crc32),
        "CRC32C" => Some(ChecksumKind::Crc32c),
        "CRC64NVME" => Some(ChecksumKind::Crc64Nvme),
        "SHA1" => Some(ChecksumKind::Sha1),
        "SHA256" => Some(ChecksumKind::Sha256),
        _ => None,
    }
}

pub(super) fn checksum_name(kind: ChecksumKind) -> &'static str {
    match kind {
        ChecksumKind::Crc32 => "CRC32",
        ChecksumKind::Crc32c => "CRC32C",
        ChecksumKind::Crc64Nvme => "CRC64NVME",
        ChecksumKind::Sha1 => "SHA1",
        ChecksumKind::Sha256 => "SHA256",
    }
}

/// Headers that are kept as they came, by name.
pub(super) fn kept<const N: usize>(
    headers: [(&str, Option<String>); N],
) -> BTreeMap<String, String> {
    let given = headers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    given.filter(|(_, value)| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_so_that_clients_get_them_back() {
        let url = EncodingType::from_static(EncodingType::URL);
        assert_eq!(encoded("a b+c/ü\n", Some(&url)), "a%20b%2Bc/%C3%BC%0A");
        assert_eq!(encoded("a b", None), "a b");
        let pairs = query_pairs("a%20b=c+d&e=&f").unwrap();
        let expected = [("a b", "c d"), ("e", ""), ("f", "")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.into(), value.into())));
        assert!(query_pairs("%zz=").is_none() && query_pairs("a=%f").is_none());
    }

    #[test]
    fn only_what_is_there_can_be_asked_for() {
        assert!(check_version(Some("null")).is_ok() && check_version(Some("x")).is_err());
    }
}
