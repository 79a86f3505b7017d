//! A directory tree as a value, to compare before with after.

use std::collections::BTreeMap;
use std::io::Result;
use std::path::{Path, PathBuf};

/// What is there by path: a file's bytes, or `None` for a directory.
pub type Found = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// Reads a whole tree.
pub fn look(root: &Path) -> Result<Found> {
    let mut found = Found::new();
    let mut open = vec![PathBuf::new()];
    while let Some(dir) = open.pop() {
        for name in std::fs::read_dir(root.join(&dir))? {
            let path = dir.join(name?.file_name());
            let whole = root.join(&path);
            if whole.is_dir() {
                open.push(path.clone());
                found.insert(path, None);
            } else {
                found.insert(path, Some(std::fs::read(&whole)?));
            }
        }
    }
    Ok(found)
}

/// The files below `root` that hold `bytes`, with the offset at which they do.
pub fn holding(root: &Path, bytes: &[u8]) -> Vec<(PathBuf, usize)> {
    let found = look(root).expect("reading the tree");
    let files = found.into_iter().filter_map(|(path, content)| Some((path, content?)));
    let place = |content: &[u8]| content.windows(bytes.len()).position(|window| window == bytes);
    files.filter_map(|(path, content)| Some((root.join(path), place(&content)?))).collect()
}

/// The paths that differ between two trees.
pub fn differing<'a>(before: &'a Found, after: &'a Found) -> Vec<&'a PathBuf> {
    let paths = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    paths.filter(|path| before.get(*path) != after.get(*path)).collect()
}
