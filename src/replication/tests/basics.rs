//! A store that is made, used, left in order or not, and opened again.

use std::sync::Arc;

use super::*;
use crate::env::RealDisk;
use crate::error::Error;

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk::new())
}

/// > mkdir, rename, unlink are ordered and whole; after any kind of stop all or nothing of each is
/// > there
#[tokio::test]
async fn what_was_proposed_is_there_after_every_kind_of_stop() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), engine);
        init(&options, &real()).await.unwrap();

        let replica = open(&options, &real()).await.unwrap();
        assert_eq!(replica.status().rebuilt, None);
        make_bucket(&replica, "first", Wait::Applied).await;
        make_bucket(&replica, "second", Wait::Durable).await;
        let refused = replica.propose(bucket("first"), Wait::Applied, 0).await;
        assert!(matches!(refused, Err(Error::AlreadyExists)), "{refused:?}");
        let session = replica.session();
        replica.close().await.unwrap();
        drop(replica);

        let replica = open(&options, &real()).await.unwrap();
        assert_eq!(replica.status().rebuilt, None);
        assert!(replica.session() > session);
        assert_eq!(buckets(&replica), ["first", "second"]);
        make_bucket(&replica, "third", Wait::Applied).await;
        drop(replica);

        let replica = open(&options, &real()).await.unwrap();
        assert_eq!(replica.status().rebuilt, None);
        assert_eq!(buckets(&replica), ["first", "second", "third"]);
        replica.sync().await.unwrap();
        drop(replica);

        let options = Options { boot_id: "boot-2".into(), ..options };
        let replica = open(&options, &real()).await.unwrap();
        assert_eq!(replica.status().rebuilt.is_some(), engine == EngineKind::Sled);
        assert_eq!(buckets(&replica), ["first", "second", "third"]);
        make_bucket(&replica, "fourth", Wait::Durable).await;
        replica.close().await.unwrap();
    }
}
