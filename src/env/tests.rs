//! What every [`Disk`] does as long as the power is on; real and simulated run the same checks.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::*;

/// Runs the suite in `root`, an empty directory of `disk`.
fn suite(disk: &dyn Disk, root: &Path) {
    for direct in [false, true] {
        files(disk, &fresh(disk, root, "files"), direct);
    }
    aligned_files_end_anywhere(disk, &fresh(disk, root, "ends"));
    names(disk, &fresh(disk, root, "names"));
    directories(disk, &fresh(disk, root, "directories"));
    refusals(disk, &fresh(disk, root, "refusals"));
    removed_files_stay_readable(disk, &fresh(disk, root, "removed"));
}

fn fresh(disk: &dyn Disk, root: &Path, name: &str) -> PathBuf {
    let dir = root.join(name);
    if disk.list(&dir).is_ok() {
        disk.remove_all(&dir).unwrap();
    }
    disk.create_dir_all(&dir).unwrap();
    dir
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.map(|_| ()).unwrap_err().kind()
}

fn listed(disk: &dyn Disk, dir: &Path) -> Vec<(String, bool, u64)> {
    let entries = disk.list(dir).unwrap().into_iter();
    let mut names: Vec<_> = entries.map(|entry| (entry.name, entry.is_dir, entry.len)).collect();
    names.sort();
    names
}

fn files(disk: &dyn Disk, dir: &Path, direct: bool) {
    let path = dir.join("file");
    let file = disk.open(&path, Access::Create, direct).unwrap();
    file.write_at(&AlignedBuf::from(&[7; 8192][..]), 4096).unwrap();
    file.sync().unwrap();
    assert_eq!(file.size().unwrap(), 12_288);
    file.allocate(4096).unwrap();
    assert_eq!(file.size().unwrap(), 12_288, "allocation never shrinks");
    file.allocate(20_480).unwrap();
    assert_eq!(file.size().unwrap(), 20_480);
    file.set_len(16_384).unwrap();
    file.sync().unwrap();

    let again = disk.open(&path, Access::Read, direct).unwrap();
    assert_eq!(again.is_direct(), file.is_direct());
    let mut back = AlignedBuf::zeroed(32_768);
    back.fill(9);
    assert_eq!(again.read_at(&mut back, 0).unwrap(), 16_384);
    assert!(back[..4096].iter().all(|&byte| byte == 0));
    assert!(back[4096..12_288].iter().all(|&byte| byte == 7));
    assert!(back[12_288..16_384].iter().all(|&byte| byte == 0));
    assert_eq!(again.read_at(&mut back, 16_384).unwrap(), 0);
    assert_eq!(again.read_at(&mut back, 1 << 40).unwrap(), 0);

    // What a shorter file had beyond its end does not come back.
    file.set_len(4096).unwrap();
    file.set_len(12_288).unwrap();
    assert_eq!(again.read_at(&mut back, 4096).unwrap(), 8192);
    assert!(back[..8192].iter().all(|&byte| byte == 0));
    let refused = again.write_at(&AlignedBuf::zeroed(4096), 0).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
}

fn aligned_files_end_anywhere(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    disk.open(&path, Access::Create, false).unwrap().write_at(&[5; 5000], 0).unwrap();
    let file = disk.open(&path, Access::Write, true).unwrap();
    let mut back = AlignedBuf::zeroed(8192);
    for (offset, len) in [(0, 5000), (4096, 904)] {
        assert_eq!(file.read_at(&mut back, offset).unwrap(), len);
        assert!(back[..len].iter().all(|&byte| byte == 5));
    }
}

fn names(disk: &dyn Disk, dir: &Path) {
    let [a, b] = [dir.join("a"), dir.join("b")];
    disk.open(&a, Access::Create, false).unwrap().write_at(b"a", 0).unwrap();
    disk.open(&b, Access::Create, false).unwrap().write_at(b"bb", 0).unwrap();
    assert_eq!(kind(disk.open(&a, Access::Create, true)), ErrorKind::AlreadyExists);
    disk.sync_dir(dir).unwrap();
    disk.rename(&a, &b).unwrap();
    assert_eq!(listed(disk, dir), [("b".into(), false, 1)]);
    disk.rename(&b, &b).unwrap();
    disk.remove(&b).unwrap();
    assert_eq!(listed(disk, dir), []);
    disk.sync_dir(dir).unwrap();
}

fn directories(disk: &dyn Disk, dir: &Path) {
    let deep = dir.join("x/y/z");
    disk.create_dir_all(&deep).unwrap();
    disk.create_dir_all(&deep).unwrap();
    let file = deep.join("file");
    disk.open(&file, Access::Create, true).unwrap();
    assert_eq!(kind(disk.remove_dir(&deep)), ErrorKind::DirectoryNotEmpty);
    disk.rename(&file, &dir.join("file")).unwrap();
    disk.remove_dir(&deep).unwrap();
    assert_eq!(listed(disk, &dir.join("x/y")), []);
    disk.rename(&dir.join("x"), &dir.join("w")).unwrap();
    assert_eq!(listed(disk, dir), [("file".into(), false, 0), ("w".into(), true, 0)]);
    disk.remove_all(&dir.join("w")).unwrap();
    assert_eq!(kind(disk.list(&dir.join("w"))), ErrorKind::NotFound);
}

fn refusals(disk: &dyn Disk, dir: &Path) {
    let none = dir.join("none");
    disk.open(&dir.join("file"), Access::Create, false).unwrap();
    disk.create_dir_all(&dir.join("dir")).unwrap();
    for access in [Access::Read, Access::Write] {
        assert_eq!(kind(disk.open(&none, access, true)), ErrorKind::NotFound);
    }
    assert_eq!(kind(disk.open(&none.join("x"), Access::Create, true)), ErrorKind::NotFound);
    assert_eq!(kind(disk.rename(&none, &dir.join("x"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_dir(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove_all(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.list(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.sync_dir(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.space(&none)), ErrorKind::NotFound);
    assert_eq!(kind(disk.remove(&dir.join("dir"))), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.rename(&dir.join("file"), &dir.join("dir"))), ErrorKind::IsADirectory);
    assert_eq!(kind(disk.remove_dir(&dir.join("file"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.list(&dir.join("file"))), ErrorKind::NotADirectory);
    assert_eq!(kind(disk.create_dir_all(&dir.join("file/x"))), ErrorKind::NotADirectory);
    assert!(disk.space(dir).unwrap().available > 0);
}

fn removed_files_stay_readable(disk: &dyn Disk, dir: &Path) {
    let path = dir.join("file");
    let file = disk.open(&path, Access::Create, false).unwrap();
    file.write_at(b"still here", 0).unwrap();
    disk.remove(&path).unwrap();
    disk.open(&path, Access::Create, false).unwrap().write_at(b"another", 0).unwrap();
    let mut back = [0; 10];
    assert_eq!(file.read_at(&mut back, 0).unwrap(), 10);
    assert_eq!(&back, b"still here");
}

#[test]
fn the_real_disk_passes() {
    let dir = tempfile::tempdir().unwrap();
    suite(&RealDisk::new(), dir.path());
}

#[test]
fn the_simulated_disk_passes() {
    suite(&SimDisk::new(), Path::new("/"));
    suite(&SimDisk::buffered(), Path::new("."));
    // A crash with all synced leaves a disk that works.
    suite(&SimDisk::new().crash(1), Path::new("/"));
}

/// A power cut between any two steps of "write, sync, name, sync the directory" leaves the old
/// file or the new one; and all kinds of outcome happen where the contract leaves a choice.
#[test]
fn a_power_cut_keeps_what_was_synced_and_nothing_for_sure_besides() {
    let write = |disk: &SimDisk| -> std::io::Result<()> {
        let file = disk.open(Path::new("/d/new"), Access::Create, true)?;
        file.write_at(&AlignedBuf::from(&[2; 8192][..]), 0)?;
        file.sync()?;
        disk.rename(Path::new("/d/new"), Path::new("/d/file"))?;
        disk.sync_dir(Path::new("/d"))
    };
    let mut outcomes = std::collections::BTreeSet::new();
    for (syncs, seed) in (0..3).flat_map(|syncs| (0..100).map(move |seed| (syncs, seed))) {
        let disk = with_synced_file();
        disk.stop_after_syncs(syncs);
        let done = write(&disk).is_ok();
        assert_eq!(done, syncs == 2);
        let after = disk.crash(seed);
        assert_eq!(kind(disk.list(Path::new("/d"))), broken_kind(), "the old machine is dead");
        let file = after.open(Path::new("/d/file"), Access::Read, false).unwrap();
        let mut back = [0; 8192];
        let len = file.read_at(&mut back, 0).unwrap();
        let (old, new) = ((len, back[0]) == (4096, 1), (len, back[0]) == (8192, 2));
        assert!(new || old && !done, "{len} bytes of {}", back[0]);
        outcomes.insert((syncs, new, listed(&after, Path::new("/d")).len()));
    }
    let all =
        [(0, false, 1), (0, false, 2), (1, false, 1), (1, false, 2), (1, true, 1), (2, true, 1)];
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), all);
}

fn with_synced_file() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    let file = disk.open(Path::new("/d/file"), Access::Create, true).unwrap();
    file.write_at(&AlignedBuf::from(&[1; 4096][..]), 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn broken_kind() -> ErrorKind {
    std::io::Error::from_raw_os_error(libc::EIO).kind()
}

#[test]
fn killing_the_process_loses_nothing_and_syncs_nothing() {
    let disk = with_synced_file();
    let file = disk.open(Path::new("/d/file"), Access::Write, true).unwrap();
    file.write_at(&AlignedBuf::from(&[2; 4096][..]), 0).unwrap();
    let after = disk.kill();
    assert!(file.sync().is_err());
    let read = |disk: &SimDisk| {
        let mut back = [0; 4096];
        let file = disk.open(Path::new("/d/file"), Access::Read, false).unwrap();
        file.read_at(&mut back, 0).unwrap();
        back
    };
    assert_eq!(read(&after), [2; 4096]);
    let cut = (0..50).map(|seed| read(&after.kill().crash(seed))[0]);
    assert_eq!(cut.collect::<std::collections::HashSet<_>>(), [1, 2].into());
}

#[test]
fn a_full_disk_refuses_growth_and_takes_back_what_is_freed() {
    let disk = with_synced_file();
    disk.set_capacity(12_288);
    let [file, other] = ["/d/file", "/d/other"].map(Path::new);
    let second = disk.open(other, Access::Create, true).unwrap();
    second.allocate(8192).unwrap();
    assert_eq!(disk.space(other.parent().unwrap()).unwrap().available, 0);
    let page = AlignedBuf::zeroed(8192);
    assert_eq!(kind(second.write_at(&page, 4096)), ErrorKind::StorageFull);
    assert_eq!(kind(second.allocate(12_288)), ErrorKind::StorageFull);
    second.write_at(&page, 0).unwrap();
    disk.remove(file).unwrap();
    second.write_at(&page, 4096).unwrap();
    second.set_len(4096).unwrap();
    disk.open(file, Access::Create, true).unwrap().allocate(8192).unwrap();
    assert_eq!(disk.crash(3).space(Path::new("/")).unwrap().total, 12_288);
}

#[test]
fn faults_come_when_they_are_due() {
    let disk = with_synced_file();
    let file = disk.open(Path::new("/d/file"), Access::Write, true).unwrap();
    disk.fail_call(2);
    file.size().unwrap();
    assert!(file.size().is_err());
    file.size().unwrap();

    let page = AlignedBuf::from(&[2; 4096][..]);
    disk.fail_write(1);
    file.size().unwrap();
    assert!(file.write_at(&page, 0).is_err());

    // A failed sync is final: the bytes are in the cache, and a later sync says nothing about them.
    file.write_at(&page, 0).unwrap();
    disk.fail_sync(1);
    assert!(file.sync().is_err());
    file.sync().unwrap();
    let mut page = AlignedBuf::zeroed(4096);
    file.read_at(&mut page, 0).unwrap();
    assert_eq!(page[0], 2);
    disk.flip_bit(Path::new("/d/file"), 8).unwrap();
    assert!(disk.flip_bit(Path::new("/d/file"), 4096 * 8).is_err());
    let after = disk.crash(0);
    after.open(Path::new("/d/file"), Access::Read, true).unwrap().read_at(&mut page, 0).unwrap();
    assert_eq!(page[..3], [1, 0, 1]);
    assert_eq!(disk.syncs(), 5);
}

/// As with a file's bytes: a later sync says nothing about what an earlier one failed to sync.
#[test]
fn names_whose_sync_failed_are_gone_after_a_power_cut() {
    for seed in 0..20 {
        let disk = with_synced_file();
        let dir = Path::new("/d");
        disk.open(&dir.join("new"), Access::Create, false).unwrap();
        disk.fail_sync(1);
        assert_eq!(kind(disk.sync_dir(dir)), broken_kind());
        disk.sync_dir(dir).unwrap();
        assert_eq!(listed(&disk, dir).len(), 2);
        let after = disk.crash(seed);
        assert_eq!(listed(&after, dir), [("file".into(), false, 4096)], "seed {seed}");
    }
}

#[test]
fn direct_files_insist_on_alignment() {
    let disk = with_synced_file();
    let file = disk.open(Path::new("/d/file"), Access::Write, true).unwrap();
    let mut buffer = AlignedBuf::zeroed(8192);
    assert_eq!(kind(file.write_at(&buffer[..4000], 0)), ErrorKind::InvalidInput);
    assert_eq!(kind(file.write_at(&buffer[..4096], 512)), ErrorKind::InvalidInput);
    assert_eq!(kind(file.read_at(&mut buffer[1..4097], 0)), ErrorKind::InvalidInput);
    let buffered = disk.open(Path::new("/d/file"), Access::Write, false).unwrap();
    buffered.write_at(&buffer[1..6], 77).unwrap();
}
