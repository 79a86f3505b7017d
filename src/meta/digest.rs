//! A running sum over all records, so that a full scan can prove that a table is exactly what was
//! committed: nothing lost, nothing older, nothing changed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Of a set of records; the order in which they came and went does not matter.
///
/// Made against chance, not against an adversary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    pub records: u64,
    pub sum: u64,
}

impl Digest {
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(hash(key, value));
    }

    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(hash(key, value));
    }

    /// # Errors
    /// [`Error::Damaged`] unless this is the digest of what was `committed`.
    pub fn check(&self, committed: &Self) -> Result<()> {
        if self == committed {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "the metadata table has {} records that do not sum up to the {} committed",
            self.records, committed.records
        )))
    }
}

/// CRC-64/NVME of both parts, then mixed: CRCs alone are linear and would cancel out in a sum of
/// related records. The finalizer is that of splitmix64 (Steele, Lea, Flood 2014).
fn hash(key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    crc.update(&(key.len() as u64).to_le_bytes());
    crc.update(key);
    crc.update(value);
    let mut mixed = crc.finalize();
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_and_goes_leaves_no_trace() {
        let mut digest = Digest::default();
        digest.add(b"a", b"1");
        let before = digest;
        digest.add(b"b", b"2");
        digest.remove(b"a", b"1");
        digest.add(b"a", b"1");
        assert_ne!(digest, before);
        digest.remove(b"b", b"2");
        assert_eq!(digest, before);
    }

    #[test]
    fn bytes_cannot_move_between_key_and_value() {
        let (mut one, mut other) = (Digest::default(), Digest::default());
        one.add(b"ab", b"c");
        other.add(b"a", b"bc");
        assert_ne!(one, other);
    }
}
