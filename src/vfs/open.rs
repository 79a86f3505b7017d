//! Opening, creating and releasing files.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::handles::FileHandle;
use super::moves::Count;
use super::node::Node;
use super::words::{Caller, NewNode, OpenFlags, Opened};
use super::{Vfs, node_outcome};
use crate::error::{Error, Result};
use crate::meta::{Inode, Mutation};
use crate::replication::Wait;
use crate::types::{Attr, FileKind, Ino};

/// Seconds after which no kernel follows a name that went: they are told, and have a TTL of one.
const NAMES_KNOWN_AFTER: i64 = 5;

impl Vfs {
    /// open(2) of a regular file. O_TRUNC empties what this node sees at once, and what others see
    /// with the next commit.
    ///
    /// # Errors
    /// [`Error::Stale`] when it is gone; [`Error::IsADirectory`]; [`Error::TextBusy`].
    pub async fn open(&self, who: &Caller, ino: Ino, flags: OpenFlags) -> Result<Opened> {
        let asked = self.moves.count();
        self.replica.barrier().await?;
        self.require_named(who.origin, ino, asked)?;
        let (node, inode) = self.pin(Some(who.origin), ino, regular).await?;
        if flags.is_truncate()
            && let Err(error) = self.truncated(&node, who, flags).await
        {
            self.close_node(&node).await;
            return Err(error);
        }
        Ok(self.opened(who, node, flags, &inode))
    }

    /// # Errors
    /// [`Error::Stale`] when another node has taken a name from the file since the kernel looked it up, or since it
    /// `asked`: that may have been the name. The kernel looks it up again, and may mean the same file.
    fn require_named(&self, origin: u32, ino: Ino, asked: Count) -> Result<()> {
        let named = self.kernel.named(origin, ino).map_or(asked, |named| named.min(asked));
        if self.replica.is_alone() || !self.moves.has_moved(ino, origin, named) {
            return Ok(());
        }
        self.kernel.look_again(origin, ino, self.moves.count());
        Err(Error::Stale)
    }

    /// Puts a file in use, so that it outlives its last name; `allowed` sees it first. `origin`: the
    /// mount whose kernel names it by number; none when its name was looked up just now.
    ///
    /// # Errors
    /// [`Error::Stale`] when it is gone, or has no name any more and is not in use here yet, or the
    /// kernel may have followed a name that is another file's by now.
    pub(super) async fn pin(
        &self,
        origin: Option<u32>,
        ino: Ino,
        allowed: fn(&Inode) -> Result<()>,
    ) -> Result<(Arc<Node>, Inode)> {
        // Whoever lets go of a file takes the gate before asking whether it is in use.
        let _gate = self.gates.of(ino).read().await;
        let inode = self.inode(ino)?;
        allowed(&inode)?;
        self.require_usable(ino, &inode)?;
        if inode.nlink == 0 && !self.is_meant(origin, ino, &inode) {
            return Err(Error::Stale);
        }
        let node = self.nodes.open(ino);
        // Opened again by its number (/proc/PID/fd), after the last name went.
        node.state().orphan |= inode.nlink == 0;
        Ok((node, inode))
    }

    /// # Errors
    /// [`Error::Stale`] for a file without a name that is not in use here: this session may have
    /// let go of it, and the kernel finds out by looking the name up again.
    pub(super) fn require_usable(&self, ino: Ino, inode: &Inode) -> Result<()> {
        if inode.nlink > 0 {
            return Ok(());
        }
        let held = self.replica.table().view().is_held(self.replica.session(), ino)?;
        if held && self.nodes.is_open(ino) { Ok(()) } else { Err(Error::Stale) }
    }

    /// Whether who opens a file without a name can mean this one (/proc/PID/fd), and not what has
    /// taken its place: the name went through the same kernel, or so long ago that all know.
    fn is_meant(&self, origin: Option<u32>, ino: Ino, inode: &Inode) -> bool {
        let Some(origin) = origin else { return false };
        let age = self.clock.now().seconds.saturating_sub(inode.ctime.seconds);
        let by_itself = |node: Arc<Node>| node.state().unnamed_by == Some(origin);
        self.nodes.get(ino).is_some_and(by_itself) || age >= NAMES_KNOWN_AFTER
    }

    /// open(2) with O_CREAT of a name that is not there.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] when somebody was faster and O_EXCL asks to be told. [`Error::Stale`]
    /// without it, and when somebody has removed the new file already: the kernel looks the name up
    /// again and opens what it finds, if it may. As mknod otherwise.
    pub async fn create(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        flags: OpenFlags,
    ) -> Result<(Attr, Opened)> {
        let new = NewNode { kind: FileKind::Regular, mode, rdev: 0 };
        let make = self.new_node(who, parent, name, new, false)?;
        let outcome = match self.propose(Mutation::Make(make), who.origin).await {
            Err(Error::AlreadyExists) if !flags.is_exclusive() => return Err(Error::Stale),
            made => made?,
        };
        let (ino, _) = node_outcome(outcome)?;
        let (node, inode) = self.pin(None, ino, regular).await?;
        node.state().unpublished |= !inode.published;
        let attr = inode.attr(ino);
        Ok((attr, self.opened(who, node, flags, &inode)))
    }

    fn opened(&self, who: &Caller, node: Arc<Node>, flags: OpenFlags, inode: &Inode) -> Opened {
        let keep_cache = self.kernel.opened(who.origin, node.ino, inode.version);
        let failures_seen = {
            let mut state = node.state();
            state.files += 1;
            state.running += u32::from(flags.is_exec());
            AtomicU64::new(state.told())
        };
        let (origin, session, ino) = (who.origin, self.replica.session(), node.ino);
        let file = FileHandle { node, origin, flags, failures_seen, session };
        let is_shown = |attr| self.kernel.was_shown(origin, &attr);
        let outdated = !keep_cache && !self.getattr(ino).is_ok_and(is_shown);
        Opened { handle: self.handles.add_file(file), keep_cache, outdated }
    }

    /// O_TRUNC, with what the kernel leaves to us when OPEN truncates: of callers without CAP_FSETID, of
    /// which it says nothing, the bits of privilege.
    async fn truncated(&self, node: &Node, who: &Caller, flags: OpenFlags) -> Result<()> {
        self.empty(node, who, flags).await?;
        if who.uid == 0 { Ok(()) } else { self.strip_privilege_of(node.ino).await }
    }

    /// O_TRUNC: nothing of the old bytes is seen any more, nor of uncommitted ones.
    ///
    /// # Errors
    /// [`Error::TextBusy`] for O_RDONLY while the file is run: there the kernel asks whether it may
    /// be written only after the file system emptied it, and that would kill the program.
    async fn empty(&self, node: &Node, who: &Caller, flags: OpenFlags) -> Result<()> {
        let _turn = node.committing.lock().await;
        // Read in our turn: a commit may have brought bytes while we waited for it.
        let size = self.inode(node.ino)?.size;
        if !flags.is_write() && node.state().running > 0 {
            return Err(Error::TextBusy);
        }
        self.discard(node);
        let mut state = node.state();
        if size > 0 {
            state.dirty.reset = true;
            state.dirty.touch(0, self.clock.now(), who.origin, self.replica.session());
        }
        Ok(())
    }

    /// RELEASE: the last close of an open file. Nobody waits for it: what is left is committed in
    /// the background, and a failure is told to the next handle.
    pub async fn release(&self, handle: u64) {
        self.drop_handle_locks(handle).await;
        let Some(file) = self.handles.remove(handle) else {
            return;
        };
        {
            let mut state = file.node.state();
            state.files -= 1;
            state.running -= u32::from(file.flags.is_exec());
        }
        self.close_node(&file.node).await;
    }

    /// Closes what mounts had open that ended without a RELEASE (umount -f, a cut connection), as a
    /// part of upkeep. A request that was under way then may open something still: each round looks.
    pub(super) async fn release_ended(&self) {
        let ended = self.ended_mounts.lock().clone();
        if ended.is_empty() {
            return;
        }
        for handle in self.handles.of(&ended) {
            self.release(handle).await;
        }
    }

    /// One handle or reader less of a file.
    pub(super) async fn close_node(&self, node: &Arc<Node>) {
        let left = self.nodes.close(node);
        if left > 0 {
            return;
        }
        let orphan = node.state().orphan;
        if orphan {
            let _gate = self.gates.of(node.ino).write().await;
            // Opened again by its number: then the next close is the last one.
            if !self.nodes.is_open(node.ino) {
                let _turn = node.committing.lock().await;
                self.discard(node);
                node.state().bury();
                self.nodes.tidy(node);
                self.let_go(node.ino).await;
            }
            return;
        }
        match self.commit(node, Wait::Applied).await {
            // Removed meanwhile, elsewhere.
            Ok(()) | Err(Error::Stale | Error::NotFound) => {}
            Err(error) => {
                log::warn!("inode {}: bytes left at its last close are lost: {error}", node.ino.0);
            }
        }
        self.nodes.tidy(node);
    }

    async fn let_go(&self, ino: Ino) {
        if let Err(error) = self.propose(Mutation::ReleaseOrphans { inos: vec![ino] }, 0).await {
            // The hold stays: the next round of upkeep finds it.
            log::warn!("inode {}: its space is freed later: {error}", ino.0);
        }
    }
}

/// What open(2) opens through a file system.
fn regular(inode: &Inode) -> Result<()> {
    match inode.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(Error::IsADirectory),
        _ => Err(Error::invalid("not a regular file")),
    }
}
