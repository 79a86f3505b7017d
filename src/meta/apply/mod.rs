//! The deterministic state machine: what each mutation does to the table. No clock, no chance, no
//! IO but ordered reads and writes of one transaction; it knows no handles and no kernel.

mod access;
mod attributes;
mod body;
mod collect;
mod copies;
mod copy;
pub(super) mod ledger;
mod locks;
mod manifest;
mod namespace;
mod nodes;
mod object;
mod object_rename;
mod orphan;
mod rename;
mod session;
pub(super) mod slots;
mod state;
mod upload;
mod write;
mod xattrs;

#[cfg(test)]
pub(super) mod tests;

pub(super) use self::access::GRANTS_MAX;
use self::collect::Compaction;
use self::session::Admission;
use self::state::{State, Step, Stop};
use super::kv::KvTxn;
use super::mutation::{Change, Mutation, Outcome, Refusal, Request};
use super::{codec, keys};
use crate::error::Result;

/// What applying a request gave: its answer, and what the caches above have to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    pub outcome: Outcome,
    /// Empty when the request was applied before.
    pub changes: Vec<Change>,
}

/// Applies one request. A refused one leaves nothing but its outcome and its session's marks; one
/// applied before is answered with the outcome kept of it.
///
/// # Errors
/// Only when the table cannot be read or is damaged: the node cannot go on.
pub fn apply(txn: &mut dyn KvTxn, request: &Request) -> Result<Applied> {
    let (chunk_mark, keep) = match session::admit(txn, request)? {
        Admission::Answered(outcome) => return Ok(Applied { outcome, changes: Vec::new() }),
        Admission::Granted { chunk_mark, keep } => (chunk_mark, keep),
    };
    let applied = run(txn, request, chunk_mark)?;
    if keep {
        let key = keys::outcome(request.id.session, request.id.sequence);
        txn.put(key, codec::encode(&applied.outcome)?);
    }
    Ok(applied)
}

fn run(txn: &mut dyn KvTxn, request: &Request, chunk_mark: u64) -> Result<Applied> {
    if let Mutation::Genesis { .. } = request.mutation {
        let outcome = session::genesis(txn, &request.mutation)?;
        return Ok(Applied { outcome, changes: Vec::new() });
    }
    let before = txn.savepoint();
    let attempt = State::new(txn, request.id.session, chunk_mark).and_then(|mut state| {
        let outcome = dispatch(&mut state, request)?;
        Ok(Applied { outcome, changes: state.finish()? })
    });
    match attempt {
        Ok(applied) => Ok(applied),
        Err(Stop::Refused(refusal)) => {
            txn.rollback(before);
            Ok(Applied { outcome: Outcome::Refused(refusal), changes: Vec::new() })
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn dispatch(state: &mut State<'_>, request: &Request) -> Step<Outcome> {
    match &request.mutation {
        Mutation::Genesis { .. } => Err(Refusal::AlreadyExists.into()),
        Mutation::OpenSession { node, address, nonce } => {
            session::open(state, *node, address, *nonce)
        }
        Mutation::EndSession { session } => session::end(state, *session),
        Mutation::Abort { sequence } => session::abort(state, request.id, *sequence),
        Mutation::Make(make) => namespace::make(state, make),
        Mutation::Link { ino, parent, name, at } => {
            namespace::link(state, *ino, (*parent, name), *at)
        }
        Mutation::Unlink { parent, name, held, at } => {
            namespace::unlink(state, (*parent, name), *held, *at)
        }
        Mutation::Rmdir { parent, name, held, at } => {
            namespace::rmdir(state, (*parent, name), *held, *at)
        }
        Mutation::Rename(rename) => rename::rename(state, rename),
        Mutation::SetAttr(change) => attributes::set(state, change),
        Mutation::SetXattr(change) => xattrs::set(state, change),
        Mutation::RemoveXattr { ino, name, at } => xattrs::remove(state, *ino, name, *at),
        Mutation::Commit(commit) => write::commit(state, commit),
        Mutation::Stage { content, ops, chunks, may_relax } => {
            write::stage(state, *content, ops, chunks, *may_relax)
        }
        Mutation::Vouch { content } => copies::vouch(state, *content),
        Mutation::Unstage { content } => write::unstage(state, *content),
        Mutation::ReleaseOrphans { inos } => orphan::release(state, inos),
        Mutation::SetLock(change) => locks::set(state, change),
        Mutation::FreeContent { content } => collect::free_content(state, *content),
        Mutation::Compact { content, slot, expected, pieces, chunks } => {
            let (content, slot) = (*content, *slot);
            collect::compact(state, &Compaction { content, slot, expected, pieces, chunks })
        }
        Mutation::Reap { ids } => collect::reap(state, ids),
        Mutation::SetNode { node, record } => nodes::set_node(state, *node, record),
        Mutation::SetQuorumRequired { bucket, is_required } => {
            nodes::set_quorum_required(state, *bucket, *is_required)
        }
        Mutation::SetReplicationFactor { factor } => nodes::set_factor(state, *factor),
        Mutation::Survey { epoch } => nodes::survey(state, *epoch),
        Mutation::Stored { node, ids } => nodes::stored(state, *node, ids),
        Mutation::Unstored { node, ids, why } => nodes::unstored(state, *node, ids, *why),
        Mutation::PutObject(put) => object::put(state, put),
        Mutation::DeleteObject(delete) => object::delete(state, delete),
        Mutation::RenameObject(rename) => object_rename::rename(state, rename),
        Mutation::ReplaceXattrs(change) => xattrs::replace(state, change),
        Mutation::CreateUpload { upload, record } => upload::create(state, upload, record),
        Mutation::PutPart { upload, number, part } => {
            upload::put_part(state, upload, *number, part)
        }
        Mutation::CompleteUpload { upload, put } => upload::complete(state, upload, put),
        Mutation::AbortUpload { upload } => upload::abort(state, upload),
        Mutation::FreeUpload { upload } => upload::free(state, *upload),
        Mutation::MakeBucket { make, owner } => access::make_bucket(state, make, *owner),
        Mutation::CreateKey { id, key } => access::create_key(state, *id, key),
        Mutation::ChangeKey { id, change } => access::change_key(state, *id, change),
        Mutation::DeleteKey { id } => access::delete_key(state, *id),
        Mutation::Grant { bucket, key, rights } => access::grant(state, *bucket, *key, *rights),
    }
}
