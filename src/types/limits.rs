//! Sizes that several layers rely on, and the relations that must hold between them.

/// Bytes of a file name; NAME_MAX of limits.h.
pub const NAME_MAX: usize = 255;
/// Bytes of the key that an object is made with; Amazon S3 User Guide, "Naming Amazon S3 objects". A
/// mount may make longer paths.
pub const KEY_MAX: usize = 1024;
/// Bytes of a symbolic link's target and of a path; PATH_MAX of limits.h, its NUL not counted.
pub const SYMLINK_MAX: usize = 4095;
/// Hard links to one file, as on ext4.
pub const LINK_MAX: u32 = 65_000;
/// Nodes that are not gone.
pub const NODES_MAX: usize = 64;
/// Bytes of an extended attribute's name; xattr(7).
pub const XATTR_NAME_MAX: usize = 255;
/// Bytes of an extended attribute's value: small enough for one record of any engine.
pub const XATTR_VALUE_MAX: usize = 48 << 10;
/// Bytes of all attribute names of one inode with their NULs; XATTR_LIST_MAX of limits.h.
pub const XATTR_NAMES_MAX: usize = 64 << 10;
/// Bytes of data kept in the inode record itself instead of in a chunk.
pub const INLINE_MAX: usize = 16 << 10;
/// Bytes of an entity tag that an upload gives its object.
pub const ETAG_MAX: usize = 256;
/// Largest record of metadata, key and value (sled writes larger ones to unsynced blobs).
pub const RECORD_MAX: usize = 64 << 10;
/// Largest log entry.
pub const ENTRY_MAX: usize = 4 << 20;
/// Largest message between nodes that is no chunk: some log entries, or the answers to one.
pub const MESSAGE_MAX: usize = 24 << 20;
/// Mutations packed into one log entry by the combiner.
pub const ENTRY_MUTATIONS_MAX: usize = 512;
/// Operations in one commit; a larger change is several ordered commits.
pub const COMMIT_OPS_MAX: usize = 4096;
/// Manifest slots removed by one mutation.
pub const SLOTS_FREED_MAX: usize = 4096;
/// Orphans that one mutation lets go of.
pub const RELEASED_MAX: usize = 256;
/// Pieces after which freeing goes on in the next mutation.
pub const PIECES_FREED_MAX: usize = 16 << 10;
/// Chunks one mutation may reap: its outcome names them in one record.
pub const REAP_IDS_MAX: usize = 2048;
/// Pieces in one slot above which the slot is compacted in the background.
pub const PIECES_WANTED_MAX: usize = 16;
/// Pieces one slot's record can hold; a commit that would exceed it is refused, its writer
/// compacts first.
pub const PIECES_MAX: usize = 1024;
/// Smallest and largest `chunk_size`; the default lies between. A power of two.
pub const CHUNK_SIZE_MIN: u64 = 64 << 10;
pub const CHUNK_SIZE_DEFAULT: u64 = 4 << 20;
pub const CHUNK_SIZE_MAX: u64 = 64 << 20;
/// Extents one chunk file can describe in its footer.
pub const CHUNK_EXTENTS_MAX: usize = 64;
/// Alignment of O_DIRECT buffers, offsets and lengths.
pub const DIRECT_ALIGN: usize = 4096;
/// Data covered by one CRC32C in a chunk's footer.
pub const CRC_BLOCK: usize = 64 << 10;
/// Largest file: what a signed 64-bit offset can address in whole chunks.
pub const FILE_SIZE_MAX: u64 = (1 << 63) - CHUNK_SIZE_MAX;

const _: () = assert!(INLINE_MAX + 4096 < RECORD_MAX);
const _: () = assert!(XATTR_VALUE_MAX + XATTR_NAME_MAX + 64 < RECORD_MAX);
const _: () = assert!(PIECES_MAX * 48 + 64 < RECORD_MAX);
const _: () = assert!(REAP_IDS_MAX * 18 + 64 < RECORD_MAX);
const _: () = assert!(CRC_BLOCK.is_multiple_of(DIRECT_ALIGN));
const _: () = assert!(CHUNK_SIZE_MIN as usize >= INLINE_MAX);
const _: () = assert!(CHUNK_SIZE_DEFAULT >= CHUNK_SIZE_MIN && CHUNK_SIZE_DEFAULT <= CHUNK_SIZE_MAX);
