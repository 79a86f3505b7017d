//! The order of mutations: a log on disk, openraft over it, and the table it is applied to. Later
//! the copies on other nodes.

mod birth;
mod book;
mod combiner;
mod copies;
mod disk_health;
mod files;
mod flusher;
mod log;
mod marks;
mod members;
mod membership;
mod options;
mod peers;
mod proposer;
mod raft;
mod replica;
mod session;
mod snapshot;
mod snapshotter;
mod start;
mod status;
mod store;
mod trust;
mod types;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub mod trial;

pub use copies::{
    ChunkPeers, ChunkServer, Copies, CopyCounts, Later, Need, NoPeers, Range, Repair, SimPeers,
    Wanting, wanting_by_node,
};
pub use log::LogOptions;
pub use members::{ClusterStatus, Invitation, MemberStatus, Role, ask_to_join};
pub use membership::NodeVersion;
pub use options::{Birth, OnProgress, Options, Progress};
pub use peers::{
    About, Answer, Credentials, Handler, Joined, Kind, PROTOCOL, PeerSettings, Peers, Plugged,
    Sender, Transport,
};
pub use proposer::Wait;
pub use raft::Listener;
pub use replica::Replica;
pub use status::{SnapshotStatus, Status};
pub use store::{NodeFile, joined_node};
