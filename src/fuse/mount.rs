//! mount(2) made by ourselves: opens `/dev/fuse`, mounts it, and hands out the descriptor.
//!
//! fuser could mount too, but then it unmounts by path when its session ends, and after somebody
//! else's umount it takes whatever lies below.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::mountinfo::{self, Mount, c_path};
use super::options::MountOptions;
use super::{check, fusermount};
use crate::error::{Error, Result};

const DEVICE: &str = "/dev/fuse";

/// A mount whose connection nobody serves yet.
pub(super) struct Mounted {
    pub(super) connection: OwnedFd,
    /// As the kernel's table has it.
    pub(super) path: PathBuf,
    pub(super) mount: Mount,
}

/// Mounts as asked for: directly where we may, else through fusermount3.
///
/// # Errors
/// [`Error::Config`] with one sentence about what is wrong and what to do.
pub(super) fn mount(options: &MountOptions) -> Result<Mounted> {
    let path = check::ready(&options.mount_point, options.non_empty)?;
    let connection = match open_device()? {
        Some(device) => match mount_direct(&device, &path, options) {
            Ok(()) => device.into(),
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                fusermount::mount(&path, options)?
            }
            Err(error) => return Err(failed(&path, &error)),
        },
        None => fusermount::mount(&path, options)?,
    };
    let mount = mountinfo::topmost(&path)?.filter(Mount::is_ours).ok_or_else(|| {
        Error::Config(format!("{} was mounted but something hides it", path.display()))
    })?;
    Ok(Mounted { connection, path, mount })
}

/// Whether [`mount`] would find what it needs; nothing is mounted.
///
/// # Errors
/// As [`mount`].
pub fn can_mount(options: &MountOptions) -> Result<()> {
    check::ready(&options.mount_point, options.non_empty)?;
    open_device().map(drop)
}

/// `None` when it is there but not for us: fusermount3, set-user-ID root, opens it then.
fn open_device() -> Result<Option<File>> {
    match File::options().read(true).write(true).open(DEVICE) {
        Ok(device) => Ok(Some(device)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Err(Error::Config(format!(
                "this system has no {DEVICE}: load the kernel module with modprobe fuse, or start the \
                 container with --device {DEVICE} --cap-add SYS_ADMIN"
            ))),
            _ => Err(Error::io(format!("opening {DEVICE}"), error)),
        },
    }
}

fn mount_direct(device: &File, path: &Path, options: &MountOptions) -> io::Result<()> {
    let root_mode = fs::metadata(path)?.mode();
    let data = data(device.as_raw_fd(), root_mode, options);
    let (source, target) = (CString::new(options.source.as_str())?, c_path(path)?);
    let (kind, data) = (CString::new(mountinfo::KIND)?, CString::new(data)?);
    // SAFETY: the four strings end with NUL and live through the call; mount(2).
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            options.flags,
            data.as_ptr().cast(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The options of the file system type; Documentation/filesystems/fuse.rst. User and group are
/// those who may unmount, and who may enter without allow_other.
fn data(device: i32, root_mode: u32, options: &MountOptions) -> String {
    // SAFETY: these take nothing and cannot fail; getuid(2).
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    let others = if options.allow_other { ",allow_other" } else { "" };
    format!(
        "fd={device},rootmode={root_mode:o},user_id={user},group_id={group},default_permissions{others}"
    )
}

fn failed(path: &Path, error: &io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENODEV) => Error::Config(
            "this kernel cannot mount FUSE file systems: load the module with modprobe fuse".into(),
        ),
        Some(libc::EBUSY) => Error::Config(format!(
            "{} is busy: something else is being mounted there",
            path.display()
        )),
        _ => Error::Config(format!("mounting on {} failed: {error}", path.display())),
    }
}

/// True where event threads can open descriptors of their own for the connection.
pub(super) fn device_is_open_to_us() -> bool {
    matches!(open_device(), Ok(Some(_)))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn the_kernel_checks_permissions() {
        let options = MountOptions::new(OsStr::new("/mnt"));
        let closed = data(5, 0o40755, &options.clone().with("noallow_other").unwrap());
        assert!(closed.starts_with("fd=5,rootmode=40755,user_id="));
        assert!(closed.ends_with(",default_permissions"));
        let open = data(5, 0o40755, &options.with("allow_other").unwrap());
        assert!(open.ends_with(",default_permissions,allow_other"));
    }

    #[test]
    fn a_bad_mount_point_is_refused_before_anything_is_mounted() {
        let options = MountOptions::new(OsStr::new("/no/such/place"));
        assert!(matches!(mount(&options), Err(Error::Config(text)) if text.contains("mkdir -p")));
    }
}
