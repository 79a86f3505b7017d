//! Whoever removes a name says whether the file behind it is open here. The answer is for that file:
//! another one that gets the name in between is not freed under those who have opened it.

use std::pin::pin;
use std::task::Poll;

use super::cluster::{Cluster, Node, RDONLY, RDWR, WHO, run};
use crate::error::Error;
use crate::meta::{Expected, Mutation, Sums};
use crate::replication::Wait;
use crate::types::{BucketName, ByteRange, FileName, Ino, ObjectKey};
use crate::vfs::{Condition, ObjectHeaders, ObjectReader, RenameMode, Uploaded};

fn at() -> (BucketName, ObjectKey) {
    (BucketName::new("bucket").unwrap(), ObjectKey::new("f").unwrap())
}

async fn uploaded(node: &Node, data: &[u8]) -> Uploaded {
    let mut writer = node.vfs.upload(&at().0, &[]);
    writer.write(data).await.unwrap();
    writer.finish().await.unwrap()
}

async fn put(node: &Node, data: &[u8]) -> crate::error::Result<()> {
    let (uploaded, (bucket, key)) = (uploaded(node, data).await, at());
    let headers = ObjectHeaders::default();
    let put = node.vfs.put_object(&WHO, (&bucket, &key), uploaded, &headers, Condition::Always);
    put.await.map(|_| ())
}

async fn get(node: &Node) -> ObjectReader {
    let (bucket, key) = at();
    node.vfs.open_object(&WHO, &bucket, &key).await.unwrap()
}

async fn whole(reader: &ObjectReader) -> Vec<u8> {
    let range = ByteRange::between(0, reader.info.size);
    reader.read(range).await.unwrap().concat()
}

/// Runs until it waits for something.
async fn begin(work: std::pin::Pin<&mut impl Future>) {
    let mut work = work;
    let poll = |context: &mut std::task::Context<'_>| {
        assert!(work.as_mut().poll(context).is_pending());
        Poll::Ready(())
    };
    std::future::poll_fn(poll).await;
}

/// What somebody who has the gate does.
async fn remove(node: &Node, cluster: &Cluster) {
    let (parent, name) = (cluster.bucket, FileName::new(b"f").unwrap());
    let at = node.vfs.clock.now();
    let unlink = Mutation::Unlink { parent, name, held: false, at };
    node.replica.propose(unlink, Wait::Applied, 0).await.unwrap();
}

/// Two PUTs of one key: while the second waits for the first, a GET begins with what the first put.
#[test]
fn a_get_outlives_a_put_that_found_an_older_object() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        put(a, &[1; 100_000]).await.unwrap();
        let old = a.vfs.lookup(cluster.bucket, b"f").unwrap().ino;
        let gate = a.vfs.gates.of(old).write().await;
        let (bucket, key) = at();
        let (data, headers) = (uploaded(a, &[3; 100_000]).await, ObjectHeaders::default());
        let waiting = a.vfs.put_object(&WHO, (&bucket, &key), data, &headers, Condition::Always);
        let mut waiting = pin!(waiting);
        begin(waiting.as_mut()).await;
        remove(a, &cluster).await;
        put(a, &[2; 100_000]).await.unwrap();
        let reader = get(a).await;
        drop(gate);
        waiting.await.unwrap();
        assert!(whole(&reader).await == [2; 100_000]);
        a.drop_reader(reader).await;
        assert!(whole(&get(a).await).await == [3; 100_000]);
    });
}

/// The same of unlink(2), and of a file that is open on a mount.
#[test]
fn a_file_outlives_an_unlink_that_found_an_older_one() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let old = a.create(cluster.bucket, "f", b"old").await;
        let gate = a.vfs.gates.of(old).write().await;
        let mut waiting = pin!(a.vfs.unlink(&WHO, cluster.bucket, b"f"));
        begin(waiting.as_mut()).await;
        remove(a, &cluster).await;
        let new = a.create(cluster.bucket, "f", b"new").await;
        let reader = a.open(new, RDONLY).await.unwrap();
        drop(gate);
        waiting.await.unwrap();
        assert_eq!(a.read_all(reader).await.unwrap(), b"new");
        a.close(reader).await.unwrap();
        cluster.assert_clean().await;
    });
}

/// A PUT that found no object replaces one that came since, and that is being read.
#[test]
fn a_get_outlives_a_put_that_found_nothing() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let path = a.vfs.path_in(cluster.bucket, &at().1);
        let (data, headers) = (uploaded(a, &[2; 100_000]).await, ObjectHeaders::default());
        let named = (None, Sums::default());
        let late = a.vfs.new_object(&WHO, path, &data, named, &headers, Condition::Always);
        let mut late = late.unwrap();
        let (held, gate) = a.vfs.object_removal(&late.path).await.unwrap();
        late.held = held;
        put(a, &[1; 100_000]).await.unwrap();
        let reader = get(a).await;
        let late = Mutation::PutObject(Box::new(late));
        a.vfs.put_gated(&WHO, late, data, gate).await.unwrap();
        assert!(whole(&reader).await == [1; 100_000]);
        a.drop_reader(reader).await;
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0);
    });
}

/// Has something change a key, and hangs up as soon as that has its place in the order of changes. Gives
/// what a GET gets that comes before it is applied.
async fn get_after_hanging_up(
    node: &Node,
    work: impl Future,
) -> crate::error::Result<ObjectReader> {
    let before = node.member.end();
    node.member.hold(true);
    let mut work = Box::pin(work);
    while node.member.end() == before {
        tokio::select! {
            _ = &mut work => panic!("it was not held"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(work);
    let (vfs, (bucket, key)) = (std::sync::Arc::clone(&node.vfs), at());
    let getting = tokio::spawn(async move { vfs.open_object(&WHO, &bucket, &key).await });
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert!(!getting.is_finished(), "a GET begins with what is about to be freed");
    node.member.hold(false);
    getting.await.unwrap()
}

/// A client hangs up, and its request is dropped, while the change it asked for is being made: what comes
/// after it waits for that change all the same.
#[test]
fn a_change_is_seen_to_its_end_without_its_client() {
    run(async {
        let cluster = Cluster::new(1).await;
        let (a, (bucket, f)) = (&cluster.nodes[0], at());
        put(a, &[1; 100_000]).await.unwrap();
        let deletion = a.vfs.delete_object(&WHO, &bucket, &f, Expected::default());
        assert!(matches!(get_after_hanging_up(a, deletion).await, Err(Error::NotFound)));

        put(a, &[2; 100_000]).await.unwrap();
        let (data, headers) = (uploaded(a, &[3; 100_000]).await, ObjectHeaders::default());
        let over = a.vfs.put_object(&WHO, (&bucket, &f), data, &headers, Condition::Always);
        let reader = get_after_hanging_up(a, over).await.unwrap();
        assert!(whole(&reader).await == [3; 100_000]);
        a.drop_reader(reader).await;

        a.create(cluster.bucket, "g", &[4; 100_000]).await;
        let g = ObjectKey::new("g").unwrap();
        let moved = ((&g, Condition::Always), (&f, Condition::Always));
        let renaming = a.vfs.rename_object(&WHO, &bucket, moved.0, moved.1);
        let reader = get_after_hanging_up(a, renaming).await.unwrap();
        assert!(whole(&reader).await == [4; 100_000]);
        a.drop_reader(reader).await;
        a.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0);
    });
}

/// A name does not go to another file by way of rename(2) either while somebody removes it.
#[test]
fn a_name_that_is_being_removed_is_not_moved_away() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let ino = a.create(cluster.bucket, "f", b"old").await;
        let gate = a.vfs.gates.of(ino).write().await;
        let (from, to) = ((cluster.bucket, &b"f"[..]), (cluster.bucket, &b"g"[..]));
        let mut moving = pin!(a.vfs.rename(&WHO, from, to, RenameMode::Replace));
        begin(moving.as_mut()).await;
        let (bucket, (f, g)) = (at().0, (at().1, ObjectKey::new("h").unwrap()));
        let keys = ((&f, Condition::Always), (&g, Condition::Always));
        let mut moving_object = pin!(a.vfs.rename_object(&WHO, &bucket, keys.0, keys.1));
        begin(moving_object.as_mut()).await;
        // Proposed later, applied later.
        a.vfs.symlink(&WHO, cluster.bucket, b"later", b"x").await.unwrap();
        assert_eq!(a.vfs.lookup(cluster.bucket, b"f").unwrap().ino, ino);
        drop(gate);
        let moved = (moving.await, moving_object.await);
        assert!(matches!(moved, (Ok(()), Err(Error::NotFound)) | (Err(Error::NotFound), Ok(()))));
        cluster.assert_clean().await;
    });
}

/// A file goes between its creation and the first look at it: who made it has no handle of nothing,
/// and the kernel looks the name up again.
#[test]
fn a_new_file_is_not_freed_under_its_maker() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let superblock = a.replica.table().view().superblock().unwrap().unwrap();
        let next = Ino(superblock.next_ino);
        let gate = a.vfs.gates.of(next).write().await;
        let (vfs, bucket) = (std::sync::Arc::clone(&a.vfs), cluster.bucket);
        let making = tokio::spawn(async move { vfs.create(&WHO, bucket, b"f", 0o644, RDWR).await });
        while a.vfs.lookup(cluster.bucket, b"f").is_err() {
            tokio::task::yield_now().await;
        }
        remove(a, &cluster).await;
        drop(gate);
        assert!(matches!(making.await.unwrap(), Err(Error::Stale)));
        assert!(a.vfs.nodes.get(next).is_none());
        cluster.assert_clean().await;
    });
}

/// A node that knows of a file which is gone forgets it with the last close.
#[test]
fn a_file_that_was_never_committed_and_is_gone_is_forgotten() {
    run(async {
        let cluster = Cluster::alone().await;
        let a = &cluster.nodes[0];
        let made = a.vfs.create(&WHO, cluster.bucket, b"f", 0o644, RDWR).await.unwrap();
        remove(a, &cluster).await;
        a.vfs.release(made.1.handle).await;
        assert!(a.vfs.nodes.get(made.0.ino).is_none());
        cluster.assert_clean().await;
    });
}
