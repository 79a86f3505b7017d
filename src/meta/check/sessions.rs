//! Sessions: outcomes, unpublished files and staged contents belong to one that is recorded.

use std::collections::{BTreeMap, BTreeSet};

use super::findings::{Findings, each, part};
use super::inodes::Inodes;
use crate::error::Result;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::mutation::Outcome;
use crate::meta::record::{Session, Superblock};
use crate::types::{FileKind, Ino, SessionId};

pub fn check(
    view: &dyn KvRead,
    superblock: &Superblock,
    inodes: &Inodes,
    findings: &mut Findings,
) -> Result<()> {
    let mut sessions: BTreeMap<u64, Session> = BTreeMap::new();
    each(view, keys::SESSION, |key, value| {
        let id = part(keys::tail_number(key))?;
        let known = id < superblock.next_session;
        findings.require(known, || format!("session {id} was never given out"));
        sessions.extend(findings.decode(&format!("session {id}"), value).map(|it| (id, it)));
        Ok(())
    })?;
    nonces(view, &sessions, findings)?;
    each(view, keys::OUTCOME, |key, value| {
        let id = part(keys::head_number(key))?;
        let sequence = part(keys::tail_number(key))?;
        let what = format!("outcome {sequence} of session {id}");
        findings.decode::<Outcome>(&what, value);
        let kept = sessions.get(&id).is_some_and(|it| it.is_ended() || sequence > it.settled);
        findings.require(kept, || format!("{what} is settled"));
        Ok(())
    })?;
    each(view, keys::STAGED, |key, _| {
        let id = part(keys::head_number(key))?;
        let owned = sessions.contains_key(&id);
        findings.require(owned, || format!("a content is staged by session {id}, which is gone"));
        Ok(())
    })?;
    unpublished(view, &sessions, inodes, findings)
}

fn nonces(
    view: &dyn KvRead,
    sessions: &BTreeMap<u64, Session>,
    findings: &mut Findings,
) -> Result<()> {
    let live = sessions.iter().filter(|(_, session)| !session.is_ended());
    let mut nameless: BTreeSet<u64> = live.map(|(&id, _)| id).collect();
    each(view, keys::NONCE, |_, value| {
        if let Some(SessionId(id)) = findings.decode("a nonce", value) {
            let first = nameless.remove(&id);
            findings.require(first, || format!("a nonce names session {id}, which has none"));
        }
        Ok(())
    })?;
    nameless.into_iter().for_each(|id| findings.say(format!("session {id} has no nonce")));
    Ok(())
}

fn unpublished(
    view: &dyn KvRead,
    sessions: &BTreeMap<u64, Session>,
    inodes: &Inodes,
    findings: &mut Findings,
) -> Result<()> {
    let hidden = inodes.iter().filter(|(_, known)| !known.published);
    let mut hidden: BTreeSet<Ino> = hidden.map(|(&ino, _)| ino).collect();
    for ino in &hidden {
        let file = inodes.get(ino).is_some_and(|known| known.kind == FileKind::Regular);
        findings.require(file, || format!("inode {} is unpublished and no file", ino.0));
    }
    each(view, keys::UNPUBLISHED, |key, _| {
        let id = part(keys::head_number(key))?;
        let ino = part(keys::tail_number(key))?;
        let what = format!("unpublished file {ino} of session {id}");
        findings.require(hidden.remove(&Ino(ino)), || format!("{what} is gone or published"));
        let owned = sessions.contains_key(&id);
        findings.require(owned, || format!("{what}: the session is gone"));
        Ok(())
    })?;
    for ino in hidden {
        findings.say(format!("inode {} is unpublished in no session", ino.0));
    }
    Ok(())
}
