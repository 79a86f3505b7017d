//! The composition root: builds, starts, drains and stops one node, and operates its store.

mod admin;
mod fsck;
mod guard;
mod init;
mod join;
mod measures;
mod notify;
mod operate;
mod panics;
mod probe;
mod progress;
mod rest_door;
mod run_file;
mod s3_door;
mod scrub;
mod secrets;
mod serve;
mod signals;
mod status;
mod store;

pub use fsck::{DamagedChunk, Fsck, LeftOver, Report};
pub use guard::guard;
pub use init::{Initialised, init};
pub use join::join;
pub use operate::{Fate, Operator};
pub use panics::log_panics;
pub use probe::probe_table;
pub use progress::{OnCheck, OnOpen, Phase, Progress};
pub use serve::{Ready, Wanted, runtime, serve};
pub use status::{ClusterView, Place, Status};

pub use crate::env::keep_private;
pub use crate::meta::NodeState;
pub use crate::replication::{ClusterStatus, CopyCounts, MemberStatus, Role, Wanting};
pub use crate::vfs::{BucketInfo, FileInfo, KeyInfo, KeyRole, KeyState, KeyWithSecret, NewKey};
