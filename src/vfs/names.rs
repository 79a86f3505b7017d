//! Names: lookup, and everything that makes, moves or removes one.

use super::gates::Files;
use super::words::{Caller, NewNode};
use super::{Vfs, acl, file_name, unexpected};
use crate::error::{Error, Result};
use crate::meta::{Inode, Make, Mutation, Outcome, Rename, RenameMode};
use crate::replication::Wait;
use crate::types::limits::SYMLINK_MAX;
use crate::types::{Attr, FileKind, FileName, Ino, Mode};

impl Vfs {
    /// The inode a name stands for.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::NameTooLong`].
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = file_name(name)?;
        loop {
            let found = self.replica.table().view().lookup(parent, &name)?;
            let ino = found.ok_or(Error::NotFound)?.ino;
            match self.current(ino) {
                // Removed since: then the name is gone, too, or another's.
                Err(Error::Stale) => self.check_name(parent, &name)?,
                current => return current,
            }
        }
    }

    /// # Errors
    /// [`Error::Damaged`] when a name stands for an inode that is not there.
    fn check_name(&self, parent: Ino, name: &FileName) -> Result<()> {
        let view = self.replica.table().view();
        match view.lookup(parent, name)? {
            Some(dirent) if view.inode(dirent.ino)?.is_none() => {
                Err(Error::damaged(format!("the name {name} has no inode")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is none.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        match self.inode(ino)?.body {
            crate::meta::Body::Symlink(target) => Ok(target),
            _ => Err(Error::invalid("not a symbolic link")),
        }
    }

    /// mknod(2) and mkdir(2): a new inode with its first name.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::NoSpace`], [`Error::NotPermitted`] for what the root
    /// does not hold.
    pub async fn mknod(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        node: NewNode,
    ) -> Result<Attr> {
        let make = self.new_node(who, parent, name, node, true)?;
        let made = self.propose_node(Mutation::Make(make), who.origin).await?;
        if parent == Ino::ROOT {
            self.relax_new(made.ino).await?;
        }
        Ok(made)
    }

    /// symlink(2).
    ///
    /// # Errors
    /// As [`Self::mknod`]; [`Error::NameTooLong`] for a target beyond PATH_MAX.
    pub async fn symlink(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<Attr> {
        if target.len() > SYMLINK_MAX {
            return Err(Error::NameTooLong);
        }
        let node = NewNode { kind: FileKind::Symlink, mode: 0o777, rdev: 0 };
        let everybody = Caller { umask: 0, ..*who };
        let mut make = self.new_node(&everybody, parent, name, node, true)?;
        make.target = target.to_vec();
        self.propose_node(Mutation::Make(make), who.origin).await
    }

    /// What a new inode is made of: the umask or the parent's default ACL decide its permissions.
    pub(super) fn new_node(
        &self,
        who: &Caller,
        parent: Ino,
        name: &[u8],
        node: NewNode,
        published: bool,
    ) -> Result<Make> {
        let name = file_name(name)?;
        self.reserve.check(&self.chunks)?;
        let inherited = self.default_acl(parent)?;
        let (bits, xattrs) = match (&inherited, node.kind) {
            (Some(default), kind) if kind != FileKind::Symlink => {
                acl::inherit(default, node.mode, kind == FileKind::Directory)?
            }
            _ => (node.mode & !who.umask, Vec::new()),
        };
        Ok(Make {
            parent,
            name,
            kind: node.kind,
            mode: Mode::new(bits),
            uid: who.uid,
            gid: who.gid,
            rdev: node.rdev,
            target: Vec::new(),
            xattrs,
            published,
            at: self.clock.now(),
        })
    }

    /// link(2).
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::TooManyLinks`], [`Error::NotPermitted`] for directories.
    pub async fn link(&self, who: &Caller, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = file_name(name)?;
        self.reserve.check(&self.chunks)?;
        self.settle(ino).await?;
        let mutation = Mutation::Link { ino, parent, name, at: self.clock.now() };
        self.propose_node(mutation, who.origin).await
    }

    /// unlink(2).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsADirectory`].
    pub async fn unlink(&self, who: &Caller, parent: Ino, name: &[u8]) -> Result<()> {
        let name = file_name(name)?;
        let find = || {
            let removed = self.behind(parent, &name)?;
            Ok(Files { removed, ..Files::default() })
        };
        let (held, _gate) = self.gated(find).await?;
        let mutation = Mutation::Unlink { parent, name, held, at: self.clock.now() };
        let outcome = self.propose(mutation, who.origin).await?;
        self.removed(who, outcome)
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::NotEmpty`], [`Error::NotADirectory`].
    pub async fn rmdir(&self, who: &Caller, parent: Ino, name: &[u8]) -> Result<()> {
        let name = file_name(name)?;
        let mutation = Mutation::Rmdir { parent, name, held: false, at: self.clock.now() };
        let outcome = self.propose(mutation, who.origin).await?;
        self.removed(who, outcome)
    }

    /// renameat2(2). A dirty file is committed first, so that the name never shows older bytes.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::AlreadyExists`], [`Error::NotEmpty`], …
    pub async fn rename(
        &self,
        who: &Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
    ) -> Result<()> {
        let (name, new_name) = (file_name(from.1)?, file_name(to.1)?);
        let moved = self.replica.table().view().lookup(from.0, &name)?.ok_or(Error::NotFound)?;
        self.settle(moved.ino).await?;
        let find = || {
            let moved = self.behind(from.0, &name)?;
            Ok(Files { moved, removed: self.behind(to.0, &new_name)? })
        };
        let (held, _gate) = self.gated(find).await?;
        let rename = Rename {
            parent: from.0,
            name,
            new_parent: to.0,
            new_name,
            mode,
            held,
            at: self.clock.now(),
        };
        match self.propose(Mutation::Rename(rename), who.origin).await? {
            Outcome::Done => Ok(()),
            outcome => self.removed(who, outcome),
        }
    }

    /// Commits what is dirty of a file before its name or attributes change.
    pub(super) async fn settle(&self, ino: Ino) -> Result<()> {
        match self.nodes.get(ino) {
            Some(node) if !node.state().dirty.is_clean() => self.commit(&node, Wait::Applied).await,
            Some(_) | None => Ok(()),
        }
    }

    fn behind(&self, parent: Ino, name: &FileName) -> Result<Option<Ino>> {
        let found = self.replica.table().view().lookup(parent, name)?;
        Ok(found.map(|dirent| dirent.ino))
    }

    /// A name is gone; notes when it was the last one.
    fn removed(&self, who: &Caller, outcome: Outcome) -> Result<()> {
        let Outcome::Removed { ino, inode } = outcome else {
            return Err(unexpected(&outcome));
        };
        self.lost_name(who, ino, inode);
        Ok(())
    }

    /// Keeps what is open here, or still asked about, of an inode that has lost its last name.
    pub(super) fn lost_name(&self, who: &Caller, ino: Ino, inode: Box<Inode>) {
        if inode.nlink > 0 {
            return;
        }
        if let Some(node) = self.nodes.get(ino) {
            node.state().unnamed_by = Some(who.origin);
        }
        if self.nodes.orphan(ino) {
            return;
        }
        // Looked at under the lock that forgetting takes, so that nothing is kept for ever.
        let mut tombstones = self.tombstones.lock();
        if self.kernel.knows([who.origin], ino) {
            tombstones.insert(ino, inode);
        }
    }
}
