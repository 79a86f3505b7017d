//! What breaks below a store: its disk full, its files damaged or gone. Nothing else is lost, and it is said.

mod support;

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use support::mounts::LoopImage;
use support::node::{Node, Serve, program};
use support::rng::pattern;
use support::target::{BUCKET, Stage, Target, init};
use support::tree::holding;

const CHUNK: usize = 4 << 20;
const CRC_BLOCK: usize = 65_536;

fn errno(result: std::io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// The store's own report; `sound` is what its exit code must say.
fn fsck(data: &Path, sound: bool) -> serde_json::Value {
    let output = program().args(["fsck", "--json", "--data-dir"]).arg(data).output().expect("fsck");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let wanted = if sound { 0 } else { 3 };
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(wanted), "fsck: {said}{complaint}");
    serde_json::from_str(said.trim()).expect("JSON")
}

/// Changes one byte of a file in place.
fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("opening");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("reading");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("writing");
}

/// A node whose data lies on a small disk of its own.
struct SmallDisk {
    node: Option<Node>,
    disk: LoopImage,
    scratch: tempfile::TempDir,
}

impl SmallDisk {
    fn new(bytes: u64) -> Self {
        support::mounts::own_namespace();
        let scratch = support::mounts::scratch("full");
        let disk = LoopImage::new(scratch.path(), bytes);
        std::fs::create_dir(scratch.path().join("mnt")).expect("the mount point");
        init(&disk.path().join("data"), "sled");
        let mut small = Self { node: None, disk, scratch };
        small.start();
        small
    }

    fn start(&mut self) {
        let (data, log) = (self.data(), self.scratch.path().join("log"));
        let serve =
            Serve { data: &data, mount: &self.root(), show: Some(BUCKET), options: &[], log: &log };
        self.node = Some(Node::start(&serve));
    }

    fn data(&self) -> PathBuf {
        self.disk.path().join("data")
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("mnt")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.node.take());
    }
}

/// Writes files of `len` bytes until there is no room; returns how many were closed without an error.
fn fill(root: &Path, len: usize) -> u64 {
    for n in 0.. {
        let path = root.join(format!("fill-{len}-{n}"));
        let wrote = std::fs::File::create(&path).and_then(|mut file| {
            file.write_all(&pattern(n, len))?;
            support::sys::close(std::os::fd::IntoRawFd::into_raw_fd(file))
        });
        if let Err(error) = wrote {
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "file {n}: {error}");
            return n;
        }
        assert!(n < 100_000, "the disk never fills");
    }
    unreachable!("files without end")
}

fn intact(root: &Path, len: usize, count: u64) {
    for n in 0..count {
        let bytes =
            std::fs::read(root.join(format!("fill-{len}-{n}"))).expect("reading on a full disk");
        assert!(bytes == pattern(n, len), "file {n} of {len} bytes is not what was written");
    }
}

#[test]
fn a_full_disk_refuses_writes_and_nothing_else() {
    let mut small = SmallDisk::new(512 << 20);
    let root = small.root();
    let large = fill(&root, 5 << 20);
    assert!(large > 20, "full after {large} files of 5 MiB");
    intact(&root, 5 << 20, large);
    let medium = fill(&root, 100_000);
    intact(&root, 100_000, medium);
    std::fs::remove_file(root.join(format!("fill-{}-0", 5 << 20)))
        .expect("deleting on a full disk");
    std::fs::rename(root.join(format!("fill-{}-1", 5 << 20)), root.join("renamed"))
        .expect("renaming on a full disk");
    small.node.take().expect("a node").stop();
    small.start();
    assert!(
        std::fs::read(root.join("renamed")).expect("reading after a restart")
            == pattern(1, 5 << 20)
    );
    for n in 2..large {
        std::fs::remove_file(root.join(format!("fill-{}-{n}", 5 << 20)))
            .expect("deleting after a restart");
    }
    let room = || std::fs::write(root.join("again"), pattern(99, 40 << 20)).ok();
    support::wait::until("room after deleting", std::time::Duration::from_secs(60), room);
    assert!(std::fs::read(root.join("again")).expect("reading") == pattern(99, 40 << 20));
    intact(&root, 100_000, medium);
    fsck(&small.data(), true);
}

#[test]
fn a_flipped_bit_costs_its_own_block_only() {
    let mut stage = Stage::new("bits", Target::BucketFs("sled"));
    let (file, other) = (stage.root().join("file"), stage.root().join("other"));
    let bytes = pattern(5, 2 * CHUNK + 100_000);
    std::fs::write(&file, &bytes).expect("writing");
    std::fs::write(&other, pattern(6, CHUNK)).expect("writing");
    stage.restart();
    let at = CHUNK + 10 * CRC_BLOCK + 77;
    let places = holding(&stage.data().join("chunks"), &bytes[at..at + 64]);
    assert_eq!(places.len(), 1, "the bytes lie in one chunk file");
    flip(&places[0].0, places[0].1 as u64);

    let open = std::fs::File::open(&file).expect("opening");
    let mut block = vec![0; 4096];
    let mut read = |at: usize| open.read_exact_at(&mut block, at as u64).map(|()| block.clone());
    assert_eq!(errno(read(at)), Some(libc::EIO), "a damaged block is never shown");
    for fine in [0, CHUNK - 4096, CHUNK + CRC_BLOCK, CHUNK + 30 * CRC_BLOCK, 2 * CHUNK + 4096] {
        assert!(read(fine).expect("a good block") == bytes[fine..fine + 4096], "at {fine}");
    }
    assert!(std::fs::read(&other).expect("another file") == pattern(6, CHUNK));
    let report = fsck(&stage.data(), false);
    let listed = report["damaged"].to_string();
    assert!(listed.contains("suite/file") && !listed.contains("suite/other"), "{report}");
    std::fs::write(&file, b"new").expect("the node lives: the file can be written anew");
    assert_eq!(std::fs::read(&file).expect("reading"), b"new");
    support::wait::until(
        "a sound store once nothing refers to the damage",
        std::time::Duration::from_secs(30),
        || {
            let output =
                program().args(["fsck", "--data-dir"]).arg(stage.data()).output().expect("fsck");
            output.status.success().then_some(())
        },
    );
}

#[test]
fn a_missing_chunk_file_is_an_error_and_is_listed() {
    let mut stage = Stage::new("gone", Target::BucketFs("redb"));
    let file = stage.root().join("file");
    let bytes = pattern(5, CHUNK + 300_000);
    std::fs::write(&file, &bytes).expect("writing");
    stage.restart();
    let places = holding(&stage.data().join("chunks"), &bytes[CHUNK..CHUNK + 64]);
    assert_eq!(places.len(), 1);
    std::fs::remove_file(&places[0].0).expect("removing a chunk file");
    assert_eq!(
        errno(std::fs::read(&file)),
        Some(libc::EIO),
        "never zeros in place of missing data"
    );
    let report = fsck(&stage.data(), false);
    assert!(report["damaged"].to_string().contains("suite/file"), "{report}");
}

/// How the program ended before its table was harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
}

/// Harms the table of a stopped and of a killed program on both engines: everything is there after the next start.
/// It is reported when the table was made again. After a kill an engine may save itself from what it finds at its
/// end, the log giving back the rest: then there is nothing to report.
fn rebuilds(reported: &[End], harm: &dyn Fn(&Path)) {
    for engine in ["sled", "redb"] {
        for end in [End::Stopped, End::Killed] {
            let stage = harmed(engine, end, harm);
            let said = std::fs::read_to_string(stage.log()).expect("the log");
            let is_reported = said.contains("the metadata table was rebuilt");
            assert!(is_reported || !reported.contains(&end), "{engine}, {end:?}: not reported");
        }
    }
}

fn harmed(engine: &'static str, end: End, harm: &dyn Fn(&Path)) -> Stage {
    let mut stage = Stage::new("table", Target::BucketFs(engine));
    let bytes =
        |n: u64| pattern(n, if n.is_multiple_of(30) { CHUNK + 5 } else { 400 * n as usize });
    let path = |stage: &Stage, n: u64| stage.root().join(format!("file-{n}"));
    for n in 0..60 {
        std::fs::write(path(&stage, n), bytes(n)).expect("writing");
    }
    if end == End::Killed {
        stage.kill_program();
        stage.detach();
    } else {
        stage.stop();
    }
    harm(&stage.data().join("meta").join(engine));
    stage.start();
    for n in 0..60 {
        let found = std::fs::read(path(&stage, n)).expect("reading");
        assert!(found == bytes(n), "{engine}, {end:?}: file {n} is not what was written");
    }
    stage.check();
    stage
}

/// The largest file of a table.
fn largest(table: &Path) -> PathBuf {
    let files =
        std::fs::read_dir(table).expect("the table").map(|entry| entry.expect("an entry").path());
    let size = |path: &PathBuf| std::fs::metadata(path).map_or(0, |found| found.len());
    files.filter(|path| path.is_file()).max_by_key(size).expect("a file of the table")
}

fn delete(table: &Path) {
    std::fs::remove_dir_all(table).expect("removing the table");
}

fn cut(table: &Path) {
    let path = largest(table);
    let size = std::fs::metadata(&path).expect("its size").len();
    support::sys::truncate(&path, size / 2).expect("cutting it");
}

fn flip_many(table: &Path) {
    let path = largest(table);
    let size = std::fs::metadata(&path).expect("its size").len();
    (0..size).step_by(1031).for_each(|at| flip(&path, at));
}

fn overwrite(table: &Path) {
    let path = largest(table);
    let size = std::fs::metadata(&path).expect("its size").len() as usize;
    std::fs::write(&path, pattern(1, size)).expect("overwriting it");
}

#[test]
fn a_deleted_table_is_built_again() {
    rebuilds(&[End::Stopped, End::Killed], &delete);
}

#[test]
fn a_table_cut_short_is_built_again() {
    rebuilds(&[End::Stopped], &cut);
}

#[test]
fn a_table_of_flipped_bits_is_built_again() {
    rebuilds(&[End::Stopped], &flip_many);
}

#[test]
fn a_table_of_noise_is_built_again() {
    rebuilds(&[End::Stopped], &overwrite);
}
