//! Makes a new store with its first access key.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::secrets;
use super::serve::runtime;
use super::store::{Store, replica_options};
use crate::config::Config;
use crate::env::{Clock, Disk, RealDisk, SystemClock};
use crate::error::{Error, Result};
use crate::replication::{Birth, Credentials, Replica};
use crate::vfs::{KeyRole, NewKey};

/// A store that was just made.
#[derive(Clone, Serialize)]
pub struct Initialised {
    pub data_dir: PathBuf,
    pub chunk_size: u64,
    pub engine: String,
    pub access_key_id: String,
    /// Shown here and never again.
    pub secret_access_key: String,
}

/// Makes the store that `config` describes; it belongs to the user who runs this.
///
/// `cluster`: with the certificates that other nodes need to join.
///
/// # Errors
/// [`Error::Store`] when the directory holds a store already; [`Error::Io`].
pub fn init(config: &Config, cluster: bool) -> Result<Initialised> {
    config.check_buffer()?;
    let options = replica_options(config)?;
    let (data_dir, engine) = (options.data_dir.clone(), options.engine);
    make_private(&data_dir)?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    // SAFETY: both calls take nothing and cannot fail; getuid(2).
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    let birth = Birth { chunk_size: config.chunk_size.0, uid, gid };
    let key = runtime()?.block_on(async {
        let made = Replica::init(options, birth, Arc::clone(&disk), Arc::clone(&clock)).await?;
        if cluster {
            Credentials::generate(&made.cluster)?.save(&*disk, &data_dir)?;
        }
        secrets::make(&*disk, &*clock, &data_dir)?;
        let store = Store::open(config, Arc::new(|_| ())).await?;
        let made = store.vfs.create_key(&administrator(uid, gid)).await;
        let closed = store.close().await;
        made.and_then(|made| closed.map(|()| made))
    })?;
    Ok(Initialised {
        data_dir,
        chunk_size: birth.chunk_size,
        engine: engine.to_string(),
        access_key_id: key.access_key_id.to_string(),
        secret_access_key: key.secret_access_key,
    })
}

fn administrator(uid: u32, gid: u32) -> NewKey {
    NewKey { uid, gid, umask: 0o022, role: KeyRole::Administrator, grants: BTreeMap::new() }
}

/// Nobody but the owner may look into the store, past the permissions of its files.
pub(super) fn make_private(data_dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|error| Error::io(format!("making {}", data_dir.display()), error))
}
