//! The outside world behind seams: the disk, the clock with randomness, threads. Real and simulated.

mod buffer;
mod clock;
mod disk;
mod durable;
mod machine;
mod mapping;
mod parent;
mod patience;
mod real_disk;
mod seeded;
mod sim_clock;
mod sim_disk;
mod sim_file;
mod sim_threads;
mod sim_tree;
mod threads;
#[cfg(test)]
mod watched;

pub use buffer::AlignedBuf;
pub use clock::{Clock, SystemClock};
pub use disk::{Access, Disk, DiskFile, Entry, Space};
pub use durable::replace_file;
pub use machine::{DirLock, boot_id, dying_holder, keep_private, lock_dir, raise_descriptor_limit};
pub use parent::Parent;
pub use patience::within;
pub use real_disk::RealDisk;
pub use seeded::Seeded;
pub use sim_clock::SimClock;
pub use sim_disk::SimDisk;
pub use sim_threads::SimThreads;
pub use threads::{TaskThread, Waker, Worker, blocking, detached};
#[cfg(test)]
pub use watched::largest_allocation;

#[cfg(test)]
mod tests;
