//! Lengths of time as people write them: `10s`, `250ms`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    millis: u64,
}

impl Period {
    pub const fn millis(millis: u64) -> Self {
        Self { millis }
    }

    pub const fn seconds(seconds: u64) -> Self {
        Self { millis: seconds * 1_000 }
    }

    pub fn to_duration(self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// The largest unit that divides the length: reads back to the same.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS
            .iter()
            .find(|(_, factor)| self.millis != 0 && self.millis.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => write!(f, "{}{unit}", self.millis / factor),
            None => write!(f, "0s"),
        }
    }
}

/// Digits and a unit, which may not be left out: a bare number would be guessed at.
impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = (&text[..unit_at], text[unit_at..].trim_start());
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let count: Option<u64> = digits.parse().ok();
        count
            .zip(factor)
            .and_then(|(count, factor)| count.checked_mul(factor))
            .map(Self::millis)
            .ok_or_else(|| Error::Config(format!("`{text}` is no length of time such as 10s")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_are_read_exactly() {
        for (text, millis) in [("10s", 10_000), ("250ms", 250), ("5 m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(text.parse::<Period>().unwrap(), Period::millis(millis), "{text}");
        }
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        for text in ["", "10", "s", "1.5s", "-1s", "10 sec", "99999999999999999999h"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(millis in 0..u64::MAX / 3_600_000) {
            let period = Period::millis(millis);
            prop_assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
        }
    }
}
