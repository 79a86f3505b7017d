//! Chunk files: immutable pieces of file data that describe and check themselves.
//!
//! A chunk knows its id, the content and bucket it was written for and where in the file its bytes
//! belong, but no names. Every bit of a file is covered by a checksum. Numbers are little-endian,
//! ids big-endian; all of it is aligned for O_DIRECT.
//!
//! ```text
//!   0 ┌──────────────────────────────────┐
//!     │ data, `len` bytes                │
//!     │ zeros up to a multiple of 4096   │ D = padded length
//!   D ├──────────────────────────────────┤ footer, one page of 4096 bytes (two above 50 MiB)
//!     │ zeros                            │
//!     │ B × 4  CRC32C of each 64 KiB     │ B = D / 64 KiB rounded up, padding included
//!     │ E × 12 extents                   │ u64 offset in the file, u32 length: sum = `len`
//! -96 │ 16 chunk id                      │
//! -80 │ 16 content id                    │
//! -64 │  8 bucket (inode number)         │
//! -56 │  4 len                           │ 1..=64 MiB
//! -52 │  4 E                             │ 1..=64
//! -48 │ 32 sha256 of the `len` bytes     │
//! -16 │  4 format version (1)            │
//! -12 │  8 magic "BFSchunk"              │
//!  -4 │  4 CRC32C of the footer so far   │
//!     └──────────────────────────────────┘
//! ```
//!
//! Files lie at `ROOT/SESSION/SHARD/COUNTER`, in hexadecimal, the shard being the counter / 4096;
//! what takes a damaged one's place is written at `ROOT/renewing/ID`. A file without a valid footer is
//! unfinished. Files that no record names (unfinished, or deleted shortly before a power cut that
//! brought the name back) are garbage for whoever compares the store with the records.

mod arrivals;
mod blocks;
mod buffers;
mod cache;
mod damage;
mod footer;
mod names;
mod read;
mod scrub;
mod sealed;
mod store;
mod turns;
mod walk;

pub use footer::{ChunkExtent, ChunkHeader, ChunkInfo};
pub use names::chunk_path;
pub use scrub::{Scrubbed, scrub};
pub use sealed::SealedChunk;
pub use store::ChunkStore;
pub use walk::Visitor;

#[cfg(test)]
mod tests;
