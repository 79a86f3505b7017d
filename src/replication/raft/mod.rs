//! openraft's view of this node: log store, state machine, network, and the thread they run on.

mod campaign;
mod host;
mod log_store;
mod machine;
mod network;
mod silence;
mod state_machine;
mod voters;

#[cfg(test)]
mod tests;

pub use campaign::Campaign;
pub use host::RaftHost;
pub use log_store::{Alone, LogStore};
pub use machine::{Listener, Machine};
pub use network::{Network, promises};
pub use state_machine::StateMachine;
