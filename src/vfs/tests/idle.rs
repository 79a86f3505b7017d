//! Bytes that wait in memory for a close that does not come.

use std::time::Duration;

use super::cluster::{CHUNK_SIZE, Cluster, RDWR, WHO, run};

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
