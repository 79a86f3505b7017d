//! Whether chunks are on enough nodes to be named.

use super::manifest::slots_of;
use super::state::{State, Step, require};
use crate::error::Result;
use crate::meta::keys;
use crate::meta::mutation::{Outcome, Refusal};
use crate::meta::record::{Bucket, Inode, Staged};
use crate::types::limits::SLOTS_FREED_MAX;
use crate::types::{ChunkId, ContentId, FileKind, Ino};

/// Directories above a file that are looked through for its bucket.
const DEPTH_MAX: usize = 4096;

/// Who is going to name chunks, and what that asks of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namer {
    /// A file: its bucket may ask for one copy only.
    File(Ino),
    /// A content that nobody has taken yet; `may_relax` when it is for such a bucket.
    Staged { may_relax: bool },
    /// The background.
    Nobody,
}

/// How many copies a chunk was seen to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Quorum,
    /// One at least, and that is enough for the namer.
    Relaxed,
}

/// # Errors
/// [`Refusal::TooFewCopies`], [`Refusal::UnknownChunk`].
pub fn require_copies(state: &mut State<'_>, id: ChunkId, namer: Namer) -> Step<Seen> {
    let record = state.chunk(id)?.ok_or(Refusal::UnknownChunk)?;
    let stored_on = record.stored_on.clone();
    let placement = state.placement()?;
    if placement.is_quorum(id, &stored_on) {
        return Ok(Seen::Quorum);
    }
    let is_somewhere = stored_on.iter().any(|node| !placement.is_gone(*node));
    let may_relax = match namer {
        Namer::File(ino) => is_relaxed(state, ino)?,
        Namer::Staged { may_relax } => may_relax,
        Namer::Nobody => false,
    };
    require(may_relax && is_somewhere, Refusal::TooFewCopies)?;
    Ok(Seen::Relaxed)
}

/// As [`require_copies`], unless something names the chunk already.
pub fn require_first_copies(state: &mut State<'_>, id: ChunkId, namer: Namer) -> Step<Seen> {
    if state.is_named(id)? { Ok(Seen::Quorum) } else { require_copies(state, id, namer) }
}

/// Whether the bucket of a file requires no quorum. One that is in none any more requires it.
pub fn is_relaxed(state: &State<'_>, ino: Ino) -> Result<bool> {
    let mut at = ino;
    for _ in 0..DEPTH_MAX {
        let Some(inode) = state.inode(at)? else { return Ok(false) };
        if inode.parent == Ino::ROOT {
            let bucket: Option<Bucket> = state.get(&keys::bucket(at))?;
            return Ok(bucket.is_some_and(|bucket| !bucket.quorum_required));
        }
        at = inode.parent;
    }
    Ok(false)
}

/// Tells what was moved into a directory so. A file with more names stays with the bucket of another
/// one that requires a quorum.
pub fn settle_in(state: &State<'_>, ino: Ino, inode: &mut Inode, parent: Ino) -> Result<()> {
    let is_sole = inode.kind == FileKind::Directory || inode.nlink == 1;
    if is_sole || is_relaxed(state, ino)? {
        inode.parent = parent;
    }
    Ok(())
}

/// Whether a staged content may become a file's, or a part's, in a bucket that `is_relaxed`.
///
/// # Errors
/// [`Refusal::TooFewCopies`]; after a change of the placement until it is vouched for.
pub fn require_taken(state: &mut State<'_>, staged: &Staged, is_relaxed: bool) -> Step<()> {
    let is_current = staged.epoch == state.placement()?.epoch;
    require(is_current && (is_relaxed || !staged.is_relaxed), Refusal::TooFewCopies)
}

pub fn vouch(state: &mut State<'_>, content: ContentId) -> Step<Outcome> {
    let key = keys::staged(content);
    let mut staged: Staged = state.get(&key)?.ok_or(Refusal::NotFound)?;
    require(content.session == state.session, Refusal::UnknownChunk)?;
    let epoch = state.placement()?.epoch;
    let first = match staged.vouched {
        Some((under, last)) if under == epoch => last.saturating_add(1),
        _ => 0,
    };
    let found = slots_of(state, content, first, u64::MAX, SLOTS_FREED_MAX)?;
    for piece in found.iter().flat_map(|(_, slot)| &slot.pieces) {
        require_copies(state, piece.chunk, Namer::Nobody)?;
    }
    let more = found.len() == SLOTS_FREED_MAX;
    match found.last() {
        Some((last, _)) if more => staged.vouched = Some((epoch, *last)),
        _ => (staged.epoch, staged.vouched, staged.is_relaxed) = (epoch, None, false),
    }
    state.put(key, &staged)?;
    Ok(Outcome::More(more))
}
