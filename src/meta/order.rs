//! Why a directory's key ends with `/`: a walk of the tree in key order is S3's flat listing order.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::keys;
use super::kv::{KvRead, KvTxn};
use super::table::Table;
use crate::types::{FileName, Ino};

/// Keys as S3 has them: components joined by `/`. Every directory of one becomes an inode.
#[derive(Default)]
struct Tree {
    directories: BTreeMap<Vec<u8>, Ino>,
    entries: BTreeSet<Vec<u8>>,
}

impl Tree {
    fn directory(&mut self, path: &[u8]) -> Ino {
        if path.is_empty() {
            return Ino::ROOT;
        }
        if let Some(ino) = self.directories.get(path) {
            return *ino;
        }
        let ino = Ino(self.directories.len() as u64 + 2);
        self.directories.insert(path.to_vec(), ino);
        let (parent, name) = self.split(path);
        self.entries.insert(keys::directory_dirent(parent, &name));
        ino
    }

    fn add(&mut self, path: &[u8]) {
        let (parent, name) = self.split(path);
        self.entries.insert(keys::file_dirent(parent, &name));
    }

    fn split(&mut self, path: &[u8]) -> (Ino, FileName) {
        let cut = path.iter().rposition(|byte| *byte == b'/');
        let (above, name) = cut.map_or((&b""[..], path), |cut| (&path[..cut], &path[cut + 1..]));
        (self.directory(above), FileName::new(name).unwrap())
    }

    fn store(&self) -> Table {
        let table = Table::memory().unwrap();
        let work = |txn: &mut dyn KvTxn| {
            self.entries.iter().for_each(|key| txn.put(key.clone(), Vec::new()));
            Ok(())
        };
        table.transact(work).unwrap();
        table
    }

    /// Depth first, each directory in key order.
    fn walk(&self, table: &Table, ino: Ino, path: &[u8], found: &mut Vec<Vec<u8>>) {
        let mut names = Vec::new();
        let (from, to) = keys::dirents(ino);
        let mut visit = |key: &[u8], _: &[u8]| {
            names.push(keys::dirent_name(key).unwrap());
            Ok(true)
        };
        table.view().scan(&from, &to, &mut visit).unwrap();
        for (name, is_directory) in names {
            let path = [path, name.as_bytes()].concat();
            if is_directory {
                let below = self.directories[&path];
                self.walk(table, below, &[&path[..], b"/"].concat(), found);
            } else {
                found.push(path);
            }
        }
    }
}

/// Bytes around `/`, where bare names go wrong, and some others.
fn component() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop::sample::select(b"ab-. 0".to_vec()),
        1 => (1u8..=255).prop_filter("no component has it", |byte| *byte != b'/'),
    ];
    prop::collection::vec(byte, 1..4)
        .prop_filter("special names", |name| FileName::new(name).is_ok())
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(component(), 1..4).prop_map(|parts| parts.join(&b'/'))
}

proptest! {
    #[test]
    fn a_walk_in_key_order_is_the_flat_order(keys in prop::collection::btree_set(key(), 0..40)) {
        // A file and a directory cannot both be `a`: the product refuses the second.
        let is_directory = |key: &Vec<u8>| {
            let below = [key.as_slice(), b"/"].concat();
            keys.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
        };
        let flat: Vec<_> = keys.iter().filter(|key| !is_directory(key)).cloned().collect();
        let mut tree = Tree::default();
        flat.iter().for_each(|key| tree.add(key));
        let mut walked = Vec::new();
        tree.walk(&tree.store(), Ino::ROOT, b"", &mut walked);
        prop_assert_eq!(walked, flat);
    }
}

/// The example of the design: `a` is a directory here, and comes where its keys come.
#[test]
fn the_example_of_the_design() {
    let flat = ["a b", "a-b", "a.b", "a/b", "a0"];
    let mut tree = Tree::default();
    flat.iter().rev().for_each(|key| tree.add(key.as_bytes()));
    let mut walked = Vec::new();
    tree.walk(&tree.store(), Ino::ROOT, b"", &mut walked);
    assert_eq!(walked, flat.map(|key| key.as_bytes().to_vec()));
}
