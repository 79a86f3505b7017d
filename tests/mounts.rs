//! The kernel's door from outside: what mounts of one node show each other, how a mount begins and how it ends.

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Barrier, mpsc};
use std::time::Duration;
use support::mounts::{mounted, own_namespace, run, scratch};
use support::node::{Node, Serve, program};
use support::s3_world::free_address;
use support::wait::{now, until, waits_in};
use support::{sys, xattr};
use tempfile::TempDir;

/// For what should take milliseconds.
const SOON: Duration = Duration::from_secs(20);

/// For an unmount of what holds nothing, on a busy machine.
const UNMOUNT_LIMIT: Duration = Duration::from_secs(60);

/// A new store with one bucket, and mount points for it.
struct Store {
    dir: TempDir,
}

impl Store {
    fn new() -> Self {
        own_namespace();
        let dir = scratch("mounts");
        let store = Self { dir };
        run(program().arg("init").arg("--data-dir").arg(store.data()));
        for place in ["one", "two"] {
            fs::create_dir(store.path(place)).unwrap();
        }
        store
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Serves everything at `one`, with more arguments.
    fn serve(&self, options: &[&str]) -> Node {
        let (data, mount, log) = (self.data(), self.path("one"), self.path("log"));
        let serve = Serve { data: &data, mount: &mount, show: None, options, log: &log };
        Node::start(&serve)
    }

    /// The bucket at `one`, made if there is none.
    fn bucket(&self) -> PathBuf {
        let bucket = self.path("one/bucket");
        fs::create_dir_all(&bucket).unwrap();
        bucket
    }

    /// What `serve` says when it is not able to mount at `place`.
    fn refusal(&self, place: &Path) -> String {
        let mut serve = program();
        serve.arg("serve").arg("--data-dir").arg(self.data()).arg("--mount").arg(place);
        let Output { status, stderr, .. } = serve.output().unwrap();
        assert!(!status.success(), "mounted at {}", place.display());
        String::from_utf8_lossy(&stderr).into_owned()
    }
}

/// Each kernel caches names, attributes and pages. With a TTL of a minute only what it is told keeps them true.
#[test]
fn mounts_of_one_node_see_each_others_changes_at_once() {
    let store = Store::new();
    let node = store.serve(&["-o", "ttl=60"]);
    let here = store.bucket();
    node.stop();
    let two = format!("{}=bucket", store.path("two").display());
    let node = store.serve(&["-o", "ttl=60", "--mount", &two]);
    let there = store.path("two");

    names_and_attributes_follow(&here, &there);
    for number in 0..100 {
        let text = "x".repeat(number % 7) + &number.to_string();
        fs::write(here.join("new"), &text).unwrap();
        fs::rename(here.join("new"), here.join("replaced")).unwrap();
        assert_eq!(fs::read_to_string(there.join("replaced")).unwrap(), text);
        fs::write(here.join("in place"), &text).unwrap();
        assert_eq!(fs::read_to_string(there.join("in place")).unwrap(), text);
    }
    let outside = fs::rename(here.join("replaced"), there.join("moved"));
    assert_eq!(outside.unwrap_err().raw_os_error(), Some(libc::EXDEV));
    node.stop();
}

fn names_and_attributes_follow(here: &Path, there: &Path) {
    assert_eq!(fs::metadata(there).unwrap().ino(), 1);
    fs::write(here.join("file"), "one").unwrap();
    assert_eq!(fs::metadata(there.join("file")).unwrap().len(), 3);
    let open = File::open(there.join("file")).unwrap();

    fs::set_permissions(here.join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    until("the mode", SOON, || (open.metadata().unwrap().mode() == 0o100600).then_some(()));
    fs::write(here.join("file"), "three").unwrap();
    until("the size", SOON, || (open.metadata().unwrap().len() == 5).then_some(()));
    fs::remove_file(here.join("file")).unwrap();
    until("the end of a name", SOON, || (!there.join("file").exists()).then_some(()));

    fs::create_dir(there.join("old")).unwrap();
    assert!(here.join("old").is_dir());
    fs::rename(there.join("old"), there.join("young")).unwrap();
    until("a rename", SOON, || (!here.join("old").exists()).then_some(()));
    assert!(here.join("young").is_dir());
}

/// > O_CREAT alone opens what somebody else has just made
///
/// open(2) with O_CREAT answered EEXIST when another mount made the file between the kernel's look and
/// its wish: `>>` from two places at once failed.
#[test]
fn who_creates_what_another_mount_has_just_made_opens_it() {
    let store = Store::new();
    let node = store.serve(&[]);
    store.bucket();
    node.stop();
    let two = store.path("two").display().to_string();
    let node = store.serve(&["--mount", &two]);
    let (here, there) = (store.path("one/bucket"), store.path("two/bucket"));
    let both = Barrier::new(2);
    let appending = |dir: &Path| -> Vec<std::io::Error> {
        let append = |number: u32| {
            both.wait();
            let path = dir.join(format!("f{number}"));
            File::options().append(true).create(true).open(path)?.write_all(b"line\n")
        };
        (0..100).filter_map(|number| append(number).err()).collect()
    };
    std::thread::scope(|scope| {
        let running = [&here, &there].map(|dir| scope.spawn(|| appending(dir)));
        for appender in running {
            let failed = appender.join().unwrap();
            assert!(failed.is_empty(), "{failed:?}");
        }
    });
    for number in 0..100 {
        assert_eq!(fs::read(here.join(format!("f{number}"))).unwrap(), b"line\nline\n");
    }
    node.stop();
}

/// Bytes 10 to 29 of a file, by fcntl(2).
fn range_lock(file: &File, command: i32, kind: i32) -> std::io::Result<libc::flock> {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    let mut range = libc::flock { l_type, l_whence, l_start: 10, l_len: 20, l_pid: 0 };
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &mut range) } {
        0 => Ok(range),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// > … and between the mounts of one node
///
/// Two kernels that know nothing of each other: every kind of lock excludes, shows what was written
/// under it, and goes with its file, its process, or its descriptor.
#[test]
fn locks_hold_between_mounts() {
    let store = Store::new();
    let node = store.serve(&[]);
    fs::write(store.bucket().join("file"), vec![b'.'; 100]).unwrap();
    node.stop();
    let two = format!("{}=bucket", store.path("two").display());
    let node = store.serve(&["-o", "ttl=60", "--mount", &two]);
    let (here, there) = (store.path("one/bucket/file"), store.path("two/file"));
    let open = |path: &Path| File::options().read(true).write(true).open(path).unwrap();

    let (first, second) = (open(&here), open(&there));
    first.lock().unwrap();
    assert!(second.try_lock().is_err() && second.try_lock_shared().is_err());
    drop(first);
    until("the lock of a closed file", SOON, || second.try_lock().ok());
    second.unlock().unwrap();

    let first = open(&here);
    range_lock(&first, libc::F_SETLK, libc::F_WRLCK).unwrap();
    let taken = range_lock(&second, libc::F_SETLK, libc::F_RDLCK).unwrap_err();
    assert_eq!(taken.raw_os_error(), Some(libc::EAGAIN));
    let found = range_lock(&second, libc::F_GETLK, libc::F_RDLCK).unwrap();
    assert_eq!((i32::from(found.l_type), found.l_start, found.l_len), (libc::F_WRLCK, 10, 20));
    assert_eq!(found.l_pid as u32, std::process::id());
    // A close of any descriptor gives up what the process has of the file, at once.
    drop(open(&here));
    range_lock(&second, libc::F_SETLK, libc::F_WRLCK).unwrap();
    range_lock(&second, libc::F_SETLK, libc::F_UNLCK).unwrap();

    range_lock(&first, libc::F_OFD_SETLK, libc::F_WRLCK).unwrap();
    assert!(range_lock(&second, libc::F_OFD_SETLK, libc::F_WRLCK).is_err());
    drop(first);
    until("the lock of an open file that is gone", SOON, || {
        range_lock(&second, libc::F_OFD_SETLK, libc::F_WRLCK).ok()
    });
    drop(second);
    a_waiter_gets_the_lock_and_sees_what_was_written(&here, &there);
    a_waiter_takes_signals(&here, &there);
    node.stop();
}

fn a_waiter_gets_the_lock_and_sees_what_was_written(here: &Path, there: &Path) {
    let writer = File::options().read(true).write(true).open(here).unwrap();
    writer.lock().unwrap();
    let path = there.to_path_buf();
    let (say, hear) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let file = File::options().read(true).write(true).open(path).unwrap();
        // Cached before: under the lock it must not be believed.
        let old = file.metadata().unwrap().len();
        say.send(unsafe { libc::gettid() }).unwrap();
        file.lock().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut &file, &mut text).unwrap();
        (old, text)
    });
    let thread = hear.recv_timeout(SOON).unwrap();
    until("it waits for the lock", SOON, || waits_in(thread, libc::SYS_flock).then_some(()));
    writer.set_len(0).unwrap();
    (&writer).write_all(b"under the lock").unwrap();
    writer.unlock().unwrap();
    let (old, text) = waiter.join().unwrap();
    assert_eq!((old, text.as_str()), (100, "under the lock"));
}

/// Ctrl-C, and SIGKILL: the kernel waits for the file system's answer even then.
fn a_waiter_takes_signals(here: &Path, there: &Path) {
    let holder = File::options().write(true).open(here).unwrap();
    holder.lock().unwrap();
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let mut child = Command::new("flock").arg("-x").arg(there).arg("true").spawn().unwrap();
        let program = child.id() as i32;
        until("it waits for the lock", SOON, || waits_in(program, libc::SYS_flock).then_some(()));
        unsafe { libc::kill(program, signal) };
        let status = support::node::wait_child(&mut child, SOON);
        assert!(!status.success());
    }
    holder.unlock().unwrap();
    let taken = Command::new("flock").arg("-xn").arg(there).arg("true").output().unwrap();
    assert!(taken.status.success(), "{taken:?}");
}

/// What the kernel does not ask for need not be answered; what it did ask for before must not be lost.
#[test]
fn without_extended_attributes_the_rest_goes_on() {
    let store = Store::new();
    let node = store.serve(&["-o", "noxattr"]);
    let path = store.bucket().join("file");
    fs::write(&path, "written").unwrap();
    let set = xattr::set(&path, "user.x", b"1", 0).unwrap_err();
    assert_eq!(set.raw_os_error(), Some(libc::EOPNOTSUPP));
    assert_eq!(fs::read(&path).unwrap(), b"written");
    assert_eq!(mounted_source(&store.path("one")), store.data());
    node.stop();
}

/// What the table of mounts names: by it umount finds the node.
fn mounted_source(place: &Path) -> PathBuf {
    let source = run(Command::new("findmnt").args(["-n", "-o", "SOURCE"]).arg(place));
    PathBuf::from(source.trim())
}

/// The kernel writes a page of mmap(2) back through whichever handle may write; one that appends put it at the end.
#[test]
fn a_mapped_page_is_written_back_where_it_belongs() {
    let store = Store::new();
    let node = store.serve(&[]);
    let path = store.bucket().join("mapped");
    let mut file = File::options().read(true).append(true).create(true).open(&path).unwrap();
    file.write_all(&[b'x'; 8192]).unwrap();
    sys::map_write(file.as_raw_fd(), 4, b"mapped").unwrap();
    sys::fsync(file.as_raw_fd()).unwrap();
    drop(file);
    node.stop();
    let node = store.serve(&[]);
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes.len(), &bytes[..12]), (8192, &b"xxxxmappedxx"[..]));
    node.stop();
}

/// fallocate(2): what cannot be done is said, and nothing changes.
#[test]
fn other_modes_of_fallocate_are_not_there() {
    let store = Store::new();
    let node = store.serve(&[]);
    let path = store.bucket().join("allocated");
    fs::write(&path, [1; 8192]).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    for mode in [
        libc::FALLOC_FL_COLLAPSE_RANGE,
        libc::FALLOC_FL_INSERT_RANGE,
        libc::FALLOC_FL_UNSHARE_RANGE,
        libc::FALLOC_FL_PUNCH_HOLE,
    ] {
        let refused = sys::fallocate(file.as_raw_fd(), mode, 0, 4096).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EOPNOTSUPP), "mode {mode:#x}");
    }
    assert_eq!(fs::read(&path).unwrap(), [1; 8192]);
    // A stop waits ten seconds for what is open.
    drop(file);
    node.stop();
}

/// fcntl(2) takes O_APPEND from a descriptor, or gives it: writes went by what it was opened with.
#[test]
fn writes_go_by_the_flags_of_the_moment() {
    let store = Store::new();
    let node = store.serve(&[]);
    let path = store.bucket().join("log");
    fs::write(&path, "abc").unwrap();
    let file = File::options().append(true).open(&path).unwrap();
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) }, 0);
    sys::pwrite(file.as_raw_fd(), 0, b"X").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Xbc");
    assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }, 0);
    sys::pwrite(file.as_raw_fd(), 0, b"d").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"Xbcd");
    drop(file);
    node.stop();
}

/// What the kernel takes away itself where the pages are its own, it leaves to the file system with direct I/O and when
/// OPEN truncates: whoever may write a program could give it other bytes and have it run as its owner.
#[test]
fn a_program_that_another_user_writes_loses_its_privilege() {
    for options in ["suid", "suid,direct_io"] {
        let store = Store::new();
        let node = store.serve(&["-o", options]);
        let path = store.bucket().join("program");
        let dir = File::open(store.bucket()).unwrap();
        for truncate in [false, true] {
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).unwrap();
            let written = as_nobody(|| {
                let flags = libc::O_WRONLY | if truncate { libc::O_TRUNC } else { 0 };
                let fd = unsafe { libc::openat(dir.as_raw_fd(), c"program".as_ptr(), flags) };
                let written = if truncate { Ok(0) } else { sys::pwrite(fd, 0, b"new") };
                sys::close(fd).and(written)
            });
            written.unwrap();
            let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
            let what = format!("the end of the privilege, {options}, O_TRUNC: {truncate}");
            until(&what, SOON, || (mode() == 0o777).then_some(()));
        }
        drop(dir);
        node.stop();
    }
}

/// With the file system's rights of another user, on this thread.
fn as_nobody<T>(work: impl FnOnce() -> T) -> T {
    unsafe { libc::setfsuid(65534) };
    let result = work();
    unsafe { libc::setfsuid(0) };
    result
}

/// fuser unmounts the path again when its session ends, and took what lay below.
#[test]
fn unmounted_by_somebody_else_it_ends_well_and_leaves_what_lies_below() {
    let store = Store::new();
    let place = store.path("one");
    run(Command::new("mount").args(["-t", "tmpfs", "below"]).arg(&place));
    let mut node = store.serve(&[]);
    fs::write(store.bucket().join("kept"), "kept").unwrap();
    run(Command::new("umount").arg(&place));
    assert!(node.wait(SOON).success());
    assert_eq!(mounted(&place).as_deref(), Some("tmpfs"));
    run(Command::new("umount").arg(&place));
    let node = store.serve(&[]);
    assert_eq!(fs::read(store.bucket().join("kept")).unwrap(), b"kept");
    node.stop();
}

#[test]
fn a_dead_mount_is_taken_away_by_the_next_start() {
    let store = Store::new();
    let mut node = store.serve(&["-o", "ttl=60"]);
    fs::write(store.bucket().join("kept"), "kept").unwrap();
    node.signal(libc::SIGKILL);
    node.wait(SOON);
    let dead = fs::read_dir(store.path("one")).unwrap_err();
    assert_eq!(dead.raw_os_error(), Some(libc::ENOTCONN));
    assert!(fs::metadata(store.path("one")).is_ok(), "the kernel's cache still answers");
    let again = store.serve(&[]);
    assert_eq!(fs::read(store.bucket().join("kept")).unwrap(), b"kept");
    again.stop();
    drop(node);
}

/// Whoever has a file open may finish; a second signal does not wait for them, and nothing they wrote is lost.
#[test]
fn a_mount_in_use_is_cut_off_at_the_second_signal() {
    let store = Store::new();
    let mut node = store.serve(&[]);
    let mut open = File::create(store.bucket().join("open")).unwrap();
    open.write_all(b"written").unwrap();
    node.signal(libc::SIGTERM);
    until("its word that somebody is in the way", SOON, || {
        fs::read_to_string(store.path("log")).unwrap().contains("is in use").then_some(())
    });
    assert!(open.metadata().is_ok());
    node.signal(libc::SIGTERM);
    assert!(node.wait(SOON).success());
    assert!(open.write_all(b"too late").is_err());
    assert_eq!(mounted(&store.path("one")), None);
    drop(open);
    let node = store.serve(&[]);
    assert_eq!(fs::read(store.bucket().join("open")).unwrap(), b"written");
    node.stop();
}

#[test]
fn a_mount_point_that_will_not_do_is_refused_with_what_to_do() {
    let store = Store::new();
    assert!(store.refusal(&store.path("none")).contains("mkdir -p"));
    fs::write(store.path("file"), "").unwrap();
    assert!(store.refusal(&store.path("file")).contains("not a directory"));
    fs::write(store.path("two/file"), "").unwrap();
    assert!(store.refusal(&store.path("two")).contains("nonempty"));
    let target = format!("{}=none", store.path("one").display());
    assert!(store.refusal(Path::new(&target)).contains("cannot mount none"));

    symlink(store.path("one"), store.path("link")).unwrap();
    let (data, link, log) = (store.data(), store.path("link"), store.path("log"));
    let serve = Serve { data: &data, mount: &link, show: None, options: &[], log: &log };
    let node = Node::start(&serve);
    assert_eq!(mounted(&store.path("one")).as_deref(), Some("fuse.bucketfs"));
    run(Command::new("umount").arg(store.path("one")));
    drop(node);
}

/// The helpers that mount(8) and umount(8) start, under the names they are installed by.
struct Helpers {
    mount: PathBuf,
    umount: PathBuf,
}

impl Helpers {
    fn install(store: &Store) -> Self {
        let build = ["build", "--quiet", "--package", "mount-bucketfs", "--message-format=json"];
        let messages = run(Command::new(env!("CARGO")).args(build));
        let built = messages.split('"').find(|text| text.ends_with("/mount-bucketfs"));
        let (mount, umount) = (store.path("mount.bucketfs"), store.path("umount.bucketfs"));
        fs::copy(built.expect("the helper"), &mount).unwrap();
        fs::copy(&mount, &umount).unwrap();
        symlink(program().get_program(), store.path("bucketfs")).unwrap();
        Self { mount, umount }
    }
}

/// Starts like mount(8) does: with nothing in the environment, and with all that fstab may say.
#[test]
fn the_helpers_mount_and_unmount_a_store() {
    let store = Store::new();
    let helpers = Helpers::install(&store);
    let place = store.path("one");
    let mount = |options: &str| {
        let mut command = Command::new(&helpers.mount);
        command.env_clear().arg(store.data()).arg(&place).args(["-o", options]);
        command
    };
    run(&mut mount("rw,_netdev,nofail,ttl=0"));
    assert_eq!(mounted(&place).as_deref(), Some("fuse.bucketfs"));
    fs::write(store.bucket().join("kept"), "kept").unwrap();
    let twice = mount("rw").output().unwrap();
    assert_eq!(twice.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&twice.stderr).contains("mount.bucketfs: "));

    run(Command::new(&helpers.umount).env_clear().arg(&place));
    assert_eq!(mounted(&place), None);
    assert!(!store.path("data/serve.json").exists(), "it returned before the daemon had ended");

    let misspelt = mount("rw,tll=0").output().unwrap();
    assert_eq!(misspelt.status.code(), Some(32));
    assert!(String::from_utf8_lossy(&misspelt.stderr).contains("`tll`"));
    // It serves S3 too, and ends all the same when what it was started for is unmounted.
    let config = store.path("node.toml");
    fs::write(&config, format!("s3.listen = '{}'", free_address())).unwrap();
    for _ in 0..2 {
        run(&mut mount(&format!("config={}", config.display())));
        let begun = now();
        run(Command::new(&helpers.umount).env_clear().arg(&place));
        assert!(now() - begun < UNMOUNT_LIMIT, "it waited for a node that goes on");
        assert!(!store.path("data/serve.json").exists(), "the node goes on");
    }
    run(&mut mount("bucket=bucket,ro"));
    assert_eq!(fs::read(place.join("kept")).unwrap(), b"kept");
    let write = fs::write(place.join("new"), "");
    assert_eq!(write.unwrap_err().raw_os_error(), Some(libc::EROFS));
    run(Command::new(&helpers.umount).env_clear().arg(&place));
}

/// A node that goes on without its mount because it serves S3 is not waited for.
#[test]
fn the_helper_does_not_wait_for_a_node_that_goes_on() {
    let store = Store::new();
    let helpers = Helpers::install(&store);
    let (data, place, log, s3) =
        (store.data(), store.path("one"), store.path("log"), free_address());
    let options = ["--s3-listen", &s3];
    let serve = Serve { data: &data, mount: &place, show: None, options: &options, log: &log };
    let node = Node::start(&serve);
    fs::write(store.bucket().join("kept"), "kept").unwrap();
    let begun = now();
    run(Command::new(&helpers.umount).env_clear().arg(&place));
    assert!(now() - begun < UNMOUNT_LIMIT, "it waited for a node that goes on");
    assert_eq!(mounted(&place), None);
    node.stop();
}

/// A path may have a `=` in it: it is mounted there, not at what is before it.
#[test]
fn the_helper_mounts_at_a_path_with_an_equals_sign() {
    let store = Store::new();
    let helpers = Helpers::install(&store);
    let place = store.path("one=bucket");
    fs::create_dir(&place).unwrap();
    let mount = |options: &str| {
        let mut command = Command::new(&helpers.mount);
        command.env_clear().arg(store.data()).arg(&place).args(["-o", options]);
        command
    };
    for (options, shown) in [("rw", "bucket/kept"), ("bucket=bucket", "kept")] {
        run(&mut mount(options));
        assert_eq!(mounted(&place).as_deref(), Some("fuse.bucketfs"));
        assert_eq!(mounted(&store.path("one")), None);
        let file = place.join(shown);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "kept").unwrap();
        run(Command::new(&helpers.umount).env_clear().arg(&place));
    }
}
