//! Inodes: each in itself, and their links, sizes and places against the names found.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Findings, each, part};
use crate::error::Result;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::record::{Body, Inode, Orphan, Superblock};
use crate::types::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::types::{ContentId, FileKind, Ino, SessionId};

/// What the other checks need of an inode, and what they found about it.
pub struct Known {
    pub kind: FileKind,
    pub parent: Ino,
    pub content: Option<ContentId>,
    pub size: u64,
    pub allocated: u64,
    pub published: bool,
    nlink: u32,
    /// Names found.
    pub names: u32,
    /// Entries found in it, and how many of them are directories.
    pub entries: u64,
    pub subdirectories: u32,
}

pub type Inodes = BTreeMap<Ino, Known>;

pub fn gather(
    view: &dyn KvRead,
    superblock: &Superblock,
    findings: &mut Findings,
) -> Result<Inodes> {
    let mut inodes = Inodes::new();
    let mut count = 0u64;
    each(view, keys::INODE, |key, value| {
        count += 1;
        let ino = part(keys::tail_number(key))?;
        let what = format!("inode {ino}");
        findings.require(ino < superblock.next_ino, || format!("{what} was never given out"));
        if let Some(inode) = findings.decode::<Inode>(&what, value) {
            findings.require(has_its_form(&inode), || format!("{what} has not its kind's form"));
            inodes.insert(Ino(ino), known(&inode));
        }
        Ok(())
    })?;
    let told = superblock.inodes;
    findings.require(told == count, || format!("there are {count} inodes, counted are {told}"));
    Ok(inodes)
}

fn known(inode: &Inode) -> Known {
    Known {
        kind: inode.kind,
        parent: inode.parent,
        content: match inode.body {
            Body::Manifest(content) => Some(content),
            Body::None | Body::Inline(_) | Body::Symlink(_) => None,
        },
        size: inode.size,
        allocated: inode.allocated,
        published: inode.published,
        nlink: inode.nlink,
        names: 0,
        entries: 0,
        subdirectories: 0,
    }
}

fn has_its_form(inode: &Inode) -> bool {
    let empty = inode.allocated == 0;
    match (inode.kind, &inode.body) {
        (FileKind::Regular, Body::Inline(data)) => {
            data.len() <= INLINE_MAX && data.len() as u64 <= inode.size && empty
        }
        (FileKind::Regular, Body::Manifest(_)) => inode.size <= FILE_SIZE_MAX,
        (FileKind::Symlink, Body::Symlink(target)) => target.len() as u64 == inode.size && empty,
        (FileKind::Directory, Body::None) => empty,
        // What a PUT of `d/` has brought.
        (FileKind::Directory, Body::Inline(data)) => data.len() <= INLINE_MAX && empty,
        (FileKind::Regular | FileKind::Symlink, _) => false,
        (_, body) => *body == Body::None && inode.size == 0 && empty,
    }
}

/// Compares with what the names told.
pub fn check(view: &dyn KvRead, inodes: &Inodes, findings: &mut Findings) -> Result<()> {
    findings.require(inodes.contains_key(&Ino::ROOT), || "there is no root".into());
    let mut rooted = BTreeSet::from([Ino::ROOT]);
    for (&ino, known) in inodes {
        let number = ino.0;
        let links = expected_links(ino, known);
        findings.require(known.nlink == links, || {
            format!("inode {number} has {links} links, counted are {}", known.nlink)
        });
        let orphan = view.get(&keys::orphan(ino))?.is_some();
        findings.require(orphan == (known.nlink == 0), || {
            format!("inode {number} has {} links, orphan record: {orphan}", known.nlink)
        });
        if known.kind == FileKind::Directory {
            let entries = known.entries;
            findings.require(known.size == entries, || {
                format!("directory {number} has {entries} entries, counted are {}", known.size)
            });
            if known.nlink > 0 && !reaches_root(ino, inodes, &mut rooted) {
                findings.say(format!("directory {number} is not below the root"));
            }
        } else {
            let entries = known.entries;
            findings.require(entries == 0, || {
                format!("inode {number} has {entries} entries and is no directory")
            });
        }
    }
    orphans(view, inodes, findings)
}

/// Each orphan has an inode, and the holds that are counted.
fn orphans(view: &dyn KvRead, inodes: &Inodes, findings: &mut Findings) -> Result<()> {
    let mut holds: BTreeMap<u64, u32> = BTreeMap::new();
    each(view, keys::HOLD, |key, _| {
        let (session, ino) = (part(keys::head_number(key))?, part(keys::tail_number(key))?);
        *holds.entry(ino).or_default() += 1;
        let known = view.get(&keys::session(SessionId(session)))?.is_some();
        findings.require(known, || format!("session {session}, which is gone, holds inode {ino}"));
        Ok(())
    })?;
    each(view, keys::ORPHAN, |key, value| {
        let ino = part(keys::tail_number(key))?;
        let held = holds.remove(&ino).unwrap_or(0);
        if !inodes.contains_key(&Ino(ino)) {
            findings.say(format!("orphan {ino} has no inode"));
        } else if let Some(orphan) = findings.decode::<Orphan>(&format!("orphan {ino}"), value) {
            let right = orphan.holders == held && held > 0;
            findings.require(right, || {
                format!("orphan {ino} has {held} holders, counted are {}", orphan.holders)
            });
        }
        Ok(())
    })?;
    for ino in holds.into_keys() {
        findings.say(format!("inode {ino} is held, but no orphan"));
    }
    Ok(())
}

fn expected_links(ino: Ino, known: &Known) -> u32 {
    match known.kind {
        FileKind::Directory if known.names > 0 || ino == Ino::ROOT => 2 + known.subdirectories,
        FileKind::Directory => 0,
        _ => known.names,
    }
}

/// Walks up the parents; directories that got there are remembered in `rooted`.
fn reaches_root(ino: Ino, inodes: &Inodes, rooted: &mut BTreeSet<Ino>) -> bool {
    let mut way = BTreeSet::new();
    let mut at = ino;
    while !rooted.contains(&at) {
        let Some(known) = inodes.get(&at) else { return false };
        if !way.insert(at) {
            return false;
        }
        at = known.parent;
    }
    rooted.append(&mut way);
    true
}
