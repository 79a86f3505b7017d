//! `bucketfs key create|list|delete|disable|enable|rotate|grant|revoke`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::flags::SettingFlags;
use super::operate::operate;
use super::output::{Exit, Output};
use crate::error::Result;
use crate::node::{KeyInfo, KeyRole, KeyState, KeyWithSecret, NewKey};
use crate::types::{BucketName, KeyId, Rights};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make an access key; its secret is shown this once
    Create(Create),
    /// All access keys, and what buckets grant them
    List(All),
    /// Remove an access key for good
    Delete(One),
    /// Refuse an access key until it is enabled again
    Disable(One),
    /// Take an access key that was disabled
    Enable(One),
    /// Give an access key a new secret, shown this once; the old one is worth nothing at once
    Rotate(One),
    /// Say what an access key may do with a bucket, in place of what it might before
    Grant(Change),
    /// Take back what a bucket grants an access key
    Revoke(Take),
}

#[derive(Args, Debug)]
pub struct Create {
    /// May do everything, in all buckets
    #[arg(long)]
    admin: bool,
    /// May make buckets, which are then its own
    #[arg(long, conflicts_with = "admin")]
    create_buckets: bool,
    /// May read the metrics and the state of the cluster
    #[arg(long, conflicts_with_all = ["admin", "create_buckets"])]
    monitor: bool,
    /// What it may do with a bucket: read, write, owner (both, and remove the bucket), chown (choose
    /// the owners of files); may be given several times
    #[arg(long, value_name = "BUCKET:RIGHT,…", conflicts_with = "admin")]
    grant: Vec<Grant>,
    /// Owner of the files it makes [default: who runs this]
    #[arg(long)]
    uid: Option<u32>,
    /// Group of the files it makes [default: that of who runs this]
    #[arg(long)]
    gid: Option<u32>,
    /// Permissions that the files it makes do not get, octal
    #[arg(long, default_value = "022", value_parser = umask)]
    umask: u32,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct All {
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct One {
    /// The access key's id
    #[arg(value_name = "KEY")]
    id: KeyId,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct Change {
    /// The access key's id
    #[arg(value_name = "KEY")]
    id: KeyId,
    #[arg(value_name = "BUCKET:RIGHT,…")]
    grant: Grant,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Args, Debug)]
pub struct Take {
    /// The access key's id
    #[arg(value_name = "KEY")]
    id: KeyId,
    #[arg(value_name = "BUCKET", value_parser = BucketName::new)]
    bucket: BucketName,
    #[command(flatten)]
    settings: SettingFlags,
}

#[derive(Clone, Debug)]
struct Grant {
    bucket: BucketName,
    rights: Rights,
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (bucket, rights) =
            text.split_once(':').ok_or("write BUCKET:RIGHT, such as photos:read,write")?;
        let bucket = BucketName::new(bucket).map_err(|error| error.to_string())?;
        let rights = rights.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { bucket, rights })
    }
}

fn umask(text: &str) -> Result<u32, String> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o777);
    bits.ok_or_else(|| "an octal number up to 777".into())
}

impl Verb {
    pub fn run(self, output: &Output) -> Result<Exit> {
        match self {
            Self::Create(create) => create.run(output)?,
            Self::List(All { settings }) => {
                let keys = operate(settings, async |store| store.keys().await)?;
                output.show(&List { keys })?;
            }
            Self::Delete(One { id, settings }) => {
                operate(settings, async |store| store.delete_key(id).await)?;
                output.show(&Done { access_key_id: id, now: "deleted" })?;
            }
            Self::Disable(One { id, settings }) => {
                let state = KeyState::Disabled;
                operate(settings, async |store| store.set_key_state(id, state).await)?;
                output.show(&Done { access_key_id: id, now: "disabled" })?;
            }
            Self::Enable(One { id, settings }) => {
                let state = KeyState::Active;
                operate(settings, async |store| store.set_key_state(id, state).await)?;
                output.show(&Done { access_key_id: id, now: "active" })?;
            }
            Self::Rotate(One { id, settings }) => {
                let made = operate(settings, async |store| store.rotate_key(id).await)?;
                output.show(&Made(made))?;
            }
            Self::Grant(Change { id, grant: Grant { bucket, rights }, settings }) => {
                operate(settings, async |store| store.grant(id, &bucket, rights).await)?;
                output.show(&Granted { access_key_id: id, bucket: bucket.to_string(), rights })?;
            }
            Self::Revoke(Take { id, bucket, settings }) => {
                let rights = Rights::NONE;
                operate(settings, async |store| store.grant(id, &bucket, rights).await)?;
                output.show(&Granted { access_key_id: id, bucket: bucket.to_string(), rights })?;
            }
        }
        Ok(Exit::Done)
    }
}

impl Create {
    fn run(self, output: &Output) -> Result<()> {
        // SAFETY: both calls take nothing and cannot fail; getuid(2).
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let roles = [
            (self.admin, KeyRole::Administrator),
            (self.create_buckets, KeyRole::Creator),
            (self.monitor, KeyRole::Monitor),
        ];
        let role = roles.into_iter().find(|(asked, _)| *asked);
        let role = role.map_or(KeyRole::Granted, |(_, role)| role);
        let grants: BTreeMap<String, Rights> =
            self.grant.into_iter().map(|grant| (grant.bucket.to_string(), grant.rights)).collect();
        let (uid, gid) = (self.uid.unwrap_or(uid), self.gid.unwrap_or(gid));
        let new = NewKey { uid, gid, umask: self.umask, role, grants };
        let made = operate(self.settings, async |store| store.create_key(&new).await)?;
        output.show(&Made(made))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Made(KeyWithSecret);

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "access key id      {}", self.0.access_key_id)?;
        writeln!(f, "secret access key  {}", self.0.secret_access_key)?;
        write!(f, "The secret is not shown again.")
    }
}

#[derive(Serialize)]
struct List {
    keys: Vec<KeyInfo>,
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for key in &self.keys {
            let state = match key.state {
                KeyState::Active => "active",
                KeyState::Disabled => "disabled",
            };
            let role = match key.role {
                KeyRole::Granted => "",
                KeyRole::Monitor => ", reads metrics",
                KeyRole::Creator => ", makes buckets",
                KeyRole::Administrator => ", administrator",
            };
            writeln!(f, "{}  {state}{role}", key.access_key_id)?;
            writeln!(f, "  made {} for {}:{}", key.created_at.rfc3339(), key.uid, key.gid)?;
            for (bucket, rights) in &key.grants {
                writeln!(f, "  {bucket}: {rights}")?;
            }
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Done {
    access_key_id: KeyId,
    now: &'static str,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access key {} is {}", self.access_key_id, self.now)
    }
}

#[derive(Serialize)]
struct Granted {
    access_key_id: KeyId,
    bucket: String,
    rights: Rights,
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_key_id, bucket, rights } = self;
        write!(f, "access key {access_key_id} on bucket {bucket}: {rights}")
    }
}
