//! `bucketfs bucket create|list|set|delete|info`.

use std::fmt;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::flags::SettingFlags;
use super::operate::operate;
use super::output::{Exit, Output};
use crate::error::{Error, Result};
use crate::node::{BucketInfo, Operator};
use crate::types::BucketName;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a bucket
    Create(One),
    /// All buckets in the order of their names
    List(All),
    /// Change whether writes wait for a quorum of copies: --quorum-required true|false
    Set(One),
    /// Remove an empty bucket
    Delete(One),
    /// What is known about a bucket
    Info(One),
}

#[derive(Args, Debug)]
pub struct One {
    /// 3 to 63 characters: a-z, 0-9, dots and dashes
    #[arg(value_name = "BUCKET", value_parser = BucketName::new)]
    name: BucketName,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct All {
    #[command(flatten)]
    settings: SettingFlags,
}

impl Verb {
    pub fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Create(One { name, settings }) => {
                let quorum = settings.given("quorum_required")?;
                let create = async |store: &mut Operator| store.create_bucket(&name, quorum).await;
                output.show(&Shown(operate(settings, create)?))?;
            }
            Self::Set(One { name, settings }) => {
                let missing = || Error::Config("say --quorum-required true or false".into());
                let quorum = settings.given("quorum_required")?.ok_or_else(missing)?;
                let set =
                    async |store: &mut Operator| store.set_quorum_required(&name, quorum).await;
                output.show(&Shown(operate(settings, set)?))?;
            }
            Self::List(All { settings }) => {
                let buckets = operate(settings, async |store| store.buckets().await)?;
                output.show(&List { buckets })?;
            }
            Self::Delete(One { name, settings }) => {
                operate(settings, async |store| store.delete_bucket(&name).await)?;
                output.show(&Deleted { deleted: name.as_str().into() })?;
            }
            Self::Info(One { name, settings }) => {
                let bucket = operate(settings, async |store| store.bucket(&name).await)?;
                output.show(&Shown(bucket))?;
            }
        }
        Ok(Exit::Done)
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(BucketInfo);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bucket = &self.0;
        writeln!(f, "bucket       {}", bucket.name)?;
        writeln!(f, "created      {}", bucket.created_at.rfc3339())?;
        writeln!(f, "owner        {}:{}", bucket.uid, bucket.gid)?;
        writeln!(f, "entries      {}", bucket.entries)?;
        let quorum = if bucket.quorum_required { "a quorum of copies" } else { "one copy" };
        write!(f, "writes wait  for {quorum}")
    }
}

#[derive(Serialize)]
struct List {
    buckets: Vec<BucketInfo>,
}

/// One name a line, for scripts.
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.buckets.iter().try_for_each(|bucket| writeln!(f, "{}", bucket.name))
    }
}

#[derive(Serialize)]
struct Deleted {
    deleted: String,
}

impl fmt::Display for Deleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {} is gone", self.deleted)
    }
}
