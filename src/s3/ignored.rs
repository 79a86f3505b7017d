//! Headers of a read that count for nothing when they cannot be read, where s3s would refuse the
//! request.

use http::header::{AUTHORIZATION, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderName, HeaderValue, Method, Request};
use s3s::dto::{ETagCondition, Range, Timestamp, TimestampFormat};

use super::words::query_pairs;

/// Whether a value can be read.
type Reads = fn(&HeaderValue) -> bool;

fn is_range(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| Range::parse(text).is_ok())
}

fn is_tag(value: &HeaderValue) -> bool {
    ETagCondition::parse_http_header(value.as_bytes()).is_ok()
}

fn is_date(value: &HeaderValue) -> bool {
    value.to_str().is_ok_and(|text| Timestamp::parse(TimestampFormat::HttpDate, text).is_ok())
}

/// Takes them away: RFC 9110, sections 13.1.2 to 13.1.4 and 14.2. What is signed has to stay, and is
/// refused.
pub(super) fn drop_unreadable<B>(request: &mut Request<B>) {
    if *request.method() != Method::GET && *request.method() != Method::HEAD {
        return;
    }
    let known: [(HeaderName, Reads); 4] = [
        (RANGE, is_range),
        (IF_NONE_MATCH, is_tag),
        (IF_MODIFIED_SINCE, is_date),
        (IF_UNMODIFIED_SINCE, is_date),
    ];
    for (name, is_readable) in known {
        let mut values = request.headers().get_all(&name).iter();
        let readable = match (values.next(), values.next()) {
            (None, _) => true,
            (Some(value), None) => is_readable(value),
            (Some(_), Some(_)) => false,
        };
        if !readable && !is_signed(request, &name) {
            request.headers_mut().remove(&name);
        }
    }
}

/// Whether a header is among those that Signature Version 4 covers.
fn is_signed<B>(request: &Request<B>, name: &HeaderName) -> bool {
    let among =
        |names: &str| names.split(';').any(|signed| signed.eq_ignore_ascii_case(name.as_str()));
    let fields = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut fields = fields.unwrap_or_default().split([',', ' ']);
    let pairs = request.uri().query().and_then(query_pairs).unwrap_or_default();
    fields.any(|field| field.strip_prefix("SignedHeaders=").is_some_and(among))
        || pairs.iter().any(|(key, names)| key == "X-Amz-SignedHeaders" && among(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(method: Method, uri: &str, headers: &[(&str, &str)]) -> Vec<String> {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(()).unwrap();
        drop_unreadable(&mut request);
        request.headers().values().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_cannot_be_read_is_dropped_unless_it_is_signed() {
        for range in ["bytes=0-1,3-4", "lines=1-2", "bytes=5-2", "bytes=", "x"] {
            assert!(kept(Method::GET, "/b/k", &[("range", range)]).is_empty(), "{range}");
            assert_eq!(kept(Method::PUT, "/b/k", &[("range", range)]), [range]);
            let signed = "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;range, Signature=y";
            let both = [("range", range), ("authorization", signed)];
            assert_eq!(kept(Method::GET, "/b/k", &both).len(), 2);
            let query = "/b/k?X-Amz-SignedHeaders=host%3Brange";
            assert_eq!(kept(Method::GET, query, &[("range", range)]), [range]);
            let other = "/b/k?X-Amz-SignedHeaders=host";
            assert!(kept(Method::HEAD, other, &[("range", range)]).is_empty());
        }
        let range = "bytes=1-2";
        assert_eq!(kept(Method::GET, "/", &[("range", range)]), [range]);
        assert!(kept(Method::GET, "/", &[("range", range), ("range", range)]).is_empty());
        let others = [("if-none-match", "\"a"), ("if-modified-since", "yesterday")];
        assert!(kept(Method::GET, "/", &others).is_empty());
        // To answer what was to be the expected object would be wrong.
        assert_eq!(kept(Method::GET, "/", &[("if-match", "\"a")]), ["\"a"]);
    }
}
