//! The records among themselves: links, names, sizes, references, counters.

use std::path::Path;

use super::Report;
use crate::error::{Error, Result};
use crate::meta::{self, EngineKind, Pair, SnapshotScan, Table};
use crate::node::progress::{OnCheck, Phase, Progress};

/// Bytes of records copied at a time; commits wait meanwhile.
const PAGE_BYTES: usize = 256 << 10;
/// Memory for the copy's cache.
const CACHE_BYTES: u64 = 64 << 20;

/// Checks the table as it is. Nobody else uses it: commits would wait for the end.
pub fn check(table: &Table, report: &mut Report, on_check: &mut OnCheck<'_>) -> Result<()> {
    on_check(Progress { phase: Phase::Metadata, done: 0, total: 0 })?;
    report.contradictions = meta::check(&table.view())?;
    Ok(())
}

/// Checks a copy of the table as it is at this moment, made in `scratch` and removed again, while
/// commits go on.
///
/// # Errors
/// [`Error::Store`] while a snapshot is being made.
pub fn check_copy(
    table: &Table,
    scratch: &Path,
    report: &mut Report,
    on_check: &mut OnCheck<'_>,
) -> Result<()> {
    let scratch = Scratch::new(scratch)?;
    let scan = table.begin_snapshot().map_err(|error| match error {
        Error::NotSupported(_) => {
            Error::Store("a snapshot of the metadata is being made: try again later".into())
        }
        other => other,
    })?;
    let copy = Table::open(EngineKind::Redb, scratch.path, CACHE_BYTES)?;
    let mut pairs = Pages { scan, page: Vec::new().into_iter(), done: 0, on_check };
    copy.load(&mut pairs)?;
    drop(pairs);
    report.contradictions = meta::check(&copy.view())?;
    Ok(())
}

/// The records of a scan one by one.
struct Pages<'a, 'b> {
    scan: SnapshotScan<'a>,
    page: std::vec::IntoIter<Pair>,
    done: u64,
    on_check: &'a mut OnCheck<'b>,
}

impl Pages<'_, '_> {
    fn turn(&mut self) -> Result<Option<Pair>> {
        let Some(page) = self.scan.next_page(PAGE_BYTES)? else { return Ok(None) };
        self.done += page.len() as u64;
        self.page = page.into_iter();
        (self.on_check)(Progress { phase: Phase::Metadata, done: self.done, total: 0 })?;
        Ok(self.page.next())
    }
}

impl Iterator for Pages<'_, '_> {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.page.next() {
            Some(pair) => Some(Ok(pair)),
            None => self.turn().transpose(),
        }
    }
}

/// A directory that is empty at first and gone at last.
struct Scratch<'a> {
    path: &'a Path,
}

impl<'a> Scratch<'a> {
    fn new(path: &'a Path) -> Result<Self> {
        remove(path)?;
        std::fs::create_dir(path)
            .map_err(|error| Error::io(format!("making {}", path.display()), error))?;
        Ok(Self { path })
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove(self.path) {
            log::warn!("left behind: {error}");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("removing {}", path.display()), error))
        }
        _ => Ok(()),
    }
}
