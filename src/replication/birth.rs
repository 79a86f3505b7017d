//! Making a store: of a new cluster, or for a node that joins one.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::BasicNode;

use super::files;
use super::log::Log;
use super::options::{Birth, Options};
use super::peers::{Credentials, Plugged};
use super::proposer::Wait;
use super::replica::Replica;
use super::start::Starter;
use super::store::{FORMAT, NodeFile, StoreDir};
use crate::env::{Clock, Disk, replace_file};
use crate::error::{Error, Result};
use crate::meta::Mutation;
use crate::types::NodeId;

impl Replica {
    /// Makes a new store: its log with the first entries, its table, its name.
    ///
    /// # Errors
    /// [`Error::Store`] when the directory holds something already.
    pub async fn init(
        options: Options,
        birth: Birth,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<NodeFile> {
        let cluster = u128::from(clock.random()) << 64 | u128::from(clock.random());
        let node = NodeFile {
            format: FORMAT,
            // Short enough for every reader of JSON.
            node: clock.random() >> 16 | 1,
            cluster: format!("{cluster:032x}"),
        };
        let replica = Self::make(Options { peers: None, ..options }, node, disk, clock).await?;
        replica.found(cluster, birth).await?;
        replica.finish().await
    }

    /// Makes the store of a node that joins a cluster under the name it was given there. It becomes
    /// a member when it is opened, by asking `contacts`. `secrets`: files of the cluster that have to
    /// be in the directory when the store is.
    ///
    /// # Errors
    /// As [`Self::init`].
    pub async fn init_joined(
        options: Options,
        (node, cluster): (NodeId, String),
        credentials: &Credentials,
        contacts: &[(NodeId, String)],
        secrets: &[(String, Vec<u8>)],
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<NodeFile> {
        let node = NodeFile { format: FORMAT, node, cluster };
        let options = Options { peers: None, ..options };
        let replica = Self::make(options, node, Arc::clone(&disk), clock).await?;
        credentials.save(&*disk, &replica.dir.root)?;
        files::replace(&*disk, &replica.dir.contacts(), &contacts)?;
        for (name, bytes) in secrets {
            let path = replica.dir.root.join(name);
            replace_file(&*disk, &path, bytes)
                .map_err(|error| Error::io(format!("writing {}", path.display()), error))?;
        }
        replica.finish().await
    }

    async fn make(
        options: Options,
        node: NodeFile,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let dir = StoreDir::new(Arc::clone(&disk), &options);
        let making = |error| Error::io(format!("making {}", dir.root.display()), error);
        disk.create_dir_all(&dir.root).map_err(making)?;
        let starter = Starter { dir: &dir, options: &options, clock: &clock, progress: &|_| {} };
        // Before the lock, which would be a file in somebody else's directory.
        dir.left_of_making()?;
        let lock = starter.lock()?;
        dir.begin()?;
        Log::create(&*disk, &dir.log(), options.log)?;
        let opened = starter.open_new(node, lock)?;
        Self::assemble(opened, None, Plugged::nowhere(), dir, options, clock).await
    }

    /// The last step of making a store.
    async fn finish(self) -> Result<NodeFile> {
        self.stop().await?;
        self.dir.finish(&self.node)?;
        Ok(self.node.clone())
    }

    /// The first entries of a new cluster: its only member, and the root.
    async fn found(&self, cluster: u128, birth: Birth) -> Result<()> {
        let member = BTreeMap::from([(self.node.node, BasicNode::new(&self.address))]);
        let made = self.host.raft().initialize(member).await;
        made.map_err(|error| Error::Store(format!("founding the cluster: {error}")))?;
        self.host.lead(self.options.timeout).await?;
        let Birth { chunk_size, uid, gid } = birth;
        let at = self.clock.now();
        let genesis = Mutation::Genesis { cluster, chunk_size, uid, gid, at };
        self.propose(genesis, Wait::Durable, 0).await.map(|_| ())
    }
}
