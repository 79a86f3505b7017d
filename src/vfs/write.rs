//! Writes: into the buffer, under the budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Vfs;
use super::append::Place;
use super::node::Node;
use super::words::{Caller, OpenFlags};
use crate::error::{Error, Result};
use crate::replication::Wait;
use crate::types::limits::FILE_SIZE_MAX;

/// How long a write waits for room in the buffer before the disk counts as stuck.
const ROOM_TIMEOUT: Duration = Duration::from_secs(60);
/// Commits that one write waits for because others on this node write otherwise in between.
const TURNS: u32 = 64;

impl Vfs {
    /// write(2) with the flags the handle was opened with: see [`Self::write_as`].
    ///
    /// # Errors
    /// As [`Self::write_as`].
    pub async fn write(&self, who: &Caller, handle: u64, offset: u64, data: &[u8]) -> Result<()> {
        let flags = self.handles.file(handle)?.flags;
        self.write_as(who, handle, flags, offset, data).await
    }

    /// write(2): the bytes are seen by every handle of this node at once, and are durable after
    /// the next flush or fsync. `flags` are those of the moment, which fcntl(2) changes after
    /// open(2): with O_APPEND the bytes go to the end of the moment.
    ///
    /// # Errors
    /// [`Error::NoSpace`], [`Error::FileTooLarge`], or a failure of earlier writes that this
    /// handle has not been told.
    pub async fn write_as(
        &self,
        who: &Caller,
        handle: u64,
        flags: OpenFlags,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let file = self.handles.file(handle)?;
        if !file.flags.is_write() {
            return Err(Error::BadHandle);
        }
        self.give_up_lost(&file.node);
        file.node.report(&file.failures_seen)?;
        self.require_locks(file.node.ino, file.session)?;
        let place =
            if flags.is_append() { Place::End { shown: offset } } else { Place::At(offset) };
        self.write_node(who, &file.node, place, data).await?;
        if flags.is_sync() {
            return self.fsync(handle).await;
        }
        Ok(())
    }

    /// Bytes changed through mmap(2), which the kernel writes back through any handle that may
    /// write: they belong at their offset even when that handle appends.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_back(
        &self,
        who: &Caller,
        handle: u64,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let file = self.handles.file(handle)?;
        if !file.flags.is_write() {
            return Err(Error::BadHandle);
        }
        self.write_node(who, &file.node, Place::At(offset), data).await
    }

    /// Writes at one place, or the end of the file.
    pub(super) async fn write_node(
        &self,
        who: &Caller,
        node: &Arc<Node>,
        place: Place,
        data: &[u8],
    ) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let len = data.len() as u64;
        self.reserve.check_data(&self.chunks, self.sealer.budget.used() + len)?;
        self.make_room(node, len).await?;
        if node.troubled.swap(false, Ordering::Acquire)
            && let Err(error) = self.commit(node, Wait::Applied).await
        {
            self.sealer.budget.give_back(len);
            return Err(error);
        }
        let written = self.lay(who, node, place, data).await;
        let grown = *written.as_ref().unwrap_or(&0);
        self.sealer.budget.give_back(len - grown);
        written?;
        self.spill(node).await
    }

    /// Lays the bytes into the runs, after a commit where they must not be mixed with what is there.
    /// Returns by how many bytes the buffers grew.
    async fn lay(&self, who: &Caller, node: &Arc<Node>, place: Place, data: &[u8]) -> Result<u64> {
        for _ in 0..TURNS {
            // What is appended while others append too gets its place in a commit, all of it: so
            // nothing is added while one is under way.
            let appends = matches!(place, Place::End { .. }) && !self.replica.is_alone();
            let turn = if appends { Some(node.committing.lock().await) } else { None };
            if let Some(grown) = self.buffer(who, node, place, data)? {
                return Ok(grown);
            }
            drop(turn);
            self.commit(node, Wait::Applied).await?;
        }
        Err(Error::Conflict)
    }

    /// `None` when what is there has to be committed first.
    fn buffer(&self, who: &Caller, node: &Node, place: Place, data: &[u8]) -> Result<Option<u64>> {
        let mut state = node.state();
        let slot_size = self.replica.chunk_size();
        let offset = match (place, state.dirty.appended) {
            (Place::At(offset), None) => offset,
            (Place::At(_), Some(_)) | (Place::End { .. }, _) => {
                let committed = self.inode(node.ino)?.size;
                let alone = self.replica.is_alone();
                match state.dirty.place(place, committed, alone, slot_size) {
                    Some(offset) => offset,
                    None => return Ok(None),
                }
            }
        };
        let origin = match place {
            // The writer's kernel shows the bytes elsewhere: it has to hear of the commit, too.
            Place::End { shown } if shown != offset => 0,
            Place::End { .. } | Place::At(_) => who.origin,
        };
        let dirty = &mut state.dirty;
        let end = offset.saturating_add(data.len() as u64);
        if end > self.settings.max_object_size.min(FILE_SIZE_MAX) {
            if !dirty.has_data() {
                // Nothing is appended: what has its place must not wait for the commit of it.
                dirty.appended = None;
            }
            return Err(Error::FileTooLarge);
        }
        let (grown, full) = dirty.runs.write(offset, data, slot_size);
        dirty.touch(end, self.clock.now(), origin, self.replica.session());
        dirty.touched = self.clock.elapsed();
        self.seal_slots(node, dirty, &full);
        Ok(Some(grown))
    }

    /// Takes `len` bytes of the budget, sealing what is buffered while there is no room.
    async fn make_room(&self, node: &Arc<Node>, len: u64) -> Result<()> {
        let deadline = self.clock.elapsed() + ROOM_TIMEOUT;
        while !self.sealer.budget.try_take(len) {
            self.relieve(node);
            let left = deadline.saturating_sub(self.clock.elapsed());
            let waited = tokio::time::timeout(left, self.sealer.budget.wait(len)).await;
            waited.map_err(|_| Error::Timeout("no room in the write buffer"))?;
        }
        Ok(())
    }

    /// Waits, once, for room that `len` bytes of an upload need.
    pub(super) async fn wait_for_room(&self, len: u64) -> Result<()> {
        for other in self.nodes.all() {
            let mut state = other.state();
            self.seal_all(&other, &mut state.dirty);
        }
        let waited = tokio::time::timeout(ROOM_TIMEOUT, self.sealer.budget.wait(len)).await;
        waited.map_err(|_| Error::Timeout("no room in the write buffer"))
    }

    /// Seals this file's runs; when it has none, every file's.
    fn relieve(&self, node: &Arc<Node>) {
        {
            let mut state = node.state();
            if !state.dirty.runs.is_empty() {
                self.seal_all(node, &mut state.dirty);
                return;
            }
        }
        for other in self.nodes.all() {
            let mut state = other.state();
            self.seal_all(&other, &mut state.dirty);
        }
    }

    /// FLUSH, on each close of a descriptor: what was written is on disk when it returns. A file
    /// that was only truncated or created stays unpublished until its release.
    ///
    /// # Errors
    /// What kept written bytes from the disk, to each handle once.
    pub async fn flush(&self, handle: u64) -> Result<()> {
        let file = self.handles.file(handle)?;
        self.give_up_lost(&file.node);
        let due = {
            let state = file.node.state();
            state.dirty.has_data() || state.is_unsynced()
        };
        let result = if due { self.commit(&file.node, Wait::Durable).await } else { Ok(()) };
        result.and(file.node.report(&file.failures_seen))
    }

    /// fsync(2): as [`Self::flush`], and the log is on disk through all this node has applied.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub async fn fsync(&self, handle: u64) -> Result<()> {
        let file = self.handles.file(handle)?;
        let result = self.sync_node(&file.node).await;
        if result.is_err() {
            file.failures_seen.store(file.node.failures(), Ordering::Relaxed);
        }
        result.and(file.node.report(&file.failures_seen))
    }

    async fn sync_node(&self, node: &Arc<Node>) -> Result<()> {
        self.commit(node, Wait::Applied).await?;
        let commits = node.state().commits();
        self.replica.sync().await?;
        node.state().synced_through(commits);
        Ok(())
    }
}
