//! Attributes: getattr and setattr with what is not committed yet laid over the record.

use super::node::NodeState;
use super::words::{AttrChange, Caller, SetTime};
use super::{Vfs, acl};
use crate::error::{Error, Result};
use crate::meta::{Mutation, SetAttr, SetXattr, WriteOp, XattrMode};
use crate::types::{Attr, FileKind, Ino, Mode, Timestamp};

impl Vfs {
    /// stat(2): the record, with the size and mtime that uncommitted writes give it.
    ///
    /// # Errors
    /// [`Error::Stale`] when the inode is gone.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        match self.current(ino) {
            Err(Error::Stale) => {
                let tombstones = self.tombstones.lock();
                tombstones.get(&ino).map(|inode| inode.attr(ino)).ok_or(Error::Stale)
            }
            current => current,
        }
    }

    /// The attributes of the record under this node's uncommitted changes, both of one moment: the
    /// record is read under the node's lock, for a commit that lands between the two would leave
    /// the old record with nothing over it.
    pub(super) fn current(&self, ino: Ino) -> Result<Attr> {
        let node = self.nodes.get(ino);
        let mut state = node.as_ref().map(|node| node.state());
        let mut attr = self.inode(ino)?.attr(ino);
        if let Some(state) = &mut state {
            state.dirty.rebase(attr.size, self.replica.chunk_size());
            overlay(&mut attr, state);
        }
        Ok(attr)
    }

    /// chmod(2), chown(2), truncate(2), utimensat(2) in one call, as the kernel sends them.
    ///
    /// # Errors
    /// [`Error::Stale`], [`Error::NoSpace`], [`Error::FileTooLarge`], a file's sticky error.
    pub async fn setattr(&self, who: &Caller, ino: Ino, change: AttrChange) -> Result<Attr> {
        self.require_usable(ino, &self.inode(ino)?)?;
        if let Some(size) = change.size {
            if let Some(handle) = change.handle {
                self.require_locks(ino, self.handles.file(handle)?.session)?;
            }
            self.truncate(who, ino, size).await?;
        } else {
            self.settle(ino).await?;
        }
        let now = self.clock.now();
        let time = |time: SetTime| match time {
            SetTime::Now => now,
            SetTime::At(at) => at,
        };
        let set = SetAttr {
            ino,
            mode: change.mode.map(Mode::new),
            uid: change.uid,
            gid: change.gid,
            atime: change.atime.map(time),
            mtime: change.mtime.map(time),
            strip_privilege: false,
            at: now,
        };
        let only_size =
            SetAttr { mode: None, uid: None, gid: None, atime: None, mtime: None, ..set };
        if change.size.is_some() && set == only_size {
            return self.getattr(ino);
        }
        let access = match set.mode {
            Some(_) => self.replica.table().view().xattr(ino, acl::ACCESS)?,
            None => None,
        };
        if let (Some(mode), Some(access)) = (set.mode, access) {
            self.chmod_acl(who, ino, mode, &access, now).await?;
        }
        self.propose_node(Mutation::SetAttr(set), who.origin).await
    }

    /// Sets the permission bits alone.
    pub(super) async fn set_mode(&self, who: &Caller, ino: Ino, mode: Mode) -> Result<Attr> {
        let change = AttrChange { mode: Some(mode.bits().into()), ..AttrChange::default() };
        let at = self.clock.now();
        let set = SetAttr {
            ino,
            mode: change.mode.map(Mode::new),
            uid: None,
            gid: None,
            atime: None,
            mtime: None,
            strip_privilege: false,
            at,
        };
        self.propose_node(Mutation::SetAttr(set), who.origin).await
    }

    /// Who has no CAP_FSETID is about to change the bytes behind a handle, or did: set-user-ID and
    /// set-group-ID go. The caller's kernel does not expect it and is told like the others.
    ///
    /// # Errors
    /// [`Error::BadHandle`]; as [`Self::setattr`].
    pub async fn strip_privilege(&self, handle: u64) -> Result<()> {
        self.strip_privilege_of(self.handles.file(handle)?.node.ino).await
    }

    pub(super) async fn strip_privilege_of(&self, ino: Ino) -> Result<()> {
        let mode = self.inode(ino)?.mode;
        if mode == mode.without_privilege() {
            return Ok(());
        }
        let at = self.clock.now();
        let set = SetAttr {
            ino,
            mode: None,
            uid: None,
            gid: None,
            atime: None,
            mtime: None,
            strip_privilege: true,
            at,
        };
        self.propose(Mutation::SetAttr(set), 0).await.map(|_| ())
    }

    async fn chmod_acl(
        &self,
        who: &Caller,
        ino: Ino,
        mode: Mode,
        access: &[u8],
        at: Timestamp,
    ) -> Result<()> {
        let value = acl::after_chmod(access, mode.bits().into())?;
        let name = acl::ACCESS.to_vec();
        let set = SetXattr { ino, name, value, mode: XattrMode::Any, permissions: Some(mode), at };
        self.propose(Mutation::SetXattr(set), who.origin).await.map(|_| ())
    }

    /// truncate(2) both ways; what is dirty is committed first. Large cuts go in bounded steps.
    async fn truncate(&self, who: &Caller, ino: Ino, size: u64) -> Result<()> {
        if size > self.settings.max_object_size {
            return Err(Error::FileTooLarge);
        }
        let inode = self.inode(ino)?;
        match inode.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(Error::IsADirectory),
            _ => return Err(Error::invalid("not a regular file")),
        }
        let node = self.nodes.open(ino);
        let result = async {
            let _turn = node.committing.lock().await;
            if size == 0 && !node.state().dirty.reset {
                let lost = node.state().dirty.has_data();
                self.discard(&node);
                let emptied = self.change_bytes(&node, vec![WriteOp::Reset], who).await;
                return emptied.map(|_| ()).inspect_err(|error| {
                    if lost {
                        self.lose(&node, error.clone());
                    }
                });
            }
            self.commit_locked(&node, crate::replication::Wait::Applied).await?;
            let step = self.step();
            let mut current = self.inode(ino)?.size;
            while current > size {
                current = size.max(current.saturating_sub(step));
                self.change_bytes(&node, vec![WriteOp::Truncate { size: current }], who).await?;
            }
            self.change_bytes(&node, vec![WriteOp::Truncate { size }], who).await.map(|_| ())
        }
        .await;
        self.close_node(&node).await;
        result
    }
}

fn overlay(attr: &mut Attr, state: &NodeState) {
    let dirty = &state.dirty;
    if dirty.is_clean() {
        return;
    }
    attr.size = dirty.size(attr.size);
    let pending: u64 = dirty.layers.iter().map(|layer| layer.len()).sum();
    let committed = if dirty.reset { 0 } else { attr.allocated };
    attr.allocated = committed.max((pending + dirty.runs.bytes()).min(attr.size));
    if let Some(at) = dirty.written_at {
        attr.mtime = at;
        attr.ctime = attr.ctime.max(at);
    }
}
