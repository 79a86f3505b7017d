//! Owner and mode that an upload names for what it makes, as rclone and s3fs write them.

use super::Vfs;
use super::headers::ObjectHeaders;
use super::words::Caller;
use crate::error::Result;
use crate::meta::Chosen;
use crate::types::{Ino, Mode, Right};

/// S_IFMT and two of its kinds; inode(7).
const FORMAT: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
/// What can be chosen: nobody gets set-user-ID or set-group-ID from afar.
const PERMISSIONS: u32 = 0o1777;

impl Vfs {
    /// What `headers` choose, if `who` may.
    pub(super) fn chosen(
        &self,
        who: &Caller,
        bucket: Ino,
        headers: &ObjectHeaders,
    ) -> Result<Chosen> {
        let chosen = chosen(headers);
        if chosen == Chosen::default() || self.has_right(who, bucket, Right::Chown)? {
            return Ok(chosen);
        }
        Ok(Chosen::default())
    }
}

/// What is no number is metadata like any other.
fn chosen(headers: &ObjectHeaders) -> Chosen {
    let text = |name| headers.meta.get(name).map(String::as_str);
    // The largest number stands for "leave it"; chown(2).
    let number = |name| {
        let number: Option<u32> = text(name).and_then(|text| text.parse().ok());
        number.filter(|number| *number < u32::MAX)
    };
    Chosen { uid: number("uid"), gid: number("gid"), mode: text("mode").and_then(mode) }
}

/// A `st_mode` in decimal (s3fs), or in octal with or without the kind of file (rclone).
fn mode(text: &str) -> Option<Mode> {
    let with_kind = |bits: &u32| matches!(bits & FORMAT, REGULAR | DIRECTORY);
    let decimal = text.parse::<u32>().ok().filter(|bits| with_kind(bits) && *bits <= FORMAT);
    let octal = || u32::from_str_radix(text, 8).ok();
    let fits = |bits: &u32| with_kind(bits) || *bits <= 0o7777;
    let bits = decimal.or_else(octal).filter(fits)?;
    Some(Mode::new(bits & PERMISSIONS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_their_writers_mean_them() {
        let cases = [
            ("33188", Some(0o644)),
            ("16877", Some(0o755)),
            ("100644", Some(0o644)),
            ("40755", Some(0o755)),
            ("0600", Some(0o600)),
            ("755", Some(0o755)),
            ("104755", Some(0o755)),
            ("1777", Some(0o1777)),
            ("120777", None),
            ("", None),
            ("rw-r--r--", None),
            ("-1", None),
            ("99999999999", None),
        ];
        for (text, bits) in cases {
            assert_eq!(mode(text).map(|mode| u32::from(mode.bits())), bits, "{text}");
        }
    }
}
