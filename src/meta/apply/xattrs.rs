//! Extended attributes.

use super::state::{State, Step, require};
use crate::meta::keys;
use crate::meta::mutation::{Change, Outcome, Refusal, SetXattr, XattrMode};
use crate::meta::object::ReplaceXattrs;
use crate::types::limits::{XATTR_NAME_MAX, XATTR_NAMES_MAX, XATTR_VALUE_MAX};
use crate::types::{FileKind, Ino, Timestamp};

pub fn set(state: &mut State<'_>, change: &SetXattr) -> Step<Outcome> {
    let mut inode = state.inode(change.ino)?.ok_or(Refusal::Stale)?;
    let exists = state.is_marked(&keys::xattr(change.ino, &change.name))?;
    require(change.mode != XattrMode::Create || !exists, Refusal::AlreadyExists)?;
    require(change.mode != XattrMode::Replace || exists, Refusal::NoAttribute)?;
    insert(state, change.ino, &change.name, &change.value)?;
    inode.mode = change.permissions.unwrap_or(inode.mode);
    inode.explicit |= inode.kind == FileKind::Directory;
    inode.ctime = change.at;
    state.put_inode(change.ino, &inode)?;
    state.tell(Change::Attributes(change.ino));
    Ok(Outcome::Done)
}

pub fn replace(state: &mut State<'_>, change: &ReplaceXattrs) -> Step<Outcome> {
    let mut inode = state.inode(change.ino)?.ok_or(Refusal::Stale)?;
    exchange(state, change.ino, &change.prefix, &change.xattrs)?;
    inode.ctime = change.at;
    state.put_inode(change.ino, &inode)?;
    state.tell(Change::Attributes(change.ino));
    Ok(Outcome::Done)
}

/// Removes the attributes that begin with `prefix` and puts others.
pub fn exchange(
    state: &mut State<'_>,
    ino: Ino,
    prefix: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
) -> Step<()> {
    let start = keys::xattr(ino, prefix);
    let end = keys::after(&start);
    for key in state.keys(&(start, end), usize::MAX)? {
        state.delete(key);
    }
    for (name, value) in xattrs {
        require(name.starts_with(prefix), Refusal::Malformed)?;
        insert(state, ino, name, value)?;
    }
    Ok(())
}

/// Puts one attribute, new or not.
pub fn insert(state: &mut State<'_>, ino: Ino, name: &[u8], value: &[u8]) -> Step<()> {
    require_fitting(name, value)?;
    let key = keys::xattr(ino, name);
    if !state.is_marked(&key)? {
        let prefix = keys::xattr(ino, b"").len();
        let names = state.keys(&keys::xattrs(ino), usize::MAX)?;
        let listed: usize = names.iter().map(|key| key.len() - prefix + 1).sum();
        require(listed + name.len() < XATTR_NAMES_MAX, Refusal::TooManyAttributes)?;
    }
    state.put(key, &value)?;
    Ok(())
}

/// # Errors
/// [`Refusal::Malformed`] for what no inode can have.
pub fn require_fitting(name: &[u8], value: &[u8]) -> Step<()> {
    let named = (1..=XATTR_NAME_MAX).contains(&name.len()) && !name.contains(&0);
    require(named && value.len() <= XATTR_VALUE_MAX, Refusal::Malformed)
}

pub fn remove(state: &mut State<'_>, ino: Ino, name: &[u8], at: Timestamp) -> Step<Outcome> {
    let mut inode = state.inode(ino)?.ok_or(Refusal::Stale)?;
    let key = keys::xattr(ino, name);
    require(!name.is_empty() && state.is_marked(&key)?, Refusal::NoAttribute)?;
    state.delete(key);
    inode.explicit |= inode.kind == FileKind::Directory;
    inode.ctime = at;
    state.put_inode(ino, &inode)?;
    state.tell(Change::Attributes(ino));
    Ok(Outcome::Done)
}
