//! Single promises of the vfs, each with its story.

use bucketfs::error::{Error, Result};
use bucketfs::meta::{RenameMode, XattrMode};
use bucketfs::types::{FileKind, Ino};
use bucketfs::vfs::{Access, AttrChange, Caller, NewNode, OpenFlags, Opened, Vfs};

use super::store::{Store, runtime};

const WHO: Caller = Caller { uid: 1, gid: 2, umask: 0o022, origin: 1, access: Access::Trusted };
const RDWR: OpenFlags = OpenFlags(libc::O_RDWR);

async fn create(store: &Store, name: &str) -> (Ino, u64) {
    let created = store.vfs.create(&WHO, store.bucket, name.as_bytes(), 0o666, RDWR).await;
    let (attr, Opened { handle, .. }) = created.unwrap();
    (attr.ino, handle)
}

async fn close(vfs: &Vfs, handle: u64) -> Result<()> {
    let result = vfs.flush(handle).await;
    vfs.release(handle).await;
    result
}

fn published(store: &Store, ino: Ino) -> bool {
    store.vfs.info(ino).unwrap().published
}

/// `echo x > f` sends OPEN, FLUSH, WRITE, FLUSH, RELEASE: S3 must not see the empty file between.
#[test]
fn an_early_flush_publishes_nothing() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.flush(handle).await.unwrap();
        assert!(!published(&store, ino));
        store.vfs.write(&WHO, handle, 0, b"x").await.unwrap();
        assert!(!published(&store, ino));
        close(&store.vfs, handle).await.unwrap();
        assert!(published(&store, ino));
    });
}

/// `touch f` writes nothing, and is there all the same.
#[test]
fn a_release_publishes_an_empty_file() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        close(&store.vfs, handle).await.unwrap();
        assert!(published(&store, ino));
    });
}

/// O_TRUNC is seen at once on this node; what is committed changes with the commit.
#[test]
fn truncation_on_open_commits_with_the_data() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[7; 100]).await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        let flags = OpenFlags(libc::O_WRONLY | libc::O_TRUNC);
        let opened = store.vfs.open(&WHO, ino, flags).await.unwrap();
        assert_eq!(store.vfs.getattr(ino).unwrap().size, 0);
        assert_eq!(store.vfs.info(ino).unwrap().size, 100);
        store.vfs.write(&WHO, opened.handle, 0, b"new").await.unwrap();
        close(&store.vfs, opened.handle).await.unwrap();
        assert_eq!(store.vfs.info(ino).unwrap().size, 3);
        assert_eq!(store.read_whole("f").await.unwrap(), b"new");
    });
}

/// An unlinked file lives as long as a handle, and nothing of it stays afterwards.
#[test]
fn an_unlinked_file_goes_with_its_last_handle() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[7; 200_000]).await.unwrap();
        store.vfs.fsync(handle).await.unwrap();
        store.vfs.unlink(&WHO, store.bucket, b"f").await.unwrap();
        assert_eq!(store.vfs.getattr(ino).unwrap().nlink, 0);
        assert_eq!(store.vfs.read(handle, 199_999, 10).await.unwrap(), [7]);
        store.vfs.write(&WHO, handle, 5, b"more").await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        assert!(matches!(store.vfs.info(ino), Err(Error::Stale)));
        for _ in 0..3 {
            store.vfs.upkeep_round().await.unwrap();
        }
        assert_eq!(store.chunk_files(), 0, "all chunk files are reaped");
        assert_eq!(store.vfs.report().unwrap().data_bytes, 0);
    });
}

/// > A write that could not be saved is told to every handle, once
///
/// A disk that fails under the data: the writer hears of it on close, each handle once, and the
/// committed bytes are the old ones.
#[test]
fn a_lost_write_is_told_to_every_handle() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, first) = create(&store, "f").await;
        store.vfs.write(&WHO, first, 0, b"old").await.unwrap();
        store.vfs.fsync(first).await.unwrap();
        let second = store.vfs.open(&WHO, ino, RDWR).await.unwrap().handle;
        store.vfs.write(&WHO, first, 0, &[9; 100_000]).await.unwrap();
        store.disk.set_capacity(0);
        assert!(matches!(store.vfs.flush(first).await, Err(Error::NoSpace)));
        assert!(store.vfs.flush(first).await.is_ok(), "told once");
        assert!(matches!(store.vfs.flush(second).await, Err(Error::NoSpace)));
        store.disk.set_capacity(1 << 40);
        assert_eq!(store.vfs.read(second, 0, 100).await.unwrap(), b"old");
        store.vfs.write(&WHO, second, 0, b"new").await.unwrap();
        store.vfs.fsync(second).await.unwrap();
        assert_eq!(store.read_whole("f").await.unwrap(), b"new");
    });
}

/// > A full disk refuses data and nothing else; names can still be removed
///
/// A full disk says so before anything is damaged; removing names goes on, and makes room.
#[test]
fn a_full_disk_refuses_data_and_lets_names_go() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (_, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[7; 200_000]).await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        let statfs = store.vfs.statfs().unwrap();
        assert!(statfs.blocks_available > 0 && statfs.blocks_available < statfs.blocks_free);
        store.disk.set_capacity(64 << 20);
        let made = store.vfs.create(&WHO, store.bucket, b"g", 0o644, RDWR).await;
        assert!(matches!(made, Err(Error::NoSpace)));
        store.vfs.unlink(&WHO, store.bucket, b"f").await.unwrap();
        store.disk.set_capacity(1 << 40);
        create(&store, "g").await;
    });
}

/// A listing continues after the entry of its cookie, whatever came and went.
#[test]
fn cookies_stay_good_while_entries_come_and_go() {
    runtime().block_on(async {
        let store = Store::create().await;
        let node = NewNode { kind: FileKind::Regular, mode: 0o644, rdev: 0 };
        for number in 0..300 {
            let name = format!("{number:04}");
            store.vfs.mknod(&WHO, store.bucket, name.as_bytes(), node).await.unwrap();
        }
        let dir = store.vfs.opendir(WHO.origin, store.bucket).unwrap();
        let (mut cookie, mut names) = (0, Vec::new());
        loop {
            let mut room = 7;
            let before = names.len();
            let page = store.vfs.readdir(dir, cookie, &mut |item| {
                room -= 1;
                if room > 0 {
                    cookie = item.next;
                    names.push(String::from_utf8(item.name.to_vec()).unwrap());
                }
                room > 0
            });
            page.unwrap();
            if names.len() == before {
                break;
            }
            // Remove what was listed, and add names on both sides of the cookie.
            let last = names.last().unwrap().clone();
            if last.len() == 4 {
                store.vfs.unlink(&WHO, store.bucket, last.as_bytes()).await.unwrap();
            }
            let early = format!("!{}", names.len());
            store.vfs.mknod(&WHO, store.bucket, early.as_bytes(), node).await.unwrap();
        }
        assert_eq!(&names[..2], [".", ".."]);
        let numbers: Vec<String> = (0..300).map(|number| format!("{number:04}")).collect();
        assert_eq!(&names[2..], numbers, "each once, in order");
    });
}

/// Pages stay cached exactly while the version is the one this kernel has.
#[test]
fn another_mounts_change_drops_the_cache() {
    runtime().block_on(async {
        let store = Store::create().await;
        let other = Caller { origin: 2, ..WHO };
        let (ino, handle) = create(&store, "f").await;
        store.vfs.remember(1, &store.vfs.getattr(ino).unwrap(), store.vfs.moves());
        store.vfs.remember(2, &store.vfs.getattr(ino).unwrap(), store.vfs.moves());
        store.vfs.write(&WHO, handle, 0, b"one").await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        assert!(!store.vfs.open(&WHO, ino, RDWR).await.unwrap().keep_cache);
        let opened = store.vfs.open(&WHO, ino, RDWR).await.unwrap();
        assert!(opened.keep_cache);
        store.vfs.write(&WHO, opened.handle, 0, b"two").await.unwrap();
        close(&store.vfs, opened.handle).await.unwrap();
        assert!(store.vfs.open(&WHO, ino, RDWR).await.unwrap().keep_cache, "its own write");
        let opened = store.vfs.open(&other, ino, RDWR).await.unwrap();
        store.vfs.write(&other, opened.handle, 0, b"six").await.unwrap();
        close(&store.vfs, opened.handle).await.unwrap();
        assert!(!store.vfs.open(&WHO, ino, RDWR).await.unwrap().keep_cache);
    });
}

/// A directory's default ACL decides instead of the umask.
#[test]
fn default_acls_are_inherited() {
    runtime().block_on(async {
        let store = Store::create().await;
        let entry = |tag: u16, permissions: u16| -> Vec<u8> {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &u32::MAX.to_le_bytes()].concat()
        };
        let acl = [&2u32.to_le_bytes()[..], &entry(1, 7), &entry(4, 7), &entry(32, 0)].concat();
        let name = b"system.posix_acl_default";
        let vfs = &store.vfs;
        vfs.setxattr(&WHO, store.bucket, name, &acl, XattrMode::Any).await.unwrap();
        let directory = NewNode { kind: FileKind::Directory, mode: 0o777, rdev: 0 };
        let made = vfs.mknod(&WHO, store.bucket, b"d", directory).await.unwrap();
        assert_eq!(made.mode.bits(), 0o770);
        assert_eq!(vfs.getxattr(made.ino, name).unwrap(), acl);
        let file = NewNode { kind: FileKind::Regular, mode: 0o666, rdev: 0 };
        assert_eq!(vfs.mknod(&WHO, made.ino, b"f", file).await.unwrap().mode.bits(), 0o660);
    });
}

/// Many small writes into one slot: upkeep brings them together, and the bytes stay what they were.
#[test]
fn crowded_slots_are_compacted() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        let mut wanted = vec![1; 60_000];
        store.vfs.write(&WHO, handle, 0, &wanted).await.unwrap();
        store.vfs.fsync(handle).await.unwrap();
        for at in (0..50).map(|step| step * 1000) {
            wanted[at..at + 10].fill(2);
            store.vfs.write(&WHO, handle, at as u64, &[2; 10]).await.unwrap();
            store.vfs.fsync(handle).await.unwrap();
        }
        assert!(store.vfs.info(ino).unwrap().pieces.len() > 50);
        for _ in 0..3 {
            store.vfs.upkeep_round().await.unwrap();
        }
        assert_eq!(store.vfs.info(ino).unwrap().pieces.len(), 1);
        assert_eq!(store.chunk_files(), 1, "the old chunks are reaped");
        assert_eq!(store.read_whole("f").await.unwrap(), wanted);
    });
}

/// A crowded slot whose bytes cannot be read stays as it is. The chunk it was to become never is, and
/// must not hold back those that came after it.
#[test]
fn a_compaction_that_fails_keeps_nothing_else() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[1; 60_000]).await.unwrap();
        for at in (0..20).map(|step| step * 1000) {
            store.vfs.write(&WHO, handle, at, &[2; 10]).await.unwrap();
            store.vfs.fsync(handle).await.unwrap();
        }
        close(&store.vfs, handle).await.unwrap();
        let id = store.vfs.info(ino).unwrap().pieces[1].chunk.clone();
        store.damage(id.parse().unwrap());
        store.vfs.upkeep_round().await.unwrap();
        assert!(store.vfs.info(ino).unwrap().pieces.len() > 20);
        let before = store.chunk_files();
        let (_, other) = create(&store, "other").await;
        store.vfs.write(&WHO, other, 0, &[3; 200_000]).await.unwrap();
        close(&store.vfs, other).await.unwrap();
        assert_eq!(store.chunk_files(), before + 4);
        store.vfs.unlink(&WHO, store.bucket, b"other").await.unwrap();
        for _ in 0..3 {
            store.vfs.upkeep_round().await.unwrap();
        }
        assert_eq!(store.chunk_files(), before, "chunks nobody needs are kept");
    });
}

/// Thousands of tiny writes with holes between them: more pieces than a slot's record can hold. The
/// slot is written whole instead, and nothing of it is lost.
#[test]
fn a_slot_of_crumbs_is_written_whole() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        let mut wanted = vec![0; 70_000];
        wanted[69_999] = 1;
        store.vfs.write(&WHO, handle, 69_999, &[1]).await.unwrap();
        for number in 0..3000usize {
            let (at, byte) = (number * 7919 % 3000 * 20, number as u8 | 1);
            wanted[at..at + 5].fill(byte);
            store.vfs.write(&WHO, handle, at as u64, &[byte; 5]).await.unwrap();
            // Some commits bring few crumbs, the last brings most of them.
            if number < 600 && number % 60 == 0 {
                store.vfs.fsync(handle).await.unwrap();
            }
        }
        store.vfs.fsync(handle).await.unwrap();
        close(&store.vfs, handle).await.unwrap();
        assert!(store.read_whole("f").await.unwrap() == wanted);
        assert!(store.vfs.info(ino).unwrap().pieces.len() < 300);
        store.assert_consistent();
    });
}

/// A file larger than the layers kept in memory is staged, and swapped in whole.
#[test]
fn a_long_write_is_staged_and_appears_at_once() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        let block = vec![5; 1 << 20];
        for at in 0..40u64 {
            store.vfs.write(&WHO, handle, at << 20, &block).await.unwrap();
        }
        assert_eq!(store.vfs.info(ino).unwrap().size, 0, "nothing is committed yet");
        assert_eq!(store.vfs.read(handle, (3 << 20) + 7, 2).await.unwrap(), [5, 5]);
        close(&store.vfs, handle).await.unwrap();
        assert_eq!(store.vfs.info(ino).unwrap().size, 40 << 20);
        assert_eq!(store.read_whole("f").await.unwrap().len(), 40 << 20);
        store.assert_consistent();
    });
}

/// Rules of the root: buckets only, with S3's names, and they keep them.
#[test]
fn the_root_holds_buckets_only() {
    runtime().block_on(async {
        let store = Store::create().await;
        let vfs = &store.vfs;
        let file = NewNode { kind: FileKind::Regular, mode: 0o644, rdev: 0 };
        let directory = NewNode { kind: FileKind::Directory, mode: 0o755, rdev: 0 };
        let made = vfs.mknod(&WHO, Ino::ROOT, b"file", file).await;
        assert!(matches!(made, Err(Error::NotPermitted(_))));
        assert!(vfs.mknod(&WHO, Ino::ROOT, b"No_Bucket", directory).await.is_err());
        vfs.mknod(&WHO, Ino::ROOT, b"second", directory).await.unwrap();
        let (from, to) = ((Ino::ROOT, &b"second"[..]), (Ino::ROOT, &b"third"[..]));
        let renamed = vfs.rename(&WHO, from, to, RenameMode::Replace).await;
        assert!(matches!(renamed, Err(Error::NotPermitted(_))));
        assert_eq!(vfs.buckets(&WHO).unwrap().len(), 2);
    });
}

/// Sizes: truncation both ways by path, beyond the limit refused.
#[test]
fn truncation_grows_with_zeros() {
    runtime().block_on(async {
        let store = Store::create().await;
        let (ino, handle) = create(&store, "f").await;
        store.vfs.write(&WHO, handle, 0, &[7; 70_000]).await.unwrap();
        let size = |size| AttrChange { size: Some(size), ..AttrChange::default() };
        store.vfs.setattr(&WHO, ino, size(10)).await.unwrap();
        store.vfs.setattr(&WHO, ino, size(70_000)).await.unwrap();
        let mut wanted = vec![0; 70_000];
        wanted[..10].fill(7);
        assert_eq!(store.read_whole("f").await.unwrap(), wanted);
        let huge = store.vfs.setattr(&WHO, ino, size(1 << 50)).await;
        assert!(matches!(huge, Err(Error::FileTooLarge)));
    });
}

/// Opening a file while its name goes: either there is no such file any more, or the handle that
/// was given reads the file's bytes.
#[test]
fn an_open_that_meets_an_unlink_is_a_whole_one() {
    runtime().block_on(async {
        let store = Store::create().await;
        for round in 0..200u64 {
            let (ino, handle) = create(&store, "f").await;
            store.vfs.write(&WHO, handle, 0, b"bytes").await.unwrap();
            close(&store.vfs, handle).await.unwrap();
            let (opener, remover) = (store.vfs.clone(), store.vfs.clone());
            let open = tokio::spawn(async move {
                for _ in 0..round % 10 {
                    tokio::task::yield_now().await;
                }
                match opener.open(&WHO, ino, RDWR).await {
                    Ok(opened) => {
                        let bytes = opener.read(opened.handle, 0, 9).await;
                        opener.release(opened.handle).await;
                        bytes.unwrap()
                    }
                    Err(Error::Stale) => b"bytes".to_vec(),
                    Err(error) => panic!("{error}"),
                }
            });
            let bucket = store.bucket;
            let unlink =
                tokio::spawn(async move { remover.unlink(&WHO, bucket, b"f").await.unwrap() });
            assert_eq!(open.await.unwrap(), b"bytes");
            unlink.await.unwrap();
        }
        // A handle that is closed between the question whether there is one and the unlink's answer
        // leaves the file to upkeep, which a running node rings for each file without a name.
        store.vfs.upkeep_round().await.unwrap();
        assert_eq!(store.vfs.report().unwrap().inodes, 2, "the root and the bucket are left");
    });
}
