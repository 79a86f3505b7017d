//! All record bytes: `version (1) | payload | CRC32C (4, little-endian, over what is before it)`.
//! The payload is bincode's standard format, with a limit that follows from the bytes there are, so that a
//! corrupt length cannot allocate. What can be encoded can be decoded.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::types::crc32c;
use crate::types::limits::{ENTRY_MAX, MESSAGE_MAX, RECORD_MAX};

/// The format this build writes. Readers accept this one and those before it.
pub const FORMAT: u8 = 1;
const OVERHEAD: usize = 5;
/// What bincode's limit counts for one stored byte, at most: a number that is stored in one byte
/// counts with its size in memory, and none is larger than a `u128`.
const COUNTED_MAX: usize = 16;
/// Bytes that most records and messages do not have.
const SMALL: usize = 4 << 10;
const _: () = assert!(SMALL < RECORD_MAX && RECORD_MAX < ENTRY_MAX && ENTRY_MAX < MESSAGE_MAX);

/// Encodes a record of the table.
///
/// # Errors
/// [`Error::InvalidArgument`] when it would pass `RECORD_MAX`.
pub fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    seal::<T, RECORD_MAX>(record)
}

/// Decodes a record of the table.
///
/// # Errors
/// [`Error::Damaged`] when checksum, version or form are wrong.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    open::<T, RECORD_MAX>(bytes)
}

/// As [`encode`], for what goes into the log: up to `ENTRY_MAX`.
pub fn encode_entry<T: Serialize>(entry: &T) -> Result<Vec<u8>> {
    seal::<T, ENTRY_MAX>(entry)
}

/// As [`decode`], for what comes from the log.
pub fn decode_entry<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    open::<T, ENTRY_MAX>(bytes)
}

/// As [`encode`], for messages between nodes: up to `MESSAGE_MAX`.
pub fn encode_message<T: Serialize>(message: &T) -> Result<Vec<u8>> {
    seal::<T, MESSAGE_MAX>(message)
}

/// As [`decode`], for messages between nodes.
pub fn decode_message<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    open::<T, MESSAGE_MAX>(bytes)
}

/// Bytes that `value` takes within an entry; `None` when it takes more than an entry may have.
pub fn encoded_len<T: Serialize>(value: &T) -> Option<usize> {
    let mut count = Count(0);
    let config = bincode::config::standard().with_limit::<ENTRY_MAX>();
    bincode::serde::encode_into_std_write(value, &mut count, config).ok()?;
    Some(count.0)
}

/// Counts what is written to it.
struct Count(usize);

impl std::io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn seal<T: Serialize, const LIMIT: usize>(value: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![FORMAT];
    let config = bincode::config::standard().with_limit::<LIMIT>();
    bincode::serde::encode_into_std_write(value, &mut bytes, config)
        .map_err(|error| Error::invalid(format!("a record cannot be stored: {error}")))?;
    if bytes.len() + 4 > LIMIT {
        return Err(Error::invalid(format!("a record is larger than {LIMIT} bytes")));
    }
    bytes.extend(crc32c(&bytes).to_le_bytes());
    Ok(bytes)
}

fn open<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T> {
    if bytes.len() > LIMIT {
        return Err(Error::damaged(format!("a record is larger than {LIMIT} bytes")));
    }
    let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
        return Err(Error::damaged("a record is too short"));
    };
    if bytes.len() < OVERHEAD || crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(Error::damaged("a record fails its checksum"));
    }
    if body[0] != FORMAT {
        return Err(Error::damaged(format!("a record has format {}, not {FORMAT}", body[0])));
    }
    // A text is allotted before it is read: a few bytes could name one of hundreds of megabytes.
    match bytes.len() {
        len if len <= SMALL => read::<T, { SMALL * COUNTED_MAX }>(&body[1..]),
        len if len <= RECORD_MAX => read::<T, { RECORD_MAX * COUNTED_MAX }>(&body[1..]),
        len if len <= ENTRY_MAX => read::<T, { ENTRY_MAX * COUNTED_MAX }>(&body[1..]),
        _ => read::<T, { MESSAGE_MAX * COUNTED_MAX }>(&body[1..]),
    }
}

/// `COUNTED`: the bytes that there may be as bincode counts them, [`COUNTED_MAX`] times as many.
fn read<T: DeserializeOwned, const COUNTED: usize>(payload: &[u8]) -> Result<T> {
    let config = bincode::config::standard().with_limit::<COUNTED>();
    match bincode::serde::decode_from_slice(payload, config) {
        Ok((value, used)) if used == payload.len() => Ok(value),
        Ok(_) => Err(Error::damaged("a record has bytes left over")),
        Err(error) => Err(Error::damaged(format!("a record cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::env::largest_allocation;

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes = encode(&(7u64, "name".to_string())).unwrap();
        assert_eq!(decode::<(u64, String)>(&bytes).unwrap(), (7, "name".into()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(decode::<(u64, String)>(&bad), Err(Error::Damaged(_))), "bit {bit}");
        }
    }

    /// bincode's limit counts a number by its size in memory: records of many small ones were
    /// written and could not be read again.
    #[test]
    fn what_is_encoded_can_be_decoded() {
        let numbers = vec![1u128; RECORD_MAX - 16];
        assert_eq!(decode::<Vec<u128>>(&encode(&numbers).unwrap()).unwrap(), numbers);
        let pairs = vec![(vec![7u8], Vec::<u8>::new()); RECORD_MAX / 3 - 8];
        assert_eq!(decode::<Vec<(Vec<u8>, Vec<u8>)>>(&encode(&pairs).unwrap()).unwrap(), pairs);
        assert!(matches!(encode(&vec![1u128; RECORD_MAX]), Err(Error::InvalidArgument(_))));
    }

    #[test]
    fn a_huge_length_allocates_nothing() {
        let mut bytes = vec![FORMAT, 253, 255, 255, 255, 255, 255, 255, 255, 255];
        bytes.extend(crc32c(&bytes).to_le_bytes());
        assert!(matches!(decode::<Vec<u8>>(&bytes), Err(Error::Damaged(_))));
    }

    /// What a record may take beside what its bytes say: serde allots this much to a list on its own.
    const BESIDE: usize = 2 << 20;

    /// Lengths that nothing stands behind come often: 251 to 253 say that one of 2 to 8 bytes follows.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![any::<u8>(), 248..=255u8, 0..=3u8], 0..80)
    }

    fn reads<T: DeserializeOwned>(bytes: &[u8]) -> usize {
        largest_allocation(|| {
            // Read or refused: it comes back, and takes what the bytes are worth.
            let _ = (decode::<T>(bytes).is_ok(), decode_entry::<T>(bytes).is_ok());
            let _ = decode_message::<T>(bytes).is_ok();
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(payload in hostile(), is_sealed in any::<bool>()) {
            let mut bytes = payload;
            if is_sealed {
                bytes.insert(0, FORMAT);
                bytes.extend(crc32c(&bytes).to_le_bytes());
            }
            let all: [fn(&[u8]) -> usize; 12] = [
                reads::<crate::meta::Inode>,
                reads::<crate::meta::Slot>,
                reads::<crate::meta::ChunkRecord>,
                reads::<crate::meta::Placement>,
                reads::<crate::meta::Bucket>,
                reads::<crate::meta::AccessKey>,
                reads::<crate::meta::Upload>,
                reads::<crate::meta::Outcome>,
                reads::<crate::meta::Locks>,
                reads::<Vec<crate::meta::Request>>,
                reads::<String>,
                reads::<Vec<(String, Vec<u8>)>>,
            ];
            for read in all {
                prop_assert!(read(&bytes) < BESIDE);
            }
        }
    }
}
