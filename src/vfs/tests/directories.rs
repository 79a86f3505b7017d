//! Listings whose reader takes less than it is sent, while names come and go.

use super::cluster::{Cluster, WHO, run};
use crate::vfs::Vfs;

/// What a caller takes: up to `count` names after a cookie, of a reply that goes on. Returns the last one's cookie.
fn take(vfs: &Vfs, dir: u64, cookie: u64, count: usize, names: &mut Vec<String>) -> u64 {
    let (mut left, mut at) = (count, cookie);
    vfs.readdir(dir, cookie, &mut |item| {
        if left > 0 {
            left -= 1;
            at = item.next;
            names.push(String::from_utf8(item.name.to_vec()).unwrap());
        }
        true
    })
    .unwrap();
    at
}

/// The kernel asks again from where its caller was, which is before what it was sent. Names that came or went in between
/// shifted the cookies, not the names behind them: one was skipped, or shown twice.
#[test]
fn a_reader_that_goes_back_misses_nothing_and_sees_nothing_twice() {
    run(async {
        let cluster = Cluster::new(1).await;
        let node = &cluster.nodes[0];
        let (vfs, bucket) = (cluster.vfs(0), cluster.bucket);
        for name in ["a", "b", "c", "d", "e"] {
            node.create(bucket, name, b"").await;
        }
        for comes in [true, false] {
            let dir = vfs.opendir(WHO.origin, bucket).unwrap();
            let mut names = Vec::new();
            let cookie = take(vfs, dir, 0, 3, &mut names);
            let expected = if comes {
                node.create(bucket, "aa", b"").await;
                [".", "..", "a", "aa", "b", "c", "d", "e"].as_slice()
            } else {
                vfs.unlink(&WHO, bucket, b"aa").await.unwrap();
                vfs.unlink(&WHO, bucket, b"b").await.unwrap();
                &[".", "..", "a", "c", "d", "e"]
            };
            let mut cookie = take(vfs, dir, cookie, expected.len() - 4, &mut names);
            let before = cookie;
            while names.len() < expected.len() {
                let had = names.len();
                cookie = take(vfs, dir, cookie, 1, &mut names);
                assert!(names.len() > had, "ends after {names:?}");
            }
            assert_eq!(names, expected);
            assert_eq!(take(vfs, dir, cookie, 1, &mut names), cookie, "that was all");
            // telldir(3) and seekdir(3), back and forth.
            let mut again = Vec::new();
            take(vfs, dir, before, 9, &mut again);
            assert_eq!(again, expected[expected.len() - 1..]);
            vfs.releasedir(dir);
        }
    });
}
