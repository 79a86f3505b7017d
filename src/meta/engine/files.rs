//! What the engines' directories have in common: made, synced, measured and read through as a whole.

use std::io;
use std::path::{Path, PathBuf};

use crate::env::{Access, Disk, RealDisk};
use crate::error::{Error, Result};

pub fn create_dir(dir: &Path) -> Result<()> {
    RealDisk::new().create_dir_all(dir).map_err(context("making the directory", dir))
}

/// Makes all files below `dir` and their names durable.
pub fn sync(dir: &Path) -> Result<()> {
    let disk = RealDisk::new();
    for file in all(dir)? {
        let result = match disk.open(&file, Access::Write, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => opened.and_then(|opened| opened.sync()),
        };
        result.map_err(context("syncing", &file))?;
    }
    visit_dirs(dir, &mut |dir| disk.sync_dir(dir).map_err(context("syncing", dir)))
}

/// The files below `dir`, sorted by path.
pub fn all(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    visit_dirs(dir, &mut |dir| {
        let entries = RealDisk::new().list(dir).map_err(context("reading the directory", dir))?;
        files.extend(
            entries.into_iter().filter(|entry| !entry.is_dir).map(|entry| dir.join(entry.name)),
        );
        Ok(())
    })?;
    files.sort();
    Ok(files)
}

/// Whether there are files in `dir`, which may not be there itself.
pub fn any(dir: &Path) -> Result<bool> {
    match RealDisk::new().list(dir) {
        Ok(entries) => Ok(!entries.is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(context("reading the directory", dir)(error)),
    }
}

/// Bytes of one file.
pub fn size(file: &Path) -> Result<u64> {
    let opened = RealDisk::new().open(file, Access::Read, false);
    opened.and_then(|opened| opened.size()).map_err(context("measuring", file))
}

fn visit_dirs(dir: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    visit(dir)?;
    let entries = RealDisk::new().list(dir).map_err(context("reading the directory", dir))?;
    for entry in entries.into_iter().filter(|entry| entry.is_dir) {
        visit_dirs(&dir.join(entry.name), visit)?;
    }
    Ok(())
}

pub fn context<'a>(doing: &'a str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |error| Error::io(format!("{doing} {}", path.display()), error)
}
