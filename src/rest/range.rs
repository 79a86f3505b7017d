//! Ranges of bytes that a request asks for; RFC 9110 section 14.

use axum::http::HeaderMap;
use axum::http::header::RANGE;

use crate::types::ByteRange;

/// What is to be sent of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Range(ByteRange),
    /// The range lies behind the end.
    Unsatisfiable,
}

/// What the headers ask for of an object of this size. Several ranges, and what is no range, mean
/// the whole object, as the RFC allows.
pub(super) fn asked(headers: &HeaderMap, size: u64) -> Part {
    let mut values = headers.get_all(RANGE).iter();
    match (values.next().map(|value| value.to_str()), values.next()) {
        (Some(Ok(text)), None) => parse(text, size).unwrap_or(Part::Whole),
        _ => Part::Whole,
    }
}

fn parse(text: &str, size: u64) -> Option<Part> {
    let (unit, ranges) = text.split_once('=')?;
    let (first, last) = ranges.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds lie behind every end.
        true if !text.is_empty() => Some(text.parse().unwrap_or(u64::MAX)),
        _ => None,
    };
    let range = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => ByteRange::between(size.saturating_sub(number(last)?), size),
        (false, true) => ByteRange::between(number(first)?, size),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            ByteRange::between(first, size.min(last.saturating_add(1)))
        }
    };
    let within = range.start() < size && !range.is_empty();
    Some(if within { Part::Range(range) } else { Part::Unsatisfiable })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Part {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, text.parse().unwrap());
        asked(&headers, 10)
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        let range = |start, end| Part::Range(ByteRange::between(start, end));
        assert_eq!(of("bytes=0-0"), range(0, 1));
        assert_eq!(of("bytes=3-99"), range(3, 10));
        assert_eq!(of("Bytes=3-"), range(3, 10));
        assert_eq!(of("bytes=-4"), range(6, 10));
        assert_eq!(of("bytes=-99"), range(0, 10));
        assert_eq!(of("bytes=0-99999999999999999999999"), range(0, 10));
        for text in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(of(text), Part::Unsatisfiable, "{text}");
        }
        for text in
            ["bytes=", "bytes=-", "bytes=5-3", "bytes=1-2,4-5", "lines=1-2", "x", "bytes=a-b"]
        {
            assert_eq!(of(text), Part::Whole, "{text}");
        }
        assert_eq!(asked(&HeaderMap::new(), 10), Part::Whole);
    }

    proptest! {
        #[test]
        fn no_text_breaks_it(text in "\\PC{0,40}", size: u64) {
            match parse(&text, size) {
                Some(Part::Range(range)) => prop_assert!(range.end() <= size && !range.is_empty()),
                Some(Part::Whole | Part::Unsatisfiable) | None => {}
            }
        }

        #[test]
        fn what_is_like_a_range_breaks_nothing(text in "bytes=[0-9]{0,25}-[0-9]{0,25}", size: u64) {
            match parse(&text, size) {
                Some(Part::Range(range)) => prop_assert!(range.end() <= size && !range.is_empty()),
                Some(Part::Whole | Part::Unsatisfiable) | None => {}
            }
        }
    }
}
