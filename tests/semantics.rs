//! What programs rely on and single random operations do not reach: listings while names come and go, many writers of
//! one file, huge holes, locks, direct I/O, access lists, running programs, whole trees. Each is shown to hold on a
//! plain ext4 directory first.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::mounts::run;
use support::rng::pattern;
use support::sys;
use support::target::{Stage, Target};
use support::xattr;

type Check = fn(&Path);

const CHECKS: [(&str, Check); 14] = [
    ("listing", a_listing_shows_what_stays_exactly_once),
    ("appends", appends_of_many_threads_are_whole),
    ("ranges", writers_of_different_ranges_keep_theirs),
    ("holes", a_hole_of_a_terabyte_is_zeros_and_takes_no_room),
    ("locks", locks_exclude),
    ("direct", direct_io_and_the_page_cache_agree),
    ("attributes", large_attributes),
    ("access", an_access_list_decides),
    ("program", a_program_runs_and_is_not_written_meanwhile),
    ("tree", a_tree_copied_by_rsync_is_the_same),
    ("many", many_open_files),
    ("deep", paths_as_long_as_they_may_be),
    ("orphan", an_unlinked_file_lives_until_its_last_close),
    ("links", one_file_of_many_names),
];

fn holds_on(target: Target) {
    unsafe { libc::umask(0o022) };
    let stage = Stage::new("semantics", target);
    let chosen = std::env::var("BUCKETFS_CHECK").ok();
    for (name, check) in CHECKS {
        if chosen.as_ref().is_none_or(|chosen| chosen == name) {
            let begin = support::wait::now();
            let dir = stage.root().join(name);
            fs::create_dir(&dir).expect("a directory for the check");
            check(&dir);
            println!("{target:?}: {name} holds ({:?})", begin.elapsed());
        }
    }
}

#[test]
fn a_plain_directory_keeps_its_promises() {
    holds_on(Target::PlainDir);
}

#[test]
fn a_bucket_keeps_them_too() {
    holds_on(Target::BucketFs("sled"));
}

/// Without the option the kernel would not look at a list: it is not taken.
#[test]
fn an_access_list_that_would_not_count_is_refused() {
    let stage = Stage::with("lists", Target::BucketFs("sled"), "suid");
    let path = stage.root().join("file");
    fs::write(&path, "private").expect("writing");
    let set =
        Command::new("setfacl").args(["-m", "u:12345:r"]).arg(&path).output().expect("setfacl");
    let said = String::from_utf8_lossy(&set.stderr);
    assert!(!set.status.success() && said.contains("not supported"), "{said}");
    assert_eq!(fs::read(&path).expect("reading"), b"private");
}

/// POSIX readdir: a name that is there from opendir to the end is returned once, others once or not at all.
fn a_listing_shows_what_stays_exactly_once(dir: &Path) {
    let name = |kind: &str, n: u32| dir.join(format!("{kind}-{n}"));
    for n in 0..600 {
        File::create(name("stays", n)).expect("creating");
        File::create(name("goes", n)).expect("creating");
    }
    let mut seen = Vec::new();
    for (n, item) in (0..).zip(fs::read_dir(dir).expect("opening the directory")) {
        seen.push(item.expect("listing").file_name().into_string().expect("text"));
        if n < 600 {
            fs::remove_file(name("goes", n)).expect("removing");
            fs::create_dir(name("comes", n)).expect("creating");
        }
    }
    let stayed: Vec<_> = seen.iter().filter(|name| name.starts_with("stays")).collect();
    let distinct: BTreeSet<_> = seen.iter().collect();
    assert_eq!(stayed.len(), 600, "names that stayed are missing or twice");
    assert_eq!(distinct.len(), seen.len(), "a name was shown twice");
}

fn appends_of_many_threads_are_whole(dir: &Path) {
    const RECORD: usize = 700;
    let path = dir.join("log");
    std::thread::scope(|scope| {
        for writer in 0..6_u8 {
            let path = &path;
            scope.spawn(move || {
                let mut log =
                    File::options().append(true).create(true).open(path).expect("opening");
                for n in 0..60_u8 {
                    let mut record = vec![writer; RECORD];
                    record[0] = n;
                    log.write_all(&record).expect("appending");
                }
            });
        }
    });
    let bytes = fs::read(&path).expect("reading");
    assert_eq!(bytes.len(), 6 * 60 * RECORD);
    let mut next = [0_u8; 6];
    for record in bytes.chunks(RECORD) {
        let writer = usize::from(record[1]);
        assert_eq!(record[0], next[writer], "records of one writer are out of order or lost");
        assert!(record[1..].iter().all(|byte| usize::from(*byte) == writer), "a torn record");
        next[writer] += 1;
    }
}

fn writers_of_different_ranges_keep_theirs(dir: &Path) {
    const PART: usize = 300_001;
    let path = dir.join("file");
    File::create(&path).expect("creating");
    std::thread::scope(|scope| {
        for part in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let file = File::options().write(true).open(path).expect("opening");
                for (n, piece) in pattern(part, PART).chunks(20_000).enumerate() {
                    let at = part * PART as u64 + n as u64 * 20_000;
                    file.write_all_at(piece, at).expect("writing");
                }
                sys::close(file.into_raw_fd()).expect("closing");
            });
        }
    });
    let bytes = fs::read(&path).expect("reading");
    for (part, found) in (0..).zip(bytes.chunks(PART)) {
        assert!(found == pattern(part, PART), "part {part} was overwritten");
    }
}

fn a_hole_of_a_terabyte_is_zeros_and_takes_no_room(dir: &Path) {
    const TIB: u64 = 1 << 40;
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(dir.join("sparse"))
        .expect("creating");
    file.write_all_at(b"end", TIB).expect("writing far out");
    file.write_all_at(b"begin", 0).expect("writing at the start");
    sys::fsync(file.as_raw_fd()).expect("fsync");
    let found = file.metadata().expect("stat");
    assert_eq!(found.len(), TIB + 3);
    assert!(found.blocks() < 1 << 15, "{} blocks for a hole", found.blocks());
    let seek =
        |at: u64, whence: i32| sys::lseek(file.as_raw_fd(), at as i64, whence).expect("seeking");
    assert!(seek(0, libc::SEEK_HOLE) < 1 << 23, "the hole is not known");
    let data = seek(1 << 30, libc::SEEK_DATA);
    assert!((TIB - (1 << 23)..=TIB).contains(&data), "data begins at {data}");
    let mut middle = vec![1; 4096];
    file.read_exact_at(&mut middle, TIB / 2).expect("reading a hole");
    assert!(middle.iter().all(|byte| *byte == 0));
    sys::ftruncate(file.as_raw_fd(), 2).expect("cutting it");
    sys::ftruncate(file.as_raw_fd(), 10).expect("extending it");
    let mut start = [1; 10];
    file.read_exact_at(&mut start, 0).expect("reading");
    assert_eq!(&start, b"be\0\0\0\0\0\0\0\0", "what was cut off came back");
}

fn locks_exclude(dir: &Path) {
    let path = dir.join("lock");
    let first = File::create(&path).expect("creating");
    let second = File::options().write(true).open(&path).expect("opening");
    first.lock().expect("flock");
    assert!(second.try_lock().is_err(), "two exclusive locks");
    first.unlock().expect("unlocking");
    second.try_lock().expect("the lock is free");
    second.unlock().expect("unlocking");
    let lock = |file: &File, kind: i32| {
        let range =
            libc::flock { l_type: kind as i16, l_whence: 0, l_start: 10, l_len: 20, l_pid: 0 };
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &range) }
    };
    assert_eq!(lock(&first, libc::F_WRLCK), 0, "a byte range");
    assert_eq!(lock(&second, libc::F_WRLCK), -1, "the same byte range twice");
    assert_eq!(lock(&first, libc::F_UNLCK), 0);
    assert_eq!(lock(&second, libc::F_WRLCK), 0, "the byte range is free");
}

fn direct_io_and_the_page_cache_agree(dir: &Path) {
    #[repr(align(4096))]
    struct Page([u8; 8192]);
    let path = dir.join("direct");
    let mut page = Page([0; 8192]);
    page.0.copy_from_slice(&pattern(3, 8192));
    let open = |flags: i32| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
        options.open(&path).expect("opening")
    };
    let (direct, cached) = (open(libc::O_DIRECT), open(0));
    direct.write_all_at(&page.0, 4096).expect("a direct write");
    let mut found = vec![0; 8192];
    cached.read_exact_at(&mut found, 4096).expect("a cached read");
    assert!(found == page.0, "the page cache does not see a direct write");
    cached.write_all_at(&pattern(4, 8192), 8192).expect("a cached write");
    sys::fsync(cached.as_raw_fd()).expect("fsync");
    direct.read_exact_at(&mut page.0, 8192).expect("a direct read");
    assert!(page.0 == pattern(4, 8192)[..], "a direct read does not see a cached write");
}

fn large_attributes(dir: &Path) {
    let path = dir.join("file");
    File::create(&path).expect("creating");
    let longest = format!("user.{}", "n".repeat(250));
    xattr::set(&path, &longest, b"value", 0).expect("a name of 255 bytes");
    xattr::set(&path, "user.empty", b"", 0).expect("an empty value");
    xattr::set(&path, "user.binary", &pattern(1, 1500), 0).expect("bytes that are no text");
    let too_long = xattr::set(&path, &format!("{longest}n"), b"value", 0);
    assert_eq!(too_long.expect_err("256 bytes").raw_os_error(), Some(libc::ERANGE));
    assert_eq!(xattr::get(&path, &longest).expect("reading"), b"value");
    assert_eq!(xattr::get(&path, "user.empty").expect("reading"), b"");
    assert_eq!(xattr::get(&path, "user.binary").expect("reading"), pattern(1, 1500));
    let huge = xattr::set(&path, "user.huge", &vec![1; 65_537], 0);
    assert_eq!(huge.expect_err("more than 64 KiB").raw_os_error(), Some(libc::E2BIG));
}

/// Somebody else, by number.
fn as_user(program: &str, path: &Path) -> bool {
    let mut command = Command::new(program);
    command.arg(path).uid(12_345).gid(12_345).stdout(std::process::Stdio::null());
    command.stderr(std::process::Stdio::null()).status().expect("a command").success()
}

fn an_access_list_decides(dir: &Path) {
    let path = dir.join("private");
    fs::write(&path, "secret").expect("writing");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
    let short = support::mounts::Bound::new(dir, Path::new("/mnt"));
    let path = short.path().join("private");
    assert!(!as_user("cat", &path), "a stranger reads a private file");
    run(Command::new("setfacl").args(["-m", "u:12345:r"]).arg(&path));
    assert!(as_user("cat", &path), "who is on the list may not read");
    let list = run(Command::new("getfacl").args(["-n", "-c", "-p"]).arg(&path));
    assert!(list.contains("user:12345:r--"), "{list}");
    run(Command::new("setfacl").args(["-b"]).arg(&path));
    assert!(!as_user("cat", &path), "the list is gone, the right is not");
    run(Command::new("setfacl").args(["-d", "-m", "u:12345:rw"]).arg(short.path()));
    fs::write(short.path().join("heir"), "x").expect("writing");
    let list = run(Command::new("getfacl").args(["-n", "-c", "-p"]).arg(short.path().join("heir")));
    assert!(list.contains("user:12345:rw-"), "a default list is not inherited: {list}");
}

fn a_program_runs_and_is_not_written_meanwhile(dir: &Path) {
    let path = dir.join("runner");
    fs::copy("/bin/sh", &path).expect("copying a program");
    let mut child = Command::new(&path);
    let mut child = child.args(["-c", "while :; do :; done"]).spawn().expect("running it");
    let write = || File::options().write(true).open(&path);
    // FUSE's kernel side asks the file system to empty it before it finds that it runs.
    let empty = || File::options().read(true).custom_flags(libc::O_TRUNC).open(&path);
    let busy = [write(), empty(), write()];
    let ended = child.try_wait().expect("asking for its end");
    child.kill().expect("ending it");
    child.wait().expect("its end");
    assert_eq!(ended, None, "the program lost its pages");
    for busy in busy {
        assert_eq!(busy.expect_err("a running program").raw_os_error(), Some(libc::ETXTBSY));
    }
    assert_eq!(fs::read(&path).expect("the program"), fs::read("/bin/sh").expect("its source"));
    let limit = std::time::Duration::from_secs(10);
    support::wait::until("the end of the program", limit, || empty().ok());
    assert_eq!(fs::metadata(&path).expect("the file").len(), 0);
    assert_eq!(fs::read(&path).expect("the file"), b"");
}

fn a_tree_copied_by_rsync_is_the_same(dir: &Path) {
    let (source, copy) = (support::mounts::scratch("tree"), dir.join("copy"));
    for n in 0..60_u64 {
        let inner = source.path().join(format!("part-{}", n % 7)).join(format!("{}", n % 3));
        fs::create_dir_all(&inner).expect("a directory");
        let path = inner.join(format!("file-{n}"));
        fs::write(&path, pattern(n, (n * n * 117) as usize)).expect("a file");
        sys::chmod(&path, 0o600 + (n % 64) as u32).expect("chmod");
        sys::lchown(&path, n as u32, 2 * n as u32).expect("chown");
        sys::utimens(&path, [(1, 2), (n as i64 * 1_000_003, 999_999_999 - n as i64)])
            .expect("times");
        sys::link(&path, &inner.join(format!("link-{n}"))).expect("a second name");
        sys::symlink(b"file-1", &inner.join(format!("symlink-{n}"))).expect("a symlink");
        xattr::set(&path, "user.n", &n.to_le_bytes(), 0).expect("an attribute");
    }
    let from = format!("{}/", source.path().display());
    run(Command::new("rsync").args(["-aHAX"]).arg(&from).arg(&copy));
    let again =
        run(Command::new("rsync").args(["-aHAX", "-i", "--checksum"]).arg(&from).arg(&copy));
    assert_eq!(again, "", "rsync finds differences");
    run(Command::new("diff").args(["-r", "--no-dereference"]).arg(source.path()).arg(&copy));
    run(Command::new("rm").arg("-rf").arg(&copy));
    assert!(!copy.exists());
}

fn many_open_files(dir: &Path) {
    let path = |n: u64| dir.join(format!("{n}"));
    let files: Vec<_> = (0..300)
        .map(|n| {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path(n))
                .expect("creating");
            file.write_all(&pattern(n, 3000)).expect("writing");
            file
        })
        .collect();
    for (n, file) in (0..).zip(&files) {
        let mut bytes = vec![0; 3000];
        file.read_exact_at(&mut bytes, 0).expect("reading");
        assert!(bytes == pattern(n, 3000), "file {n}");
    }
    files.into_iter().for_each(|file| sys::close(file.into_raw_fd()).expect("closing"));
    for n in 0..300 {
        assert!(
            fs::read(path(n)).expect("reading") == pattern(n, 3000),
            "file {n} after its close"
        );
    }
}

fn paths_as_long_as_they_may_be(dir: &Path) {
    let name = "d".repeat(200);
    let mut path = dir.to_owned();
    while path.as_os_str().len() + 201 + 5 < 4096 {
        path.push(&name);
        fs::create_dir(&path).expect("a directory");
    }
    fs::write(path.join("file"), "deep").expect("writing");
    assert_eq!(fs::read(path.join("file")).expect("reading"), b"deep");
    run(Command::new("rm").arg("-rf").arg(dir.join(&name)));
}

/// > An unlinked file lives until its last close, and leaves nothing behind
fn an_unlinked_file_lives_until_its_last_close(dir: &Path) {
    let path = dir.join("file");
    let mut file =
        File::options().read(true).write(true).create_new(true).open(&path).expect("creating");
    let second = File::open(&path).expect("a second descriptor");
    file.write_all(&pattern(1, 5 << 20)).expect("writing");
    fs::remove_file(&path).expect("unlinking");
    fs::write(&path, "another").expect("another file of the same name");
    file.write_all(&pattern(2, 5 << 20)).expect("writing on");
    sys::fsync(file.as_raw_fd()).expect("fsync");
    assert_eq!(file.metadata().expect("fstat").nlink(), 0);
    sys::close(file.into_raw_fd()).expect("closing");
    let mut bytes = vec![0; 10 << 20];
    second.read_exact_at(&mut bytes, 0).expect("reading");
    assert!(
        bytes[..5 << 20] == pattern(1, 5 << 20)[..] && bytes[5 << 20..] == pattern(2, 5 << 20)[..]
    );
    assert_eq!(fs::read(&path).expect("reading"), b"another");
}

fn one_file_of_many_names(dir: &Path) {
    let first = dir.join("first");
    fs::write(&first, "one").expect("writing");
    for n in 0..300 {
        fs::hard_link(&first, dir.join(format!("name-{n}"))).expect("linking");
    }
    fs::write(dir.join("name-150"), "two").expect("writing through a name");
    assert_eq!(fs::metadata(&first).expect("stat").nlink(), 301);
    fs::remove_file(&first).expect("unlinking the first name");
    for n in 0..300 {
        let path = dir.join(format!("name-{n}"));
        assert_eq!(fs::read(&path).expect("reading"), b"two");
        assert_eq!(fs::metadata(&path).expect("stat").nlink(), 300 - n);
        fs::remove_file(&path).expect("unlinking");
    }
}
