//! RenameObject: a file, or a directory with all that is in it, under another key in one step.

use std::sync::Arc;

use super::Vfs;
use super::gates::Files;
use super::objects::{DIRECTORY_MODE, to_the_end};
use super::words::Caller;
use crate::error::{Error, Result};
use crate::meta::{Condition, Mutation, Outcome, RenameObject};
use crate::replication::Wait;
use crate::types::{BucketName, Mode, ObjectKey, Right};

impl Vfs {
    /// Gives an object another key in its bucket, in place of what has it; on disk when it returns.
    /// Keys that end with a slash move directories.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::PreconditionFailed`], [`Error::InTheWay`], [`Error::NameTooLong`];
    /// for directories [`Error::NotEmpty`] when the new key is that of another one with entries.
    pub async fn rename_object(
        self: &Arc<Self>,
        who: &Caller,
        bucket: &BucketName,
        (from, from_condition): (&ObjectKey, Condition),
        (to, to_condition): (&ObjectKey, Condition),
    ) -> Result<()> {
        if from.is_directory() != to.is_directory() {
            return Err(Error::invalid("both keys end with a slash, or none does"));
        }
        to.check_length()?;
        self.reserve.check(&self.chunks)?;
        let from = self.object_path(who, (bucket, from), Right::Write)?;
        let to = self.object_path(who, (bucket, to), Right::Write)?;
        if let Some((ino, _)) = self.find(&from)? {
            // The new name must not show older bytes than the old one would have.
            // A commit that is cut short settles no chunks.
            let vfs = Arc::clone(self);
            to_the_end(async move { vfs.settle(ino).await }).await?;
        }
        let rename = RenameObject {
            from,
            from_condition,
            to,
            to_condition,
            uid: who.uid,
            gid: who.gid,
            directory_mode: Mode::new(DIRECTORY_MODE & !who.umask),
            held: false,
            at: self.clock.now(),
        };
        let (vfs, who) = (Arc::clone(self), *who);
        to_the_end(async move { vfs.rename_gated(&who, rename).await }).await
    }

    async fn rename_gated(&self, who: &Caller, mut rename: RenameObject) -> Result<()> {
        let (from, to) = (rename.from.clone(), rename.to.clone());
        let find = || Ok(Files { moved: self.ino_of(&from)?, removed: self.ino_of(&to)? });
        let (held, gate) = self.gated(find).await?;
        rename.held = held;
        let mutation = Mutation::RenameObject(Box::new(rename));
        let renamed = self.replica.propose(mutation, Wait::Durable, who.origin).await;
        match renamed.map_err(|error| self.name_obstacle(&to, error))? {
            Outcome::Done => {}
            Outcome::Removed { ino, inode } => self.lost_name(who, ino, inode),
            other => return Err(super::unexpected(&other)),
        }
        drop(gate);
        self.hub.told().await;
        Ok(())
    }
}
