//! Amounts of bytes as people write them: `4MiB`, `5TiB`, `1GB`, `65536`.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// The units accepted, largest first within each family; the first family is what is shown.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];
const BINARY_UNITS: usize = 4;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    pub const fn tib(count: u64) -> Self {
        Self(count << 40)
    }
}

/// The largest binary unit that divides the amount, without a fraction: reads back to the same.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS[..BINARY_UNITS]
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.0 / factor),
            None => write!(f, "{}B", self.0),
        }
    }
}

/// Digits, then a unit or nothing (bytes); blanks between them are fine, fractions are not.
impl FromStr for ByteSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = (&text[..unit_at], text[unit_at..].trim_start());
        let factor = match unit {
            "" => Some(1),
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor),
        };
        let count: Option<u64> = digits.parse().ok();
        count
            .zip(factor)
            .and_then(|(count, factor)| count.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| Error::Config(format!("`{text}` is no size such as 4MiB")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read_exactly() {
        let cases =
            [("4MiB", 4 << 20), ("65536", 65_536), ("1 GB", 1_000_000_000), ("0", 0), ("7B", 7)];
        for (text, bytes) in cases {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MiB", "4M", "4mib", "-1", "1.5GiB", "99999999999TiB", "4MiBs", "٣"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes: u64) {
            let size = ByteSize(bytes);
            prop_assert_eq!(size.to_string().parse::<ByteSize>().unwrap(), size);
        }
    }
}
