//! Conditions of requests; RFC 9110 section 13.

use axum::http::HeaderMap;
use axum::http::header::{
    HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};

use super::error::{Answer, Refused};
use crate::types::Timestamp;
use crate::vfs::{Condition, Expected, ObjectInfo};

/// What a read's conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Answer,
    NotModified,
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The tags of a list, without quotes; `*` stands for itself, a weak tag begins with `W/`.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|tag| tag.trim().trim_matches('"'))
}

fn names(list: &str, etag: &str) -> bool {
    tags(list).any(|tag| tag == "*" || tag == etag)
}

/// As [`names`], a weak tag counting like a strong one.
fn names_weakly(list: &str, etag: &str) -> bool {
    let weak = |tag: &str| tag.strip_prefix("W/\"").is_some_and(|tag| tag == etag);
    names(list, etag) || tags(list).any(weak)
}

/// A date, in whole seconds since 1970; what is no date is no condition.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    let date = httpdate::parse_http_date(text(headers, name)?).ok()?;
    Some(Timestamp::from(date).seconds)
}

/// # Errors
/// 412 when the object is not as the request demands.
pub(super) fn check(headers: &HeaderMap, info: &ObjectInfo) -> Answer<Verdict> {
    let modified = info.modified.seconds;
    match (text(headers, &IF_MATCH), date(headers, &IF_UNMODIFIED_SINCE)) {
        (Some(list), _) if !names(list, &info.etag) => return Err(Refused::precondition()),
        (None, Some(date)) if modified > date => return Err(Refused::precondition()),
        _ => {}
    }
    match (text(headers, &IF_NONE_MATCH), date(headers, &IF_MODIFIED_SINCE)) {
        (Some(list), _) if names_weakly(list, &info.etag) => Ok(Verdict::NotModified),
        (None, Some(date)) if modified <= date => Ok(Verdict::NotModified),
        _ => Ok(Verdict::Answer),
    }
}

/// Whether a range may be sent: `If-Range` names what the client has the rest of.
pub(super) fn allow_range(headers: &HeaderMap, info: &ObjectInfo) -> bool {
    let Some(text) = text(headers, &IF_RANGE) else { return headers.get(IF_RANGE).is_none() };
    match date(headers, &IF_RANGE) {
        Some(date) => info.modified.seconds == date,
        None => text.trim() == format!("\"{}\"", info.etag),
    }
}

/// The condition of a write, decided where it is made.
///
/// # Errors
/// 400 for conditions that writes cannot have here.
pub(super) fn of_write(headers: &HeaderMap) -> Answer<Condition> {
    let one = |list: &str| {
        let mut tags = tags(list);
        match (tags.next(), tags.next()) {
            (Some(tag), None) if !tag.is_empty() => Some(tag.to_owned()),
            _ => None,
        }
    };
    if headers.contains_key(IF_UNMODIFIED_SINCE) {
        return Err(unknown());
    }
    let given = |name: HeaderName| match headers.get(&name) {
        None => Ok(None),
        Some(_) => text(headers, &name).and_then(one).map(Some).ok_or_else(unknown),
    };
    match (given(IF_MATCH)?.as_deref(), given(IF_NONE_MATCH)?.as_deref()) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (Some("*"), None) => Ok(Condition::Present),
        (Some(etag), None) => Ok(Condition::ETag(etag.to_owned())),
        (None, Some(etag)) => Ok(Condition::NotETag(etag.to_owned())),
        (Some(_), Some(_)) => Err(unknown()),
    }
}

/// What the object must be like that is removed; `None` without a condition.
///
/// # Errors
/// 400 for conditions that removals cannot have here.
pub(super) fn of_removal(headers: &HeaderMap) -> Answer<Option<Expected>> {
    match of_write(headers)? {
        Condition::Always => Ok(None),
        Condition::Present => Ok(Some(Expected::default())),
        Condition::ETag(etag) => Ok(Some(Expected { etag: Some(etag), ..Expected::default() })),
        Condition::Absent | Condition::NotETag(_) => Err(unknown()),
    }
}

fn unknown() -> Refused {
    Refused::malformed(
        "a write takes one of `If-None-Match` and `If-Match` with one tag or `*`, a removal only `If-Match`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ino;
    use crate::vfs::ObjectHeaders;

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).clone(), value.parse().unwrap())).collect()
    }

    fn info() -> ObjectInfo {
        ObjectInfo {
            ino: Ino(2),
            version: 1,
            size: 0,
            etag: "abc".into(),
            modified: Timestamp { seconds: 784_111_777, nanos: 500 },
            uid: 0,
            headers: ObjectHeaders::default(),
            checksums: Vec::new(),
            part_sums: Vec::new(),
            composite: false,
            parts: Vec::new(),
        }
    }

    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";

    #[test]
    fn reads_are_answered_as_the_rfc_says() {
        let verdict = |pairs: &[(&HeaderName, &str)]| check(&headers(pairs), &info()).ok();
        let (go, same) = (Some(Verdict::Answer), Some(Verdict::NotModified));
        assert_eq!(verdict(&[]), go);
        assert_eq!(verdict(&[(&IF_MATCH, "\"x\", \"abc\"")]), go);
        assert_eq!(verdict(&[(&IF_MATCH, "*")]), go);
        assert_eq!(verdict(&[(&IF_MATCH, "W/\"abc\"")]), None);
        assert_eq!(verdict(&[(&IF_MATCH, "\"x\"")]), None);
        assert_eq!(verdict(&[(&IF_NONE_MATCH, "W/\"abc\"")]), same);
        assert_eq!(verdict(&[(&IF_NONE_MATCH, "\"x\""), (&IF_MODIFIED_SINCE, THEN)]), go);
        assert_eq!(verdict(&[(&IF_MODIFIED_SINCE, THEN)]), same);
        assert_eq!(verdict(&[(&IF_MODIFIED_SINCE, BEFORE)]), go);
        assert_eq!(verdict(&[(&IF_MODIFIED_SINCE, "yesterday")]), go);
        assert_eq!(verdict(&[(&IF_UNMODIFIED_SINCE, BEFORE)]), None);
        assert_eq!(verdict(&[(&IF_UNMODIFIED_SINCE, THEN)]), go);
        assert_eq!(verdict(&[(&IF_MATCH, "\"abc\""), (&IF_UNMODIFIED_SINCE, BEFORE)]), go);
    }

    #[test]
    fn a_range_of_another_version_is_not_sent() {
        let allowed = |value| allow_range(&headers(&[(&IF_RANGE, value)]), &info());
        assert!(allow_range(&HeaderMap::new(), &info()));
        assert!(allowed("\"abc\"") && allowed(THEN));
        assert!(!allowed("\"x\"") && !allowed("W/\"abc\"") && !allowed(BEFORE));
    }

    #[test]
    fn writes_have_few_conditions() {
        let of = |pairs: &[(&HeaderName, &str)]| of_write(&headers(pairs)).ok();
        assert_eq!(of(&[]), Some(Condition::Always));
        assert_eq!(of(&[(&IF_NONE_MATCH, "*")]), Some(Condition::Absent));
        assert_eq!(of(&[(&IF_MATCH, "*")]), Some(Condition::Present));
        assert_eq!(of(&[(&IF_MATCH, "\"abc\"")]), Some(Condition::ETag("abc".into())));
        assert_eq!(of(&[(&IF_NONE_MATCH, "\"abc\"")]), Some(Condition::NotETag("abc".into())));
        assert_eq!(of(&[(&IF_MATCH, "\"a\", \"b\"")]), None);
        assert_eq!(of(&[(&IF_MATCH, "\"a\""), (&IF_NONE_MATCH, "*")]), None);
        assert_eq!(of(&[(&IF_UNMODIFIED_SINCE, THEN)]), None);
    }

    #[test]
    fn removals_take_only_what_must_be_there() {
        let of = |pairs: &[(&HeaderName, &str)]| of_removal(&headers(pairs)).ok();
        let tagged = Expected { etag: Some("abc".into()), ..Expected::default() };
        assert_eq!(of(&[]), Some(None));
        assert_eq!(of(&[(&IF_MATCH, "*")]), Some(Some(Expected::default())));
        assert_eq!(of(&[(&IF_MATCH, "\"abc\"")]), Some(Some(tagged)));
        assert_eq!(of(&[(&IF_NONE_MATCH, "*")]), None);
        assert_eq!(of(&[(&IF_NONE_MATCH, "\"abc\"")]), None);
    }
}
