//! Several nodes that show one file system: each with its own session, table and kernel, over one
//! order of changes.

mod appends;
mod cluster;
mod directories;
mod idle;
mod large;
mod locks;
mod names;
mod orphans;
mod removals;
mod sessions;
mod writers;
