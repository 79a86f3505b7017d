//! Whether the table that a stop left can be used, and making it again when it cannot: the log and
//! the snapshots are the truth.

use std::path::PathBuf;

use openraft::LogIdOptionExt;

use super::log::Log;
use super::options::{OnProgress, Options, Progress};
use super::raft::Machine;
use super::snapshot::{Found, Snapshots};
use super::store::{LastStop, StoreDir};
use super::types::{AppliedState, LogId};
use crate::error::{Error, Result};
use crate::meta::{EngineKind, Table, codec};

/// Openings that may end the process before the table is made again without further questions.
const DEATHS_MAX: u32 = 2;

pub struct Trust<'a> {
    dir: &'a StoreDir,
    options: &'a Options,
    progress: OnProgress<'a>,
    stop: LastStop,
    /// Why the table is made again, if it is.
    pub rebuilt: Option<String>,
}

impl<'a> Trust<'a> {
    pub fn new(
        dir: &'a StoreDir,
        options: &'a Options,
        progress: OnProgress<'a>,
        stop: LastStop,
    ) -> Self {
        Self { dir, options, progress, stop, rebuilt: None }
    }

    fn table_dir(&self) -> PathBuf {
        self.dir.meta().join(self.options.engine.to_string())
    }

    /// The machine stopped: an engine whose files are only sometimes synced has lost, or mixed up,
    /// what was written last.
    pub fn distrust_unsynced(&mut self) -> Result<()> {
        match self.options.engine {
            EngineKind::Sled => self.distrust("the machine stopped without notice".into()),
            EngineKind::Redb | EngineKind::Memory => Ok(()),
        }
    }

    /// Moves the table out of the way.
    fn distrust(&mut self, why: String) -> Result<()> {
        if let Some(aside) = self.dir.set_aside(&self.table_dir())? {
            log::warn!(
                "{why}: the metadata table is made again ({} is set aside)",
                aside.display()
            );
            self.rebuilt = Some(why);
        }
        Ok(())
    }

    /// Opens the table if it can be trusted, else an empty one.
    ///
    /// # Errors
    /// [`Error::Store`] when it is the log that cannot be trusted.
    pub fn open_table(&mut self, log: &Log, snapshots: &Snapshots) -> Result<Table> {
        let deaths = self.dir.mark_opening(&self.options.engine.to_string())?;
        if let Some(why) = self.suspicion(deaths) {
            self.distrust(why)?;
        }
        let table = match self.try_table(log, snapshots)? {
            Ok(table) => table,
            Err(why) => {
                self.distrust(why)?;
                self.open_engine()?
            }
        };
        self.dir.mark_opened()?;
        Ok(table)
    }

    fn open_engine(&self) -> Result<Table> {
        Table::open(self.options.engine, &self.table_dir(), self.options.cache_bytes)
    }

    /// What is known against the table before it is opened.
    fn suspicion(&self, deaths: u32) -> Option<String> {
        if deaths >= DEATHS_MAX {
            return Some(format!("opening the table ended the process {deaths} times"));
        }
        let mut progress = |done| (self.progress)(Progress::Checking { done });
        let (engine, probe) = (self.options.engine, &self.options.probe);
        Table::check_openable(engine, &self.table_dir(), probe, &mut progress)
            .err()
            .map(|error| format!("the table cannot be used: {error}"))
    }

    /// The table, or why it cannot be used.
    fn try_table(&self, log: &Log, snapshots: &Snapshots) -> Result<Result<Table, String>> {
        let table = match self.open_engine() {
            Ok(table) => table,
            Err(error) => return Ok(Err(format!("the table could not be opened: {error}"))),
        };
        let applied = match applied(&table) {
            Ok(applied) => applied.last.index(),
            Err(error) => return Ok(Err(format!("the table does not know what it has: {error}"))),
        };
        let ends = log.ends();
        let newest = snapshots.list()?.first().map(|found| found.index);
        if applied > ends.last.index().max(newest) {
            let text = format!(
                "the metadata table has log entry {} and the log ends with {}",
                applied.unwrap_or_default(),
                ends.last.index().map_or("none".into(), |index| index.to_string())
            );
            // The table may have been on disk before the log was; only the log counts.
            return match self.stop {
                LastStop::Machine => Ok(Err(text)),
                LastStop::Clean(_) | LastStop::Process => Err(Error::Store(format!(
                    "{text}: the log has lost its end. Nothing was changed; bring the log back \
                     from a copy"
                ))),
            };
        }
        if applied.is_some() && applied < ends.purged.index() {
            return Ok(Err("the table ends before the log begins".into()));
        }
        Ok(Ok(table))
    }

    /// Fills the table from the newest snapshot that is whole, when it is empty, or when there is one
    /// beyond all that table and log have: the node stopped while it took that over from the leader.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the log was cut and no snapshot is whole.
    pub fn load_if_needed(&mut self, log: &Log, machine: &Machine) -> Result<()> {
        let is_lost = machine.last().is_none() && log.ends().last.is_some();
        if is_lost && self.options.engine != EngineKind::Memory {
            self.rebuilt.get_or_insert_with(|| "the metadata table was missing or empty".into());
        }
        for found in machine.snapshots.list()? {
            if machine.last().index() >= Some(found.index) {
                break;
            }
            match self.load(&found, log, machine) {
                Ok(()) if machine.last().index() >= purged(log) => return Ok(()),
                Ok(()) => log::warn!("{} is too old", found.path.display()),
                Err(Load::Never(error)) => return Err(error),
                Err(Load::Other(error)) => {
                    log::warn!("{} cannot be used: {error}", found.path.display());
                }
            }
        }
        match log.ends().purged {
            _ if machine.last().is_some() && machine.last().index() >= purged(log) => Ok(()),
            None => machine.clear(),
            Some(purged) => Err(Error::damaged(format!(
                "the metadata table is gone, the log begins after entry {} and no snapshot is \
                 whole. Nothing more can be done here; bring snapshots/ back from a copy",
                purged.index
            ))),
        }
    }

    /// The table has everything: those that it replaces are not needed any more.
    pub fn settle(&self) -> Result<()> {
        for other in [EngineKind::Sled, EngineKind::Redb] {
            if other != self.options.engine {
                // What another engine had would be older than its name says, one day.
                self.dir.remove_dir(&self.dir.meta().join(other.to_string()))?;
            }
        }
        self.dir.settle_aside(&self.table_dir())
    }

    /// Brings the table to what the snapshot has, or the log to lead there.
    fn load(&self, found: &Found, log: &Log, machine: &Machine) -> Result<(), Load> {
        let reader = machine.snapshots.open(&found.path)?;
        let Some(last) = reader.head.applied.last else { return Ok(()) };
        let total = found.bytes;
        let seen = |done| (self.progress)(Progress::Loading { done, total });
        match knows(log, last)? {
            // It was made here: what it has is committed, and the log has it, too.
            true if machine.last().is_some() => is_committed(log, last),
            true => machine.load(reader, &seen)?,
            false => {
                reader.verify()?;
                let whole = machine.snapshots.open(&found.path)?;
                let loaded = lead_to(log, last).and_then(|()| machine.load(whole, &seen));
                loaded.map_err(Load::Never)?;
            }
        }
        Ok(())
    }
}

/// Why a snapshot was not loaded: it cannot be, or something else is wrong.
enum Load {
    Other(Error),
    Never(Error),
}

impl From<Error> for Load {
    fn from(error: Error) -> Self {
        match error {
            // Of a newer format: this program is the wrong one.
            Error::Store(_) => Self::Never(error),
            _ => Self::Other(error),
        }
    }
}

fn purged(log: &Log) -> Option<u64> {
    log.ends().purged.index()
}

/// Whether the log has the entry, or had it.
fn knows(log: &Log, entry: LogId) -> Result<bool> {
    if purged(log) >= Some(entry.index) {
        return Ok(true);
    }
    let found = log.read(entry.index..entry.index + 1)?;
    Ok(found.first().is_some_and(|found| found.log_id == entry))
}

/// Makes the log go on after `last`, a committed entry that it does not have. What it has instead was
/// never committed, and what it has before, the snapshot has.
fn lead_to(log: &Log, last: LogId) -> Result<()> {
    let ends = log.ends();
    if ends.last != ends.purged {
        log.truncate(ends.purged.next_index())?;
    }
    is_committed(log, last);
    log.purge(last)
}

fn is_committed(log: &Log, entry: LogId) {
    if log.committed() <= entry.index {
        log.save_committed(Some(entry));
    }
}

fn applied(table: &Table) -> Result<AppliedState> {
    table.applied()?.map_or(Ok(AppliedState::default()), |bytes| codec::decode(&bytes))
}
