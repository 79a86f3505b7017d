//! What a start finds and what it does about it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::env::RealDisk;
use crate::error::Error;
use crate::meta::{Probe, Table};
use crate::replication::log::Log;

fn real() -> Arc<dyn Disk> {
    Arc::new(RealDisk::new())
}

/// A store on the machine's disk with a few buckets, closed or as a killed process leaves it.
async fn store(engine: EngineKind, clean: bool) -> (tempfile::TempDir, Options) {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path(), engine);
    init(&options, &real()).await.unwrap();
    let replica = open(&options, &real()).await.unwrap();
    for number in 0..30 {
        make_bucket(&replica, &format!("bucket-{number:02}"), Wait::Applied).await;
    }
    replica.sync().await.unwrap();
    if clean {
        replica.close().await.unwrap();
    }
    (dir, options)
}

/// Opens the store, expects all buckets, and says why the table was rebuilt, if it was.
async fn reopened(options: &Options) -> Option<String> {
    let replica = open(options, &real()).await.unwrap();
    assert_eq!(buckets(&replica).len(), 30);
    let rebuilt = replica.status().rebuilt;
    replica.close().await.unwrap();
    rebuilt
}

/// The largest file of the table.
fn table_file(options: &Options) -> PathBuf {
    let mut dirs = vec![options.data_dir.join("meta").join(options.engine.to_string())];
    let mut files = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => dirs.push(entry.path()),
                metadata => files.push((metadata.len(), entry.path())),
            }
        }
    }
    files.into_iter().max().unwrap().1
}

#[tokio::test]
async fn a_table_that_is_gone_is_made_again_and_that_is_told() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        for clean in [true, false] {
            let (_dir, options) = store(engine, clean).await;
            fs::remove_dir_all(options.data_dir.join("meta").join(engine.to_string())).unwrap();
            let why = reopened(&options).await.unwrap();
            assert!(why.contains("missing or empty"), "{why}");
            assert_eq!(reopened(&options).await, None);
        }
    }
}

#[tokio::test]
async fn a_table_behind_a_process_that_died_in_it_is_asked_about_elsewhere() {
    let (_dir, options) = store(EngineKind::Sled, false).await;
    let dir = StoreDir::new(real(), &options);
    assert_eq!(dir.mark_opening("sled").unwrap(), 0);
    let died = vec!["-c".into(), "echo damaged: the probe died".into()];
    let probe = Probe::Child { program: "/bin/sh".into(), arguments: died };
    let why = reopened(&Options { probe, ..options.clone() }).await.unwrap();
    assert!(why.contains("the probe died"), "{why}");

    // Without anybody to ask, a few deaths are enough.
    for deaths in 0..3 {
        assert_eq!(dir.mark_opening("sled").unwrap(), deaths);
    }
    assert!(reopened(&options).await.unwrap().contains("ended the process"));
    assert_eq!(reopened(&options).await, None);
}

#[tokio::test]
async fn a_stop_of_the_machine_makes_an_unsynced_table_again() {
    for (engine, rebuilds) in [(EngineKind::Sled, true), (EngineKind::Redb, false)] {
        let (_dir, options) = store(engine, false).await;
        let options = Options { boot_id: "boot-2".into(), ..options };
        assert_eq!(reopened(&options).await.is_some(), rebuilds, "{engine}");
        let options = Options { boot_id: "boot-3".into(), ..options };
        assert_eq!(reopened(&options).await, None, "after a clean stop, {engine}");
    }
}

/// However often making the table again fails, the one that was there first is not thrown away before
/// there is another.
#[tokio::test]
async fn the_last_table_stays_until_there_is_another() {
    let (_dir, options) = store(EngineKind::Sled, false).await;
    let (log, copy) = (options.data_dir.join("log"), tempfile::tempdir().unwrap());
    for entry in fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    {
        let log = Log::open(real(), &log, options.log, None).unwrap();
        log.purge(log.ends().last.unwrap()).unwrap();
    }
    let boot = |boot_id: &str| Options { boot_id: boot_id.into(), ..options.clone() };
    for boot_id in ["boot-2", "boot-3", "boot-4"] {
        let error = open(&boot(boot_id), &real()).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("no snapshot is whole"), "{error}");
    }
    let is_whole = |entry: &fs::DirEntry| {
        let table = Table::open(EngineKind::Sled, &entry.path(), 4 << 20);
        table.unwrap().applied().unwrap().is_some()
    };
    let meta = || fs::read_dir(options.data_dir.join("meta")).unwrap().map(|entry| entry.unwrap());
    assert_eq!(meta().filter(is_whole).count(), 1);

    fs::remove_dir_all(&log).unwrap();
    fs::rename(copy.path(), &log).unwrap();
    assert!(reopened(&boot("boot-5")).await.is_some());
    let mut names: Vec<_> = meta().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["sled", "sled.aside"]);
}

/// Deaths that each come before enough was written do not add up: what a start applies again counts for
/// the next flush.
#[tokio::test]
async fn a_table_that_is_behind_is_flushed_soon() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { flush_log_bytes: 1 << 30, ..options(dir.path(), EngineKind::Redb) };
    init(&options, &real()).await.unwrap();
    let first = open(&options, &real()).await.unwrap();
    for number in 0..100 {
        make_bucket(&first, &format!("bucket-{number:02}"), Wait::Applied).await;
    }
    // What is there is what a killed process leaves: only the end of the first makes its table durable.
    let killed = tempfile::tempdir().unwrap();
    copy_tree(dir.path(), killed.path());
    let written = first.log.appended();
    let options =
        Options { data_dir: killed.path().into(), flush_log_bytes: written, ..options.clone() };
    let on_disk = || {
        let copy = tempfile::tempdir().unwrap();
        fs::copy(table_file(&options), copy.path().join("table.redb")).unwrap();
        // It may change while it is copied.
        Table::open(EngineKind::Redb, copy.path(), 1 << 20).and_then(|table| table.applied()).ok()
    };
    let before = on_disk().unwrap();
    let second = open(&options, &real()).await.unwrap();
    make_bucket(&second, "one-more", Wait::Durable).await;
    assert!(second.log.appended() < written / 2);
    let flushed = async {
        while on_disk().is_none_or(|found| found == before) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flushed).await.unwrap();
    second.close().await.unwrap();
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.metadata().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy_tree(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Another engine starts from the log, and what the first one had is not taken for current later.
#[tokio::test]
async fn engines_can_be_changed_both_ways() {
    let (_dir, options) = store(EngineKind::Sled, true).await;
    let redb = Options { engine: EngineKind::Redb, ..options.clone() };
    assert!(reopened(&redb).await.is_some());
    assert!(reopened(&options).await.is_some());
    assert_eq!(reopened(&options).await, None);
}

/// > A log that lost its end is never taken for a whole one
///
/// A table that has more than the log within one boot means that the log has lost its end.
#[tokio::test]
async fn a_log_that_lost_its_end_is_refused() {
    let (_dir, options) = store(EngineKind::Redb, false).await;
    let log = options.data_dir.join("log");
    let copy = tempfile::tempdir().unwrap();
    let replica = open(&options, &real()).await.unwrap();
    for entry in fs::read_dir(&log).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    make_bucket(&replica, "after-the-copy", Wait::Durable).await;
    replica.table().flush().unwrap();
    drop(replica);
    fs::remove_dir_all(&log).unwrap();
    fs::rename(copy.path(), &log).unwrap();
    let error = open(&options, &real()).await.map(|_| ()).unwrap_err();
    assert!(matches!(&error, Error::Store(text) if text.contains("lost its end")), "{error}");
    // After a stop of the machine the log alone counts.
    let options = Options { boot_id: "boot-2".into(), ..options };
    assert!(reopened(&options).await.unwrap().contains("the log ends with"));
}

#[tokio::test]
async fn what_is_no_store_or_somebody_elses_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path(), EngineKind::Memory);
    let refused = |result: Result<Arc<Replica>>| result.map(|_| ()).unwrap_err().to_string();
    assert!(refused(open(&options, &real()).await).contains("run `bucketfs init` first"));
    fs::write(dir.path().join("letter.txt"), "dear").unwrap();
    let error = init(&options, &real()).await.unwrap_err().to_string();
    assert!(error.contains("letter.txt"), "{error}");
    fs::remove_file(dir.path().join("letter.txt")).unwrap();
    init(&options, &real()).await.unwrap();
    let error = init(&options, &real()).await.unwrap_err().to_string();
    assert!(error.contains("holds a store already"), "{error}");

    options.lock = true;
    let replica = open(&options, &real()).await.unwrap();
    assert!(refused(open(&options, &real()).await).contains("in use by another process"));
    drop(replica);
    let node = StoreDir::new(real(), &options).identify().unwrap();
    let newer = super::super::store::NodeFile { format: 2, ..node };
    super::super::files::replace(&RealDisk::new(), &dir.path().join("node.json"), &newer).unwrap();
    assert!(refused(open(&options, &real()).await).contains("run a newer version"));
}

/// `init` that is cut off anywhere leaves a directory in which it can be done again, or a store.
#[tokio::test]
async fn init_can_be_cut_off_anywhere() {
    let options = memory();
    let mut stop = 0;
    loop {
        let sim = SimDisk::new();
        sim.stop_after_syncs(stop);
        let disk: Arc<dyn Disk> = Arc::new(sim.clone());
        let done = init(&options, &disk).await.is_ok();
        let disk: Arc<dyn Disk> = Arc::new(sim.crash(stop));
        if done {
            make_bucket(&open(&options, &disk).await.unwrap(), "again", Wait::Durable).await;
            break;
        }
        match init(&options, &disk).await {
            Ok(()) => {}
            Err(Error::Store(text)) => assert!(text.contains("a store already"), "{text}"),
            Err(error) => panic!("sync {stop}: {error}"),
        }
        open(&options, &disk).await.unwrap();
        stop += 1;
    }
    assert!(stop > 8, "{stop} sync points");
}

#[tokio::test]
async fn damage_found_after_a_kill_makes_the_table_again() {
    let (_dir, options) = store(EngineKind::Redb, false).await;
    let file = table_file(&options);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 3]).unwrap();
    assert!(reopened(&options).await.is_some());
    assert_eq!(reopened(&options).await, None);
}
