//! Access keys: made, listed, switched off, given new secrets, and what buckets grant them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::Vfs;
use super::access::Access;
use super::sealing::{SEALING_KEY_LEN, Sealing};
use super::words::Caller;
use crate::env::Clock;
use crate::error::{Error, Result};
use crate::meta::{AccessKey, KeyChange, KeyRole, KeyState, Mutation};
use crate::types::{BucketName, KEY_ID_LEN, KeyId, Rights, Timestamp};

const ID_PREFIX: &str = "BF";
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// 40 of 62 characters: 238 random bits.
const SECRET_LEN: usize = 40;
const SECRET_ALPHABET: &[u8; 62] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/// Ids drawn before it is given up: that one comes twice is a program error.
const DRAWS_MAX: usize = 4;

/// What a key is made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    /// Owner, group and umask of what it creates.
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub role: KeyRole,
    /// By the names of buckets.
    pub grants: BTreeMap<String, Rights>,
}

/// A key and its secret, which is told this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyWithSecret {
    pub access_key_id: KeyId,
    pub secret_access_key: String,
}

/// What may be told of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub access_key_id: KeyId,
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub role: KeyRole,
    pub state: KeyState,
    pub created_at: Timestamp,
    pub rotated_at: Option<Timestamp>,
    /// By the names of buckets; its own buckets among them.
    pub grants: BTreeMap<String, Rights>,
}

impl Vfs {
    /// Takes the key that seals the secrets of access keys; until then there are none.
    pub fn unlock_keys(&self, sealing_key: &[u8; SEALING_KEY_LEN]) {
        // A second one would be the same: a node has one file.
        let _ = self.sealing.set(Sealing::new(sealing_key));
    }

    fn sealing(&self) -> Result<&Sealing> {
        self.sealing.get().ok_or_else(|| {
            let missing = "the key that seals the secrets of access keys is missing: bring \
                           secrets.key back into the data directory, or delete all access keys";
            Error::Store(missing.into())
        })
    }

    /// The secret of a key that may be used.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::KeyDisabled`]; [`Error::Store`] when it cannot be opened.
    pub fn key_secret(&self, id: &str) -> Result<String> {
        let (id, key) = self.active_key(id)?;
        self.sealing()?.open(id, &key.sealed_secret)
    }

    /// Who a request with this bearer token is: `KEY.SECRET` of an access key.
    ///
    /// # Errors
    /// [`Error::WrongSecret`] for what is no token of a key; [`Error::KeyDisabled`] for one that
    /// is; [`Error::Store`] when secrets cannot be opened.
    pub fn token_caller(&self, token: &str) -> Result<Caller> {
        let (id, secret) = token.split_once('.').ok_or(Error::WrongSecret)?;
        let unknown = |error| match error {
            Error::NoKey => Error::WrongSecret,
            error => error,
        };
        let key = self.key(id).map_err(unknown)?;
        let known = self.sealing()?.open(key.0, &key.1.sealed_secret)?;
        // In the same time wherever they begin to differ.
        if !bool::from(known.as_bytes().ct_eq(secret.as_bytes())) {
            return Err(Error::WrongSecret);
        }
        self.key_caller(id)
    }

    /// Makes a key, on disk when it returns.
    ///
    /// # Errors
    /// [`Error::NoBucket`] for a grant of a bucket that is not there; nothing is made then.
    pub async fn create_key(&self, new: &NewKey) -> Result<KeyWithSecret> {
        let mut buckets = Vec::new();
        for (name, rights) in &new.grants {
            buckets.push((self.bucket_directory(&BucketName::new(name)?)?, *rights));
        }
        let made = self.create_bare_key(new).await?;
        for (bucket, rights) in buckets {
            let grant = Mutation::Grant { bucket, key: made.access_key_id, rights };
            if let Err(error) = self.propose_durably(grant, &Caller::default()).await {
                // Nobody has seen the secret: less than was asked for is no use to anybody.
                self.delete_key(made.access_key_id).await?;
                return Err(error);
            }
        }
        Ok(made)
    }

    async fn create_bare_key(&self, new: &NewKey) -> Result<KeyWithSecret> {
        let secret = random_text(&*self.clock, SECRET_ALPHABET, SECRET_LEN);
        let mut refusal = Error::AlreadyExists;
        for _ in 0..DRAWS_MAX {
            let tail = random_text(&*self.clock, ID_ALPHABET, KEY_ID_LEN - ID_PREFIX.len());
            let id: KeyId = format!("{ID_PREFIX}{tail}")
                .parse()
                .map_err(|error| Error::invalid(format!("{error}")))?;
            let key = AccessKey {
                sealed_secret: self.sealing()?.seal(&*self.clock, id, &secret)?,
                uid: new.uid,
                gid: new.gid,
                umask: new.umask,
                role: new.role,
                state: KeyState::Active,
                created_at: self.clock.now(),
                rotated_at: None,
            };
            let create = Mutation::CreateKey { id, key };
            match self.propose_durably(create, &Caller::default()).await {
                Ok(_) => {
                    return Ok(KeyWithSecret { access_key_id: id, secret_access_key: secret });
                }
                Err(error @ Error::AlreadyExists) => refusal = error,
                Err(error) => return Err(error),
            }
        }
        Err(refusal)
    }

    /// All keys in the order of their ids.
    ///
    /// # Errors
    /// What the table says.
    pub fn keys(&self) -> Result<Vec<KeyInfo>> {
        let records = self.replica.table().view().access_keys()?;
        let mut keys: Vec<KeyInfo> =
            records.into_iter().map(|(id, record)| info(id, &record)).collect();
        for bucket in self.buckets(&Caller::default())? {
            for (holder, rights) in &bucket.grants {
                if let Ok(at) = keys.binary_search_by_key(holder, |key| key.access_key_id) {
                    keys[at].grants.insert(bucket.name.clone(), *rights);
                }
            }
        }
        Ok(keys)
    }

    /// How many keys there are.
    ///
    /// # Errors
    /// What the table says.
    pub fn key_count(&self) -> Result<usize> {
        Ok(self.replica.table().view().access_keys()?.len())
    }

    /// # Errors
    /// [`Error::NoKey`].
    pub async fn delete_key(&self, id: KeyId) -> Result<()> {
        let delete = Mutation::DeleteKey { id };
        self.propose_durably(delete, &Caller::default()).await.map(|_| ())
    }

    /// Switches a key off, or on again.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub async fn set_key_state(&self, id: KeyId, state: KeyState) -> Result<()> {
        let change = Mutation::ChangeKey { id, change: KeyChange::State(state) };
        self.propose_durably(change, &Caller::default()).await.map(|_| ())
    }

    /// Gives a key a new secret; the old one is worth nothing when it returns.
    ///
    /// # Errors
    /// [`Error::NoKey`].
    pub async fn rotate_key(&self, id: KeyId) -> Result<KeyWithSecret> {
        let secret_access_key = random_text(&*self.clock, SECRET_ALPHABET, SECRET_LEN);
        let sealed = self.sealing()?.seal(&*self.clock, id, &secret_access_key)?;
        let change = KeyChange::Secret { sealed, at: self.clock.now() };
        let change = Mutation::ChangeKey { id, change };
        self.propose_durably(change, &Caller::default()).await?;
        Ok(KeyWithSecret { access_key_id: id, secret_access_key })
    }

    /// What a key may do with a bucket from now on, besides what it may as its owner.
    ///
    /// # Errors
    /// [`Error::NoKey`], [`Error::NoBucket`].
    pub async fn grant(&self, key: KeyId, bucket: &BucketName, rights: Rights) -> Result<()> {
        let bucket = self.bucket_directory(bucket)?;
        let grant = Mutation::Grant { bucket, key, rights };
        self.propose_durably(grant, &Caller::default()).await.map(|_| ())
    }
}

impl Caller {
    /// The operator of the node, as this user.
    pub fn operator(uid: u32, gid: u32) -> Self {
        Self { uid, gid, umask: 0o022, origin: 0, access: Access::Trusted }
    }
}

fn info(id: KeyId, key: &AccessKey) -> KeyInfo {
    KeyInfo {
        access_key_id: id,
        uid: key.uid,
        gid: key.gid,
        umask: key.umask,
        role: key.role,
        state: key.state,
        created_at: key.created_at,
        rotated_at: key.rotated_at,
        grants: BTreeMap::new(),
    }
}

fn random_text(clock: &dyn Clock, alphabet: &[u8], len: usize) -> String {
    // 64 random bits a character: the remainder is as good as even.
    let draw = || alphabet[(clock.random() % alphabet.len() as u64) as usize];
    (0..len).map(|_| char::from(draw())).collect()
}

/// Without the secret: what is printed may end in a log.
impl std::fmt::Debug for KeyWithSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyWithSecret({})", self.access_key_id)
    }
}
