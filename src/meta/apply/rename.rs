//! Names that move: rename(2) with its flags, for files and directories.

use super::copies::settle_in;
use super::namespace::{drop_link, gain, lose, put_directory};
use super::state::{State, Step, require};
use crate::meta::mutation::{Change, Outcome, Refusal, Rename, RenameMode};
use crate::meta::record::Dirent;
use crate::types::{FileKind, FileName, Ino, Timestamp};

/// Directories above one another that a directory can be moved below: all are looked at.
const DEPTH_MAX: usize = if cfg!(test) { 256 } else { 1 << 20 };

pub fn rename(state: &mut State<'_>, rename: &Rename) -> Step<Outcome> {
    let from = Place { parent: rename.parent, name: &rename.name };
    let to = Place { parent: rename.new_parent, name: &rename.new_name };
    state.directory(from.parent)?;
    state.directory(to.parent)?;
    let source = state.lookup(from.parent, from.name)?.ok_or(Refusal::NotFound)?;
    let target = state.lookup(to.parent, to.name)?;
    require(from.parent != Ino::ROOT && to.parent != Ino::ROOT, Refusal::RootRule)?;
    require(rename.mode != RenameMode::NoReplace || target.is_none(), Refusal::AlreadyExists)?;
    require(rename.mode != RenameMode::Exchange || target.is_some(), Refusal::NotFound)?;
    // Two names of one inode: rename(2) leaves both.
    if target.is_some_and(|target| target.ino == source.ino) {
        return Ok(Outcome::Done);
    }
    if from.parent != to.parent {
        require_not_below(state, source, to.parent)?;
    }
    match (target, rename.mode) {
        (Some(target), RenameMode::Exchange) => {
            if from.parent != to.parent {
                require_not_below(state, target, from.parent)?;
            }
            exchange(state, (from, source), (to, target), rename.at)
        }
        (Some(target), _) => replace(state, (from, source), (to, target), rename),
        (None, _) => {
            take(state, from, source, rename.at)?;
            settle(state, to, source, rename.at)?;
            Ok(Outcome::Done)
        }
    }
}

#[derive(Clone, Copy)]
struct Place<'a> {
    parent: Ino,
    name: &'a FileName,
}

fn replace(
    state: &mut State<'_>,
    (from, source): (Place<'_>, Dirent),
    (to, target): (Place<'_>, Dirent),
    rename: &Rename,
) -> Step<Outcome> {
    match (source.kind, target.kind) {
        (FileKind::Directory, FileKind::Directory) => {
            require(state.named_inode(target.ino)?.size == 0, Refusal::NotEmpty)?;
        }
        (FileKind::Directory, _) => return Err(Refusal::NotADirectory.into()),
        (_, FileKind::Directory) => return Err(Refusal::IsADirectory.into()),
        _ => {}
    }
    take(state, from, source, rename.at)?;
    take(state, to, target, rename.at)?;
    settle(state, to, source, rename.at)?;
    drop_link(state, target.ino, rename.held, rename.at)
}

fn exchange(
    state: &mut State<'_>,
    (from, source): (Place<'_>, Dirent),
    (to, target): (Place<'_>, Dirent),
    at: Timestamp,
) -> Step<Outcome> {
    take(state, from, source, at)?;
    take(state, to, target, at)?;
    settle(state, to, source, at)?;
    settle(state, from, target, at)?;
    Ok(Outcome::Done)
}

/// Removes an entry from its directory.
fn take(state: &mut State<'_>, place: Place<'_>, dirent: Dirent, at: Timestamp) -> Step<()> {
    state.delete_dirent(place.parent, place.name, dirent);
    let mut directory = state.named_inode(place.parent)?;
    lose(&mut directory, dirent.kind, at)?;
    directory.explicit = true;
    put_directory(state, place.parent, &directory)?;
    Ok(())
}

/// Puts an entry into a directory and tells what it names of its new parent.
fn settle(state: &mut State<'_>, place: Place<'_>, dirent: Dirent, at: Timestamp) -> Step<()> {
    state.put_dirent(place.parent, place.name, dirent)?;
    let mut directory = state.named_inode(place.parent)?;
    gain(&mut directory, dirent.kind, at)?;
    directory.explicit = true;
    put_directory(state, place.parent, &directory)?;
    let mut inode = state.named_inode(dirent.ino)?;
    inode.ctime = at;
    settle_in(state, dirent.ino, &mut inode, place.parent)?;
    inode.explicit |= dirent.kind == FileKind::Directory;
    state.put_inode(dirent.ino, &inode)?;
    state.tell(Change::Attributes(dirent.ino));
    Ok(())
}

/// # Errors
/// [`Refusal::BelowItself`] when a directory would come to lie in its own tree;
/// [`Refusal::TooMuch`] below more than `DEPTH_MAX` directories, which anybody can make.
fn require_not_below(state: &State<'_>, moved: Dirent, new_parent: Ino) -> Step<()> {
    if moved.kind != FileKind::Directory {
        return Ok(());
    }
    let mut at = new_parent;
    for _ in 0..DEPTH_MAX {
        require(at != moved.ino, Refusal::BelowItself)?;
        if at == Ino::ROOT {
            return Ok(());
        }
        at = state.named_inode(at)?.parent;
    }
    Err(Refusal::TooMuch.into())
}
