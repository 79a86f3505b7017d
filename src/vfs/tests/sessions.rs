//! A node that was cut off so long that the others have ended its session: what it had not saved is
//! lost and every handle is told so; everything else goes on.

use std::sync::Arc;

use parking_lot::Mutex;

use super::cluster::{Cluster, Node, RDONLY, RDWR, WHO, run};
use crate::error::Error;
use crate::meta::Change;
use crate::types::{BucketName, ObjectKey};
use crate::vfs::{Condition, ObjectHeaders};

/// The others give the node up, and it comes back.
pub(super) async fn give_up(cluster: &Cluster, at: usize) {
    let node = &cluster.nodes[at];
    let before = node.replica.session();
    node.member.cut(true);
    let other = &cluster.nodes[usize::from(at == 0)];
    other.replica.end_session_of(node.replica.node()).await.unwrap();
    node.member.cut(false);
    cluster.level().await;
    while node.replica.session() == before {
        tokio::task::yield_now().await;
    }
    cluster.level().await;
}

fn bucket() -> BucketName {
    BucketName::new("bucket").unwrap()
}

async fn object(node: &Node, data: &[u8]) -> crate::error::Result<()> {
    let (bucket, key) = (bucket(), ObjectKey::new("k").unwrap());
    let mut writer = node.vfs.upload(&bucket, &[]);
    writer.write(data).await?;
    let uploaded = writer.finish().await?;
    let headers = ObjectHeaders::default();
    let put = node.vfs.put_object(&WHO, (&bucket, &key), uploaded, &headers, Condition::Always);
    put.await.map(|_| ())
}

#[test]
fn what_was_not_saved_is_lost_and_everybody_is_told() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let (small, big) = (vec![1; 100], vec![2; 200_000]);
        let ino = a.create(cluster.bucket, "small", &small).await;
        let large = a.create(cluster.bucket, "big", &big).await;
        cluster.level().await;
        let writer = b.open(ino, RDWR).await.unwrap();
        let second = b.open(ino, RDWR).await.unwrap();
        let large_writer = b.open(large, RDWR).await.unwrap();
        let reader = b.open(large, RDONLY).await.unwrap();
        b.vfs.write(&WHO, writer, 0, b"never").await.unwrap();
        b.vfs.write(&WHO, large_writer, 0, &[9; 150_000]).await.unwrap();
        give_up(&cluster, 1).await;
        assert!(matches!(b.vfs.fsync(writer).await, Err(Error::NoQuorum(_))));
        assert!(b.vfs.fsync(writer).await.is_ok(), "told once");
        assert!(matches!(b.close(second).await, Err(Error::NoQuorum(_))));
        let told = b.vfs.write(&WHO, large_writer, 0, b"x").await;
        assert!(matches!(told, Err(Error::NoQuorum(_))));
        // What is committed is there, and reads go on.
        assert_eq!(b.read_all(reader).await.unwrap(), big);
        assert_eq!(b.vfs.read(writer, 0, 10).await.unwrap(), [1; 10]);
        // The mount stays usable, through handles that are open too.
        b.vfs.write(&WHO, writer, 0, b"again").await.unwrap();
        b.vfs.write(&WHO, large_writer, 100_000, &[7; 100_000]).await.unwrap();
        for handle in [writer, large_writer, reader] {
            let closed = b.close(handle).await;
            // The reader has not heard of the loss yet.
            assert_eq!(closed.is_err(), handle == reader, "{closed:?}");
        }
        assert_eq!(a.read_whole(cluster.bucket, "small").await.unwrap()[..5], *b"again");
        let seen = a.read_whole(cluster.bucket, "big").await.unwrap();
        assert!(seen[..100_000] == big[..100_000] && seen[100_000..] == [7; 100_000]);
        for name in ["small", "big"] {
            a.vfs.unlink(&WHO, cluster.bucket, name.as_bytes()).await.unwrap();
        }
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 0, "the lost chunks are collected");
    });
}

/// A file that was being made is published, as the last node to know of it left it.
#[test]
fn a_file_in_the_making_is_published_without_what_was_lost() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let made = b.vfs.create(&WHO, cluster.bucket, b"new", 0o644, RDWR).await.unwrap();
        let (ino, handle) = (made.0.ino, made.1.handle);
        b.vfs.write(&WHO, handle, 0, b"lost").await.unwrap();
        cluster.level().await;
        assert!(!a.vfs.info(ino).unwrap().published);
        give_up(&cluster, 1).await;
        assert!(a.vfs.info(ino).unwrap().published);
        assert!(b.close(handle).await.is_err());
        assert_eq!(a.read_whole(cluster.bucket, "new").await.unwrap(), b"");
        cluster.assert_clean().await;
    });
}

#[test]
fn an_upload_that_spans_the_loss_fails_cleanly() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        object(a, &[1; 300_000]).await.unwrap();
        let mut writer = b.vfs.upload(&bucket(), &[]);
        writer.write(&[2; 200_000]).await.unwrap();
        let mut other = b.vfs.upload(&bucket(), &[]);
        other.write(&[3; 200_000]).await.unwrap();
        let finished = other.finish().await.unwrap();
        give_up(&cluster, 1).await;
        writer.write(&[2; 200_000]).await.unwrap();
        assert!(matches!(writer.finish().await, Err(Error::NoQuorum(_))));
        let (bucket, key) = (BucketName::new("bucket").unwrap(), ObjectKey::new("k").unwrap());
        let at = (&bucket, &key);
        let headers = ObjectHeaders::default();
        let put = b.vfs.put_object(&WHO, at, finished, &headers, Condition::Always).await;
        assert!(matches!(put, Err(Error::NoQuorum(_))), "{put:?}");
        assert_eq!(a.read_whole(cluster.bucket, "k").await.unwrap(), [1; 300_000]);
        object(b, &[4; 100_000]).await.unwrap();
        assert_eq!(a.read_whole(cluster.bucket, "k").await.unwrap(), [4; 100_000]);
        a.vfs.unlink(&WHO, cluster.bucket, b"k").await.unwrap();
        for _ in 0..100 {
            cluster.upkeep().await;
            if cluster.chunk_files() == 0 {
                return cluster.assert_clean().await;
            }
        }
        panic!("{} chunk files are left", cluster.chunk_files());
    });
}

/// Whoever gives an upload up while no quorum answers has it cleared away as soon as one does.
#[test]
fn what_is_given_up_in_an_outage_goes_after_it() {
    run(async {
        let cluster = Cluster::new(2).await;
        let b = &cluster.nodes[1];
        let mut writer = b.vfs.upload(&bucket(), &[]);
        writer.write(&[1; 200_000]).await.unwrap();
        let staged = writer.finish().await.unwrap();
        let mut begun = b.vfs.upload(&bucket(), &[]);
        begun.write(&[2; 200_000]).await.unwrap();
        b.member.cut(true);
        drop(begun);
        // Its chunks are given up in the background.
        while b.vfs.upkeep_round().await.is_ok() {
            tokio::task::yield_now().await;
        }
        drop(staged);
        assert!(matches!(b.vfs.upkeep_round().await, Err(Error::NoQuorum(_))));
        b.member.cut(false);
        for _ in 0..100 {
            cluster.upkeep().await;
            if cluster.chunk_files() == 0 {
                return cluster.assert_clean().await;
            }
        }
        panic!("{} chunk files are left", cluster.chunk_files());
    });
}

#[test]
fn a_node_that_is_given_up_again_and_again_goes_on() {
    run(async {
        let cluster = Cluster::new(3).await;
        for round in 0..5u8 {
            let at = usize::from(round) % 3;
            give_up(&cluster, at).await;
            let name = format!("f{round}");
            cluster.nodes[at].create(cluster.bucket, &name, &[round; 70_000]).await;
            for node in &cluster.nodes {
                let seen = node.read_whole(cluster.bucket, &name).await.unwrap();
                assert_eq!(seen, [round; 70_000]);
            }
        }
        let sessions = cluster.nodes[0].replica.table().view().sessions().unwrap();
        assert_eq!(sessions.len(), 3, "{sessions:?}");
        cluster.assert_clean().await;
    });
}

/// The kernel still has the pages of what was lost: they are not those of the version there is.
#[test]
fn no_kernel_keeps_pages_of_what_was_lost() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let ino = a.create(cluster.bucket, "f", b"saved").await;
        cluster.level().await;
        b.vfs.remember(WHO.origin, &b.vfs.getattr(ino).unwrap(), b.vfs.moves());
        let moved = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&moved);
        b.vfs.hub.subscribe(Box::new(move |change, origin| {
            if let Change::Moved(ino) = change {
                sink.lock().push((*ino, origin));
            }
        }));
        let keeps = async || {
            let opened = b.vfs.open(&WHO, ino, RDONLY).await.unwrap();
            b.close(opened.handle).await.unwrap();
            opened.keep_cache
        };
        assert!(!keeps().await && keeps().await);
        let writer = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, writer, 0, b"never").await.unwrap();
        give_up(&cluster, 1).await;
        assert!(b.close(writer).await.is_err());
        assert_eq!(*moved.lock(), [(ino, 0)], "pages of who has it open go, too");
        assert!(!keeps().await);
        assert_eq!(b.read_whole(cluster.bucket, "f").await.unwrap(), b"saved");
    });
}

/// A program was killed before it closed, and its bytes were lost. A GET that went on meanwhile is
/// nobody who could be told: the next handle is.
#[test]
fn a_loss_is_not_told_to_a_get() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        object(a, &[1; 100]).await.unwrap();
        cluster.level().await;
        let (bucket, key) = (BucketName::new("bucket").unwrap(), ObjectKey::new("k").unwrap());
        let reader = b.vfs.open_object(&WHO, &bucket, &key).await.unwrap();
        let ino = reader.info.ino;
        let writer = b.open(ino, RDWR).await.unwrap();
        b.vfs.write(&WHO, writer, 0, b"never").await.unwrap();
        b.vfs.release(writer).await;
        give_up(&cluster, 1).await;
        b.vfs.upkeep_round().await.unwrap();
        let next = b.open(ino, RDWR).await.unwrap();
        assert!(matches!(b.close(next).await, Err(Error::NoQuorum(_))));
        b.drop_reader(reader).await;
        cluster.assert_clean().await;
    });
}
