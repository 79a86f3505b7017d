//! The outside world behind seams: the disk, and the clock with randomness. Real and simulated.

mod buffer;
mod clock;
mod disk;
mod durable;
mod machine;
mod mapping;
mod real_disk;
mod seeded;
mod sim_clock;
mod sim_disk;
mod sim_file;
mod sim_tree;

pub use buffer::AlignedBuf;
pub use clock::{Clock, SystemClock};
pub use disk::{Access, Disk, DiskFile, Entry, Space};
pub use durable::replace_file;
pub use machine::{DirLock, boot_id, lock_dir};
pub use real_disk::RealDisk;
pub use seeded::Seeded;
pub use sim_clock::SimClock;
pub use sim_disk::SimDisk;

#[cfg(test)]
mod tests;
