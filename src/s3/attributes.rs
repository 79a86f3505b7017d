//! GetObjectAttributes: what is known of an object and of the parts it was uploaded in.

use s3s::dto::*;
use s3s::{S3Request, S3Response, S3Result, s3_error};

use super::error::refuse;
use super::listing::limit;
use super::objects::{checksum_type, set_checksums};
use super::service::Door;
use super::words::{self, check_no_key, check_version, size, time};
use crate::types::{ChecksumKind, base64};
use crate::vfs::ObjectInfo;

impl Door {
    pub(super) async fn attributes(
        &self,
        request: S3Request<GetObjectAttributesInput>,
    ) -> S3Result<S3Response<GetObjectAttributesOutput>> {
        let who = self.caller(&request)?;
        let input = request.input;
        check_version(input.version_id.as_deref())?;
        check_no_key(input.sse_customer_algorithm.as_deref(), input.sse_customer_key.as_deref())?;
        let (bucket, key) = (words::bucket(&input.bucket)?, words::key(&input.key)?);
        let head = self.vfs.head_object(&who, &bucket, &key).await;
        let info = head.map_err(|error| refuse(&error))?;
        // Some clients send one header with commas.
        let named = input.object_attributes.iter().flat_map(|names| names.as_str().split(','));
        let named: Vec<&str> = named.map(str::trim).collect();
        let asked = |name: &str| named.contains(&name);
        if input.object_attributes.is_empty() {
            return Err(s3_error!(InvalidArgument, "no attribute is asked for"));
        }
        let page = (input.part_number_marker.unwrap_or(0), limit(input.max_parts)?);
        let standard = StorageClass::from_static(StorageClass::STANDARD);
        let output = GetObjectAttributesOutput {
            e_tag: asked(ObjectAttributes::ETAG).then(|| words::etag(&info.etag)),
            checksum: checksum(&info).filter(|_| asked(ObjectAttributes::CHECKSUM)),
            object_parts: parts(&info, page).filter(|_| asked(ObjectAttributes::OBJECT_PARTS)),
            object_size: asked(ObjectAttributes::OBJECT_SIZE).then(|| size(info.size)),
            storage_class: asked(ObjectAttributes::STORAGE_CLASS).then_some(standard),
            last_modified: Some(time(info.modified)),
            ..Default::default()
        };
        Ok(S3Response::new(output))
    }
}

fn checksum(info: &ObjectInfo) -> Option<Checksum> {
    let mut checksum = Checksum { checksum_type: checksum_type(info), ..Default::default() };
    set_checksums!(checksum, &info.checksums);
    (!info.checksums.is_empty()).then_some(checksum)
}

/// The parts numbered above the marker, as many as are asked for; `None` when the object was not
/// uploaded in parts, or their sizes are not known.
fn parts(info: &ObjectInfo, (marker, most): (i32, i32)) -> Option<GetObjectAttributesParts> {
    let sizes = info.parts.iter().flat_map(|(size, count)| (0..*count).map(move |_| *size));
    let total: u32 = info.parts.iter().map(|(_, count)| count).sum();
    if total == 0 {
        return None;
    }
    let numbered = (1..).zip(sizes).filter(|(number, _)| *number > marker);
    let limit = usize::try_from(most).unwrap_or(0);
    let parts: Vec<ObjectPart> = numbered
        .take(limit)
        .map(|(number, bytes)| {
            let mut part = ObjectPart {
                part_number: Some(number),
                size: Some(size(bytes)),
                ..Default::default()
            };
            set_checksums!(part, &part_sum(info, number, total).into_iter().collect::<Vec<_>>());
            part
        })
        .collect();
    let last = parts.last().and_then(|part| part.part_number).unwrap_or(marker);
    let total = i32::try_from(total).unwrap_or(i32::MAX);
    Some(GetObjectAttributesParts {
        is_truncated: Some(last < total && limit > 0),
        max_parts: Some(most),
        next_part_number_marker: Some(last),
        part_number_marker: Some(marker),
        parts: Some(parts),
        total_parts_count: Some(total),
    })
}

/// The checksum of one part, when it is known.
pub(super) fn part_sum(
    info: &ObjectInfo,
    number: i32,
    total: u32,
) -> Option<(ChecksumKind, String)> {
    let (kind, _) = info.checksums.first()?;
    let width = info.part_sums.len() / usize::try_from(total).ok()?;
    let start = usize::try_from(number - 1).ok()? * width;
    let bytes = info.part_sums.get(start..start + width).filter(|bytes| !bytes.is_empty())?;
    Some((*kind, base64(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Ino, Timestamp};
    use crate::vfs::ObjectHeaders;

    #[test]
    fn parts_are_told_by_page_with_their_sums() {
        let info = ObjectInfo {
            ino: Ino(2),
            version: 1,
            size: 25,
            etag: "x-3".into(),
            modified: Timestamp::default(),
            uid: 0,
            headers: ObjectHeaders::default(),
            checksums: vec![(ChecksumKind::Crc32, "AAAAAA==-3".into())],
            composite: true,
            parts: vec![(10, 2), (5, 1)],
            part_sums: vec![1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3],
        };
        let page = parts(&info, (1, 1)).unwrap();
        assert_eq!((page.total_parts_count, page.is_truncated), (Some(3), Some(true)));
        assert_eq!(page.next_part_number_marker, Some(2));
        let shown = page.parts.unwrap();
        assert_eq!((shown.len(), shown[0].size), (1, Some(10)));
        assert_eq!(shown[0].checksum_crc32, Some(base64(&[2; 4])));
        let page = parts(&info, (2, 1000)).unwrap();
        assert_eq!(page.is_truncated, Some(false));
        assert_eq!(page.parts.unwrap()[0].size, Some(5));
        assert!(parts(&ObjectInfo { parts: Vec::new(), ..info.clone() }, (0, 9)).is_none());
        let unknown = parts(&ObjectInfo { part_sums: Vec::new(), ..info }, (0, 9)).unwrap();
        assert_eq!(unknown.parts.unwrap()[2].checksum_crc32, None);
    }
}
