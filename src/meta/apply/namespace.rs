//! Names that come and go: make, link, unlink, rmdir.

use super::copies::settle_in;
use super::state::{State, Step, require};
use super::{collect, orphan, upload, xattrs};
use crate::error::{Error, Result};
use crate::meta::keys;
use crate::meta::mutation::{Change, Make, Outcome, Refusal};
use crate::meta::record::{Body, Bucket, Dirent, Inode};
use crate::types::limits::{LINK_MAX, SYMLINK_MAX};
use crate::types::{BucketName, FileKind, FileName, Ino, Mode, Timestamp};

pub fn make(state: &mut State<'_>, make: &Make) -> Step<Outcome> {
    let (ino, inode) = create(state, make)?;
    claim(state, make.parent)?;
    Ok(Outcome::Node { ino, inode: Box::new(inode) })
}

/// A mount has used the directory: it stays when S3 removes its last key.
pub fn claim(state: &mut State<'_>, directory: Ino) -> Step<()> {
    let mut inode = state.named_inode(directory)?;
    if !inode.explicit {
        inode.explicit = true;
        state.put_inode(directory, &inode)?;
    }
    Ok(())
}

/// As [`make`], by a door that leaves the parent as implicit as it is.
pub fn create(state: &mut State<'_>, make: &Make) -> Step<(Ino, Inode)> {
    let mut parent = state.directory(make.parent)?;
    let is_bucket = make.parent == Ino::ROOT;
    require(!is_bucket || make.kind == FileKind::Directory, Refusal::RootRule)?;
    require(!is_bucket || BucketName::try_from(&make.name).is_ok(), Refusal::Malformed)?;
    require(state.lookup(make.parent, &make.name)?.is_none(), Refusal::AlreadyExists)?;
    let inode = new_inode(make, &parent)?;
    let ino = Ino(state.superblock.next_ino);
    state.superblock.next_ino += 1;
    state.superblock.inodes += 1;
    state.put_dirent(make.parent, &make.name, Dirent { ino, kind: make.kind })?;
    gain(&mut parent, make.kind, make.at)?;
    put_directory(state, make.parent, &parent)?;
    state.put_inode(ino, &inode)?;
    for (name, value) in &make.xattrs {
        xattrs::insert(state, ino, name, value)?;
    }
    if is_bucket {
        let bucket =
            Bucket { created_at: make.at, quorum_required: true, owner: None, grants: Vec::new() };
        state.put(keys::bucket(ino), &bucket)?;
    }
    if !inode.published {
        state.mark(keys::unpublished(state.session, ino));
    }
    Ok((ino, inode))
}

fn new_inode(make: &Make, parent: &Inode) -> Step<Inode> {
    let (body, size) = match make.kind {
        FileKind::Symlink => {
            require((1..=SYMLINK_MAX).contains(&make.target.len()), Refusal::Malformed)?;
            (Body::Symlink(make.target.clone()), make.target.len() as u64)
        }
        FileKind::Regular => (Body::Inline(Vec::new()), 0),
        _ => (Body::None, 0),
    };
    require(make.kind == FileKind::Symlink || make.target.is_empty(), Refusal::Malformed)?;
    let is_directory = make.kind == FileKind::Directory;
    let is_device = matches!(make.kind, FileKind::CharDevice | FileKind::BlockDevice);
    let inherits = parent.mode.bits() & Mode::SET_GID != 0;
    let handed_down = if inherits && is_directory { Mode::SET_GID } else { 0 };
    Ok(Inode {
        kind: make.kind,
        mode: Mode::new((make.mode.bits() | handed_down).into()),
        uid: make.uid,
        gid: if inherits { parent.gid } else { make.gid },
        nlink: if is_directory { 2 } else { 1 },
        size,
        allocated: 0,
        rdev: if is_device { make.rdev } else { 0 },
        atime: make.at,
        mtime: make.at,
        ctime: make.at,
        crtime: make.at,
        parent: make.parent,
        body,
        version: 0,
        committed_at: make.at,
        etag: None,
        published: make.published || make.kind != FileKind::Regular,
        explicit: is_directory,
    })
}

pub fn link(
    state: &mut State<'_>,
    ino: Ino,
    (parent, name): (Ino, &FileName),
    at: Timestamp,
) -> Step<Outcome> {
    let mut directory = state.directory(parent)?;
    let mut inode = state.inode(ino)?.ok_or(Refusal::Stale)?;
    require(inode.kind != FileKind::Directory, Refusal::IsADirectory)?;
    require(parent != Ino::ROOT, Refusal::RootRule)?;
    require(inode.nlink > 0, Refusal::NotFound)?;
    require(state.lookup(parent, name)?.is_none(), Refusal::AlreadyExists)?;
    require(inode.nlink < LINK_MAX, Refusal::TooManyLinks)?;
    inode.nlink += 1;
    inode.ctime = at;
    settle_in(state, ino, &mut inode, parent)?;
    state.put_inode(ino, &inode)?;
    state.put_dirent(parent, name, Dirent { ino, kind: inode.kind })?;
    gain(&mut directory, inode.kind, at)?;
    directory.explicit = true;
    put_directory(state, parent, &directory)?;
    state.tell(Change::Attributes(ino));
    Ok(Outcome::Node { ino, inode: Box::new(inode) })
}

pub fn unlink(
    state: &mut State<'_>,
    (parent, name): (Ino, &FileName),
    held: bool,
    at: Timestamp,
) -> Step<Outcome> {
    let mut directory = state.directory(parent)?;
    let dirent = state.lookup(parent, name)?.ok_or(Refusal::NotFound)?;
    require(dirent.kind != FileKind::Directory, Refusal::IsADirectory)?;
    state.delete_dirent(parent, name, dirent);
    lose(&mut directory, dirent.kind, at)?;
    directory.explicit = true;
    put_directory(state, parent, &directory)?;
    drop_link(state, dirent.ino, held, at)
}

pub fn rmdir(
    state: &mut State<'_>,
    (parent, name): (Ino, &FileName),
    held: bool,
    at: Timestamp,
) -> Step<Outcome> {
    let mut directory = state.directory(parent)?;
    let dirent = state.lookup(parent, name)?.ok_or(Refusal::NotFound)?;
    require(dirent.kind == FileKind::Directory, Refusal::NotADirectory)?;
    require(state.named_inode(dirent.ino)?.size == 0, Refusal::NotEmpty)?;
    state.delete_dirent(parent, name, dirent);
    lose(&mut directory, dirent.kind, at)?;
    directory.explicit = true;
    put_directory(state, parent, &directory)?;
    if parent == Ino::ROOT {
        upload::abort_all(state, dirent.ino)?;
        state.delete(keys::bucket(dirent.ino));
    }
    drop_link(state, dirent.ino, held, at)
}

/// Counts a name that an inode has lost. Without any it is freed, or stays as an orphan while
/// somebody may have it open; see [`orphan::keep`].
pub fn drop_link(state: &mut State<'_>, ino: Ino, held: bool, at: Timestamp) -> Step<Outcome> {
    let mut inode = state.named_inode(ino)?;
    inode.nlink = match inode.kind {
        FileKind::Directory => 0,
        _ => inode.nlink.checked_sub(1).ok_or_else(|| miscounted(ino))?,
    };
    inode.ctime = at;
    if inode.nlink == 0 && !orphan::keep(state, ino, inode.kind, held)? {
        collect::free_inode(state, ino, &inode)?;
    } else {
        state.put_inode(ino, &inode)?;
        state.tell(Change::Attributes(ino));
        if inode.nlink == 0 {
            state.tell(Change::Orphaned(ino));
        }
    }
    Ok(Outcome::Removed { ino, inode: Box::new(inode) })
}

/// A directory got an entry.
pub fn gain(directory: &mut Inode, kind: FileKind, at: Timestamp) -> Step<()> {
    let links = u32::from(kind == FileKind::Directory);
    directory.nlink = directory.nlink.checked_add(links).ok_or(Refusal::TooManyLinks)?;
    directory.size += 1;
    (directory.mtime, directory.ctime) = (at, at);
    Ok(())
}

/// A directory lost an entry.
pub fn lose(directory: &mut Inode, kind: FileKind, at: Timestamp) -> Result<()> {
    let links = u32::from(kind == FileKind::Directory);
    let nlink = directory.nlink.checked_sub(links);
    let size = directory.size.checked_sub(1);
    let (Some(nlink), Some(size)) = (nlink, size) else {
        return Err(Error::damaged("a directory's entries were counted wrongly"));
    };
    (directory.nlink, directory.size) = (nlink, size);
    (directory.mtime, directory.ctime) = (at, at);
    Ok(())
}

pub fn put_directory(state: &mut State<'_>, ino: Ino, directory: &Inode) -> Step<()> {
    state.tell(Change::Attributes(ino));
    state.put_inode(ino, directory)
}

fn miscounted(ino: Ino) -> Error {
    Error::damaged(format!("the links of inode {} were counted wrongly", ino.0))
}
