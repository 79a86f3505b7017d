//! `bucketfs status`: how a store is.

use std::fmt;

use clap::Args;
use serde::Serialize;

use super::flags::SettingFlags;
use super::operate::operate;
use super::output::{Exit, Output, human};
use crate::error::Result;
use crate::node::{CopyCounts, DamagedChunk, Status, Wanting};
use crate::types::Timestamp;

#[derive(Args, Debug)]
pub struct Show {
    #[command(flatten)]
    settings: SettingFlags,
}

impl Show {
    pub fn run(self, output: &Output) -> Result<Exit> {
        let status = operate(self.settings, async |operator| operator.status().await)?;
        output.show(&Shown(status))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Status);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.0;
        node_lines(f, status)?;
        store_lines(f, status)?;
        log_lines(f, status)
    }
}

fn node_lines(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let version = &status.version;
    match status.pid {
        Some(pid) => {
            writeln!(f, "running      pid {pid}, {} s, {version}", status.uptime_seconds)?;
        }
        None => writeln!(f, "running      no")?,
    }
    for mount in &status.mounts {
        writeln!(f, "mount        {}", mount.display())?;
    }
    let (open, unsaved) = (status.open_files, human(status.buffered_bytes));
    writeln!(f, "open files   {open}, {unsaved} not yet in chunks")
}

fn store_lines(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let direct = if status.direct_io { "O_DIRECT" } else { "no O_DIRECT here: buffered" };
    let (free, total) = (human(status.disk_available), human(status.disk_total));
    let chunk_size = human(status.chunk_size);
    writeln!(f, "store        {}, chunks of {chunk_size}", status.data_dir.display())?;
    writeln!(f, "content      {} inodes, {}", status.inodes, human(status.data_bytes))?;
    writeln!(f, "disk         {free} free of {total}, {direct}")?;
    writeln!(f, "access keys  {}", status.access_keys)?;
    let (wanting, copies) = (&status.wanting, &status.copies);
    if *wanting != Wanting::default() {
        let surveying = if wanting.is_surveying { ", and still counting" } else { "" };
        let (here, anywhere, surplus) = (wanting.here, wanting.anywhere, wanting.surplus);
        writeln!(
            f,
            "copies       {anywhere} wanting, {here} of them here; {surplus} one too many{surveying}"
        )?;
    }
    if *copies != CopyCounts::default() {
        let CopyCounts { read_elsewhere, made, given_up, mended } = copies;
        writeln!(
            f,
            "copies here  {made} made, {mended} of bad ones, {given_up} given up; {read_elsewhere} reads elsewhere"
        )?;
    }
    for DamagedChunk { chunk, what, .. } in &status.damaged {
        writeln!(f, "damaged      chunk {chunk}: {what}")?;
    }
    match status.scrubbed_at {
        Some(seconds) => writeln!(f, "scrubbed     {}", Timestamp { seconds, nanos: 0 }.rfc3339()),
        None => Ok(()),
    }
}

fn log_lines(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    let log = &status.replication;
    let (node, session, cluster) = (log.node, log.session.0, &log.cluster);
    let (applied, unsynced) = (log.applied.unwrap_or_default(), log.log_unsynced);
    writeln!(f, "node         {node} of cluster {cluster}, session {session}")?;
    writeln!(f, "table        {} in {}", human(log.table_bytes), log.engine)?;
    writeln!(f, "log          {}, entry {applied}", human(log.log_bytes))?;
    writeln!(f, "unsynced     {unsynced} records")?;
    for snapshot in &log.snapshots {
        let (size, index, age) = (human(snapshot.bytes), snapshot.index, snapshot.age_seconds);
        writeln!(f, "snapshot     {size}, entry {index}, {age} s old")?;
    }
    if let Some(why) = &log.rebuilt {
        writeln!(f, "rebuilt      the table, at this start: {why}")?;
    }
    match &log.disk_failed {
        Some(why) => writeln!(f, "disk failed  {why}: nothing is written until a restart"),
        None => Ok(()),
    }
}
