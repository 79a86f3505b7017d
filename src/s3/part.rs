//! The bytes of an object that a read asks for: all, a range, or a part by its number.

use http::header::{CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto::Range;
use s3s::{S3Error, S3ErrorCode, S3Response, S3Result, s3_error};

use super::attributes::part_sum;
use crate::types::ByteRange;
use crate::vfs::ObjectInfo;

/// Begins the `Content-Range` that has nothing but the size.
pub(super) const WHOLE: &str = "bytes */";

/// The bytes a request asks for.
pub(super) struct Part {
    pub range: ByteRange,
    is_partial: bool,
    /// Which part was asked for by number, and how many the object has.
    number: Option<i32>,
    pub parts: Option<i32>,
}

impl Part {
    pub fn of(info: &ObjectInfo, range: Option<&Range>, number: Option<i32>) -> S3Result<Self> {
        match (range, number) {
            (None, None) => {
                let range = ByteRange::between(0, info.size);
                Ok(Self { range, is_partial: false, number: None, parts: None })
            }
            (Some(range), None) => {
                let bytes = range.check(info.size).map_err(|_| unsatisfiable(info.size))?;
                // The last bytes of nothing: s3s takes them for all of it.
                if bytes.is_empty() {
                    return Err(unsatisfiable(info.size));
                }
                let range = ByteRange::between(bytes.start, bytes.end);
                Ok(Self { range, is_partial: true, number: None, parts: None })
            }
            (None, Some(number)) => Self::numbered(info, number),
            (Some(_), Some(_)) => {
                Err(s3_error!(InvalidRequest, "a range and a part cannot both be asked for"))
            }
        }
    }

    fn numbered(info: &ObjectInfo, number: i32) -> S3Result<Self> {
        let missing = || {
            let mut error = S3Error::new(S3ErrorCode::Custom("InvalidPartNumber".into()));
            error.set_status_code(StatusCode::RANGE_NOT_SATISFIABLE);
            error
        };
        let number = u32::try_from(number).ok().filter(|number| *number > 0).ok_or_else(missing)?;
        if info.parts.is_empty() {
            // As Amazon has it: what was not uploaded in parts is its own first one.
            let range = ByteRange::between(0, info.size);
            let whole = Self { range, is_partial: info.size > 0, number: Some(1), parts: None };
            return if number == 1 { Ok(whole) } else { Err(missing()) };
        }
        let (mut start, mut before, mut found) = (0, 0, None);
        for (size, count) in &info.parts {
            if found.is_none() && number <= before + count {
                let start = start + u64::from(number - before - 1) * size;
                found = Some(ByteRange::between(start, start + size));
            }
            start += u64::from(*count) * size;
            before += count;
        }
        let range = found.ok_or_else(missing)?;
        let (number, parts) = (i32::try_from(number).ok(), i32::try_from(before).ok());
        Ok(Self { range, is_partial: true, number, parts })
    }

    /// Of the bytes of this answer, when they are known: of all, or of one part.
    pub fn checksums(&self, info: &ObjectInfo) -> Vec<(crate::types::ChecksumKind, String)> {
        match (self.is_partial, self.number, self.parts) {
            (false, _, _) | (true, Some(_), None) => info.checksums.clone(),
            (true, Some(number), Some(parts)) => {
                part_sum(info, number, parts.unsigned_abs()).into_iter().collect()
            }
            (true, None, _) => Vec::new(),
        }
    }

    pub fn content_range(&self, size: u64) -> Option<String> {
        let (start, end) = (self.range.start(), self.range.end());
        let shown = self.is_partial && !self.range.is_empty();
        shown.then(|| format!("bytes {start}-{}/{size}", end - 1))
    }
}

/// RFC 9110 section 15.5.17: the answer says how large the object is. Its headers stand in for those
/// s3s would give it.
fn unsatisfiable(size: u64) -> S3Error {
    let mut error = s3_error!(InvalidRange);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Ok(value) = HeaderValue::from_str(&format!("{WHOLE}{size}")) {
        headers.insert(CONTENT_RANGE, value);
    }
    error.set_headers(headers);
    error
}

pub(super) fn partial<T>(output: T, part: &Part) -> S3Response<T> {
    let status = if part.is_partial { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
    S3Response::with_status(output, status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Ino;
    use crate::vfs::ObjectHeaders;

    fn object(size: u64, parts: Vec<(u64, u32)>) -> ObjectInfo {
        ObjectInfo {
            ino: Ino(2),
            version: 1,
            size,
            etag: "x".into(),
            modified: crate::types::Timestamp::default(),
            uid: 0,
            headers: ObjectHeaders::default(),
            checksums: Vec::new(),
            composite: false,
            parts,
            part_sums: Vec::new(),
        }
    }

    #[test]
    fn parts_are_found_by_number() {
        let info = object(25, vec![(10, 2), (5, 1)]);
        let part = |number| Part::of(&info, None, Some(number));
        assert_eq!(part(2).unwrap().range, ByteRange::between(10, 20));
        let last = part(3).unwrap();
        assert_eq!((last.range, last.parts), (ByteRange::between(20, 25), Some(3)));
        assert_eq!(last.content_range(25).unwrap(), "bytes 20-24/25");
        assert!(part(0).is_err() && part(4).is_err());
        let summed = ObjectInfo {
            checksums: vec![(crate::types::ChecksumKind::Crc32, "whole".into())],
            part_sums: vec![1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],
            ..info.clone()
        };
        let sum = vec![(crate::types::ChecksumKind::Crc32, crate::types::base64(&[3; 4]))];
        assert_eq!(part(3).unwrap().checksums(&summed), sum);
        let plain = object(7, Vec::new());
        let whole = Part::of(&plain, None, Some(1)).unwrap();
        assert_eq!(whole.content_range(7).unwrap(), "bytes 0-6/7");
        assert!(whole.is_partial && whole.parts.is_none());
        assert_eq!(whole.checksums(&summed), summed.checksums);
        assert!(Part::of(&plain, None, Some(2)).is_err());
    }

    #[test]
    fn ranges_are_cut_to_the_object() {
        let info = object(10, Vec::new());
        let part = |text: &str| Part::of(&info, Some(&Range::parse(text).unwrap()), None);
        assert_eq!(part("bytes=3-99").unwrap().range, ByteRange::between(3, 10));
        assert_eq!(part("bytes=-4").unwrap().range, ByteRange::between(6, 10));
        assert!(part("bytes=10-").is_err());
        let empty = object(0, Vec::new());
        assert!(Part::of(&empty, Some(&Range::parse("bytes=-5").unwrap()), None).is_err());
    }
}
