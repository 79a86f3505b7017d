//! Multipart uploads: parts are contents of their own until one mutation makes them an object.

use super::copies::{is_relaxed, require_taken};
use super::state::{State, Step, require};
use super::{manifest, object, xattrs};
use crate::meta::keys;
use crate::meta::mutation::{Outcome, Refusal};
use crate::meta::object::{Part, PutObject, S3_XATTRS, Upload, UploadRef};
use crate::meta::record::Staged;
use crate::types::{ContentId, Ino};

/// Parts freed by one mutation.
const FREED_AT_ONCE: usize = 64;
/// Uploads that go with their bucket in one mutation.
const ABORTED_AT_ONCE: usize = 1000;
/// Bytes of an object's key.
const KEY_MAX: usize = 1024;

fn key(upload: &UploadRef) -> Vec<u8> {
    keys::upload(upload.bucket, &upload.key, upload.id)
}

pub fn create(state: &mut State<'_>, upload: &UploadRef, record: &Upload) -> Step<Outcome> {
    require(state.is_marked(&keys::bucket(upload.bucket))?, Refusal::NotFound)?;
    let named = (1..=KEY_MAX).contains(&upload.key.len()) && !upload.key.contains('\0');
    require(named && upload.id.session == state.session, Refusal::Malformed)?;
    for (name, value) in &record.xattrs {
        // The object takes them when its parts are there: too late to say no.
        require(name.starts_with(S3_XATTRS), Refusal::Malformed)?;
        xattrs::require_fitting(name, value)?;
    }
    let unused = state.keys(&keys::parts(upload.id, 0), 1)?.is_empty()
        && !state.is_marked(&keys::ended_upload(upload.id))?;
    require(unused && !state.is_marked(&key(upload))?, Refusal::AlreadyExists)?;
    state.put(key(upload), record)?;
    Ok(Outcome::Done)
}

fn require_open(state: &State<'_>, upload: &UploadRef) -> Step<()> {
    require(state.is_marked(&key(upload))?, Refusal::NoUpload)
}

pub fn put_part(
    state: &mut State<'_>,
    upload: &UploadRef,
    number: u16,
    part: &Part,
) -> Step<Outcome> {
    require_open(state, upload)?;
    require(Part::is_number(number), Refusal::Malformed)?;
    let size = match part.content {
        Some(content) => {
            require(content.session == state.session, Refusal::UnknownChunk)?;
            let staged: Staged = state.get(&keys::staged(content))?.ok_or(Refusal::UnknownChunk)?;
            require_taken(state, &staged, is_relaxed(state, upload.bucket)?)?;
            state.delete(keys::staged(content));
            require(staged.allocated == staged.size, Refusal::Malformed)?;
            staged.size
        }
        None => 0,
    };
    require(part.size == size, Refusal::Malformed)?;
    let key = keys::part(upload.id, number);
    let old: Option<Part> = state.get(&key)?;
    if let Some(content) = old.and_then(|old| old.content) {
        manifest::free(state, content)?;
    }
    state.put(key, part)?;
    Ok(Outcome::Done)
}

pub fn complete(state: &mut State<'_>, upload: &UploadRef, put: &PutObject) -> Step<Outcome> {
    require_open(state, upload)?;
    require(put.path.bucket == upload.bucket, Refusal::Malformed)?;
    end(state, upload);
    object::put(state, put)
}

pub fn abort(state: &mut State<'_>, upload: &UploadRef) -> Step<Outcome> {
    require_open(state, upload)?;
    end(state, upload);
    Ok(Outcome::Done)
}

/// No part is added any more; those there are go in steps.
fn end(state: &mut State<'_>, upload: &UploadRef) {
    state.delete(key(upload));
    state.mark(keys::ended_upload(upload.id));
}

/// Ends all uploads to a bucket that is going.
pub fn abort_all(state: &mut State<'_>, bucket: Ino) -> Step<()> {
    let open = state.keys(&keys::uploads(bucket, b""), ABORTED_AT_ONCE + 1)?;
    require(open.len() <= ABORTED_AT_ONCE, Refusal::NotEmpty)?;
    for key in open {
        if let Some(id) = keys::tail_id(&key) {
            state.mark(keys::ended_upload(ContentId::from_bytes(id)));
        }
        state.delete(key);
    }
    Ok(())
}

/// Frees some parts of an upload that has ended.
pub fn free(state: &mut State<'_>, upload: ContentId) -> Step<Outcome> {
    let mark = keys::ended_upload(upload);
    if !state.is_marked(&mark)? {
        return Ok(Outcome::More(false));
    }
    let found = state.keys(&keys::parts(upload, 0), FREED_AT_ONCE)?;
    for key in &found {
        let part: Option<Part> = state.get(key)?;
        if let Some(content) = part.and_then(|part| part.content) {
            manifest::free(state, content)?;
        }
        state.delete(key.clone());
    }
    let more = found.len() == FREED_AT_ONCE;
    if !more {
        state.delete(mark);
    }
    Ok(Outcome::More(more))
}
