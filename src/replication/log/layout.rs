//! The bytes of the log. A segment is a file of records one after the other, from its first byte:
//!
//! ```text
//!  0      4      8        16       24          32        36    37      38     40
//!  | crc  | len  | number | synced | committed | segment | kind | format | "BL" | payload | 0..7 zeros |
//! ```
//!
//! Little-endian. `crc` is CRC-32C over everything after it up to the end of the payload; `len` is
//! the payload's; `number` rises by one from record to record over the whole log; `synced` is the
//! number through which the log was known to be on disk when the record was written; `committed`
//! is one more than the index of the last committed entry; `segment` is the number of the file.
//! Records begin at multiples of 8. A segment begins with a [`Kind::Start`] record and is filled
//! with zeros from its last record to its end: a file is made of zeros before it is used, so that
//! appends change neither its size nor its extents.
//!
//! | kind | payload |
//! |---|---|
//! | 1 start | [`Start`]: what the segments before this one say, so that they can go |
//! | 2 entry | term, node, index (8 bytes each), entry payload with codec |
//! | 3 vote | openraft's vote with codec |
//! | 4 truncate | [`Truncate`] with codec |
//! | 5 purge | log id of the last entry that is forgotten, with codec |

use serde::{Deserialize, Serialize};

use crate::env::AlignedBuf;
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::replication::types::{Entry, LogId, Types, Vote};
use crate::types::crc32c;

pub const FORMAT: u8 = 1;
pub const HEADER: usize = 40;
/// Records begin at multiples of this.
pub const RECORD_ALIGN: usize = 8;
const MAGIC: [u8; 2] = *b"BL";
const LOG_ID: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Start = 1,
    Entry = 2,
    Vote = 3,
    Truncate = 4,
    Purge = 5,
}

/// What stands in a record before its payload, less what follows from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub number: u64,
    pub synced: u64,
    /// One more than the index of the last committed entry.
    pub committed: u64,
    pub kind: Kind,
}

/// A record whose checksum is right.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub head: Head,
    pub payload: &'a [u8],
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub vote: Option<Vote>,
    pub purged: Option<LogId>,
    pub last: Option<LogId>,
}

/// Entries from index `since` on are void; `last` is the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truncate {
    pub since: u64,
    pub last: Option<LogId>,
}

/// Bytes a record with `payload` bytes takes.
pub fn record_bytes(payload: usize) -> usize {
    (HEADER + payload).next_multiple_of(RECORD_ALIGN)
}

/// Appends a record to `out`, whose length is a multiple of 8 before and after.
pub fn push(out: &mut AlignedBuf, segment: u32, head: &Head, payload: &[u8]) {
    let start = out.len();
    let mut header = [0; HEADER];
    header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&head.number.to_le_bytes());
    header[16..24].copy_from_slice(&head.synced.to_le_bytes());
    header[24..32].copy_from_slice(&head.committed.to_le_bytes());
    header[32..36].copy_from_slice(&segment.to_le_bytes());
    header[36] = head.kind as u8;
    header[37] = FORMAT;
    header[38..40].copy_from_slice(&MAGIC);
    out.extend(&header);
    out.extend(payload);
    let crc = crc32c(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    let padding = record_bytes(payload.len()) - HEADER - payload.len();
    out.extend(&[0; RECORD_ALIGN][..padding]);
}

fn number_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn half_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|field| field.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The bytes the record at the start of `header` would take, if it looks like one of `segment`.
pub fn measure(header: &[u8], segment: u32) -> Option<usize> {
    let plausible = header.len() >= HEADER
        && header[38..40] == MAGIC
        && half_at(header, 32) == segment
        && number_at(header, 8) != 0;
    plausible.then(|| record_bytes(half_at(header, 4) as usize))
}

/// The record at the start of `bytes`; `None` when there is none whose checksum is right.
///
/// # Errors
/// [`Error::Store`] when it is whole but of a newer format.
pub fn parse(bytes: &[u8], segment: u32) -> Result<Option<Record<'_>>> {
    let Some(total) = measure(bytes, segment) else { return Ok(None) };
    let end = HEADER + half_at(bytes, 4) as usize;
    if total > bytes.len() || crc32c(&bytes[4..end]) != half_at(bytes, 0) {
        return Ok(None);
    }
    let kind = match (bytes[37], bytes[36]) {
        (FORMAT, 1) => Kind::Start,
        (FORMAT, 2) => Kind::Entry,
        (FORMAT, 3) => Kind::Vote,
        (FORMAT, 4) => Kind::Truncate,
        (FORMAT, 5) => Kind::Purge,
        (format, kind) => {
            return Err(Error::Store(format!(
                "the log has a record of format {format}, kind {kind}, and this program knows \
                 format {FORMAT}: run the version that wrote it"
            )));
        }
    };
    let head = Head {
        number: number_at(bytes, 8),
        synced: number_at(bytes, 16),
        committed: number_at(bytes, 24),
        kind,
    };
    Ok(Some(Record { head, payload: &bytes[HEADER..end] }))
}

/// The payload of an entry's record.
pub fn encode_entry(entry: &Entry) -> Result<Vec<u8>> {
    let id = &entry.log_id;
    let body = codec::encode_entry(&entry.payload)?;
    let mut bytes = Vec::with_capacity(LOG_ID + body.len());
    for field in [id.leader_id.term, id.leader_id.node_id, id.index] {
        bytes.extend_from_slice(&field.to_le_bytes());
    }
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The log id of an entry's record.
pub fn entry_id(payload: &[u8]) -> Result<LogId> {
    if payload.len() < LOG_ID {
        return Err(Error::damaged("an entry of the log is too short"));
    }
    let leader = openraft::CommittedLeaderId::new(number_at(payload, 0), number_at(payload, 8));
    Ok(LogId::new(leader, number_at(payload, 16)))
}

pub fn decode_entry(payload: &[u8]) -> Result<Entry> {
    let log_id = entry_id(payload)?;
    let body: openraft::EntryPayload<Types> = codec::decode_entry(&payload[LOG_ID..])?;
    Ok(Entry { log_id, payload: body })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::env::largest_allocation;

    fn sample() -> AlignedBuf {
        let mut out = AlignedBuf::with_capacity(4096);
        let head = Head { number: 7, synced: 5, committed: 3, kind: Kind::Vote };
        push(&mut out, 9, &head, b"payload");
        out
    }

    #[test]
    fn a_record_reads_back_and_every_flipped_bit_is_found() {
        let bytes = sample();
        assert_eq!(bytes.len(), record_bytes(7));
        assert_eq!(measure(&bytes, 9), Some(bytes.len()));
        let record = parse(&bytes, 9).unwrap().unwrap();
        assert_eq!((record.head.number, record.head.synced, record.head.committed), (7, 5, 3));
        assert_eq!((record.head.kind, record.payload), (Kind::Vote, &b"payload"[..]));
        for bit in 0..(HEADER + 7) * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&bad, 9).unwrap().is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_belongs_to_its_segment() {
        assert!(parse(&sample(), 8).unwrap().is_none());
        assert!(parse(&sample()[..40], 9).unwrap().is_none());
        assert!(parse(&[0; 64], 0).unwrap().is_none());
    }

    #[test]
    fn a_newer_format_is_refused_in_words() {
        let mut bytes = sample().to_vec();
        bytes[37] = FORMAT + 1;
        let crc = crc32c(&bytes[4..HEADER + 7]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let error = parse(&bytes, 9).unwrap_err();
        assert!(error.to_string().contains("run the version that wrote it"), "{error}");
    }

    proptest! {
        /// What looks like a record need not be one: its length is not believed, its checksum is.
        #[test]
        fn any_bytes_are_a_record_or_none(
            mut bytes in vec(any::<u8>(), 0..200),
            len in prop_oneof![any::<u32>(), 0..200u32],
            is_summed in any::<bool>(),
        ) {
            if bytes.len() >= HEADER {
                bytes[4..8].copy_from_slice(&len.to_le_bytes());
                bytes[32..36].copy_from_slice(&9u32.to_le_bytes());
                bytes[38..40].copy_from_slice(&MAGIC);
                let end = HEADER + len as usize;
                if is_summed && end <= bytes.len() {
                    let crc = crc32c(&bytes[4..end]);
                    bytes[..4].copy_from_slice(&crc.to_le_bytes());
                }
            }
            let took = largest_allocation(|| {
                if let Ok(Some(record)) = parse(&bytes, 9) {
                    assert!(HEADER + record.payload.len() <= bytes.len());
                    let _ = (entry_id(record.payload).is_ok(), decode_entry(record.payload).is_ok());
                }
                let _ = decode_entry(&bytes).is_ok();
            });
            prop_assert!(took < 2 << 20);
        }
    }
}
