//! Proves that the records of a table agree with one another: the metadata half of `fsck`.

mod access;
mod contents;
mod copies;
mod findings;
mod inodes;
mod locks;
mod names;
mod sessions;
#[cfg(test)]
mod tests;
mod uploads;

use self::findings::Findings;
use super::keys;
use super::kv::KvRead;
use super::record::Superblock;
use crate::error::Result;

/// Lists every contradiction found, one sentence each; an empty list is a sound table. Damaged
/// records are findings too.
///
/// Reads every record once and keeps some hundred bytes of memory for each inode, and less for
/// each chunk.
///
/// # Errors
/// When the table cannot be read.
pub fn check(view: &dyn KvRead) -> Result<Vec<String>> {
    let mut findings = Findings::default();
    let Some(bytes) = view.get(keys::SUPERBLOCK)? else {
        findings.say("there is no superblock".into());
        return Ok(findings.into_lines());
    };
    let Some(superblock) = findings.decode::<Superblock>("the superblock", &bytes) else {
        return Ok(findings.into_lines());
    };
    unknown_keys(view, &mut findings)?;
    let mut inodes = inodes::gather(view, &superblock, &mut findings)?;
    names::check(view, &mut inodes, &mut findings)?;
    inodes::check(view, &inodes, &mut findings)?;
    contents::check(view, &superblock, &inodes, &mut findings)?;
    copies::check(view, &mut findings)?;
    locks::check(view, &inodes, &mut findings)?;
    sessions::check(view, &superblock, &inodes, &mut findings)?;
    uploads::check(view, &inodes, &mut findings)?;
    access::check(view, &mut findings)?;
    Ok(findings.into_lines())
}

fn unknown_keys(view: &dyn KvRead, findings: &mut Findings) -> Result<()> {
    let mut known =
        vec![keys::SUPERBLOCK.to_vec(), keys::APPLIED.to_vec(), keys::PLACEMENT.to_vec()];
    known.extend(keys::FAMILIES.map(|prefix| vec![prefix]));
    known.sort();
    let mut from = Vec::new();
    for prefix in known {
        unknown_between(view, &from, &prefix, findings)?;
        from = match prefix.as_slice() {
            keys::SUPERBLOCK | keys::APPLIED | keys::PLACEMENT => {
                [prefix.as_slice(), &[0]].concat()
            }
            _ => keys::after(&prefix),
        };
    }
    unknown_between(view, &from, keys::END, findings)
}

fn unknown_between(
    view: &dyn KvRead,
    from: &[u8],
    to: &[u8],
    findings: &mut Findings,
) -> Result<()> {
    view.scan(from, to, &mut |key, _| {
        findings.say(format!("key {} has no known form", key.escape_ascii()));
        Ok(true)
    })
}
