//! Names → records → chunk lists: all key bytes, all record bytes, the mutations and the
//! deterministic function that applies them, over one of several ordered key-value engines.

mod apply;
mod check;
pub mod codec;
#[cfg(test)]
mod damage;
mod digest;
mod engine;
pub mod keys;
mod kv;
mod layered;
mod load;
mod lock;
mod mutation;
mod object;
#[cfg(test)]
mod order;
mod overlay;
pub mod placement;
pub mod probe;
mod record;
mod saved;
mod seal;
mod snapshot_scan;
mod table;
mod view;

pub use apply::{Applied, apply};
pub use check::check;
pub use engine::EngineKind;
pub use kv::{KvEngine, KvRead, KvTxn, Pair, Savepoint, Visitor, WriteBatch};
pub use load::Pairs;
pub use lock::{HeldLock, LockOwner, Locks, SetLock};
pub use mutation::{
    Change, Commit, KeyChange, Loss, Make, Mutation, NewChunk, Outcome, Refusal, Rename,
    RenameMode, Request, SetAttr, SetXattr, WriteOp, XattrMode,
};
pub use object::{
    Chosen, Condition, DeleteObject, Expected, ObjectBody, ObjectPath, PARTS_MAX, Part, PutObject,
    RenameObject, ReplaceXattrs, S3_XATTRS, Sums, Upload, UploadRef,
};
pub use overlay::Overlay;
pub use placement::{Member, Placement, Survey};
pub use probe::Probe;
pub use record::{
    AccessKey, Body, Bucket, ChunkRecord, Dirent, Errand, Inode, KeyRole, KeyState, NodeRecord,
    NodeState, Orphan, Piece, Session, Slot, Staged, Superblock,
};
pub use snapshot_scan::SnapshotScan;
pub use table::Table;
pub use view::View;
