//! Stores of every format so far, as nodes that were killed left them, are opened by this version
//! and show what they did. Needs root.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::mounts::{own_namespace, run, scratch};
use support::node::{Node, Serve, program};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What is in the tree, as `list.sh` tells it.
fn list(root: &Path) -> String {
    run(Command::new(fixtures().join("list.sh")).arg(root))
}

fn check(format: &Path) {
    let name = format.display();
    let dir = scratch("format");
    let (data, mount, log) =
        (dir.path().join("data"), dir.path().join("mnt"), dir.path().join("log"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&mount).unwrap();
    run(Command::new("tar").arg("-xzf").arg(format.join("store.tar.gz")).arg("-C").arg(&data));
    let serve =
        Serve { data: &data, mount: &mount, show: None, options: &["-o", "acl"], log: &log };
    let expected = fs::read_to_string(format.join("expected")).unwrap();
    for round in 0..2 {
        let node = Node::start(&serve);
        let found = list(&mount);
        assert!(found == expected, "{name}, start {round}: {found}");
        let acl = run(Command::new("getfacl").arg("-cp").arg(mount.join("first/edited")));
        assert_eq!(acl, fs::read_to_string(format.join("acl")).unwrap(), "{name}, start {round}");
        // It can be changed, too.
        fs::write(mount.join("second/new"), vec![round; 6 << 20]).unwrap();
        assert_eq!(fs::read(mount.join("second/new")).unwrap(), vec![round; 6 << 20]);
        fs::remove_file(mount.join("second/new")).unwrap();
        node.stop();
    }
    run(program().args(["fsck", "--data-dir"]).arg(&data));
}

#[test]
fn stores_of_every_format_are_opened() {
    own_namespace();
    let entries = fs::read_dir(fixtures()).unwrap().map(|entry| entry.unwrap().path());
    let formats: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert!(!formats.is_empty());
    formats.iter().for_each(|format| check(format));
}
