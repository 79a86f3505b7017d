//! Objects, and whole directories of them, that get another key in one step: RenameObject.

use super::copies::settle_in;
use super::namespace::{create, drop_link, gain, lose, put_directory};
use super::object::{bucket, check, prune};
use super::state::{State, Step, require};
use crate::meta::mutation::{Change, Make, Outcome, Refusal};
use crate::meta::object::{ObjectPath, RenameObject};
use crate::meta::record::Dirent;
use crate::types::{FileKind, FileName, Ino};

pub fn rename(state: &mut State<'_>, rename: &RenameObject) -> Step<Outcome> {
    let (from, to) = (&rename.from, &rename.to);
    let fits = from.bucket == to.bucket && from.is_directory == to.is_directory;
    let named = !from.names.is_empty() && !to.names.is_empty();
    require(fits && named, Refusal::Malformed)?;
    let below = from.is_directory && to.names != from.names && to.names.starts_with(&from.names);
    require(!below, Refusal::BelowItself)?;
    let source = find(state, from)?.ok_or(Refusal::NotFound)?;
    let inode = state.named_inode(source.ino)?;
    // A directory is moved with what is in it, listed or not.
    require(inode.is_object() || from.is_directory, Refusal::NotFound)?;
    check(&rename.from_condition, Some((source.ino, &inode)))?;
    let target = find(state, to)?;
    let there = match target {
        Some(dirent) => Some((dirent.ino, state.named_inode(dirent.ino)?)),
        None => None,
    };
    check(&rename.to_condition, there.as_ref().map(|(ino, inode)| (*ino, inode)))?;
    if target.is_some_and(|target| target.ino == source.ino) {
        return Ok(Outcome::Done);
    }
    if let Some((_, inode)) = &there {
        let is_empty = inode.kind != FileKind::Directory || inode.size == 0;
        require(is_empty, Refusal::NotEmpty)?;
    }
    let outcome = relocate(state, rename, source, target)?;
    let way = way(state, from)?;
    prune(state, &way, &from.names, rename.at)?;
    Ok(outcome)
}

/// The entry of a key, if there is one of its kind.
fn find(state: &State<'_>, path: &ObjectPath) -> Step<Option<Dirent>> {
    let mut parent = bucket(state, path)?;
    let Some((name, parents)) = path.names.split_last() else { return Ok(None) };
    for name in parents {
        match state.lookup(parent, name)? {
            Some(dirent) if dirent.kind == FileKind::Directory => parent = dirent.ino,
            _ => return Ok(None),
        }
    }
    let wanted = if path.is_directory { FileKind::Directory } else { FileKind::Regular };
    Ok(state.lookup(parent, name)?.filter(|dirent| dirent.kind == wanted))
}

/// The directories down to the one that has the last name, the bucket first.
fn way(state: &State<'_>, path: &ObjectPath) -> Step<Vec<Ino>> {
    let mut way = vec![path.bucket];
    for name in &path.names[..path.names.len() - 1] {
        let at = way[way.len() - 1];
        match state.lookup(at, name)? {
            Some(dirent) if dirent.kind == FileKind::Directory => way.push(dirent.ino),
            _ => break,
        }
    }
    Ok(way)
}

fn relocate(
    state: &mut State<'_>,
    rename: &RenameObject,
    source: Dirent,
    target: Option<Dirent>,
) -> Step<Outcome> {
    let (Some((old_name, _)), Some((new_name, parents))) =
        (rename.from.names.split_last(), rename.to.names.split_last())
    else {
        return Err(Refusal::Malformed.into());
    };
    let old_parent = way(state, &rename.from)?.pop().ok_or(Refusal::NotFound)?;
    let new_parent = directories(state, rename, parents)?;
    let taken = state.lookup(new_parent, new_name)?;
    require(taken.map(|taken| taken.ino) == target.map(|target| target.ino), Refusal::InTheWay)?;
    leave(state, rename, (old_parent, old_name), source)?;
    let outcome = match target {
        Some(target) => {
            leave(state, rename, (new_parent, new_name), target)?;
            drop_link(state, target.ino, rename.held, rename.at)?
        }
        None => Outcome::Done,
    };
    state.put_dirent(new_parent, new_name, source)?;
    let mut directory = state.named_inode(new_parent)?;
    gain(&mut directory, source.kind, rename.at)?;
    put_directory(state, new_parent, &directory)?;
    let mut inode = state.named_inode(source.ino)?;
    inode.ctime = rename.at;
    settle_in(state, source.ino, &mut inode, new_parent)?;
    state.put_inode(source.ino, &inode)?;
    state.tell(Change::Attributes(source.ino));
    Ok(outcome)
}

/// An entry goes out of its directory; the inode stays.
fn leave(
    state: &mut State<'_>,
    rename: &RenameObject,
    (parent, name): (Ino, &FileName),
    dirent: Dirent,
) -> Step<()> {
    state.delete_dirent(parent, name, dirent);
    let mut directory = state.named_inode(parent)?;
    lose(&mut directory, dirent.kind, rename.at)?;
    put_directory(state, parent, &directory)?;
    Ok(())
}

/// The directories down to where the new key lies, made where they are missing.
fn directories(state: &mut State<'_>, rename: &RenameObject, names: &[FileName]) -> Step<Ino> {
    let mut parent = rename.to.bucket;
    for name in names {
        parent = match state.lookup(parent, name)? {
            Some(dirent) if dirent.kind == FileKind::Directory => dirent.ino,
            Some(_) => return Err(Refusal::InTheWay.into()),
            None => {
                let make = Make {
                    parent,
                    name: name.clone(),
                    kind: FileKind::Directory,
                    mode: rename.directory_mode,
                    uid: rename.uid,
                    gid: rename.gid,
                    rdev: 0,
                    target: Vec::new(),
                    xattrs: Vec::new(),
                    published: true,
                    at: rename.at,
                };
                let (ino, mut inode) = create(state, &make)?;
                inode.explicit = false;
                state.put_inode(ino, &inode)?;
                ino
            }
        };
    }
    Ok(parent)
}
