//! Conditions of requests; RFC 9110 section 13, and "conditional requests" of the S3 user guide.

use std::time::UNIX_EPOCH;

use http::header::IF_RANGE;
use http::{HeaderMap, StatusCode};
use s3s::dto::{ETag, ETagCondition, Timestamp as S3Time, TimestampFormat};
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

use super::words;
use crate::types::Timestamp;
use crate::vfs::{Condition, Expected, ObjectInfo};

/// The conditions of a read.
#[derive(Default)]
pub(super) struct Conditions {
    pub matches: Option<ETagCondition>,
    pub none_matches: Option<ETagCondition>,
    pub modified_since: Option<S3Time>,
    pub unmodified_since: Option<S3Time>,
}

/// What stands between the first quote of a list of tags and its last: s3s takes that for one tag.
const QUOTE: char = '"';

fn names(condition: &ETagCondition, etag: &str) -> bool {
    let among = |named: &ETag| named.value().split(QUOTE).step_by(2).any(|tag| tag == etag);
    condition.as_etag().is_none_or(among)
}

/// In whole seconds: what a date in a header can say.
fn told(modified: Timestamp) -> S3Time {
    let seconds = Timestamp { nanos: 0, ..modified }.to_system_time();
    S3Time::from(seconds.max(UNIX_EPOCH))
}

fn is_after(modified: Timestamp, date: &S3Time) -> bool {
    told(modified) > *date
}

/// Whether a range may be sent: `If-Range` names the version a client has the rest of, by its date or
/// by its tag, which has to be a strong one; RFC 9110 section 13.1.5.
pub(super) fn allow_range(headers: &HeaderMap, info: &ObjectInfo) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    match S3Time::parse(TimestampFormat::HttpDate, text) {
        Ok(date) => told(info.modified) == date,
        Err(_) => text.trim() == format!("\"{}\"", info.etag),
    }
}

impl Conditions {
    /// # Errors
    /// `PreconditionFailed`, or `NotModified` with the headers it must have.
    pub fn check(&self, info: &ObjectInfo) -> S3Result<()> {
        self.check_for(info, true)
    }

    /// As [`Self::check`] of the source of a copy: what is not met is never "not modified".
    pub fn check_source(&self, info: &ObjectInfo) -> S3Result<()> {
        self.check_for(info, false)
    }

    fn check_for(&self, info: &ObjectInfo, read: bool) -> S3Result<()> {
        let failed = || s3_error!(PreconditionFailed);
        let unchanged = || if read { not_modified(info) } else { failed() };
        match (&self.matches, &self.unmodified_since) {
            (Some(condition), _) if !names(condition, &info.etag) => return Err(failed()),
            (None, Some(date)) if is_after(info.modified, date) => return Err(failed()),
            _ => {}
        }
        match (&self.none_matches, &self.modified_since) {
            (Some(condition), _) if names(condition, &info.etag) => Err(unchanged()),
            (None, Some(date)) if !is_after(info.modified, date) => Err(unchanged()),
            _ => Ok(()),
        }
    }
}

fn not_modified(info: &ObjectInfo) -> S3Error {
    let mut error = S3Error::new(S3ErrorCode::NotModified);
    error.set_status_code(StatusCode::NOT_MODIFIED);
    let mut headers = http::HeaderMap::new();
    if let Ok(etag) = format!("\"{}\"", info.etag).parse() {
        headers.insert(http::header::ETAG, etag);
    }
    error.set_headers(headers);
    error
}

/// The condition of a write, decided where it is made.
pub(super) fn of_write(
    matches: Option<&ETagCondition>,
    none_matches: Option<&ETagCondition>,
) -> S3Result<Condition> {
    let given = [matches, none_matches].into_iter().flatten();
    if given.filter_map(ETagCondition::as_etag).any(|etag| etag.value().contains(QUOTE)) {
        return Err(s3_error!(NotImplemented, "a list of entity tags for a write"));
    }
    match (matches, none_matches) {
        (None, None) => Ok(Condition::Always),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::Any), None) => Ok(Condition::Present),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::ETag(etag.value().to_owned())),
        (None, Some(ETagCondition::ETag(etag))) => Ok(Condition::NotETag(etag.value().to_owned())),
        (Some(_), Some(_)) => Err(s3_error!(NotImplemented, "both conditions of a write at once")),
    }
}

/// What a deletion demands of an object. That it is there (`*`) is no demand: the end is the same.
pub(super) fn of_deletion(
    etag: Option<&ETagCondition>,
    size: Option<i64>,
    modified: Option<&S3Time>,
) -> S3Result<Expected> {
    let etag = etag.and_then(ETagCondition::as_etag).map(|etag| etag.value().to_owned());
    let size = size.map(u64::try_from).transpose();
    let size = size.map_err(|_| s3_error!(InvalidArgument, "a negative size"))?;
    let modified = modified.map(words::seconds).transpose()?;
    Ok(Expected { etag, size, modified })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::types::Ino;
    use crate::vfs::ObjectHeaders;

    fn info() -> ObjectInfo {
        ObjectInfo {
            ino: Ino(2),
            version: 1,
            size: 0,
            etag: "x".into(),
            modified: Timestamp { seconds: 1000, nanos: 999 },
            uid: 0,
            headers: ObjectHeaders::default(),
            checksums: Vec::new(),
            composite: false,
            parts: Vec::new(),
            part_sums: Vec::new(),
        }
    }

    fn tag(text: &str) -> Option<ETagCondition> {
        Some(ETagCondition::ETag(ETag::Strong(text.into())))
    }

    fn date(seconds: u64) -> Option<S3Time> {
        Some((UNIX_EPOCH + Duration::from_secs(seconds)).into())
    }

    fn status(conditions: Conditions) -> Option<u16> {
        let error = conditions.check(&info()).err()?;
        error.status_code().or_else(|| error.code().status_code()).map(|status| status.as_u16())
    }

    /// RFC 9110 section 13.2.2: the order in which they count.
    #[test]
    fn reads_follow_the_precedence_of_http() {
        let none = Conditions::default;
        assert_eq!(status(Conditions { matches: tag("x"), ..none() }), None);
        assert_eq!(status(Conditions { matches: tag("y"), ..none() }), Some(412));
        assert_eq!(status(Conditions { none_matches: tag("x"), ..none() }), Some(304));
        // The lists `"y", "x"` and `"y", W/"x"`, as s3s hands them on.
        for list in [r#"y", "x"#, r#"y", W/"x"#] {
            assert_eq!(status(Conditions { matches: tag(list), ..none() }), None);
            assert_eq!(status(Conditions { none_matches: tag(list), ..none() }), Some(304));
        }
        assert_eq!(status(Conditions { matches: tag(r#"y", "z"#), ..none() }), Some(412));
        assert_eq!(status(Conditions { modified_since: date(1000), ..none() }), Some(304));
        assert_eq!(status(Conditions { modified_since: date(999), ..none() }), None);
        assert_eq!(status(Conditions { unmodified_since: date(1000), ..none() }), None);
        assert_eq!(status(Conditions { unmodified_since: date(999), ..none() }), Some(412));
        let both = Conditions { matches: tag("x"), unmodified_since: date(1), ..none() };
        assert_eq!(status(both), None);
        let both = Conditions { none_matches: tag("y"), modified_since: date(2000), ..none() };
        assert_eq!(status(both), None);
        let source = Conditions { none_matches: tag("x"), ..none() };
        let error = source.check_source(&info()).unwrap_err();
        assert_eq!(error.code(), &S3ErrorCode::PreconditionFailed);
    }

    #[test]
    fn a_range_of_another_version_is_not_sent() {
        let allowed = |value: &str| {
            allow_range(&HeaderMap::from_iter([(IF_RANGE, value.parse().unwrap())]), &info())
        };
        assert!(allow_range(&HeaderMap::new(), &info()));
        assert!(allowed("\"x\"") && allowed("Thu, 01 Jan 1970 00:16:40 GMT"));
        for other in ["\"y\"", "W/\"x\"", "x", "Thu, 01 Jan 1970 00:16:41 GMT"] {
            assert!(!allowed(other), "{other}");
        }
    }

    #[test]
    fn a_condition_of_a_write_that_is_unknown_is_refused() {
        assert_eq!(of_write(None, Some(&ETagCondition::Any)).unwrap(), Condition::Absent);
        assert_eq!(of_write(tag("x").as_ref(), None).unwrap(), Condition::ETag("x".into()));
        assert_eq!(of_write(None, tag("x").as_ref()).unwrap(), Condition::NotETag("x".into()));
        assert!(of_write(tag("x").as_ref(), tag("y").as_ref()).is_err());
        assert!(of_write(None, tag(r#"x", "y"#).as_ref()).is_err());
        let expected = of_deletion(tag("x").as_ref(), Some(3), date(1000).as_ref()).unwrap();
        let wanted = Expected { etag: Some("x".into()), size: Some(3), modified: Some(1000) };
        assert_eq!(expected, wanted);
        assert!(of_deletion(None, Some(-1), None).is_err());
    }
}
