//! Private mount namespaces, loop images of ext4, and taking mounts away again.

use super::sys::cstr;
use std::cell::Cell;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

thread_local! {
    static OWN_DESCRIPTORS: Cell<bool> = const { Cell::new(false) };
}

/// Gives the calling thread, and all it starts, mounts of its own: they vanish with it, whatever happens. To be called
/// before the thread opens anything, for it gets a table of descriptors of its own as well.
pub fn own_namespace() {
    own_descriptors();
    let entered = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(entered, 0, "these tests mount, so they run as root: {}", Error::last_os_error());
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let private = unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
    };
    assert_eq!(private, 0, "making the mounts private: {}", Error::last_os_error());
}

/// Gives the calling thread a table of descriptors of its own (`close_range(2)`, `CLOSE_RANGE_UNSHARE`). A child that
/// another test starts holds a copy of every descriptor of its parent's table until it executes its program; that it
/// then closes them is a close(2) like any other to FUSE, and acknowledges what a test has written so far.
fn own_descriptors() {
    if OWN_DESCRIPTORS.replace(true) {
        return;
    }
    let flags = libc::CLOSE_RANGE_UNSHARE as libc::c_int;
    let unshared = unsafe { libc::close_range(3, libc::c_uint::MAX, flags) };
    assert_eq!(unshared, 0, "descriptors of this thread's own: {}", Error::last_os_error());
}

/// An empty directory for one test, on the disk that holds the build (a `tmpfs` would hide what disks do).
pub fn scratch(name: &str) -> TempDir {
    let base = env!("CARGO_TARGET_TMPDIR");
    tempfile::Builder::new().prefix(name).tempdir_in(base).expect("a scratch directory")
}

/// Detaches whatever is mounted at `path`; nothing there is fine.
pub fn detach(path: &Path) {
    unsafe { libc::umount2(cstr(path).as_ptr(), libc::MNT_DETACH) };
}

/// Ends the connection behind a mount, as `umount -f` does: who waits for an answer gets an error.
pub fn abort(path: &Path) {
    unsafe { libc::umount2(cstr(path).as_ptr(), libc::MNT_FORCE | libc::MNT_DETACH) };
}

/// Whether something is mounted exactly at `path`, seen from this thread's namespace; its type if so.
pub fn mounted(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mounts").expect("the mount table");
    let path = path.to_str().expect("a test path is text");
    let lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.rev().find(|fields| fields[1] == path).map(|fields| fields[2].to_owned())
}

/// Runs a command to its end and panics with everything it said when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}{complaint}", output.status);
    said
}

/// A directory shown at a second place of this thread's namespace, until dropped.
pub struct Bound<'a> {
    place: &'a Path,
}

impl<'a> Bound<'a> {
    /// Shows `path` at `place`, an existing directory.
    pub fn new(path: &Path, place: &'a Path) -> Self {
        run(Command::new("mount").arg("--bind").arg(path).arg(place));
        Self { place }
    }

    /// The second place.
    pub fn path(&self) -> &Path {
        self.place
    }
}

impl Drop for Bound<'_> {
    fn drop(&mut self) {
        detach(self.place);
    }
}

/// A fresh journalled ext4 in a file, mounted; unmounted when dropped.
pub struct LoopImage {
    image: PathBuf,
    mount: PathBuf,
    options: &'static str,
}

impl LoopImage {
    /// Makes `bytes` of ext4 in `dir` and mounts it at `dir/disk`.
    pub fn new(dir: &Path, bytes: u64) -> Self {
        Self::with_options(dir, bytes, "loop")
    }

    /// As [`Self::new`], mounted with these options of mount(8), one of which is `loop`.
    pub fn with_options(dir: &Path, bytes: u64, options: &'static str) -> Self {
        let (image, mount) = (dir.join("disk.img"), dir.join("disk"));
        let file = std::fs::File::create(&image).expect("the image file");
        file.set_len(bytes).expect("the image's size");
        std::fs::create_dir(&mount).expect("the mount point");
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image));
        let disk = Self { image, mount, options };
        disk.mount();
        disk
    }

    /// Where its root directory is.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Unmounts and mounts again: nothing is left in the page cache.
    pub fn remount(&self) {
        run(Command::new("umount").arg(&self.mount));
        self.mount();
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", self.options]).arg(&self.image).arg(&self.mount));
    }
}

impl Drop for LoopImage {
    fn drop(&mut self) {
        detach(&self.mount);
    }
}
