//! Objects' headers as HTTP has them: what an upload sends of them, and what an answer says.

use axum::http::HeaderMap;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_TYPE, ETAG, EXPIRES, HeaderName, HeaderValue, LAST_MODIFIED,
};

use super::error::{Answer, Refused};
use crate::types::Timestamp;
use crate::vfs::{ObjectHeaders, ObjectInfo, content_type};

/// Kept with an object and told again.
const STANDARD: [HeaderName; 6] =
    [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, EXPIRES];
/// Begins the names of a user's own metadata.
const META: &str = "x-meta-";

/// What an upload says of its object.
///
/// # Errors
/// 400 for values that are no text.
pub(super) fn kept(headers: &HeaderMap) -> Answer<ObjectHeaders> {
    let mut kept = ObjectHeaders::default();
    let text = |name: &HeaderName, value: &HeaderValue| {
        let text = std::str::from_utf8(value.as_bytes()).map(str::to_owned);
        text.map_err(|_| Refused::malformed(format!("the header {name} is no text")))
    };
    for (name, value) in headers {
        if STANDARD.contains(name) {
            kept.standard.insert(name.as_str().to_owned(), text(name, value)?);
        } else if let Some(own) = name.as_str().strip_prefix(META) {
            kept.meta.insert(own.to_owned(), text(name, value)?);
        }
    }
    kept.standard.retain(|_, value| !value.is_empty());
    Ok(kept)
}

/// What an answer says of an object.
pub(super) fn told(key: &str, info: &ObjectInfo) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A mount may have set what no header can say.
    let mut tell = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(name, value);
        }
    };
    tell(CONTENT_TYPE, content_type(key));
    for name in STANDARD {
        if let Some(value) = info.headers.standard.get(name.as_str()) {
            tell(name, value);
        }
    }
    for (own, value) in &info.headers.meta {
        if let Ok(name) = HeaderName::from_bytes(format!("{META}{own}").as_bytes()) {
            tell(name, value);
        }
    }
    tell(ACCEPT_RANGES, "bytes");
    tell(ETAG, &format!("\"{}\"", info.etag));
    tell(LAST_MODIFIED, &date(info.modified));
    headers
}

/// The time in whole seconds, as headers have it; RFC 9110 section 5.6.7.
fn date(time: Timestamp) -> String {
    let whole = Timestamp { nanos: 0, seconds: time.seconds.clamp(0, LATEST) };
    httpdate::fmt_http_date(whole.to_system_time())
}

/// 31 December 9999: the last year a header can say.
const LATEST: i64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_told_again() {
        let mut sent = HeaderMap::new();
        let pairs = [
            ("content-type", "text/x"),
            ("cache-control", ""),
            ("x-meta-a.b", "v ü"),
            ("authorization", "Bearer x"),
        ];
        for (name, value) in pairs {
            sent.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let kept = kept(&sent).unwrap();
        assert_eq!((kept.standard.len(), kept.meta["a.b"].as_str()), (1, "v ü"));
        let info = ObjectInfo {
            ino: crate::types::Ino(2),
            version: 1,
            size: 0,
            etag: "abc".into(),
            modified: Timestamp { seconds: 784_111_777, nanos: 500 },
            uid: 0,
            headers: kept,
            checksums: Vec::new(),
            part_sums: Vec::new(),
            composite: false,
            parts: Vec::new(),
        };
        let told = told("k.json", &info);
        assert_eq!(told[CONTENT_TYPE], "text/x");
        assert_eq!(told["x-meta-a.b"].as_bytes(), "v ü".as_bytes());
        assert_eq!(told[LAST_MODIFIED], "Sun, 06 Nov 1994 08:49:37 GMT");
        let bare = ObjectInfo { headers: ObjectHeaders::default(), ..info };
        assert_eq!(super::told("k.json", &bare)[CONTENT_TYPE], "application/json");
        let far = Timestamp { seconds: i64::MAX, nanos: 0 };
        assert_eq!(date(far), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(date(Timestamp { seconds: -5, nanos: 0 }), "Thu, 01 Jan 1970 00:00:00 GMT");
    }

    #[test]
    fn what_is_no_text_is_refused() {
        let mut sent = HeaderMap::new();
        sent.insert("x-meta-a", HeaderValue::from_bytes(b"\xff").unwrap());
        assert!(kept(&sent).is_err());
    }
}
