//! The fields of a form that s3s leaves out: it hands on those that have the name of a header, and Amazon S3 names
//! the access list and the tags otherwise ("POST Object", Amazon S3 API reference).

use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use mime::Mime;
use parking_lot::Mutex;
use s3s::dto::Tagging;
use s3s::xml::{DeResult, Deserialize, Deserializer};
use s3s::{S3Result, s3_error};
use s3s_multipart::{Boundary, Error, Multipart, Part, parse_content_disposition};

use super::tags;

/// What a form holds before its file, with what stands around each field, in bytes.
const HEAD_MAX: usize = 128 << 10;
const LIST: &[u8] = b"acl";
const TAGS: &[u8] = b"tagging";
const FILE: &[u8] = b"file";

/// The begin of a form, kept as it comes in until its fields are asked for.
pub(super) struct Head(Mutex<Option<Vec<u8>>>);

/// The values of the fields that s3s leaves out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields {
    /// The name of a canned access list.
    pub acl: Option<String>,
    /// As the header `x-amz-tagging` has them.
    pub tagging: Option<String>,
}

type Parsed<'a> = Part<'a, stream::Iter<std::array::IntoIter<Result<Bytes, Error>, 1>>>;

impl Head {
    /// Of a request that may be a form, or of another.
    pub fn new(may_be_form: bool) -> Self {
        Self(Mutex::new(may_be_form.then(Vec::new)))
    }

    pub fn take(&self, bytes: &[u8]) {
        if let Some(kept) = &mut *self.0.lock() {
            let room = HEAD_MAX - kept.len();
            kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
    }

    /// The fields before the file, of which s3s has seen the begin. Later values of a field replace earlier ones, as
    /// for s3s.
    ///
    /// # Errors
    /// `MaxPostPreDataLengthExceededError` for more than is kept of a form, `MalformedXML` for tags that cannot be read.
    pub async fn fields(&self, headers: &HeaderMap) -> S3Result<Fields> {
        let kept = self.0.lock().take().unwrap_or_default();
        let is_full = kept.len() == HEAD_MAX;
        let read = read(&boundary(headers)?, Bytes::from(kept)).await;
        let (acl, tagging) = read.map_err(|error| match is_full {
            true => s3_error!(MaxPostPreDataLengthExceededError),
            false => s3_error!(error, MalformedPOSTRequest),
        })?;
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|error| s3_error!(error, MalformedPOSTRequest))
        };
        let acl = acl.map(text).transpose()?;
        let tagging = tagging.map(|xml| tagging_of(&xml)).transpose()?;
        Ok(Fields { acl, tagging: tagging.map(tags::to_header) })
    }
}

fn boundary(headers: &HeaderMap) -> S3Result<Boundary> {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.and_then(|text| text.parse::<Mime>().ok());
    let text = kind.as_ref().and_then(|kind| kind.get_param(mime::BOUNDARY));
    text.and_then(|text| Boundary::new(text.as_str().as_bytes()).ok())
        .ok_or_else(|| s3_error!(MalformedPOSTRequest, "the boundary of the form"))
}

/// The access list and the tags.
async fn read(
    boundary: &Boundary,
    head: Bytes,
) -> Result<(Option<Vec<u8>>, Option<Vec<u8>>), Error> {
    let mut parts = Multipart::new(stream::iter([Ok(head)]), boundary, HEAD_MAX);
    let (mut list, mut tagging) = (None, None);
    while let Some(mut part) = parts.next_part().await? {
        let name = name(&mut part).await?.unwrap_or_default();
        let field = match name.as_slice() {
            FILE => break,
            LIST => &mut list,
            TAGS => &mut tagging,
            _ => continue,
        };
        let mut value = Vec::new();
        while let Some(bytes) = part.next_data().await? {
            value.extend_from_slice(&bytes);
        }
        *field = Some(value);
    }
    Ok((list, tagging))
}

/// A part's name in lower case; as for s3s, the last one counts.
async fn name(part: &mut Parsed<'_>) -> Result<Option<Vec<u8>>, Error> {
    let mut name = None;
    while let Some(header) = part.next_header().await? {
        if header.name.eq_ignore_ascii_case("content-disposition") {
            let disposition = parse_content_disposition(header.value);
            name = disposition.and_then(|found| found.name).map(<[u8]>::to_ascii_lowercase);
        }
    }
    Ok(name)
}

fn tagging_of(xml: &[u8]) -> S3Result<Tagging> {
    let read = || -> DeResult<Tagging> {
        let mut document = Deserializer::new(xml);
        let tagging = Tagging::deserialize(&mut document)?;
        document.expect_eof()?;
        Ok(tagging)
    };
    read().map_err(|error| s3_error!(error, MalformedXML))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn fields(parts: &[(&str, &str)], size: usize) -> S3Result<Fields> {
        let mut form = String::from("before the first\r\n");
        for (name, value) in parts {
            form += &format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            );
        }
        let head = Head::new(true);
        form.as_bytes().chunks(size).for_each(|piece| head.take(piece));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "multipart/form-data; boundary=b".parse().unwrap());
        head.fields(&headers).await
    }

    fn some(acl: &str, tagging: &str) -> Fields {
        Fields { acl: Some(acl.to_owned()), tagging: Some(tagging.to_owned()) }
    }

    #[tokio::test]
    async fn the_list_and_the_tags_stand_before_the_file() {
        let tag = |key: &str| format!("<Tag><Key>{key}</Key><Value>v&amp;</Value></Tag>");
        let tags = format!("<Tagging><TagSet>{}{}</TagSet></Tagging>", tag("a"), tag("b c"));
        let file = ("file", "bytes");
        for size in [1, 7, 1 << 20] {
            let form = [("key", "k"), ("ACL", "private"), ("tagging", &tags), ("acl", "x"), file];
            assert_eq!(fields(&form, size).await.unwrap(), some("x", "a=v%26&b%20c=v%26"));
            let after = [file, ("acl", "x"), ("tagging", "none")];
            assert_eq!(fields(&after, size).await.unwrap(), Fields::default());
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_refused() {
        let code = async |parts: &[(&str, &str)]| {
            fields(parts, 1000).await.unwrap_err().code().as_str().to_owned()
        };
        for tags in ["", "a=b", "<Tagging><TagSet>", "<Tagging><TagSet/></Tagging><x/>"] {
            assert_eq!(code(&[("tagging", tags), ("file", "")]).await, "MalformedXML", "{tags}");
        }
        assert_eq!(code(&[("acl", "no file")]).await, "MalformedPOSTRequest");
        let long = "x".repeat(HEAD_MAX);
        let parts = [("acl", "private"), ("other", &long), ("file", "")];
        assert_eq!(code(&parts).await, "MaxPostPreDataLengthExceededError");
        let none = Head::new(true).fields(&HeaderMap::new()).await;
        assert_eq!(none.unwrap_err().code().as_str(), "MalformedPOSTRequest");
    }

    #[test]
    fn no_more_is_kept_than_fields_need() {
        let (other, form) = (Head::new(false), Head::new(true));
        for _ in 0..3 {
            other.take(&[0; HEAD_MAX - 1]);
            form.take(&[0; HEAD_MAX - 1]);
        }
        assert!(other.0.lock().is_none());
        assert_eq!(form.0.lock().as_ref().map(Vec::len), Some(HEAD_MAX));
    }
}
