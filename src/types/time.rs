//! Points in time as files carry them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Nanoseconds and seconds since 1970-01-01 UTC, as `struct timespec`: before 1970 the seconds
/// are negative and the nanoseconds still count forward, `0..1_000_000_000`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanos: u32,
}

impl Timestamp {
    pub const NANOS_PER_SECOND: u32 = 1_000_000_000;

    /// The moment as the standard library has it; clamped at what `SystemTime` can hold.
    pub fn to_system_time(self) -> SystemTime {
        let magnitude = Duration::from_secs(self.seconds.unsigned_abs());
        let second = if self.seconds < 0 {
            UNIX_EPOCH.checked_sub(magnitude)
        } else {
            UNIX_EPOCH.checked_add(magnitude)
        };
        second
            .and_then(|second| second.checked_add(Duration::from_nanos(self.nanos.into())))
            .unwrap_or(UNIX_EPOCH)
    }

    /// The time as RFC 3339 has it, in whole seconds of UTC. The way from days to a date is Howard
    /// Hinnant's, "chrono-compatible low-level date algorithms", `civil_from_days`.
    pub fn rfc3339(self) -> String {
        let (days, rest) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos(),
            },
            Err(error) => {
                let before = error.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Self { seconds: -seconds, nanos: 0 },
                    nanos => Self { seconds: -seconds - 1, nanos: Self::NANOS_PER_SECOND - nanos },
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_after_2038_survive() {
        for (seconds, nanos) in [(0, 0), (-1, 999_999_999), (-2, 1), (1 << 32, 5), (-86_400, 0)] {
            let time = Timestamp { seconds, nanos };
            assert_eq!(Timestamp::from(time.to_system_time()), time);
        }
    }

    #[test]
    fn times_are_shown_in_utc() {
        let cases = [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (4_294_967_296, "2106-02-07T06:28:16Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Timestamp { seconds, nanos: 7 }.rfc3339(), text);
        }
    }
}
