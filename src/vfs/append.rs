//! Appending while other nodes append: bytes of O_APPEND handles have no place before their commit,
//! which puts them at the end that the file has then. Until then they are shown at the end as it
//! is known, and move along when that does.

use super::Vfs;
use super::crowded::CROWD;
use super::node::{Dirty, Node};
use crate::error::{Error, Result};
use crate::meta::{Body, Change};

/// Where a write goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    At(u64),
    /// The end of the file, which the writer's kernel takes to be there.
    End {
        shown: u64,
    },
}

impl Dirty {
    /// Where the next write is shown; `None` when what is dirty has to be committed before it: what
    /// has its place and what has none are not mixed, except alone, where the end is certain.
    pub fn place(
        &mut self,
        place: Place,
        committed: u64,
        alone: bool,
        slot_size: u64,
    ) -> Option<u64> {
        self.rebase(committed, slot_size);
        match (place, self.appended) {
            (Place::At(offset), None) => Some(offset),
            (Place::At(offset), Some(_)) if alone => {
                self.appended = None;
                Some(offset)
            }
            (Place::End { .. }, None) if !self.has_data() => {
                let end = self.size(committed);
                self.appended = Some(end);
                Some(end)
            }
            (Place::End { .. }, Some(_)) => Some(self.size(committed)),
            (Place::End { .. }, None) if alone => Some(self.size(committed)),
            (Place::At(_), Some(_)) | (Place::End { .. }, None) => None,
        }
    }

    /// Whether appended bytes may be committed already, and elsewhere than they are shown: nobody
    /// can tell before the commit under way has ended.
    pub fn is_uncertain(&self, version: u64) -> bool {
        self.appended.is_some() && self.frozen.is_some_and(|planned| planned != version)
    }

    /// Moves appended bytes to the end that the file has by now.
    pub fn rebase(&mut self, committed: u64, slot_size: u64) {
        let fixed = self.frozen.is_some() || self.reset || self.staged.is_some();
        let Some(from) = self.appended.filter(|from| !fixed && *from != committed) else {
            return;
        };
        let by = committed.wrapping_sub(from);
        for run in self.runs.take_all() {
            self.runs.write(run.start.wrapping_add(by), &run.data, slot_size);
        }
        self.layers.iter().for_each(|layer| layer.shift(by));
        self.end = self.end.wrapping_add(by);
        self.appended = Some(committed);
    }
}

impl Vfs {
    /// Bytes came to lie elsewhere than kernels here were shown, or nowhere.
    pub(super) fn tell_moved(&self, node: &Node) {
        self.hub.publish(&[Change::Moved(node.ino)], 0);
    }

    /// Makes room for more pieces at the end of the file, when that may be why an append failed.
    pub(super) async fn thin_out_end(&self, node: &Node) -> Result<()> {
        let inode = self.inode(node.ino)?;
        let Body::Manifest(content) = inode.body else {
            return Ok(());
        };
        let number = inode.size / self.replica.chunk_size();
        let slot = self.replica.table().view().slot(content, number)?;
        match slot.filter(|slot| slot.pieces.len() > CROWD) {
            Some(slot) => match self.compact(content, number, slot).await {
                // Somebody else has made it smaller, or it was replaced.
                Err(Error::NotFound) => Ok(()),
                result => result,
            },
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::types::{ByteRange, ChunkId, SessionId, Timestamp};
    use crate::vfs::layer::Layer;
    use crate::vfs::runs::Run;

    const SLOT: u64 = 16;
    const END: Place = Place::End { shown: 0 };

    fn append(dirty: &mut Dirty, committed: u64, data: &[u8]) -> u64 {
        let at = dirty.place(END, committed, false, SLOT).unwrap();
        dirty.runs.write(at, data, SLOT);
        dirty.touch(at + data.len() as u64, Timestamp::default(), 1, SessionId(1));
        at
    }

    /// Another node's append pushes ours, sealed or not, and nothing of them changes.
    #[test]
    fn appended_bytes_follow_the_end() {
        let mut dirty = Dirty::default();
        assert_eq!(append(&mut dirty, 10, b"abcdefgh"), 10);
        let sealed: Vec<Run> = dirty.runs.take_all();
        let chunk = ChunkId { session: SessionId(1), counter: 1 };
        dirty.layers.push(Arc::new(Layer::new(Some(chunk), sealed)));
        assert_eq!(append(&mut dirty, 10, b"ij"), 18);
        dirty.rebase(31, SLOT);
        assert_eq!((dirty.appended, dirty.end, dirty.size(31)), (Some(31), 41, 41));
        let found = dirty.layers[0].within(ByteRange::between(0, 100));
        let bytes: u64 = found.iter().map(|(range, _)| range.len()).sum();
        assert_eq!((bytes, found[0]), (8, (ByteRange::between(31, 37), 0)));
        assert_eq!(
            dirty.runs.iter().map(Run::range).collect::<Vec<_>>(),
            [ByteRange::between(39, 41)]
        );
        // Shorter again: somebody truncated.
        dirty.rebase(0, SLOT);
        assert_eq!((dirty.appended, dirty.end), (Some(0), 10));
        dirty.frozen = Some(1);
        dirty.rebase(5, SLOT);
        assert_eq!(dirty.end, 10, "a commit under way is not moved");
    }

    #[test]
    fn what_has_a_place_and_what_has_none_are_not_mixed() {
        let mut dirty = Dirty::default();
        append(&mut dirty, 0, b"abc");
        assert_eq!(dirty.place(Place::At(1), 0, false, SLOT), None);
        assert_eq!(dirty.place(Place::At(1), 0, true, SLOT), Some(1), "alone the end is certain");
        assert_eq!(dirty.appended, None);
        assert_eq!(dirty.place(END, 0, false, SLOT), None);
        assert_eq!(dirty.place(END, 0, true, SLOT), Some(3));
        let mut emptied = Dirty { reset: true, ..Dirty::default() };
        assert_eq!(emptied.place(END, 99, false, SLOT), Some(0));
    }
}
