//! The bytes of a snapshot: frames one after the other, the last one followed by zeros.
//!
//! ```text
//!  0      4      8        16     17       18      24
//!  | crc  | len  | number | kind | format | zeros | payload |
//! ```
//!
//! Little-endian; `crc` is CRC-32C over everything after it up to the end of the payload, `len` is
//! the payload's, `number` counts the frames from 0.
//!
//! | kind | payload |
//! |---|---|
//! | 1 head | [`Head`] with codec; the first frame |
//! | 2 records | key length (4), value length (4), key, value; again and again |
//! | 3 end | [`End`] with codec; the last frame |

use serde::{Deserialize, Serialize};

use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::replication::types::AppliedState;
use crate::types::{Timestamp, crc32c};

pub const FORMAT: u8 = 1;
pub const HEADER: usize = 24;
/// No frame is larger: pages of records are cut at a quarter of it.
pub const FRAME_MAX: usize = 1 << 20;

pub type Pair = (Vec<u8>, Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Head = 1,
    Records = 2,
    End = 3,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The state that the table had reached.
    pub applied: AppliedState,
    pub made_at: Timestamp,
}

/// What all frames together hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub records: u64,
    /// Of keys and values.
    pub bytes: u64,
}

pub struct Header {
    crc: u32,
    pub len: usize,
    number: u64,
    pub kind: Kind,
}

/// Appends a frame to `out`.
pub fn push(out: &mut AlignedBuf, number: u64, kind: Kind, payload: &[u8]) {
    let start = out.len();
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&number.to_le_bytes());
    (header[16], header[17]) = (kind as u8, FORMAT);
    out.extend(&header);
    out.extend(payload);
    let crc = crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

impl Header {
    /// The header of a frame, before its checksum is known to be right.
    pub fn parse(bytes: &[u8; HEADER]) -> Result<Self> {
        let (crc, rest) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let (len, rest) = rest.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let (number, rest) = rest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let kind = match rest.first() {
            Some(1) => Kind::Head,
            Some(2) => Kind::Records,
            Some(3) => Kind::End,
            _ => return Err(Error::damaged("a snapshot has a frame of no kind")),
        };
        let len = u32::from_le_bytes(*len) as usize;
        if len > FRAME_MAX {
            return Err(Error::damaged("a snapshot has a frame that is too long"));
        }
        Ok(Self { crc: u32::from_le_bytes(*crc), len, number: u64::from_le_bytes(*number), kind })
    }

    /// Checks a whole frame, header and payload.
    pub fn check(&self, frame: &[u8], number: u64) -> Result<()> {
        if crc32c(&frame[4..]) != self.crc || self.number != number {
            return Err(Error::damaged(format!("frame {number} of a snapshot fails its checksum")));
        }
        match frame[17] {
            FORMAT => Ok(()),
            format => Err(Error::Store(format!(
                "a snapshot has format {format} and this program knows {FORMAT}: run the version \
                 that wrote it"
            ))),
        }
    }
}

/// The payload of a frame of records.
pub fn encode_records(records: &[Pair]) -> Vec<u8> {
    let bytes = records.iter().map(|(key, value)| 8 + key.len() + value.len()).sum();
    let mut payload = Vec::with_capacity(bytes);
    for (key, value) in records {
        payload.extend_from_slice(&(key.len() as u32).to_le_bytes());
        payload.extend_from_slice(&(value.len() as u32).to_le_bytes());
        payload.extend_from_slice(key);
        payload.extend_from_slice(value);
    }
    payload
}

pub fn decode_records(mut payload: &[u8]) -> Result<Vec<Pair>> {
    let mut records = Vec::new();
    while !payload.is_empty() {
        let record = split_record(payload);
        let (record, rest) =
            record.ok_or_else(|| Error::damaged("a snapshot has half a record"))?;
        records.push(record);
        payload = rest;
    }
    Ok(records)
}

fn split_record(payload: &[u8]) -> Option<(Pair, &[u8])> {
    let (key_len, rest) = payload.split_first_chunk()?;
    let (value_len, rest) = rest.split_first_chunk()?;
    let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*key_len) as usize)?;
    let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*value_len) as usize)?;
    Some(((key.to_vec(), value.to_vec()), rest))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::env::largest_allocation;

    #[test]
    fn records_come_back_and_halves_do_not() {
        let records = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), Vec::new())];
        let payload = encode_records(&records);
        assert_eq!(decode_records(&payload).unwrap(), records);
        for cut in 1..payload.len() {
            let whole = cut == 10;
            assert_eq!(decode_records(&payload[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_of_a_frame_is_found() {
        let mut out = AlignedBuf::with_capacity(4096);
        push(&mut out, 3, Kind::Records, b"payload");
        let check = |bytes: &[u8]| {
            let header = Header::parse(bytes[..HEADER].try_into().unwrap())?;
            let frame = bytes.get(..HEADER + header.len).ok_or(Error::damaged("short"))?;
            header.check(frame, 3)
        };
        check(&out).unwrap();
        for bit in 0..out.len() * 8 {
            let mut bad = out.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&bad).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_read_or_refused(mut bytes in vec(any::<u8>(), HEADER..120), kind in 0..5u8) {
            bytes[16] = kind;
            let took = largest_allocation(|| {
                if let Some(header) = bytes.first_chunk().and_then(|it| Header::parse(it).ok()) {
                    assert!(header.len <= FRAME_MAX && header.check(&bytes, 3).is_err());
                }
                let _ = decode_records(&bytes).is_ok();
            });
            prop_assert!(took < 64 << 10);
        }
    }
}
