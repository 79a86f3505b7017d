//! The admin door: what `bucketfs status`, `bucket`, `key`, `info` and `fsck` say to a running node, and
//! both ends of the Unix socket they say it through.

mod client;
mod keys;
mod server;
mod socket;
mod wire;

pub use client::Client;
pub use server::Server;
pub use socket::path;
