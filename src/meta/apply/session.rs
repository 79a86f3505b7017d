//! The birth of a store, and the leases under which nodes write: who may still say what.

use super::state::{State, Step, read, require};
use super::{locks, orphan};
use crate::error::Result;
use crate::meta::kv::KvTxn;
use crate::meta::mutation::{Change, Mutation, Outcome, Refusal, Request};
use crate::meta::record::{Body, Inode, Session, Superblock};
use crate::meta::{codec, keys};
use crate::types::limits::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN};
use crate::types::{ContentId, FileKind, Ino, Mode, NodeId, RequestId, SessionId, Timestamp};

/// Bytes of a node's address.
const ADDRESS_MAX: usize = 1024;
/// Records of an ended session that one mutation clears away.
const CLEARED_AT_ONCE: usize = 1024;

pub enum Admission {
    /// Applied before, or never to be applied.
    Answered(Outcome),
    /// To be applied. `keep`: its outcome is kept for a repetition.
    Granted { chunk_mark: u64, keep: bool },
}

/// Decides whether a request is applied, and advances its session's marks.
pub fn admit(txn: &mut dyn KvTxn, request: &Request) -> Result<Admission> {
    let own_end = match request.mutation {
        Mutation::Genesis { .. } => return Ok(Admission::Granted { chunk_mark: 0, keep: false }),
        Mutation::OpenSession { .. } => {
            return Ok(if request.id.session == SessionId(0) {
                Admission::Granted { chunk_mark: 0, keep: false }
            } else {
                refused(Refusal::Malformed)
            });
        }
        Mutation::EndSession { session } => session == request.id.session,
        _ => false,
    };
    let RequestId { session: id, sequence } = request.id;
    let key = keys::session(id);
    let session: Option<Session> = read(&*txn, &key)?;
    let Some(mut session) = session.filter(|session| own_end || sequence > session.settled) else {
        // A session that is gone cannot keep the outcome of its own end: it is asked here again.
        return Ok(if own_end {
            Admission::Answered(Outcome::More(false))
        } else {
            refused(Refusal::Fenced)
        });
    };
    if session.is_ended() {
        return Ok(Admission::Granted { chunk_mark: Session::ENDED, keep: false });
    }
    if request.settled >= sequence {
        return Ok(refused(Refusal::Malformed));
    }
    advance(txn, id, &mut session, request)?;
    if let Some(kept) = read(&*txn, &keys::outcome(id, sequence))? {
        return Ok(Admission::Answered(kept));
    }
    Ok(Admission::Granted { chunk_mark: session.chunk_mark, keep: !own_end })
}

fn refused(refusal: Refusal) -> Admission {
    Admission::Answered(Outcome::Refused(refusal))
}

/// Takes over the marks a request brings, and drops the outcomes it settles.
fn advance(
    txn: &mut dyn KvTxn,
    id: SessionId,
    session: &mut Session,
    request: &Request,
) -> Result<()> {
    let before = session.clone();
    session.settled = session.settled.max(request.settled);
    session.chunk_mark = session.chunk_mark.max(request.chunk_mark);
    if session.settled > before.settled {
        let from = keys::outcome(id, before.settled);
        let to = keys::outcome(id, session.settled + 1);
        let mut dropped = Vec::new();
        txn.scan(&from, &to, &mut |key, _| {
            dropped.push(key.to_vec());
            Ok(true)
        })?;
        dropped.into_iter().for_each(|key| txn.delete(key));
    }
    if *session != before {
        txn.put(keys::session(id), codec::encode(session)?);
    }
    Ok(())
}

/// Makes superblock and root. There is no session yet, so no outcome is kept.
pub fn genesis(txn: &mut dyn KvTxn, mutation: &Mutation) -> Result<Outcome> {
    let Mutation::Genesis { cluster, chunk_size, uid, gid, at } = *mutation else {
        return Ok(Outcome::Refused(Refusal::Malformed));
    };
    if txn.get(keys::SUPERBLOCK)?.is_some() {
        return Ok(Outcome::Refused(Refusal::AlreadyExists));
    }
    let in_range = (CHUNK_SIZE_MIN..=CHUNK_SIZE_MAX).contains(&chunk_size);
    if !in_range || !chunk_size.is_power_of_two() {
        return Ok(Outcome::Refused(Refusal::Malformed));
    }
    let superblock = Superblock {
        cluster,
        chunk_size,
        next_ino: Ino::ROOT.0 + 1,
        next_session: 1,
        inodes: 1,
        data_bytes: 0,
    };
    txn.put(keys::SUPERBLOCK.to_vec(), codec::encode(&superblock)?);
    txn.put(keys::inode(Ino::ROOT), codec::encode(&root(uid, gid, at))?);
    Ok(Outcome::Done)
}

fn root(uid: u32, gid: u32, at: Timestamp) -> Inode {
    Inode {
        kind: FileKind::Directory,
        mode: Mode::new(0o755),
        uid,
        gid,
        nlink: 2,
        size: 0,
        allocated: 0,
        rdev: 0,
        atime: at,
        mtime: at,
        ctime: at,
        crtime: at,
        parent: Ino::ROOT,
        body: Body::None,
        version: 0,
        committed_at: at,
        etag: None,
        published: true,
        explicit: true,
    }
}

pub fn open(state: &mut State<'_>, node: NodeId, address: &str, nonce: u64) -> Step<Outcome> {
    require(address.len() <= ADDRESS_MAX, Refusal::Malformed)?;
    if let Some(known) = state.get(&keys::session_nonce(nonce))? {
        return Ok(Outcome::Session(known));
    }
    let id = SessionId(state.superblock.next_session);
    state.superblock.next_session += 1;
    let session = Session { node, address: address.to_owned(), settled: 0, chunk_mark: 0 };
    state.put(keys::session(id), &session)?;
    state.put(keys::session_nonce(nonce), &id)?;
    Ok(Outcome::Session(id))
}

/// Fences the session with the first step; its record goes with the last, so that whoever comes
/// later sees that there is something left to clear away.
pub fn end(state: &mut State<'_>, id: SessionId) -> Step<Outcome> {
    let key = keys::session(id);
    let Some(mut session): Option<Session> = state.get(&key)? else {
        return Ok(Outcome::More(false));
    };
    if !session.is_ended() {
        forget_nonce(state, id)?;
        (session.settled, session.chunk_mark) = (Session::ENDED, Session::ENDED);
        state.put(key.clone(), &session)?;
        state.tell(Change::SessionEnded(id));
    }
    let mut left = CLEARED_AT_ONCE;
    for file in state.keys(&keys::unpublished_by(id), left)? {
        left -= 1;
        let ino = Ino(keys::tail_number(&file).unwrap_or_default());
        state.delete(file);
        if let Some(mut inode) = state.inode(ino)? {
            inode.published = true;
            state.put_inode(ino, &inode)?;
        }
    }
    for staged in state.keys(&keys::staged_by(id), left)? {
        left -= 1;
        let content = keys::tail_id(&staged).map(ContentId::from_bytes);
        state.delete(staged);
        if let Some(content) = content {
            state.mark(keys::doomed(content));
        }
    }
    let all_gone = orphan::let_all_go(state, id)? & locks::drop_all(state, id)?;
    for outcome in state.keys(&keys::outcomes_of(id), left)? {
        left -= 1;
        state.delete(outcome);
    }
    let done = left > 0 && all_gone;
    if done {
        state.delete(key);
    }
    Ok(Outcome::More(!done))
}

fn forget_nonce(state: &mut State<'_>, id: SessionId) -> Step<()> {
    for key in state.keys(&keys::family(keys::NONCE), usize::MAX)? {
        if state.get(&key)? == Some(id) {
            state.delete(key);
        }
    }
    Ok(())
}

/// Answers for a sequence for good: with what it did, or by keeping it from ever doing it.
pub fn abort(state: &mut State<'_>, asking: RequestId, sequence: u64) -> Step<Outcome> {
    require(sequence != asking.sequence, Refusal::Malformed)?;
    let session: Option<Session> = state.get(&keys::session(asking.session))?;
    let settled = session.map_or(Session::ENDED, |session| session.settled);
    require(sequence > settled, Refusal::Fenced)?;
    let key = keys::outcome(asking.session, sequence);
    if let Some(kept) = state.get(&key)? {
        return Ok(kept);
    }
    let never = Outcome::Refused(Refusal::Aborted);
    state.put(key, &never)?;
    Ok(never)
}
