//! chmod, chown, utimens.

use super::state::{State, Step, require};
use crate::meta::mutation::{Change, Outcome, Refusal, SetAttr};
use crate::types::{FileKind, Timestamp};

pub fn set(state: &mut State<'_>, change: &SetAttr) -> Step<Outcome> {
    let mut inode = state.inode(change.ino)?.ok_or(Refusal::Stale)?;
    let times = [change.atime, change.mtime, Some(change.at)];
    require(times.iter().flatten().all(is_valid), Refusal::Malformed)?;
    inode.mode = change.mode.unwrap_or(inode.mode);
    inode.uid = change.uid.unwrap_or(inode.uid);
    inode.gid = change.gid.unwrap_or(inode.gid);
    inode.atime = change.atime.unwrap_or(inode.atime);
    inode.mtime = change.mtime.unwrap_or(inode.mtime);
    inode.ctime = change.at;
    inode.explicit |= inode.kind == FileKind::Directory;
    // On a directory set-group-ID is about its entries' group, no privilege.
    if change.strip_privilege && inode.kind != FileKind::Directory {
        inode.mode = inode.mode.without_privilege();
    }
    state.put_inode(change.ino, &inode)?;
    state.tell(Change::Attributes(change.ino));
    Ok(Outcome::Node { ino: change.ino, inode: Box::new(inode) })
}

fn is_valid(time: &Timestamp) -> bool {
    time.nanos < Timestamp::NANOS_PER_SECOND
}
