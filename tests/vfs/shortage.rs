//! Too few copies, too little room: what is asked for is done as far as it can be, and nobody is kept from the
//! rest.

use std::sync::Arc;

use bucketfs::error::Error;
use bucketfs::types::{BucketName, Ino};
use bucketfs::vfs::{OpenFlags, Vfs};
use tokio::task::JoinSet;

use super::cluster::{CHUNK, Cluster, PATIENCE, WHO};
use super::copies::{data, put};
use super::store::runtime;

const READ_WRITE: OpenFlags = OpenFlags(libc::O_RDWR);

/// A bucket that requires no quorum is written with one copy, at once, through all its doors; the repair makes the
/// others; and the bucket beside it waits for its quorum as ever.
#[test]
fn a_bucket_may_ask_for_one_copy() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        let (name, vfs) = (BucketName::new("bucket").unwrap(), cluster.vfs(0));
        let strict = vfs.create_bucket(&WHO, &BucketName::new("strict").unwrap()).await.unwrap();
        let info = vfs.set_quorum_required(&WHO, &name, false).await.unwrap();
        assert!(!info.quorum_required);
        for number in [1, 2] {
            cluster.set_down(number, true);
        }
        let all = async {
            cluster.write(0, "file", &data(1)).await.unwrap();
            put(&cluster, 0, "object", &data(2)).await.unwrap();
        };
        tokio::time::timeout(PATIENCE / 2, all).await.expect("it waited for copies");
        let own = vec![cluster.nodes[0].id];
        assert!(cluster.chunks().values().all(|record| record.stored_on == own));
        let flags = OpenFlags(libc::O_RDWR);
        let (_, file) = vfs.create(&WHO, strict.ino, b"file", 0o644, flags).await.unwrap();
        vfs.write(&WHO, file.handle, 0, &data(3)).await.unwrap();
        let refused = vfs.flush(file.handle).await;
        assert!(matches!(refused, Err(Error::NoQuorum(_))), "{refused:?}");
        vfs.release(file.handle).await;
        for number in [1, 2] {
            cluster.set_down(number, false);
        }
        cluster.settle().await;
        cluster.assert_whole();
        cluster.set_down(0, true);
        assert!(cluster.read(1, "file").await.unwrap() == data(1));
        assert!(cluster.read(2, "object").await.unwrap() == data(2));
    });
}

/// What could not be stored is told at one of the next writes, and kept in memory no longer: a writer that never
/// synced took 512 chunks of it before.
#[test]
fn a_writer_hears_of_chunks_that_cannot_be_stored() {
    runtime().block_on(async {
        let cluster = Cluster::new(3).await;
        let vfs = cluster.vfs(0);
        let (_, file) = vfs.create(&WHO, cluster.bucket, b"f", 0o644, READ_WRITE).await.unwrap();
        for number in [1, 2] {
            cluster.set_down(number, true);
        }
        let chunk = vec![7; CHUNK as usize];
        let mut written = 0;
        let failed = loop {
            match vfs.write(&WHO, file.handle, written * CHUNK, &chunk).await {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 100, "nobody was told");
        };
        assert!(matches!(failed, Error::NoQuorum(_)), "{failed:?}");
        // What was on its way is given up where it is.
        let given_up = async {
            while vfs.report().unwrap().buffered_bytes > 0 {
                tokio::time::sleep(PATIENCE / 20).await;
            }
        };
        tokio::time::timeout(PATIENCE * 4, given_up).await.expect("memory is kept");
        for number in [1, 2] {
            cluster.set_down(number, false);
        }
        let _told_once_more = vfs.flush(file.handle).await;
        vfs.write(&WHO, file.handle, 0, &chunk).await.unwrap();
        vfs.flush(file.handle).await.unwrap();
        assert!(vfs.read(file.handle, 0, CHUNK as u32).await.unwrap() == chunk);
        vfs.release(file.handle).await;
    });
}

/// However many wait for a quorum at once, each is refused in time: they took turns of twelve before.
#[test]
fn nobody_queues_for_a_quorum_that_is_not_there() {
    runtime().block_on(async {
        let cluster = Arc::new(Cluster::new(3).await);
        for number in [1, 2] {
            cluster.set_down(number, true);
        }
        let mut puts = JoinSet::new();
        for number in 0..40 {
            let cluster = Arc::clone(&cluster);
            let (name, bytes) = (format!("object-{number}"), vec![1; 20_000]);
            puts.spawn(async move { put(&cluster, 0, &name, &bytes).await });
        }
        let all = tokio::time::timeout(PATIENCE * 5 / 2, puts.join_all()).await;
        let refused = all.expect("they queued");
        assert!(refused.iter().all(|put| matches!(put, Err(Error::NoQuorum(_)))), "{refused:?}");
    });
}

/// A file of one slot in more pieces than are wanted, each a chunk.
async fn in_pieces(vfs: &Arc<Vfs>, bucket: Ino, name: &[u8]) -> u64 {
    let (_, file) = vfs.create(&WHO, bucket, name, 0o644, READ_WRITE).await.unwrap();
    vfs.write(&WHO, file.handle, 0, &[1; 40_000]).await.unwrap();
    vfs.flush(file.handle).await.unwrap();
    for piece in 0..20 {
        vfs.write(&WHO, file.handle, piece * 2000, &[2; 1000]).await.unwrap();
        vfs.flush(file.handle).await.unwrap();
    }
    file.handle
}

/// A slot that cannot be brought together, because a chunk of it is lost, kept whatever was to be freed from being
/// freed, as long as somebody wrote to it.
#[test]
fn a_lost_chunk_keeps_nothing_from_being_freed() {
    runtime().block_on(async {
        let cluster = Cluster::new(1).await;
        let vfs = cluster.vfs(0);
        cluster.write(0, "big", &data(1)).await.unwrap();
        let big: Vec<_> = cluster.chunks().into_keys().collect();
        let handle = in_pieces(vfs, cluster.bucket, b"lossy").await;
        let lost = cluster.chunks().into_keys().find(|id| !big.contains(id)).unwrap();
        cluster.nodes[0].chunks.delete(lost).unwrap();
        vfs.unlink(&WHO, cluster.bucket, b"big").await.unwrap();
        vfs.write(&WHO, handle, 39_000, &[3; 10]).await.unwrap();
        vfs.flush(handle).await.unwrap();
        // The first frees the contents, the second what they had.
        for _ in 0..2 {
            vfs.upkeep_round().await.unwrap();
        }
        let left = big.iter().filter(|id| cluster.nodes[0].chunks.verify(**id).is_ok()).count();
        assert_eq!(left, 0, "chunks of a removed file are still there");
        vfs.release(handle).await;
    });
}
