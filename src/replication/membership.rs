//! A replica as a member of its cluster: how it becomes one, what it does for the others, whom it
//! lets in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::copies::{ChunkPeers, ChunkServer, RemoteChunks};
use super::files;
use super::members::{
    ClusterStatus, Council, Invitation, Living, Service, admit_until_member, tell_address,
};
use super::options::{OnProgress, Options, Progress};
use super::peers::{About, Credentials, Kind, call};
use super::replica::Replica;
use super::start::{Opened, is_alone};
use super::store::StoreDir;
use crate::error::{Error, Result};
use crate::types::NodeId;

/// Between two words about a quorum that is waited for.
const STILL_WAITING: Duration = Duration::from_secs(10);
/// How long a node may take to say what it runs.
const ABOUT_MAX: Duration = Duration::from_secs(1);

/// A member and what it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeVersion {
    pub node: NodeId,
    #[serde(flatten)]
    pub about: About,
}

impl Replica {
    /// What the node proves itself with; a node that is about to have its first peer makes it.
    ///
    /// # Errors
    /// [`Error::Store`] when a member has lost it.
    pub(super) fn own_credentials(
        opened: &Opened,
        dir: &StoreDir,
        options: &Options,
    ) -> Result<Option<Credentials>> {
        if options.peers.is_none() {
            return Ok(None);
        }
        if let Some(known) = Credentials::load(&*dir.disk, &dir.root)? {
            return Ok(Some(known));
        }
        if !is_alone(&opened.machine, opened.node.node) {
            // Another authority than the others' would shut this node out, and whom it invites.
            return Err(Error::Store(format!(
                "peers/authority.key or peers/authority.pem is missing in {}: copy peers/ from \
                 another node of the cluster",
                dir.root.display()
            )));
        }
        let new = Credentials::generate(&opened.node.cluster)?;
        new.save(&*dir.disk, &dir.root)?;
        Ok(Some(new))
    }

    /// What answers the others; none without peers.
    pub(super) fn service(&self) -> Option<Service> {
        Some(Service {
            cluster: self.cluster.clone(),
            proposer: self.proposer.clone(),
            log: Arc::clone(&self.log),
            barrier: Arc::clone(&self.barrier),
            leases: Arc::clone(&self.leases),
            invitations: Arc::clone(&self.invitations),
            credentials: self.credentials.clone()?,
            name: self.node.cluster.clone(),
            clock: Arc::clone(&self.clock),
            receiving: Default::default(),
            campaign: Arc::clone(self.host.campaign()),
            chunks: Arc::clone(&self.chunk_server),
            secrets: self.options.secrets.clone(),
        })
    }

    /// Waits, however long it takes, until this node is a member and the cluster has a quorum.
    pub(super) async fn become_member(&self, progress: OnProgress<'_>) -> Result<()> {
        let contacts: Vec<(NodeId, String)> =
            files::read(&*self.dir.disk, &self.dir.contacts())?.unwrap_or_default();
        for (node, address) in self.cluster.members() {
            self.cluster.transport.learn(node, &address);
        }
        let member = async {
            admit_until_member(&self.cluster, &self.address, contacts).await?;
            let known = self.cluster.address_of(self.node.node);
            if known.is_some_and(|known| known != self.address) {
                tell_address(&self.cluster, &self.address).await;
            }
            loop {
                match self.barrier.pass().await {
                    Err(Error::NoQuorum(why)) => {
                        log::info!("waiting for a quorum: {why}");
                        self.cluster.require_membership().await?;
                        tell_address(&self.cluster, &self.address).await;
                    }
                    passed => return passed,
                }
            }
        };
        tokio::pin!(member);
        loop {
            progress(Progress::Waiting);
            match tokio::time::timeout(STILL_WAITING, &mut member).await {
                Ok(done) => return done,
                Err(_) => log::info!("still waiting for a quorum of the cluster"),
            }
        }
    }

    /// What a member does for the others, besides answering them.
    pub(super) fn begin_duties(&self) {
        let living = Living {
            cluster: self.cluster.clone(),
            book: Arc::clone(&self.proposer.book),
            address: self.address.clone(),
            leases: Arc::clone(&self.leases),
            disk: Arc::clone(&self.dir.disk),
            disk_health: self.disk_health(),
            data_dir: self.dir.root.clone(),
        };
        self.host.spawn(living.keep_alive());
        if self.listening.is_none() {
            return;
        }
        self.host.spawn(Arc::clone(&self.barrier).keep_looking());
        self.host.spawn(self.cluster.clone().keep_addresses());
        let council = Council {
            cluster: self.cluster.clone(),
            leases: Arc::clone(&self.leases),
            proposer: self.proposer.clone(),
        };
        self.host.spawn(council.run());
    }

    /// Returns when this node has been removed from its cluster: it cannot serve any more.
    pub async fn until_removed(&self) -> Error {
        self.cluster.until_removed().await
    }

    /// Whether this node has had no quorum for so long that it is no pause of an election.
    pub fn is_cut_off(&self) -> bool {
        !self.is_alone() && self.listening.is_some() && self.barrier.is_cut_off()
    }

    /// How the cluster and its members are.
    pub async fn cluster_status(&self) -> ClusterStatus {
        self.cluster.census(&self.node.cluster, &self.leases).await
    }

    /// What the members run, of those that answer soon; one of a version before does not know the question.
    pub async fn versions(&self) -> Vec<NodeVersion> {
        let others = self.cluster.members().into_iter().filter(|(node, _)| *node != self.node.node);
        let mut asked = JoinSet::new();
        for (node, address) in others {
            let transport = Arc::clone(&self.cluster.transport);
            transport.learn(node, &address);
            asked.spawn(async move {
                let about = call(&*transport, node, Kind::About, &(), ABOUT_MAX).await;
                (node, about)
            });
        }
        let mut versions = vec![NodeVersion { node: self.node.node, about: About::this() }];
        for (node, about) in asked.join_all().await {
            match about {
                Ok(Ok(about)) => versions.push(NodeVersion { node, about }),
                Ok(Err(denied)) => log::debug!("node {node} does not say what it runs: {denied:?}"),
                Err(error) => log::debug!("what it runs: {error}"),
            }
        }
        versions.sort_by_key(|version| version.node);
        versions
    }

    /// A token with which one new node may join within `good_for`.
    ///
    /// # Errors
    /// [`Error::Config`] when this node does not listen to peers.
    pub fn invite(&self, good_for: Duration) -> Result<String> {
        let Some(credentials) = &self.credentials else {
            return Err(Error::Config(
                "this node has no peers: serve with `--peers-listen ADDRESS` first".into(),
            ));
        };
        let secret = self.invitations.invite(good_for)?;
        let place = (self.node.node, self.address.as_str());
        Invitation::new(&self.node.cluster, place, &credentials.authority, secret).to_token()
    }

    /// The chunks of the other members.
    pub fn chunk_peers(&self) -> Arc<dyn ChunkPeers> {
        let transport = Arc::clone(&self.cluster.transport);
        Arc::new(RemoteChunks::new(transport, self.options.timeout))
    }

    /// From now on the others are answered about this node's chunks.
    pub fn serve_chunks(&self, server: ChunkServer) {
        // Set once, by whoever opens the store; another one would be over the same files.
        let _ = self.chunk_server.set(Arc::new(server));
    }
}
