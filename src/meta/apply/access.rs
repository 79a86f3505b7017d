//! Access keys, and what they may do with buckets.

use super::namespace;
use super::state::{State, Step, require};
use crate::meta::keys;
use crate::meta::mutation::{KeyChange, Make, Outcome, Refusal};
use crate::meta::record::{AccessKey, Bucket};
use crate::types::limits::RECORD_MAX;
use crate::types::{Ino, KEY_ID_LEN, KeyId, Rights};

/// Grants of one bucket.
pub const GRANTS_MAX: usize = 1000;
/// Bytes of a grant: the id with its length, the longest rights with theirs.
const GRANT_MAX: usize = KEY_ID_LEN + 1 + 32;
/// Bytes of a sealed secret.
const SEALED_MAX: usize = 256;

const _: () = assert!(GRANTS_MAX * GRANT_MAX + 256 < RECORD_MAX);

pub fn make_bucket(state: &mut State<'_>, make: &Make, owner: KeyId) -> Step<Outcome> {
    require(make.parent == Ino::ROOT, Refusal::RootRule)?;
    require(state.is_marked(&keys::access_key(owner))?, Refusal::NoKey)?;
    let made = namespace::make(state, make)?;
    if let Outcome::Node { ino, .. } = &made {
        let mut bucket = bucket(state, *ino)?;
        bucket.owner = Some(owner);
        state.put(keys::bucket(*ino), &bucket)?;
    }
    Ok(made)
}

pub fn create_key(state: &mut State<'_>, id: KeyId, key: &AccessKey) -> Step<Outcome> {
    require(key.sealed_secret.len() <= SEALED_MAX && key.umask <= 0o777, Refusal::Malformed)?;
    require(!state.is_marked(&keys::access_key(id))?, Refusal::AlreadyExists)?;
    state.put(keys::access_key(id), key)?;
    Ok(Outcome::Done)
}

pub fn change_key(state: &mut State<'_>, id: KeyId, change: &KeyChange) -> Step<Outcome> {
    let mut key: AccessKey = state.get(&keys::access_key(id))?.ok_or(Refusal::NoKey)?;
    match change {
        KeyChange::State(wanted) => key.state = *wanted,
        KeyChange::Secret { sealed, at } => {
            require(sealed.len() <= SEALED_MAX, Refusal::Malformed)?;
            key.sealed_secret.clone_from(sealed);
            key.rotated_at = Some(*at);
        }
    }
    state.put(keys::access_key(id), &key)?;
    Ok(Outcome::Done)
}

/// Its grants stay with their buckets: nobody gets the id again.
pub fn delete_key(state: &mut State<'_>, id: KeyId) -> Step<Outcome> {
    require(state.is_marked(&keys::access_key(id))?, Refusal::NoKey)?;
    state.delete(keys::access_key(id));
    Ok(Outcome::Done)
}

pub fn grant(state: &mut State<'_>, ino: Ino, key: KeyId, rights: Rights) -> Step<Outcome> {
    let mut bucket = bucket(state, ino)?;
    require(rights.is_empty() || state.is_marked(&keys::access_key(key))?, Refusal::NoKey)?;
    match bucket.grants.binary_search_by_key(&key, |(holder, _)| *holder) {
        Ok(at) if rights.is_empty() => drop(bucket.grants.remove(at)),
        Ok(at) => bucket.grants[at].1 = rights,
        Err(_) if rights.is_empty() => {}
        Err(at) => {
            require(bucket.grants.len() < GRANTS_MAX, Refusal::TooManyGrants)?;
            bucket.grants.insert(at, (key, rights));
        }
    }
    state.put(keys::bucket(ino), &bucket)?;
    Ok(Outcome::Done)
}

fn bucket(state: &State<'_>, ino: Ino) -> Step<Bucket> {
    Ok(state.get(&keys::bucket(ino))?.ok_or(Refusal::NotFound)?)
}
