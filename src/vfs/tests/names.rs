//! Names that another node has taken from a file, as a kernel sees it that opens by number.

use super::cluster::{Cluster, RDWR, WHO, run};
use crate::error::Error;
use crate::types::Ino;
use crate::vfs::{Caller, RenameMode};

/// Found under a name by a table that was behind, opened by its number, written, and another file's bytes are gone.
#[test]
fn a_name_that_went_elsewhere_is_not_followed() {
    run(async {
        let cluster = Cluster::new(2).await;
        let [a, b] = &cluster.nodes[..] else { panic!() };
        let mount = Caller { origin: 7, ..WHO };
        let bucket = cluster.bucket;
        let ino = a.create(bucket, "f", b"one").await;
        cluster.level().await;
        let look_up = |name: &[u8]| -> Result<Ino, Error> {
            let moves = b.vfs.moves();
            let found = b.vfs.lookup(bucket, name)?;
            b.vfs.remember(mount.origin, &found, moves);
            Ok(found.ino)
        };
        let opened = async || match b.vfs.open(&mount, ino, RDWR).await {
            Ok(opened) => b.close(opened.handle).await.map(|()| true),
            Err(Error::Stale) => Ok(false),
            Err(error) => Err(error),
        };
        let renamed = async |from: &[u8], to: &[u8]| {
            a.vfs.rename(&WHO, (bucket, from), (bucket, to), RenameMode::Replace).await.unwrap();
        };
        // Before this node has heard of it, and after.
        for has_heard in [false, true] {
            assert_eq!(look_up(b"f").unwrap(), ino);
            assert!(opened().await.unwrap());
            renamed(b"f", b"g").await;
            if has_heard {
                cluster.level().await;
            }
            assert!(!opened().await.unwrap(), "heard: {has_heard}");
            assert!(matches!(look_up(b"f"), Err(Error::NotFound)));
            assert_eq!(look_up(b"g").unwrap(), ino);
            assert!(opened().await.unwrap() && opened().await.unwrap());
            renamed(b"g", b"f").await;
            cluster.level().await;
            assert!(!opened().await.unwrap());
            assert!(opened().await.unwrap(), "who asks twice means this file");
        }
        // What a kernel has renamed itself it knows.
        b.vfs.rename(&mount, (bucket, b"f"), (bucket, b"h"), RenameMode::Replace).await.unwrap();
        assert!(opened().await.unwrap());
        // One of several names goes.
        b.vfs.link(&mount, ino, bucket, b"second").await.unwrap();
        assert_eq!(look_up(b"second").unwrap(), ino);
        a.vfs.barrier().await.unwrap();
        a.vfs.unlink(&WHO, bucket, b"second").await.unwrap();
        assert!(!opened().await.unwrap());
    });
}
