//! `bucketfs info PATH`: where the bytes of a file are and how safe they are.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use serde::Serialize;

use super::flags::SettingFlags;
use super::operate::operate;
use super::output::{Exit, Output};
use crate::error::Result;
use crate::node::FileInfo;

#[derive(Args, Debug)]
pub struct Info {
    /// The file as BUCKET/PATH, whatever is mounted where
    #[arg(value_name = "BUCKET/PATH")]
    path: OsString,
    #[command(flatten)]
    settings: SettingFlags,
}

impl Info {
    pub fn run(self, output: &Output) -> Result<Exit> {
        let path = self.path;
        let info = operate(self.settings, async |store| store.info(path.as_bytes()).await)?;
        output.show(&Shown(info))?;
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(FileInfo);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = &self.0;
        writeln!(f, "inode        {}, {:?}, mode {:o}", file.ino.0, file.kind, file.mode)?;
        writeln!(f, "owner        {}:{}, {} links", file.uid, file.gid, file.nlink)?;
        let unsaved = if file.dirty { ", with changes that are not committed" } else { "" };
        writeln!(f, "size         {} bytes{unsaved}", file.size)?;
        writeln!(f, "version      {}, committed {}", file.version, file.committed_at.rfc3339())?;
        let s3 = if file.published { "" } else { ", not in S3 before its first commit" };
        writeln!(f, "body         {}{s3}", file.body)?;
        let (copies, wanted) = file.copies;
        writeln!(f, "copies       {copies} on disk, {wanted} wanted")?;
        for piece in &file.pieces {
            writeln!(
                f,
                "piece        {}+{} in {} at {}, on nodes {:?}, sha256 {}",
                piece.offset,
                piece.len,
                piece.file.display(),
                piece.chunk_offset,
                piece.copies,
                piece.sha256
            )?;
        }
        if file.truncated { write!(f, "             and more") } else { Ok(()) }
    }
}
