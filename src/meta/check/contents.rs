//! Contents: every slot has an owner, its pieces lie in recorded chunks, and all counts are exact.

use std::collections::BTreeMap;

use super::findings::{Findings, each, part};
use super::inodes::Inodes;
use crate::error::Result;
use crate::meta::apply::slots;
use crate::meta::keys;
use crate::meta::kv::KvRead;
use crate::meta::object::Part;
use crate::meta::record::{ChunkRecord, Piece, Slot, Staged, Superblock};
use crate::types::limits::PIECES_MAX;
use crate::types::{ChunkId, ContentId};

/// Who names a content, and what it says of it; a doomed one has nothing to say.
struct Owner {
    what: String,
    /// Size and allocated bytes.
    told: Option<(u64, u64)>,
    allocated: u64,
}

/// What the pieces say of a chunk.
#[derive(Default)]
struct Usage {
    pieces: u64,
    end: u64,
}

struct Tally<'a> {
    findings: &'a mut Findings,
    slot_size: u64,
    owners: BTreeMap<ContentId, Owner>,
    chunks: BTreeMap<ChunkId, Usage>,
    data_bytes: u64,
}

pub fn check(
    view: &dyn KvRead,
    superblock: &Superblock,
    inodes: &Inodes,
    findings: &mut Findings,
) -> Result<()> {
    let mut tally = Tally {
        findings,
        slot_size: superblock.chunk_size,
        owners: BTreeMap::new(),
        chunks: BTreeMap::new(),
        data_bytes: 0,
    };
    tally.find_owners(view, inodes)?;
    each(view, keys::SLOT, |key, value| {
        let content = part(keys::slot_content(key))?;
        let number = part(keys::slot_number(key))?;
        tally.slot(content, number, value);
        Ok(())
    })?;
    tally.compare(superblock);
    tally.chunks(view, superblock)
}

impl Tally<'_> {
    fn find_owners(&mut self, view: &dyn KvRead, inodes: &Inodes) -> Result<()> {
        for (ino, known) in inodes {
            if let Some(content) = known.content {
                let told = Some((known.size, known.allocated));
                self.owner(content, format!("inode {}", ino.0), told);
            }
        }
        each(view, keys::STAGED, |key, value| {
            let content = ContentId::from_bytes(part(keys::tail_id(key))?);
            let what = format!("staged content {content}");
            if let Some(staged) = self.findings.decode::<Staged>(&what, value) {
                self.owner(content, what, Some((staged.size, staged.allocated)));
            }
            Ok(())
        })?;
        each(view, keys::PART, |key, value| {
            let number = part(keys::part_number(key))?;
            let what = format!("part {number} of upload {}", part(keys::slot_content(key))?);
            let record = self.findings.decode::<Part>(&what, value);
            if let Some((content, size)) = record.and_then(|it| Some((it.content?, it.size))) {
                self.owner(content, what, Some((size, size)));
            }
            Ok(())
        })?;
        each(view, keys::DOOMED, |key, _| {
            let content = ContentId::from_bytes(part(keys::tail_id(key))?);
            self.owner(content, format!("doomed content {content}"), None);
            Ok(())
        })
    }

    fn owner(&mut self, content: ContentId, what: String, told: Option<(u64, u64)>) {
        let line = format!("content {content} belongs to {what} and to another");
        let other = self.owners.insert(content, Owner { what, told, allocated: 0 });
        self.findings.require(other.is_none(), || line);
    }

    fn slot(&mut self, content: ContentId, number: u64, value: &[u8]) {
        let what = format!("slot {number} of content {content}");
        let Some(slot) = self.findings.decode::<Slot>(&what, value) else { return };
        let valid = slots::is_valid(&slot.pieces, self.slot_size)
            && (1..=PIECES_MAX).contains(&slot.pieces.len());
        if !valid {
            self.findings.say(format!("{what} has pieces that are not in order"));
            return;
        }
        let covered = slots::covered(&slot.pieces);
        self.data_bytes = self.data_bytes.saturating_add(covered);
        match self.owners.get_mut(&content) {
            Some(owner) => {
                owner.allocated = owner.allocated.saturating_add(covered);
                let last = slot.pieces.last().map_or(0, |piece| u64::from(piece.end()));
                let end = number.saturating_mul(self.slot_size).saturating_add(last);
                let inside = owner.told.is_none_or(|(size, _)| end <= size);
                self.findings.require(inside, || format!("{what} reaches beyond the file's end"));
            }
            None => self.findings.say(format!("{what} belongs to nothing")),
        }
        slot.pieces.iter().for_each(|piece| self.uses(piece));
    }

    fn uses(&mut self, piece: &Piece) {
        let usage = self.chunks.entry(piece.chunk).or_default();
        usage.pieces += 1;
        usage.end = usage.end.max(u64::from(piece.chunk_offset) + u64::from(piece.len));
    }

    fn compare(&mut self, superblock: &Superblock) {
        for owner in self.owners.values() {
            let (what, found) = (&owner.what, owner.allocated);
            if let Some((_, told)) = owner.told {
                self.findings.require(told == found, || {
                    format!("{what} has {found} bytes allocated, counted are {told}")
                });
            }
        }
        let (found, told) = (self.data_bytes, superblock.data_bytes);
        self.findings
            .require(found == told, || format!("{found} bytes are stored, counted are {told}"));
    }

    fn chunks(mut self, view: &dyn KvRead, superblock: &Superblock) -> Result<()> {
        each(view, keys::CHUNK, |key, value| {
            let id = ChunkId::from_bytes(part(keys::tail_id(key))?);
            let usage = self.chunks.remove(&id).unwrap_or_default();
            let what = format!("chunk {id}");
            let known = id.session.0 < superblock.next_session;
            self.findings.require(known, || format!("{what} is of a session to come"));
            let Some(record) = self.findings.decode::<ChunkRecord>(&what, value) else {
                return Ok(());
            };
            let (found, told) = (usage.pieces, u64::from(record.references));
            self.findings.require(found == told, || {
                format!("{what} is in {found} pieces, counted are {told}")
            });
            let inside = usage.end <= u64::from(record.len);
            self.findings.require(inside, || format!("{what} is shorter than its pieces say"));
            let garbage = view.get(&keys::garbage(id))?.is_some();
            self.findings.require(garbage == (told == 0), || {
                format!("{what} has {told} references, garbage record: {garbage}")
            });
            Ok(())
        })?;
        for id in self.chunks.keys() {
            self.findings.say(format!("chunk {id} is used, not recorded"));
        }
        each(view, keys::GARBAGE, |key, _| {
            let id = ChunkId::from_bytes(part(keys::tail_id(key))?);
            let recorded = view.get(&keys::chunk(id))?.is_some();
            self.findings.require(recorded, || format!("garbage {id} is not recorded"));
            Ok(())
        })
    }
}
