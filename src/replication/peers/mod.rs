//! What goes between nodes: messages with one answer each, who may send them, and the seam that the
//! tests cut them at.

mod call;
mod credentials;
mod https;
mod listener;
mod messages;
mod plug;
mod transport;

#[cfg(test)]
mod calls;
#[cfg(test)]
mod tests;

pub use call::call;
pub use credentials::{Credentials, host};
pub use https::ask_as_stranger;
pub use messages::{About, Denied, Joined, Kind, PROTOCOL, Proposed, SnapshotPart};
pub use plug::{PeerSettings, Peers, Plugged};
pub use transport::{Answer, Handler, Sender, Transport};
