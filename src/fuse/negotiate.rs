//! What is agreed with the kernel when the file system is mounted: FUSE_INIT.

use fuser::{InitFlags, KernelConfig};

/// Bytes of one write or read request; the kernel's own limit is 256 pages unless raised.
const REQUEST_MAX: u32 = 1 << 20;
/// Requests nobody waits for (read-ahead, write-back) that may be under way.
const BACKGROUND_MAX: u16 = 128;

/// What a mount is asked for that the kernel has to be told of.
#[derive(Clone, Copy)]
pub(super) struct Features {
    pub acl: bool,
    pub direct_io: bool,
    pub locks: bool,
}

/// What the door relies on, and why where it is not obvious.
fn wanted(Features { acl, direct_io, locks }: Features) -> InitFlags {
    // O_TRUNC arrives with OPEN, so that truncating and opening are one step.
    let mut wanted = InitFlags::FUSE_ATOMIC_O_TRUNC
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO
        // Pages are dropped when size or mtime turn out to have changed.
        | InitFlags::FUSE_AUTO_INVAL_DATA
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_CACHE_SYMLINKS;
    if acl {
        // With a default ACL the umask has no say, and only the vfs knows whether there is one.
        wanted |= InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK;
    }
    if locks {
        wanted |= InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_FLOCK_LOCKS;
    }
    if direct_io {
        wanted |= InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
    }
    wanted
}

/// Asks for each capability by itself: an older kernel lacks some, and none is essential.
pub(super) fn negotiate(config: &mut KernelConfig, features: Features) {
    for flag in wanted(features).iter() {
        if config.add_capabilities(flag).is_err() {
            log::info!("this kernel does not offer {flag:?}");
        }
    }
    // Each of these names the nearest possible value when refused.
    if let Err(nearest) = config.set_max_write(REQUEST_MAX) {
        let _ = config.set_max_write(nearest);
    }
    if let Err(nearest) = config.set_max_background(BACKGROUND_MAX) {
        let _ = config.set_max_background(nearest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured: these three panic in fuser, keep set-user-ID bits, or are not honoured.
    #[test]
    fn traps_are_not_asked_for() {
        let traps = InitFlags::FUSE_SETXATTR_EXT
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_ALLOW_IDMAP
            | InitFlags::FUSE_WRITEBACK_CACHE;
        for all in [false, true] {
            let features = Features { acl: all, direct_io: all, locks: all };
            assert!(!wanted(features).intersects(traps));
        }
    }

    #[test]
    fn acls_come_with_the_umask() {
        let both = InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_DONT_MASK;
        let features = |acl| Features { acl, direct_io: false, locks: false };
        assert!(wanted(features(true)).contains(both));
        assert!(!wanted(features(false)).intersects(both));
    }
}
