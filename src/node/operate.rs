//! Operations on a store, wherever it is: through the node that runs it, or, when nobody does, by
//! opening it for the moment.

use serde::{Deserialize, Serialize};

use super::ClusterView;
use super::admin::Client;
use super::fsck::{LeftOver, Report};
use super::progress::{OnCheck, OnOpen};
use super::status::Status;
use super::store::Store;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::types::{BucketName, KeyId, NodeId, Rights};
use crate::vfs::{BucketInfo, Caller, FileInfo, KeyInfo, KeyState, KeyWithSecret, NewKey};

/// A store that can be asked and told.
pub enum Operator {
    Running(Client),
    Stopped(Box<Store>),
}

/// Makes a bucket that belongs to `uid` and `gid`.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewBucket {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    /// What the node has for new ones, unless this says otherwise.
    pub quorum_required: Option<bool>,
}

impl NewBucket {
    pub(super) async fn make(&self, store: &Store) -> Result<BucketInfo> {
        let (who, name) = (Caller::operator(self.uid, self.gid), BucketName::new(&self.name)?);
        let made = store.vfs.create_bucket(&who, &name).await?;
        match self.quorum_required {
            Some(is_required) if is_required != made.quorum_required => {
                store.vfs.set_quorum_required(&who, &name, is_required).await
            }
            _ => Ok(made),
        }
    }
}

/// A path below the root, bytes as they are.
#[derive(Debug, Serialize, Deserialize)]
pub struct PathQuestion {
    pub path: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct NewGrant {
    pub bucket: String,
    pub rights: Rights,
}

/// What is to become of a member of the cluster.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Active,
    Draining,
    Removed { lost: bool },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct FsckQuestion {
    pub repair: bool,
}

impl Operator {
    /// Finds the node that runs the store; without one, opens the store as a start would,
    /// recovering it when it was not closed in order.
    ///
    /// # Errors
    /// As [`Store::open`] has them.
    pub async fn open(config: &Config, on_open: OnOpen) -> Result<Self> {
        match Client::connect(config.data_dir()?).await? {
            Some(client) => Ok(Self::Running(client)),
            None => Ok(Self::Stopped(Box::new(Store::open(config, on_open).await?))),
        }
    }

    /// As [`Self::open`], for what only a running node knows: the store is left alone, so that whoever
    /// waits for a node is never in the way of its start.
    ///
    /// # Errors
    /// [`Error::Store`] when no node runs.
    pub async fn running(config: &Config) -> Result<Self> {
        let client = Client::connect(config.data_dir()?).await?;
        client.map(Self::Running).ok_or_else(not_running)
    }

    /// Closes what [`Self::open`] opened.
    ///
    /// # Errors
    /// As [`Store::close`] has them.
    pub async fn close(self) -> Result<()> {
        match self {
            Self::Running(_) => Ok(()),
            Self::Stopped(store) => store.close().await,
        }
    }

    pub async fn status(&mut self) -> Result<Status> {
        match self {
            Self::Running(client) => client.get("/status").await,
            Self::Stopped(store) => Status::of(store),
        }
    }

    pub async fn buckets(&mut self) -> Result<Vec<BucketInfo>> {
        match self {
            Self::Running(client) => client.get("/buckets").await,
            Self::Stopped(store) => store.vfs.buckets(&Caller::default()),
        }
    }

    pub async fn bucket(&mut self, name: &BucketName) -> Result<BucketInfo> {
        match self {
            Self::Running(client) => client.get(&format!("/buckets/{name}")).await,
            Self::Stopped(store) => store.vfs.bucket(&Caller::default(), name),
        }
    }

    /// The bucket belongs to whoever runs this.
    pub async fn create_bucket(
        &mut self,
        name: &BucketName,
        quorum_required: Option<bool>,
    ) -> Result<BucketInfo> {
        // SAFETY: both calls take nothing and cannot fail; getuid(2).
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let question = NewBucket { name: name.as_str().into(), uid, gid, quorum_required };
        match self {
            Self::Running(client) => client.post("/buckets", &question).await,
            Self::Stopped(store) => question.make(store).await,
        }
    }

    /// Whether writes to a bucket wait for a quorum of copies, or for one.
    pub async fn set_quorum_required(
        &mut self,
        name: &BucketName,
        is_required: bool,
    ) -> Result<BucketInfo> {
        match self {
            Self::Running(client) => {
                client.post(&format!("/buckets/{name}/quorum-required"), &is_required).await
            }
            Self::Stopped(store) => {
                store.vfs.set_quorum_required(&Caller::default(), name, is_required).await
            }
        }
    }

    pub async fn delete_bucket(&mut self, name: &BucketName) -> Result<()> {
        match self {
            Self::Running(client) => client.delete(&format!("/buckets/{name}")).await,
            Self::Stopped(store) => store.vfs.delete_bucket(&Caller::default(), name).await,
        }
    }

    pub async fn keys(&mut self) -> Result<Vec<KeyInfo>> {
        match self {
            Self::Running(client) => client.get("/keys").await,
            Self::Stopped(store) => store.vfs.keys(),
        }
    }

    pub async fn create_key(&mut self, new: &NewKey) -> Result<KeyWithSecret> {
        match self {
            Self::Running(client) => client.post("/keys", new).await,
            Self::Stopped(store) => store.vfs.create_key(new).await,
        }
    }

    pub async fn delete_key(&mut self, id: KeyId) -> Result<()> {
        match self {
            Self::Running(client) => client.delete(&format!("/keys/{id}")).await,
            Self::Stopped(store) => store.vfs.delete_key(id).await,
        }
    }

    pub async fn set_key_state(&mut self, id: KeyId, state: KeyState) -> Result<()> {
        match self {
            Self::Running(client) => client.post(&format!("/keys/{id}/state"), &state).await,
            Self::Stopped(store) => store.vfs.set_key_state(id, state).await,
        }
    }

    pub async fn rotate_key(&mut self, id: KeyId) -> Result<KeyWithSecret> {
        match self {
            Self::Running(client) => client.post(&format!("/keys/{id}/rotate"), &()).await,
            Self::Stopped(store) => store.vfs.rotate_key(id).await,
        }
    }

    /// Instead of what was granted before.
    pub async fn grant(&mut self, id: KeyId, bucket: &BucketName, rights: Rights) -> Result<()> {
        match self {
            Self::Running(client) => {
                let grant = NewGrant { bucket: bucket.as_str().into(), rights };
                client.post(&format!("/keys/{id}/grants"), &grant).await
            }
            Self::Stopped(store) => store.vfs.grant(id, bucket, rights).await,
        }
    }

    /// How the cluster is; only a running node knows.
    pub async fn cluster(&mut self) -> Result<ClusterView> {
        match self {
            Self::Running(client) => client.get("/cluster").await,
            Self::Stopped(_) => Err(not_running()),
        }
    }

    /// A token with which one node may join within `good_for` seconds.
    pub async fn invite(&mut self, good_for: u64) -> Result<String> {
        match self {
            Self::Running(client) => client.post("/cluster/invite", &good_for).await,
            Self::Stopped(_) => Err(not_running()),
        }
    }

    /// Drains a node, lets it take copies again, or removes it.
    pub async fn set_fate(&mut self, node: NodeId, fate: Fate) -> Result<()> {
        match self {
            Self::Running(client) => client.post(&format!("/cluster/{node}"), &fate).await,
            Self::Stopped(_) => Err(not_running()),
        }
    }

    /// `path` is `BUCKET/PATH`.
    pub async fn info(&mut self, path: &[u8]) -> Result<FileInfo> {
        match self {
            Self::Running(client) => {
                let question = PathQuestion { path: path.to_vec() };
                client.post("/info", &question).await
            }
            Self::Stopped(store) => store.vfs.info(store.vfs.resolve(path)?),
        }
    }

    pub async fn fsck(
        &mut self,
        left_over: LeftOver,
        on_check: &mut OnCheck<'_>,
    ) -> Result<Report> {
        match self {
            Self::Running(client) => {
                let question = FsckQuestion { repair: left_over == LeftOver::Remove };
                client.post_long("/fsck", &question, on_check).await
            }
            Self::Stopped(store) => store.fsck(left_over, None).run(on_check),
        }
    }
}

fn not_running() -> Error {
    Error::Store(
        "no node serves this store: start it first, the cluster is asked through it".into(),
    )
}
