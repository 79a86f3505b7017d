//! What a proposal costs: one thread and many, acknowledged when applied and when on disk.
//!
//! `cargo bench --bench log [-- DIR]`; the store is made in DIR, else in the current directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bucketfs::env::{Clock, Disk, RealDisk, SystemClock};
use bucketfs::meta::{EngineKind, Make, Mutation, Outcome};
use bucketfs::replication::{Birth, LogOptions, Options, Replica, Wait};
use bucketfs::types::{FileKind, FileName, Ino, Mode, Timestamp};

const ROUNDS: u64 = 3000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let root = PathBuf::from(arguments.first().map_or(".", String::as_str));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for (engine, direct) in [
        (EngineKind::Memory, false),
        (EngineKind::Sled, false),
        (EngineKind::Sled, true),
        (EngineKind::Redb, false),
    ] {
        let dir = tempfile::tempdir_in(&root).unwrap();
        println!("engine {engine}, log {}", if direct { "O_DIRECT" } else { "buffered" });
        runtime.block_on(measure(dir.path(), engine, direct));
    }
}

async fn measure(dir: &Path, engine: EngineKind, direct: bool) {
    let log = LogOptions { direct, ..LogOptions::DEFAULT };
    let options = Options { engine, log, ..Options::new(dir) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Replica::init(options.clone(), Birth::default(), Arc::clone(&disk), Arc::clone(&clock))
        .await
        .unwrap();
    let quiet = Box::new(|_: &[_], _| {});
    let replica = Replica::open(options, disk, Arc::clone(&clock), &|_| {}, quiet).await.unwrap();
    let bucket = make_one(&replica, Ino::ROOT, FileKind::Directory, "bucket", Wait::Durable).await;
    for wait in [Wait::Applied, Wait::Durable] {
        for tasks in [1, 8, 64] {
            let name = format!("{wait:?} x {tasks}");
            run(&replica, &clock, bucket, wait, tasks, &name).await;
        }
    }
    replica.close().await.unwrap();
}

async fn run(
    replica: &Arc<Replica>,
    clock: &Arc<dyn Clock>,
    bucket: Ino,
    wait: Wait,
    tasks: u64,
    label: &str,
) {
    let next = Arc::new(AtomicU64::new(0));
    let started = clock.elapsed();
    let workers: Vec<_> = (0..tasks)
        .map(|_| {
            let (replica, clock, next) = (replica.clone(), clock.clone(), next.clone());
            let label = label.to_string();
            tokio::spawn(async move {
                let mut times = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= ROUNDS {
                        return times;
                    }
                    let name = format!("{label} {number}");
                    let begun = clock.elapsed();
                    make_one(&replica, bucket, FileKind::Regular, &name, wait).await;
                    times.push(clock.elapsed() - begun);
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await.unwrap());
    }
    let total = clock.elapsed() - started;
    report(label, &mut times, total);
}

fn report(label: &str, times: &mut [Duration], total: Duration) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_micros();
    println!(
        "  {label:14} p50 {:>6} us  p90 {:>6} us  p99 {:>6} us  {:>7.0}/s",
        at(0.5),
        at(0.9),
        at(0.99),
        times.len() as f64 / total.as_secs_f64()
    );
}

async fn make_one(replica: &Replica, parent: Ino, kind: FileKind, name: &str, wait: Wait) -> Ino {
    let make = Mutation::Make(Make {
        parent,
        name: FileName::new(name.as_bytes()).unwrap(),
        kind,
        mode: Mode::new(0o755),
        uid: 1000,
        gid: 1000,
        rdev: 0,
        target: Vec::new(),
        xattrs: Vec::new(),
        published: true,
        at: Timestamp::default(),
    });
    match replica.propose(make, wait, 0).await.unwrap() {
        Outcome::Node { ino, .. } => ino,
        other => panic!("{other:?}"),
    }
}
