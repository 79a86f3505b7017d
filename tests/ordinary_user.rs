//! A mount by somebody who is not root, through fusermount3(1): it is made, used by its owner alone, and taken away, by the
//! program or by its owner. Without a fusermount3 that is set-user-ID root there is no such mount. Needs root itself.

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use support::mounts::{mounted, own_namespace, run, scratch};
use support::node::{Node, Serve, program};
use support::sys::mknod;
use tempfile::TempDir;

const USER: u32 = 65_534;
const LIMIT: Duration = Duration::from_secs(60);

/// What belongs to the user: a store with one bucket, and a mount point.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Self {
        own_namespace();
        open_devices();
        let dir = scratch("user");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let home = Self { dir };
        for name in ["home", "home/mnt"] {
            fs::create_dir(home.path(name)).unwrap();
            chown(home.path(name), Some(USER), Some(USER)).unwrap();
        }
        run(program().args(["init", "--data-dir"]).arg(home.data()).uid(USER).gid(USER));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("home/data")
    }

    fn mount(&self) -> PathBuf {
        self.path("home/mnt")
    }

    fn serve(&self) -> Node {
        let (data, mount, log) = (self.data(), self.mount(), self.path("log"));
        let serve = Serve { data: &data, mount: &mount, show: None, options: &[], log: &log };
        let mut node = Node::spawn_as(&serve, USER);
        node.wait_ready();
        node
    }

    /// Runs a script as the user, in his home.
    fn shell(&self, script: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(self.path("home")).uid(USER).gid(USER);
        run(shell.stdin(Stdio::null()))
    }
}

/// A /dev where everybody may open what everybody may open on most systems.
fn open_devices() {
    let device = |path: &str| fs::metadata(path).unwrap().rdev();
    let known = ["/dev/null", "/dev/urandom", "/dev/fuse"].map(|path| (path, device(path)));
    run(Command::new("mount").args(["-t", "tmpfs", "none", "/dev"]));
    for (path, number) in known {
        mknod(Path::new(path), libc::S_IFCHR | 0o666, number).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
    }
}

fn has_fusermount() -> bool {
    ["/usr/bin/fusermount3", "/bin/fusermount3"].iter().any(|path| {
        let known = fs::metadata(path);
        known.is_ok_and(|file| file.uid() == 0 && file.mode() & libc::S_ISUID != 0)
    })
}

#[test]
fn an_ordinary_user_mounts_writes_reads_and_unmounts() {
    if !has_fusermount() {
        return;
    }
    let home = Home::new();
    let node = home.serve();
    assert_eq!(mounted(&home.mount()).as_deref(), Some("fuse.bucketfs"));
    home.shell("mkdir mnt/bucket; echo written >mnt/bucket/file; sync mnt/bucket/file");
    assert_eq!(home.shell("cat mnt/bucket/file; stat -c %u mnt/bucket/file"), "written\n65534\n");
    // Nobody else enters without allow_other, not even root.
    let entered = fs::read_dir(home.mount()).unwrap_err();
    assert_eq!(entered.raw_os_error(), Some(libc::EACCES));
    node.stop();

    let mut node = home.serve();
    assert_eq!(home.shell("cat mnt/bucket/file"), "written\n");
    home.shell("fusermount3 -u mnt");
    assert!(node.wait(LIMIT).success());
    assert_eq!(mounted(&home.mount()), None);

    let mut node = home.serve();
    node.signal(libc::SIGKILL);
    node.wait(LIMIT);
    // What is dead is taken away by the next start, through fusermount3 too.
    let node = home.serve();
    assert_eq!(home.shell("cat mnt/bucket/file"), "written\n");
    node.stop();
}
