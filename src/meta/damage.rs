//! Damaged tables: deleted, cut, overwritten, with flipped bits. They are refused, or what is left
//! is a state that was committed once; never a mixture, and never the death of this process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::engine::{EngineKind, files};
use super::kv::{KvRead, KvTxn};
use super::probe::{Probe, SUBCOMMAND, answer};
use super::table::Table;
use super::{keys, seal};
use crate::env::Seeded;
use crate::error::{Error, Result};

const CACHE: u64 = 8 << 20;
const COMMITS: u64 = 60;

type State = BTreeMap<Vec<u8>, Vec<u8>>;

fn state(table: &Table) -> Result<State> {
    let mut state = State::new();
    table.view().scan(&[], keys::END, &mut |key, value| {
        state.insert(key.to_vec(), value.to_vec());
        Ok(true)
    })?;
    Ok(state)
}

/// Makes a table of some hundred KiB in several openings; returns all states it went through.
fn make(kind: EngineKind, dir: &Path) -> Vec<State> {
    let (mut states, mut now) = (vec![State::new()], State::new());
    let mut table = Table::open(kind, dir, CACHE).unwrap();
    for commit in 1..=COMMITS {
        let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = (0..40u64)
            .map(|n| (commit * 7919 + n * 104_729) % 997)
            .map(|n| (n.to_be_bytes().to_vec(), Some(vec![commit as u8; (n % 300) as usize])))
            .collect();
        changes.push((((commit * 31) % 997).to_be_bytes().to_vec(), None));
        changes.push((keys::APPLIED.to_vec(), Some(commit.to_le_bytes().to_vec())));
        let work = |txn: &mut dyn KvTxn| {
            for (key, value) in changes.clone() {
                match value {
                    Some(value) => txn.put(key, value),
                    None => txn.delete(key),
                }
            }
            Ok(())
        };
        table.transact(work).unwrap();
        for (key, value) in changes {
            match value {
                Some(value) => now.insert(key, value),
                None => now.remove(&key),
            };
        }
        states.push(now.clone());
        match commit % 20 {
            // Written, so that there are several layers to damage.
            5 | 15 => table.flush().unwrap(),
            10 => {
                drop(table);
                table = Table::open(kind, dir, CACHE).unwrap();
            }
            _ => {}
        }
    }
    table.close().unwrap();
    assert!(matches!(table.applied(), Err(Error::ShuttingDown)));
    states
}

fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in files::all(from).unwrap() {
        let to = copy.path().join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(&file, &to).unwrap();
    }
    copy
}

/// One piece of damage to one file.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Deleted,
    CutTo(u64),
    Flipped(u64),
    Zeroed(u64),
}

impl Damage {
    fn random(chance: &mut Seeded, len: u64) -> Self {
        let place = chance.below(len);
        match chance.below(8) {
            0 => Self::Deleted,
            1 => Self::CutTo(place),
            2 => Self::Zeroed(place),
            _ => Self::Flipped(place),
        }
    }

    fn inflict(self, file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        match self {
            Self::Deleted => return fs::remove_file(file).unwrap(),
            Self::CutTo(len) => bytes.truncate(len as usize),
            Self::Flipped(place) => bytes[place as usize] ^= 0x10,
            Self::Zeroed(place) => {
                bytes[place as usize..].iter_mut().take(512).for_each(|b| *b = 0)
            }
        }
        fs::write(file, bytes).unwrap();
    }
}

fn table_files(dir: &Path) -> Vec<PathBuf> {
    let all = files::all(dir).unwrap().into_iter();
    all.filter(|file| !file.ends_with(seal::NAME) && files::size(file).unwrap() > 0).collect()
}

/// Every change of a closed table is found before an engine sees it; a closed one that is as it
/// was opens with its last state.
fn a_closed_table_is_checked(kind: EngineKind) {
    let made = tempfile::tempdir().unwrap();
    let states = make(kind, made.path());
    for file in table_files(made.path()) {
        let len = files::size(&file).unwrap();
        for damage in [
            Damage::Deleted,
            Damage::CutTo(len - 1),
            Damage::CutTo(0),
            Damage::Flipped(0),
            Damage::Flipped(len / 2),
            Damage::Flipped(len - 1),
        ] {
            let copy = copy(made.path());
            damage.inflict(&copy.path().join(file.strip_prefix(made.path()).unwrap()));
            let opened = Table::open(kind, copy.path(), CACHE);
            assert!(matches!(opened, Err(Error::Damaged(_))), "{damage:?} of {file:?}");
        }
    }
    let more = copy(made.path());
    fs::write(more.path().join("more"), "").unwrap();
    assert!(matches!(Table::open(kind, more.path(), CACHE), Err(Error::Damaged(_))));
    let bad_seal = copy(made.path());
    Damage::Flipped(7).inflict(&bad_seal.path().join(seal::NAME));
    assert!(matches!(Table::open(kind, bad_seal.path(), CACHE), Err(Error::Damaged(_))));

    Table::check_openable(kind, made.path(), &Probe::own_program(), &mut |_| {}).unwrap();
    let table = Table::open(kind, made.path(), CACHE).unwrap();
    assert_eq!(state(&table).unwrap(), states[COMMITS as usize]);
    assert!(!seal::exists(made.path()));
}

/// The child of [`a_table_in_use_is_probed`]: does nothing in an ordinary run.
#[test]
fn child() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [.., command, kind, dir] = arguments.as_slice()
        && command == SUBCOMMAND
    {
        answer(kind.parse().unwrap(), dir.as_ref(), &mut io::stdout()).unwrap();
    }
}

fn probe() -> Probe {
    let arguments = ["meta::damage::child", "--exact", "--nocapture", SUBCOMMAND];
    Probe::Child {
        program: std::env::current_exe().unwrap(),
        arguments: arguments.map(Into::into).to_vec(),
    }
}

/// A table whose process died has no seal. Whatever is done to it, the probe refuses it or what
/// opens afterwards is one of the states it went through.
fn a_table_in_use_is_probed(kind: EngineKind, cases: u64) {
    let made = tempfile::tempdir().unwrap();
    let states = make(kind, made.path());
    seal::remove(made.path()).unwrap();
    Table::check_openable(kind, copy(made.path()).path(), &probe(), &mut |_| {}).unwrap();
    let mut refused = 0;
    for seed in 0..cases {
        let mut chance = Seeded::new(seed);
        let copy = copy(made.path());
        let files = table_files(copy.path());
        let file = &files[chance.below(files.len() as u64) as usize];
        let damage = Damage::random(&mut chance, files::size(file).unwrap());
        damage.inflict(file);
        if Table::check_openable(kind, copy.path(), &probe(), &mut |_| {}).is_err() {
            refused += 1;
            continue;
        }
        let table = Table::open(kind, copy.path(), CACHE).unwrap();
        let applied = table.applied().unwrap().map_or(0, |bytes| bytes[0]);
        let found = state(&table).unwrap();
        assert_eq!(found, states[usize::from(applied)], "seed {seed}: {damage:?} of {file:?}");
    }
    assert!(refused > 0, "no damage was noticed");
}

#[test]
fn a_closed_sled_table_is_checked() {
    a_closed_table_is_checked(EngineKind::Sled);
}

#[test]
fn a_closed_redb_table_is_checked() {
    a_closed_table_is_checked(EngineKind::Redb);
}

#[test]
fn a_sled_table_in_use_is_probed() {
    a_table_in_use_is_probed(EngineKind::Sled, 24);
}

#[test]
fn a_redb_table_in_use_is_probed() {
    a_table_in_use_is_probed(EngineKind::Redb, 24);
}

#[test]
fn a_missing_table_is_an_empty_one() {
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("sled");
    Table::check_openable(EngineKind::Sled, &gone, &Probe::own_program(), &mut |_| {}).unwrap();
    assert_eq!(Table::open(EngineKind::Sled, &gone, CACHE).unwrap().applied().unwrap(), None);
}

/// A probe that dies, or that is no probe at all, is a no.
#[test]
fn only_a_clear_yes_counts() {
    for program in ["/bin/true", "/bin/false", "/nowhere"] {
        let probe = Probe::Child { program: program.into(), arguments: Vec::new() };
        assert!(probe.run(EngineKind::Sled, Path::new("/"), &mut |_| {}).is_err());
    }
}
