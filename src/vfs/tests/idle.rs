//! Bytes that wait in memory for a close that does not come.

use std::time::Duration;

use super::cluster::{CHUNK_SIZE, Cluster, RDWR, WHO, run};

/// A file that stays open with uncommitted bytes holds the chunk mark of its session for as long: the
/// chunks that others of the session have freed meanwhile go all the same, and its own do not.
#[test]
fn an_open_file_keeps_no_other_chunks() {
    run(async {
        let cluster = Cluster::new(2).await;
        let vfs = cluster.vfs(0);
        let made = vfs.create(&WHO, cluster.bucket, b"open", 0o644, RDWR).await;
        let open = made.unwrap().1.handle;
        vfs.write(&WHO, open, 0, &[7; 50_000]).await.unwrap();
        vfs.seal_idle(Duration::ZERO);
        while vfs.sealer.budget.used() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cluster.chunk_files(), 1);
        for round in 0..2 {
            cluster.nodes[0].create(cluster.bucket, "gone", &[round; 60_000]).await;
            vfs.unlink(&WHO, cluster.bucket, b"gone").await.unwrap();
            assert_eq!(cluster.chunk_files(), 2);
            // The other node has no word in it, and proposes nothing in vain.
            cluster.upkeep().await;
            assert_eq!(cluster.chunk_files(), 1, "only the open file's is left");
            let proposed = cluster.nodes[1].member.end();
            cluster.upkeep().await;
            assert_eq!(cluster.nodes[1].member.end(), proposed, "nothing was left to be done");
        }
        vfs.fsync(open).await.unwrap();
        vfs.release(open).await;
        let read = cluster.nodes[1].read_whole(cluster.bucket, "open").await.unwrap();
        assert!(read == [7; 50_000]);
        vfs.unlink(&WHO, cluster.bucket, b"open").await.unwrap();
        cluster.upkeep().await;
        assert_eq!(cluster.chunk_files(), 0);
        cluster.assert_clean().await;
    });
}

/// Above the mark of a session its own node alone frees chunks, be it the leader or not; who leads
/// leaves them to it and does not ask for them again and again.
#[test]
fn each_node_frees_its_own_chunks_above_its_mark() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [owner, leader] = &cluster.nodes[..] else { panic!() };
        let made = owner.vfs.create(&WHO, cluster.bucket, b"open", 0o644, RDWR).await;
        let open = made.unwrap().1.handle;
        owner.vfs.write(&WHO, open, 0, &[7; 50_000]).await.unwrap();
        owner.vfs.seal_idle(Duration::ZERO);
        let ino = owner.create(cluster.bucket, "f", &[1; 60_000]).await;
        let handle = owner.open(ino, RDWR).await.unwrap();
        owner.vfs.write(&WHO, handle, 0, &[2; 60_000]).await.unwrap();
        owner.close(handle).await.unwrap();
        cluster.level().await;
        assert_eq!(cluster.chunk_files(), 3, "open, and f before and after");
        let before = owner.member.end();
        leader.vfs.reap_garbage(true).await.unwrap();
        assert_eq!(owner.member.end(), before, "the leader asked for what is not its own");
        owner.vfs.reap_garbage(false).await.unwrap();
        assert_eq!(owner.member.end(), before + 1);
        owner.vfs.reap_garbage(false).await.unwrap();
        assert_eq!(owner.member.end(), before + 1, "it asked again for what is gone or open");
        cluster.upkeep().await;
        assert_eq!(cluster.chunk_files(), 2);
        // Below the mark it is the leader's, whose ever it was.
        owner.close(open).await.unwrap();
        owner.vfs.unlink(&WHO, cluster.bucket, b"f").await.unwrap();
        owner.create(cluster.bucket, "later", b"brings the mark along").await;
        cluster.upkeep().await;
        let handle = owner.open(owner.lookup(cluster.bucket, "open").await.unwrap().ino, RDWR);
        let handle = handle.await.unwrap();
        owner.vfs.write(&WHO, handle, 0, &[3; 50_000]).await.unwrap();
        owner.close(handle).await.unwrap();
        owner.create(cluster.bucket, "later still", b"again").await;
        cluster.level().await;
        let before = owner.member.end();
        owner.vfs.reap_garbage(false).await.unwrap();
        assert_eq!(owner.member.end(), before, "a follower asked for what the leader sees to");
        leader.vfs.reap_garbage(true).await.unwrap();
        assert_eq!(owner.member.end(), before + 1);
        cluster.assert_clean().await;
        assert_eq!(cluster.chunk_files(), 1);
    });
}

/// What is left alone goes to the disk before anybody asks for it; a few bytes stay, and so does
/// what is being written.
#[test]
fn what_is_left_alone_is_sealed() {
    run(async {
        let cluster = Cluster::new(1).await;
        let vfs = cluster.vfs(0);
        let half = vec![7; CHUNK_SIZE as usize / 2];
        let mut handles = Vec::new();
        for (name, len) in [("large", half.len()), ("small", 100)] {
            let made = vfs.create(&WHO, cluster.bucket, name.as_bytes(), 0o644, RDWR).await;
            let handle = made.unwrap().1.handle;
            vfs.write(&WHO, handle, 0, &half[..len]).await.unwrap();
            handles.push(handle);
        }
        vfs.seal_idle(Duration::from_secs(3600));
        assert_eq!(cluster.chunk_files(), 0, "written just now");
        vfs.seal_idle(Duration::ZERO);
        while vfs.sealer.budget.used() > 100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cluster.chunk_files(), 1, "the small one waits for its commit");
        vfs.write(&WHO, handles[0], 10, b"more").await.unwrap();
        for handle in handles {
            vfs.fsync(handle).await.unwrap();
            assert_eq!(vfs.read(handle, 0, 10).await.unwrap(), [7; 10]);
            vfs.release(handle).await;
        }
        assert_eq!(
            cluster.nodes[0].read_whole(cluster.bucket, "large").await.unwrap().len(),
            half.len()
        );
    });
}
