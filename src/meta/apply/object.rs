//! Whole objects by key: put and delete, with the directories on the way.

use super::body::Bytes;
use super::copies::Namer;
use super::namespace::{create, drop_link, lose, put_directory};
use super::state::{State, Step, require};
use super::xattrs;
use crate::meta::keys;
use crate::meta::mutation::{Change, Make, Outcome, Refusal};
use crate::meta::object::{
    Chosen, Condition, DeleteObject, Expected, ObjectBody, ObjectPath, PutObject, S3_XATTRS, Sums,
};
use crate::meta::record::{Body, Dirent, Inode};
use crate::types::limits::{ETAG_MAX, INLINE_MAX, RECORD_MAX};
use crate::types::{FileKind, FileName, Ino, Mode, Timestamp};

/// A replaced file keeps its access ACL, as it keeps its mode.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

// The outcome of a put has two inodes.
const _: () = assert!(2 * (INLINE_MAX + ETAG_MAX + 1024) < RECORD_MAX);

pub fn put(state: &mut State<'_>, put: &PutObject) -> Step<Outcome> {
    let Some((name, parents)) = put.path.names.split_last() else {
        return Err(Refusal::Malformed.into());
    };
    let mut parent = bucket(state, &put.path)?;
    for name in parents {
        parent = match state.lookup(parent, name)? {
            Some(dirent) if dirent.kind == FileKind::Directory => dirent.ino,
            Some(_) => return Err(Refusal::InTheWay.into()),
            None => directory(state, parent, name, put, false)?.0,
        };
    }
    if put.path.is_directory {
        put_marker(state, parent, name, put)
    } else {
        put_file(state, parent, name, put)
    }
}

pub fn bucket(state: &State<'_>, path: &ObjectPath) -> Step<Ino> {
    require(state.is_marked(&keys::bucket(path.bucket))?, Refusal::NotFound)?;
    Ok(path.bucket)
}

/// # Errors
/// As [`Condition`] says of the object there is, if any.
pub fn check(condition: &Condition, there: Option<(Ino, &Inode)>) -> Step<()> {
    let there = there.filter(|(_, inode)| inode.is_object());
    match (condition, there) {
        (Condition::Always, _)
        | (Condition::Absent | Condition::NotETag(_), None)
        | (Condition::Present, Some(_)) => Ok(()),
        (Condition::Absent, Some(_)) => Err(Refusal::PreconditionFailed.into()),
        (Condition::Present | Condition::ETag(_), None) => Err(Refusal::NotFound.into()),
        (Condition::ETag(etag), Some((ino, inode))) => {
            require(inode.entity_tag(ino) == *etag, Refusal::PreconditionFailed)
        }
        (Condition::NotETag(etag), Some((ino, inode))) => {
            require(inode.entity_tag(ino) != *etag, Refusal::PreconditionFailed)
        }
    }
}

fn node(put: &PutObject, parent: Ino, name: &FileName, kind: FileKind, mode: Mode) -> Make {
    Make {
        parent,
        name: name.clone(),
        kind,
        mode,
        uid: put.uid,
        gid: put.gid,
        rdev: 0,
        target: Vec::new(),
        xattrs: Vec::new(),
        published: true,
        at: put.at,
    }
}

fn directory(
    state: &mut State<'_>,
    parent: Ino,
    name: &FileName,
    put: &PutObject,
    explicit: bool,
) -> Step<(Ino, Inode)> {
    let make = node(put, parent, name, FileKind::Directory, put.directory_mode);
    let (ino, mut inode) = create(state, &make)?;
    inode.explicit = explicit;
    state.put_inode(ino, &inode)?;
    Ok((ino, inode))
}

/// The object of a directory itself.
fn put_marker(
    state: &mut State<'_>,
    parent: Ino,
    name: &FileName,
    put: &PutObject,
) -> Step<Outcome> {
    let ObjectBody::Inline(data) = &put.body else { return Err(Refusal::FileTooLarge.into()) };
    require(data.len() <= INLINE_MAX, Refusal::FileTooLarge)?;
    let (ino, mut inode) = match state.lookup(parent, name)? {
        Some(dirent) if dirent.kind == FileKind::Directory => {
            let inode = state.named_inode(dirent.ino)?;
            check(&put.condition, Some((dirent.ino, &inode)))?;
            (dirent.ino, inode)
        }
        Some(_) => return Err(Refusal::InTheWay.into()),
        None => {
            check(&put.condition, None)?;
            directory(state, parent, name, put, true)?
        }
    };
    inode.explicit = true;
    choose(&mut inode, &put.chosen);
    inode.body = if data.is_empty() { Body::None } else { Body::Inline(data.clone()) };
    finish(state, ino, inode, put)
}

fn put_file(state: &mut State<'_>, parent: Ino, name: &FileName, put: &PutObject) -> Step<Outcome> {
    let old = match state.lookup(parent, name)? {
        Some(dirent) => {
            require(dirent.kind == FileKind::Regular, Refusal::InTheWay)?;
            Some((dirent, state.named_inode(dirent.ino)?))
        }
        None => None,
    };
    check(&put.condition, old.as_ref().map(|(dirent, inode)| (dirent.ino, inode)))?;
    let access: Option<Vec<u8>> = match &old {
        Some((dirent, _)) => state.get(&keys::xattr(dirent.ino, ACCESS_ACL))?,
        None => None,
    };
    let replaced = match &old {
        Some((dirent, _)) => Some(take(state, parent, name, *dirent, put.held, put.at)?),
        None => None,
    };
    let (ino, mut inode) = create(state, &node(put, parent, name, FileKind::Regular, put.mode))?;
    if let Some((_, old)) = old {
        // Others' bytes must not run with the rights that the owner gave to the old ones.
        (inode.uid, inode.gid, inode.mode) = (old.uid, old.gid, old.mode.without_privilege());
    }
    choose(&mut inode, &put.chosen);
    if let Some(access) = access.filter(|_| put.chosen.mode.is_none()) {
        xattrs::insert(state, ino, ACCESS_ACL, &access)?;
    }
    fill(state, ino, &mut inode, &put.body)?;
    let outcome = finish(state, ino, inode, put)?;
    match (outcome, replaced) {
        (Outcome::Put { ino, inode, .. }, Some(Outcome::Removed { ino: old, inode: gone })) => {
            Ok(Outcome::Put { ino, inode, replaced: Some((old, gone)) })
        }
        (outcome, _) => Ok(outcome),
    }
}

fn choose(inode: &mut Inode, chosen: &Chosen) {
    inode.uid = chosen.uid.unwrap_or(inode.uid);
    inode.gid = chosen.gid.unwrap_or(inode.gid);
    inode.mode = chosen.mode.unwrap_or(inode.mode);
}

fn fill(state: &mut State<'_>, ino: Ino, inode: &mut Inode, body: &ObjectBody) -> Step<()> {
    match body {
        ObjectBody::Inline(data) => {
            require(data.len() <= INLINE_MAX, Refusal::Malformed)?;
            (inode.size, inode.body) = (data.len() as u64, Body::Inline(data.clone()));
        }
        ObjectBody::Staged { content, size } => {
            let (namer, body) = (Namer::File(ino), Body::Inline(Vec::new()));
            let mut bytes = Bytes { namer, body, size: 0, allocated: 0, is_relaxed: false };
            bytes.adopt(state, *content, *size)?;
            (inode.body, inode.size, inode.allocated) = (bytes.body, bytes.size, bytes.allocated);
        }
    }
    Ok(())
}

/// Version, times, tag, sums and attributes of what was put.
fn finish(state: &mut State<'_>, ino: Ino, mut inode: Inode, put: &PutObject) -> Step<Outcome> {
    let short = put.etag.as_ref().is_none_or(|etag| etag.len() <= ETAG_MAX);
    require(short, Refusal::Malformed)?;
    inode.version += 1;
    inode.etag.clone_from(&put.etag);
    (inode.committed_at, inode.mtime, inode.ctime) = (put.at, put.at, put.at);
    xattrs::exchange(state, ino, S3_XATTRS, &put.xattrs)?;
    let sums = Sums { version: inode.version, ..put.sums.clone() };
    state.put(keys::sums(ino), &sums)?;
    state.put_inode(ino, &inode)?;
    state.tell(Change::Data(ino));
    Ok(Outcome::Put { ino, inode: Box::new(inode), replaced: None })
}

/// Removes a file's name and what only the name has kept.
fn take(
    state: &mut State<'_>,
    parent: Ino,
    name: &FileName,
    dirent: Dirent,
    held: bool,
    at: Timestamp,
) -> Step<Outcome> {
    let mut directory = state.named_inode(parent)?;
    state.delete_dirent(parent, name, dirent);
    lose(&mut directory, dirent.kind, at)?;
    put_directory(state, parent, &directory)?;
    drop_link(state, dirent.ino, held, at)
}

pub fn delete(state: &mut State<'_>, delete: &DeleteObject) -> Step<Outcome> {
    let Some((name, parents)) = delete.path.names.split_last() else {
        return Err(Refusal::Malformed.into());
    };
    let mut way = vec![bucket(state, &delete.path)?];
    let mut parent = way[0];
    for name in parents {
        match state.lookup(parent, name)? {
            Some(dirent) if dirent.kind == FileKind::Directory => parent = dirent.ino,
            _ => return Ok(Outcome::Done),
        }
        way.push(parent);
    }
    let wanted = if delete.path.is_directory { FileKind::Directory } else { FileKind::Regular };
    let Some(dirent) = state.lookup(parent, name)?.filter(|dirent| dirent.kind == wanted) else {
        return Ok(Outcome::Done);
    };
    let mut inode = state.named_inode(dirent.ino)?;
    if !inode.is_object() {
        return Ok(Outcome::Done);
    }
    meets(&delete.expected, (dirent.ino, &inode))?;
    let outcome = if delete.path.is_directory {
        (inode.explicit, inode.body, inode.etag) = (false, Body::None, None);
        inode.ctime = delete.at;
        xattrs::exchange(state, dirent.ino, S3_XATTRS, &[])?;
        state.delete(keys::sums(dirent.ino));
        put_directory(state, dirent.ino, &inode)?;
        way.push(dirent.ino);
        Outcome::Done
    } else {
        take(state, parent, name, dirent, delete.held, delete.at)?
    };
    prune(state, &way, &delete.path.names, delete.at)?;
    Ok(outcome)
}

fn meets(expected: &Expected, (ino, inode): (Ino, &Inode)) -> Step<()> {
    let etag = expected.etag.as_ref().is_none_or(|etag| inode.entity_tag(ino) == *etag);
    let size = expected.size.is_none_or(|size| inode.object_size() == size);
    let modified = expected.modified.is_none_or(|time| inode.committed_at.seconds == time);
    require(etag && size && modified, Refusal::PreconditionFailed)
}

/// Removes implicit directories without entries, deepest first. `way[0]` is the bucket, and
/// `names[n]` is the name of `way[n + 1]` in `way[n]`.
pub fn prune(state: &mut State<'_>, way: &[Ino], names: &[FileName], at: Timestamp) -> Step<()> {
    for level in (1..way.len()).rev() {
        let (ino, parent, name) = (way[level], way[level - 1], &names[level - 1]);
        let inode = state.named_inode(ino)?;
        if inode.explicit || inode.size > 0 {
            return Ok(());
        }
        take(state, parent, name, Dirent { ino, kind: FileKind::Directory }, false, at)?;
    }
    Ok(())
}
