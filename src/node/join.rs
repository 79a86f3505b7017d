//! Makes the store of a node that joins a cluster.

use std::sync::Arc;

use super::init::make_private;
use super::secrets::FILE;
use super::serve::runtime;
use super::store::replica_options;
use crate::config::Config;
use crate::env::{Clock, Disk, RealDisk, SystemClock};
use crate::error::{Error, Result};
use crate::replication::{Credentials, Invitation, Joined, Replica, ask_to_join, joined_node};

/// Names that a secret may be kept under: those of this version.
const SECRETS: [&str; 1] = [FILE];

/// Redeems the invitation `token` and makes the store that it allows. A store that is there already
/// stays as it is, so that a node may always be started with the same words.
///
/// # Errors
/// [`Error::Config`] for a token that is none or a node that nobody could reach, [`Error::Store`]
/// when the cluster refuses or the store is another cluster's.
pub fn join(config: &Config, token: &str) -> Result<()> {
    let invitation = Invitation::from_token(token)?;
    if config.peers_listen.is_none() {
        let what = "to join a cluster set `peers.listen`, where the other nodes reach this one";
        return Err(Error::Config(what.into()));
    }
    let options = replica_options(config)?;
    let data_dir = options.data_dir.clone();
    if let Some(cluster) = joined_node(&data_dir)? {
        return match cluster == invitation.cluster {
            true => Ok(()),
            false => Err(Error::Store(format!(
                "{} holds a store of another cluster: take an empty directory",
                data_dir.display()
            ))),
        };
    }
    make_private(&data_dir)?;
    runtime()?.block_on(async {
        let joined = ask_to_join(&invitation).await?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let Joined { node, cluster, authority, authority_key, members, mut secrets } = joined;
        secrets.retain(|(name, _)| SECRETS.contains(&name.as_str()));
        let credentials = Credentials { authority, authority_key };
        let identity = (node, cluster);
        Replica::init_joined(options, identity, &credentials, &members, &secrets, disk, clock)
            .await
            .map(|_| ())
    })
}
