//! The copies of chunks on other nodes: the seam to them, what a node does for its peers.

mod asking;
mod errands;
mod health;
mod inventory;
mod keeper;
mod mend;
mod peers;
mod remote;
mod repair;
mod server;
mod sim;
mod spread;
mod tally;
mod wanting;

pub use keeper::{Copies, Need};
pub use peers::{ChunkPeers, Later, NoPeers};
pub use remote::RemoteChunks;
pub use repair::Repair;
pub use server::{ChunkServer, Range};
pub use sim::SimPeers;
pub use tally::CopyCounts;
pub use wanting::{Wanting, wanting_by_node};

#[cfg(test)]
mod suite;
