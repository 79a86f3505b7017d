//! Locks: each is of a file and a session that exist, fits beside the others, and is in the index.

use std::collections::BTreeMap;

use super::findings::{Findings, each, part};
use super::inodes::Inodes;
use crate::error::Result;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::lock::{HeldLock, Locks};
use crate::types::Ino;

pub fn check(view: &dyn KvRead, inodes: &Inodes, findings: &mut Findings) -> Result<()> {
    let mut of_file: BTreeMap<Ino, Vec<HeldLock>> = BTreeMap::new();
    each(view, keys::LOCK, |key, value| {
        let ino = Ino(part(keys::head_number(key))?);
        let (session, owner) = part(keys::locker(key))?;
        let what = format!("a lock of session {} on inode {}", session.0, ino.0);
        let known = view.get(&keys::session(session))?.is_some();
        findings.require(known, || format!("{what}: the session is gone"));
        findings.require(inodes.contains_key(&ino), || format!("{what}: the inode is gone"));
        let listed = view.get(&keys::lock_of(session, ino, owner))?.is_some();
        findings.require(listed, || format!("{what}: not in the index"));
        let Some(locks) = findings.decode::<Locks>(&what, value) else { return Ok(()) };
        findings.require(locks.is_valid(), || format!("{what}: its ranges have no order"));
        let others = of_file.entry(ino).or_default();
        let clash = others.iter().any(|other| locks.in_the_way(other).is_some());
        findings.require(!clash, || format!("{what}: another owner has it too"));
        others.extend(locks.held);
        Ok(())
    })?;
    each(view, keys::LOCK_OF, |key, _| {
        let session = part(keys::head_number(key))?;
        let (ino, owner) = part(keys::locked(key))?;
        let lock = keys::lock(ino, crate::types::SessionId(session), owner);
        let there = view.get(&lock)?.is_some();
        findings.require(there, || {
            format!("session {session} is said to have a lock on inode {}, and has none", ino.0)
        });
        Ok(())
    })
}
