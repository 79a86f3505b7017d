//! Broken variants of the program, each of which a test has to notice: who acknowledges before the disk has it,
//! forgets a vote, or collects what may still be needed. With `BUCKETFS_MUTANTS=1` they are built and tested, some
//! minutes each; without it this only looks whether each can still be made.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

struct Mutant {
    name: &'static str,
    /// In which file, what is there, and what stands there instead.
    edits: &'static [(&'static str, &'static str, &'static str)],
    /// Arguments of `cargo test`, which has to fail.
    test: &'static [&'static str],
}

const SIMULATION: &[&str] = &["--test", "simulation", "nothing_that_was"];

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "acknowledges before the sync",
        edits: &[
            (
                "src/replication/raft/log_store.rs",
                "            self.log.when_synced(record, move |result| {\n                \
                 callback.log_io_completed(result.map_err(std::io::Error::other));\n            });\n",
                "            callback.log_io_completed(Ok(()));\n",
            ),
            (
                "src/replication/members/service.rs",
                "            self.log.wait_synced(self.log.written()).await?;\n",
                "",
            ),
        ],
        test: SIMULATION,
    },
    Mutant {
        name: "acknowledges alone before the sync",
        edits: &[("src/replication/proposer.rs", "if wait == Wait::Durable {", "if false {")],
        test: &["--test", "vfs", "every_sync_is_a_point"],
    },
    Mutant {
        name: "counts the others' word before its own sync",
        edits: &[("src/replication/raft/network.rs", "if promises(&answer) {", "if false {")],
        test: &["--lib", "replication::raft"],
    },
    Mutant {
        name: "does not sync its vote",
        edits: &[(
            "src/replication/log/write.rs",
            "        inner.state.vote = Some(*vote);\n        self.write(&mut inner)?;\n        \
             self.syncer.sync()\n",
            "        inner.state.vote = Some(*vote);\n        self.write(&mut inner)?;\n        Ok(())\n",
        )],
        test: &["--lib", "replication::"],
    },
    Mutant {
        name: "applies what an ended session still says",
        edits: &[(
            "src/meta/apply/session.rs",
            "session.filter(|session| own_end || sequence > session.settled)",
            "session.or(Some(Session { node: 0, address: String::new(), settled: Session::ENDED, \
             chunk_mark: 0 })).filter(|it| own_end || it.is_ended() || sequence > it.settled)",
        )],
        test: SIMULATION,
    },
    Mutant {
        name: "collects what a session may still name",
        edits: &[
            (
                "src/meta/apply/collect.rs",
                "        if id.session != state.session && may_still_come(state, id)? {\n            continue;\n        }\n",
                "",
            ),
            ("src/vfs/upkeep.rs", " && !view.may_still_come(id)?", ""),
        ],
        test: SIMULATION,
    },
    Mutant {
        name: "reads what fails its checksum",
        edits: &[("src/chunk/read.rs", "if crc32c(block) != *crc {", "if false && *crc == 0 {")],
        test: SIMULATION,
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the file becomes.
fn edited(mutant: &Mutant, file: &str) -> String {
    let mut text = fs::read_to_string(root().join(file)).expect("a source file");
    for (_, right, wrong) in mutant.edits.iter().filter(|(edited, ..)| *edited == file) {
        let times = text.matches(right).count();
        assert_eq!(times, 1, "{}: {file} has changed: say anew what breaks it", mutant.name);
        text = text.replace(right, wrong);
    }
    text
}

#[test]
fn each_broken_variant_can_be_made() {
    for mutant in MUTANTS {
        for (file, ..) in mutant.edits {
            edited(mutant, file);
        }
    }
}

/// A copy of the sources with what the mutant edits broken.
fn broken(mutant: &Mutant) -> PathBuf {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutant");
    let _ = fs::remove_dir_all(&copy);
    fs::create_dir_all(&copy).expect("a directory");
    let copied = Command::new("cp")
        .arg("-a")
        .args(["src", "tests", "benches", "docs", "mount-helper", "Cargo.toml", "Cargo.lock"])
        .arg(&copy)
        .current_dir(root())
        .status();
    assert!(copied.expect("cp").success());
    for (file, ..) in mutant.edits {
        fs::write(copy.join(file), edited(mutant, file)).expect("a broken file");
    }
    copy
}

/// Whether the mutant's test succeeds on the mutant, once that is built.
fn passes(mutant: &Mutant) -> bool {
    let copy = broken(mutant);
    // What it depends on is built there.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let run = |last: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["test", "--locked", "--features", "s3", "--ignore-rust-version"])
            .args(mutant.test)
            .args(last)
            .current_dir(&copy)
            .env("CARGO_TARGET_DIR", target)
            .env("BUCKETFS_SIMULATIONS", "200")
            .env("BUCKETFS_SIMULATED_MS", "6000")
            .env_remove("BUCKETFS_MUTANTS")
            .stdin(Stdio::null());
        cargo.status().expect("cargo").success()
    };
    assert!(run(&["--no-run"]), "{} does not build", mutant.name);
    run(&[])
}

#[test]
fn each_broken_variant_is_noticed() {
    if std::env::var_os("BUCKETFS_MUTANTS").is_none() {
        return;
    }
    let mut tests: Vec<_> = MUTANTS.iter().map(|mutant| mutant.test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let whole = Mutant { name: "nothing broken", edits: &[], test };
        assert!(passes(&whole), "{test:?} fails with nothing broken");
    }
    let missed: Vec<&str> =
        MUTANTS.iter().filter(|mutant| passes(mutant)).map(|mutant| mutant.name).collect();
    assert!(missed.is_empty(), "nobody noticed: {missed:?}");
}
