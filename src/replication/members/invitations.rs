//! Invitations: who may become a member. Each is good once and for a while; the node that gave it
//! keeps only its hash.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::env::{Clock, Disk};
use crate::error::{Error, Result};
use crate::replication::files;
use crate::types::{NodeId, base64, from_base64, hex};

/// Invitations that wait at a time.
const WAITING_MAX: usize = 1000;
/// Version of the token's form.
const TOKEN: u8 = 1;

/// What the person who starts a new node hands to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    version: u8,
    /// 32 hexadecimal digits.
    pub cluster: String,
    /// The node to ask, and where.
    pub node: NodeId,
    pub address: String,
    /// The cluster's certificate authority, PEM.
    pub authority: String,
    pub secret: String,
}

impl Invitation {
    /// One line of text, for a command line.
    ///
    /// # Errors
    /// None that can happen: all of it is text.
    pub fn to_token(&self) -> Result<String> {
        let json = serde_json::to_vec(self).map_err(|error| Error::invalid(error.to_string()))?;
        Ok(base64(&json))
    }

    /// # Errors
    /// [`Error::Config`] for anything [`Self::to_token`] would not give.
    pub fn from_token(token: &str) -> Result<Self> {
        let bytes = from_base64(token.trim());
        let parsed = bytes.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        parsed.filter(|invitation| invitation.version == TOKEN).ok_or_else(|| {
            Error::Config(
                "this is no invitation of a cluster: take the whole line that `bucketfs cluster \
                 invite` prints"
                    .into(),
            )
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    /// Of the secret, hexadecimal.
    sha256: String,
    /// Seconds since 1970.
    good_until: i64,
}

/// Those this node has given.
pub struct Invitations {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
    /// One at a time changes the file.
    turn: Mutex<()>,
}

impl Invitations {
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { disk, path, clock, turn: Mutex::new(()) }
    }

    /// Remembers a new secret, durably, and returns it.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] when too many wait already, and what the disk says.
    pub fn invite(&self, good_for: Duration) -> Result<String> {
        let secret = format!("{:016x}{:016x}", self.clock.random(), self.clock.random());
        let _turn = self.turn.lock();
        let now = self.clock.now().seconds;
        let mut waiting = self.waiting()?;
        waiting.retain(|one| one.good_until > now);
        if waiting.len() >= WAITING_MAX {
            return Err(Error::NotPermitted(
                "too many invitations wait: use or outlive some first",
            ));
        }
        let good_for = i64::try_from(good_for.as_secs()).unwrap_or(i64::MAX);
        waiting.push(Waiting { sha256: hash(&secret), good_until: now.saturating_add(good_for) });
        files::replace(&*self.disk, &self.path, &waiting)?;
        Ok(secret)
    }

    /// Whether `secret` is one that waits. It is used up, durably, when this says so.
    ///
    /// # Errors
    /// What the disk says: it may be used up then.
    pub fn redeem(&self, secret: &str) -> Result<bool> {
        let _turn = self.turn.lock();
        let now = self.clock.now().seconds;
        let mut waiting = self.waiting()?;
        let before = waiting.len();
        let hash = hash(secret);
        let good = waiting.iter().any(|one| one.sha256 == hash && one.good_until > now);
        waiting.retain(|one| one.sha256 != hash && one.good_until > now);
        if waiting.len() != before {
            files::replace(&*self.disk, &self.path, &waiting)?;
        }
        Ok(good)
    }

    fn waiting(&self) -> Result<Vec<Waiting>> {
        Ok(files::read(&*self.disk, &self.path)?.unwrap_or_default())
    }
}

impl Invitation {
    pub fn new(
        cluster: &str,
        (node, address): (NodeId, &str),
        authority: &str,
        secret: String,
    ) -> Self {
        Self {
            version: TOKEN,
            cluster: cluster.to_owned(),
            node,
            address: address.to_owned(),
            authority: authority.to_owned(),
            secret,
        }
    }
}

fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::env::{SimClock, SimDisk};

    #[test]
    fn an_invitation_is_good_once_and_for_a_while_across_power_cuts() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let clock = Arc::new(SimClock::new(1));
        let open = |disk: &SimDisk| {
            Invitations::new(Arc::new(disk.clone()), "/d/invitations".into(), clock.clone())
        };
        let invitations = open(&disk);
        let hour = Duration::from_secs(3600);
        let (first, second) =
            (invitations.invite(hour).unwrap(), invitations.invite(hour).unwrap());
        assert!(!invitations.redeem("something else").unwrap());
        let disk = disk.crash(1);
        let invitations = open(&disk);
        assert!(invitations.redeem(&first).unwrap());
        let invitations = open(&disk.crash(2));
        assert!(!invitations.redeem(&first).unwrap());
        clock.advance(hour * 2);
        assert!(!invitations.redeem(&second).unwrap());
    }

    #[test]
    fn a_token_reads_back_and_nonsense_is_refused() {
        let invitation = Invitation::new("aa", (7, "host:9100"), "PEM", "secret".into());
        let token = invitation.to_token().unwrap();
        assert_eq!(Invitation::from_token(&format!(" {token}\n")).unwrap(), invitation);
        for bad in ["", "x", &token[..token.len() / 2], "e30="] {
            assert!(matches!(Invitation::from_token(bad), Err(Error::Config(_))), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_no_token(text in ".{0,80}", json in "[a-z0-9\"{}:,\\[\\]]{0,80}") {
            for text in [text, base64(json.as_bytes()), base64(format!("{{{json}}}").as_bytes())] {
                prop_assert!(Invitation::from_token(&text).is_err(), "{}", text);
            }
        }
    }
}
