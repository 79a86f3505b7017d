//! Names: each leads to an inode of its kind, in a directory; buckets and xattrs have their owners.

use super::findings::{Findings, each, part};
use super::inodes::Inodes;
use crate::error::Result;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::record::{Bucket, Dirent};
use crate::types::{BucketName, FileKind, FileName, Ino};

pub fn check(view: &dyn KvRead, inodes: &mut Inodes, findings: &mut Findings) -> Result<()> {
    each(view, keys::DIRENT, |key, value| {
        let parent = part(keys::dirent_parent(key))?;
        let Some((name, as_directory)) = keys::dirent_name(key) else {
            findings.say(format!("an entry of inode {} has no valid name", parent.0));
            return Ok(());
        };
        let what = format!("name {:?} in inode {}", name, parent.0);
        let Some(dirent) = findings.decode::<Dirent>(&what, value) else { return Ok(()) };
        let is_directory = dirent.kind == FileKind::Directory;
        findings.require(is_directory == as_directory, || format!("{what} is spelled wrongly"));
        let twin = keys::file_dirent(parent, &name);
        let twin = as_directory && view.get(&twin)?.is_some();
        findings.require(!twin, || format!("{what} is a file and a directory"));
        leads_somewhere(inodes, parent, dirent, &what, findings);
        if parent == Ino::ROOT {
            bucket(view, &name, dirent, findings)?;
        }
        Ok(())
    })?;
    each(view, keys::BUCKET, |key, value| {
        let ino = part(keys::tail_number(key))?;
        findings.decode::<Bucket>(&format!("bucket {ino}"), value);
        let known = inodes.get(&Ino(ino));
        let is_bucket = known.is_some_and(|known| known.parent == Ino::ROOT && known.names > 0);
        findings.require(is_bucket, || format!("bucket {ino} is no directory of the root"));
        Ok(())
    })?;
    each(view, keys::XATTR, |key, value| {
        let ino = part(keys::head_number(key))?;
        findings.decode::<Vec<u8>>(&format!("an attribute of inode {ino}"), value);
        let owned = inodes.contains_key(&Ino(ino));
        findings.require(owned, || format!("an attribute belongs to inode {ino}, which is gone"));
        Ok(())
    })
}

/// Compares the entry with the inodes on both its ends, and counts it there.
fn leads_somewhere(
    inodes: &mut Inodes,
    parent: Ino,
    dirent: Dirent,
    what: &str,
    findings: &mut Findings,
) {
    let is_directory = dirent.kind == FileKind::Directory;
    match inodes.get_mut(&parent) {
        Some(known) => {
            known.entries += 1;
            known.subdirectories += u32::from(is_directory);
        }
        None => findings.say(format!("{what}: the directory is gone")),
    }
    let ino = dirent.ino.0;
    match inodes.get_mut(&dirent.ino) {
        Some(known) => {
            known.names += 1;
            let same = known.kind == dirent.kind;
            findings.require(same, || format!("{what}: inode {ino} is of another kind"));
            let at_home = !is_directory || (known.parent == parent && known.names == 1);
            findings.require(at_home, || format!("{what}: directory {ino} has another parent"));
        }
        None => findings.say(format!("{what}: inode {ino} is gone")),
    }
}

fn bucket(
    view: &dyn KvRead,
    name: &FileName,
    dirent: Dirent,
    findings: &mut Findings,
) -> Result<()> {
    let legal = dirent.kind == FileKind::Directory && BucketName::try_from(name).is_ok();
    findings.require(legal, || format!("{name:?} at the root is no bucket"));
    let recorded = view.get(&keys::bucket(dirent.ino))?.is_some();
    findings.require(recorded, || format!("bucket {name:?} has no record"));
    Ok(())
}
