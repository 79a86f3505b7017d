//! The harness of the outside tests, checked by itself: namespaces, images and waiting do what the suites rely on.

mod support;

use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;
use support::mounts::{LoopImage, mounted, own_namespace, scratch};
use support::target::{Stage, Target};

#[test]
fn an_image_is_mounted_for_its_own_thread_only() {
    own_namespace();
    let dir = scratch("image");
    let disk = LoopImage::new(dir.path(), 64 << 20);
    assert_eq!(mounted(disk.path()).as_deref(), Some("ext4"));
    let path = disk.path().to_owned();
    let outside = run_outside(&path);
    assert!(!outside, "the mount is seen outside its namespace");
    drop(disk);
    assert_eq!(mounted(&path), None);
}

/// Whether the namespace of the whole machine shows a mount at `path`.
fn run_outside(path: &std::path::Path) -> bool {
    let table =
        std::fs::read_to_string("/proc/1/mounts").expect("the mount table of the first process");
    table.contains(path.to_str().expect("text"))
}

#[test]
fn what_one_test_opens_no_child_of_another_holds() {
    let dir = scratch("open");
    let path = &dir.path().join("file");
    std::thread::scope(|scope| {
        let ((told, opened), (finish, finished)) = (channel(), channel::<()>());
        scope.spawn(move || {
            own_namespace();
            let file = std::fs::File::create(path).expect("opening it");
            own_namespace();
            told.send(holds(path)).expect("the other thread");
            finished.recv().expect_err("nothing is sent");
            drop(file);
        });
        assert!(opened.recv().expect("the thread that opens"), "it holds what it has opened");
        assert!(!holds(path), "a child started here would hold what another thread has opened");
        drop(finish);
    });
}

/// Whether the calling thread's descriptors, which a child would inherit, include one of `path`.
fn holds(path: &std::path::Path) -> bool {
    let open = std::fs::read_dir("/proc/thread-self/fd").expect("the descriptors of this thread");
    let mut files = open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    files.any(|file| file == path)
}

#[test]
fn what_a_plain_stage_holds_outlives_a_restart() {
    let mut stage = Stage::new("plain", Target::PlainDir);
    let file = stage.root().join("kept");
    std::fs::write(&file, b"bytes").expect("writing");
    stage.restart();
    assert_eq!(std::fs::read(&file).expect("reading"), b"bytes");
}

#[test]
fn waiting_for_a_child_sees_its_end() {
    let mut child =
        Command::new("sh").args(["-c", "exit 7"]).stdin(Stdio::null()).spawn().expect("sh");
    let status = support::node::wait_child(&mut child, Duration::from_secs(20));
    assert_eq!(status.code(), Some(7));
}
