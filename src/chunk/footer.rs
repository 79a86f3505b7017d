//! The footer of a chunk file: encode, decode, and the description it carries.

use sha2::{Digest, Sha256};

use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::types::limits::{CHUNK_EXTENTS_MAX, CHUNK_SIZE_MAX, CRC_BLOCK, DIRECT_ALIGN};
use crate::types::{ChunkId, ContentId, Ino, crc32c};

const MAGIC: [u8; 8] = *b"BFSchunk";
/// The format this build writes.
const FORMAT: u32 = 1;
/// Bytes of the part with fixed places.
const TAIL: usize = 96;
const EXTENT: usize = 12;
/// The largest footer: reading so much from the end of a file finds any.
pub const FOOTER_MAX: usize =
    (TAIL + EXTENT * CHUNK_EXTENTS_MAX + 4 * (CHUNK_SIZE_MAX as usize / CRC_BLOCK))
        .next_multiple_of(DIRECT_ALIGN);

/// What a chunk was written for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    pub id: ChunkId,
    pub content: ContentId,
    pub bucket: Ino,
    /// Where the chunk's data belongs, in its order: 1 to `CHUNK_EXTENTS_MAX`.
    pub extents: Vec<ChunkExtent>,
}

/// A run of a file's bytes; consecutive extents are consecutive in the chunk's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkExtent {
    pub file_offset: u64,
    pub len: u32,
}

/// What a chunk file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkInfo {
    pub header: ChunkHeader,
    /// Bytes of data.
    pub len: u32,
    pub sha256: [u8; 32],
}

/// The decoded footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub info: ChunkInfo,
    /// CRC32C of each `CRC_BLOCK` of the padded data.
    pub crcs: Vec<u32>,
}

impl Footer {
    /// Hashes `data`, which `header` describes.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the header does not fit the data.
    pub fn describe(header: &ChunkHeader, data: &AlignedBuf) -> Result<Self> {
        let len = check_shape(header, data.len())?;
        let mut hash = Sha256::new();
        let mut crcs = Vec::with_capacity(data.len().div_ceil(CRC_BLOCK));
        // Block by block, so that the second checksum finds the bytes in the cache.
        for (bytes, padded) in data.chunks(CRC_BLOCK).zip(data.padded().chunks(CRC_BLOCK)) {
            hash.update(bytes);
            crcs.push(crc32c(padded));
        }
        let info = ChunkInfo { header: header.clone(), len, sha256: hash.finalize().into() };
        Ok(Self { info, crcs })
    }

    /// Bytes of data with the padding: where the footer begins.
    pub fn data_len(&self) -> usize {
        (self.info.len as usize).next_multiple_of(DIRECT_ALIGN)
    }

    /// Bytes of the whole file.
    pub fn file_len(&self) -> u64 {
        (self.data_len() + footer_len(self.info.len as usize, self.info.header.extents.len()))
            as u64
    }

    pub fn encode(&self) -> AlignedBuf {
        let ChunkInfo { header, len, sha256 } = &self.info;
        let size = footer_len(*len as usize, header.extents.len());
        let used = TAIL + EXTENT * header.extents.len() + 4 * self.crcs.len();
        let mut page = AlignedBuf::with_capacity(size);
        page.extend(&vec![0; size - used]);
        self.crcs.iter().for_each(|crc| page.extend(&crc.to_le_bytes()));
        for extent in &header.extents {
            page.extend(&extent.file_offset.to_le_bytes());
            page.extend(&extent.len.to_le_bytes());
        }
        page.extend(&header.id.to_bytes());
        page.extend(&header.content.to_bytes());
        page.extend(&header.bucket.0.to_le_bytes());
        page.extend(&len.to_le_bytes());
        page.extend(&(header.extents.len() as u32).to_le_bytes());
        page.extend(sha256);
        page.extend(&FORMAT.to_le_bytes());
        page.extend(&MAGIC);
        let crc = crc32c(&page);
        page.extend(&crc.to_le_bytes());
        page
    }

    /// Decodes the footer of a file of `file_len` bytes that ends with `end`: its last
    /// [`FOOTER_MAX`] bytes, or all of it.
    ///
    /// # Errors
    /// [`Error::Damaged`] saying what is wrong.
    pub fn decode(end: &[u8], file_len: u64) -> Result<Self> {
        let mut tail = Fields(end.last_chunk::<TAIL>().ok_or_else(|| unfinished("too short"))?);
        let id = ChunkId::from_bytes(tail.take());
        let content = ContentId::from_bytes(tail.take());
        let bucket = Ino(u64::from_le_bytes(tail.take()));
        let len = u32::from_le_bytes(tail.take());
        let extents = u32::from_le_bytes(tail.take()) as usize;
        let sha256 = tail.take();
        let format = u32::from_le_bytes(tail.take());
        if tail.take() != MAGIC {
            return Err(unfinished("no footer"));
        }
        if format != FORMAT {
            return Err(Error::damaged(format!("format {format}, not {FORMAT}")));
        }
        if len == 0 || u64::from(len) > CHUNK_SIZE_MAX || extents > CHUNK_EXTENTS_MAX {
            return Err(Error::damaged("impossible lengths in the footer"));
        }
        let size = footer_len(len as usize, extents);
        let data_len = (len as usize).next_multiple_of(DIRECT_ALIGN);
        if (data_len + size) as u64 != file_len {
            return Err(Error::damaged("the file's size does not fit its footer"));
        }
        let footer = end.len().checked_sub(size).map(|start| &end[start..]);
        let footer = footer.ok_or_else(|| unfinished("too short"))?;
        if crc32c(&footer[..size - 4]).to_le_bytes() != tail.take::<4>() {
            return Err(Error::damaged("the footer fails its checksum"));
        }
        let (table, rest) = tables(footer, data_len.div_ceil(CRC_BLOCK), extents);
        let header = ChunkHeader { id, content, bucket, extents: decode_extents(rest) };
        check_shape(&header, len as usize).map_err(|error| Error::damaged(error.to_string()))?;
        Ok(Self { info: ChunkInfo { header, len, sha256 }, crcs: decode_crcs(table) })
    }
}

fn unfinished(what: &str) -> Error {
    Error::damaged(format!("unfinished: {what}"))
}

fn footer_len(data_len: usize, extents: usize) -> usize {
    (TAIL + EXTENT * extents + 4 * data_len.div_ceil(CRC_BLOCK)).next_multiple_of(DIRECT_ALIGN)
}

/// Checks that the extents are possible and cover `len` bytes; returns `len` as stored.
fn check_shape(header: &ChunkHeader, len: usize) -> Result<u32> {
    if len == 0 || len as u64 > CHUNK_SIZE_MAX {
        return Err(Error::invalid(format!("a chunk of {len} bytes")));
    }
    if header.extents.is_empty() || header.extents.len() > CHUNK_EXTENTS_MAX {
        return Err(Error::invalid(format!("a chunk of {} extents", header.extents.len())));
    }
    let possible = |extent: &ChunkExtent| {
        extent.len > 0 && extent.file_offset.checked_add(extent.len.into()).is_some()
    };
    let covered: u64 = header.extents.iter().map(|extent| u64::from(extent.len)).sum();
    if !header.extents.iter().all(possible) || covered != len as u64 {
        return Err(Error::invalid(format!("extents of {covered} bytes for {len}")));
    }
    Ok(len as u32)
}

/// The CRC table and the extents, which end where the tail begins.
fn tables(footer: &[u8], blocks: usize, extents: usize) -> (&[u8], &[u8]) {
    let end = footer.len() - TAIL;
    let middle = end - EXTENT * extents;
    (&footer[middle - 4 * blocks..middle], &footer[middle..end])
}

fn decode_extents(bytes: &[u8]) -> Vec<ChunkExtent> {
    let (extents, _) = bytes.as_chunks::<EXTENT>();
    let decode = |bytes: &[u8; EXTENT]| {
        let mut fields = Fields(bytes);
        ChunkExtent {
            file_offset: u64::from_le_bytes(fields.take()),
            len: u32::from_le_bytes(fields.take()),
        }
    };
    extents.iter().map(decode).collect()
}

fn decode_crcs(bytes: &[u8]) -> Vec<u32> {
    let (crcs, _) = bytes.as_chunks::<4>();
    crcs.iter().map(|&crc| u32::from_le_bytes(crc)).collect()
}

/// Takes fields of fixed size off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next `N` bytes; zeros when fewer are left, which the callers' sizes rule out.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((field, rest)) => {
                self.0 = rest;
                *field
            }
            None => [0; N],
        }
    }
}

const _: () = assert!(FOOTER_MAX == 2 * DIRECT_ALIGN);
const _: () = assert!(CHUNK_SIZE_MAX <= u32::MAX as u64);

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::env::largest_allocation;
    use crate::types::SessionId;

    fn header(lens: &[u32]) -> ChunkHeader {
        let session = SessionId(3);
        let extents =
            lens.iter().zip(1..).map(|(&len, n)| ChunkExtent { file_offset: n << 30, len });
        ChunkHeader {
            id: ChunkId { session, counter: 9 },
            content: ContentId { session, counter: 10 },
            bucket: Ino(2),
            extents: extents.collect(),
        }
    }

    fn decode(page: &[u8], footer: &Footer) -> Result<Footer> {
        Footer::decode(page, footer.file_len())
    }

    #[test]
    fn footers_survive_up_to_the_largest() {
        let many = [1 << 20; 64];
        for (lens, pages) in [(&[1][..], 1), (&[4096, 70_000], 1), (&many, 2), (&many[..50], 1)] {
            let len = lens.iter().sum::<u32>() as usize;
            let data = AlignedBuf::zeroed(len);
            let footer = Footer::describe(&header(lens), &data).unwrap();
            let page = footer.encode();
            assert_eq!(page.len(), pages * DIRECT_ALIGN, "{len}");
            assert_eq!(footer.crcs.len(), len.div_ceil(CRC_BLOCK));
            assert_eq!(decode(&page, &footer).unwrap(), footer);
            let end = [vec![1; 4096], page.to_vec()].concat();
            assert_eq!(decode(&end, &footer).unwrap(), footer);
            assert!(Footer::decode(&page, footer.file_len() + 4096).is_err());
        }
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_found() {
        let data = AlignedBuf::from(&[5; 200_000][..]);
        let footer = Footer::describe(&header(&[150_000, 50_000]), &data).unwrap();
        let page = footer.encode();
        for bit in 0..page.len() * 8 {
            let mut bad = page.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode(&bad, &footer), Err(Error::Damaged(_))), "bit {bit}");
        }
        for cut in 0..page.len() {
            assert!(decode(&page[..cut], &footer).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn headers_that_do_not_fit_their_data_are_refused() {
        let data = AlignedBuf::zeroed(100);
        for lens in [&[][..], &[99], &[101], &[100, 0], &[1; 65]] {
            let refused = Footer::describe(&header(lens), &data);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{lens:?}");
        }
        let mut beyond = header(&[100]);
        beyond.extents[0].file_offset = u64::MAX - 99;
        assert!(Footer::describe(&beyond, &data).is_err());
        assert!(Footer::describe(&header(&[]), &AlignedBuf::zeroed(0)).is_err());
    }

    proptest! {
        /// Also one whose checksum is right: what is read of it fits together.
        #[test]
        fn any_footer_is_read_or_refused(
            changed in vec((0..TAIL - 4 + 2 * EXTENT, any::<u8>()), 0..5),
            pages in 0..3u64,
        ) {
            let (header, data) = (header(&[150_000, 50_000]), AlignedBuf::zeroed(200_000));
            let footer = Footer::describe(&header, &data).unwrap();
            let mut page = footer.encode().to_vec();
            let end = page.len() - 4;
            changed.iter().for_each(|(back, byte)| page[end - 1 - back] = *byte);
            let crc = crc32c(&page[..end]);
            page[end..].copy_from_slice(&crc.to_le_bytes());
            let file_len = footer.file_len() + pages * DIRECT_ALIGN as u64;
            let took = largest_allocation(|| {
                if let Ok(read) = Footer::decode(&page, file_len) {
                    let ChunkInfo { header, len, .. } = &read.info;
                    assert_eq!(read.file_len(), file_len);
                    assert_eq!(check_shape(header, *len as usize).unwrap(), *len);
                }
            });
            prop_assert!(took < 64 << 10);
        }
    }
}
