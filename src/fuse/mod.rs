//! The kernel's door: FUSE requests become calls of the [`Vfs`](crate::vfs::Vfs), its answers become
//! replies. The only place that names `fuser`.
//!
//! Absent here on purpose: permission checks (the kernel makes them, `default_permissions`), file
//! locks (the kernel keeps fcntl and flock locks itself, exactly, per mount), decisions about files.

mod attributes;
mod check;
mod convert;
mod data;
mod directories;
mod door;
mod errno;
mod filesystem;
mod fusermount;
mod hold;
mod invalidate;
mod locks;
mod mount;
mod mountinfo;
mod names;
mod negotiate;
mod options;
mod reply;
mod session;
mod unmount;
mod xattrs;

pub use check::release;
pub use hold::Hold;
pub use mount::can_mount;
pub use options::MountOptions;
pub use session::FuseMount;
