//! Random mutations, most of which can be done, on what the model has at the moment.

use super::random::Driver;
use super::{SLOT, Speaker};
use crate::meta::keys;
use crate::meta::mutation::{
    Commit, Mutation, NewChunk, Rename, RenameMode, SetAttr, SetXattr, WriteOp, XattrMode,
};
use crate::meta::record::{Body, Piece, Slot};
use crate::types::{ChunkId, ContentId, FileKind, FileName, Ino, Mode, RequestId};

/// splitmix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }
}

impl Driver {
    pub fn mutation(&mut self) -> Mutation {
        match self.random.below(100) {
            0..40 => self.name_change(),
            40..44 => self.attribute_change(),
            44..80 => self.commit(),
            80..86 => self.stage(),
            86..98 => self.upkeep(),
            _ => self.session_change(),
        }
    }

    fn name(&mut self) -> FileName {
        let names = [&b"a"[..], b"b", b"a b", b"a-", b"c"];
        FileName::new(self.random.pick(&names).unwrap()).unwrap()
    }

    fn directory(&mut self) -> Ino {
        let mut all = self.model.of_kind(true);
        all.extend(self.model.nodes.keys().next_back());
        all.push(Ino(999));
        self.random.pick(&all).unwrap()
    }

    fn file(&mut self) -> Option<Ino> {
        let files = self.model.of_kind(false);
        self.random.pick(&files)
    }

    fn name_change(&mut self) -> Mutation {
        let (parent, name, at) = (self.directory(), self.name(), self.bench.now());
        let held = self.random.percent(30);
        match self.random.below(10) {
            0..4 => {
                let kinds = [FileKind::Regular, FileKind::Regular, FileKind::Directory];
                let kind = self.random.pick(&kinds).unwrap();
                let mut make = self.bench.new_node(parent, "x", kind);
                (make.name, make.published) = (name, self.random.percent(60));
                make.mode = Mode::new(self.random.next() as u32);
                Mutation::Make(make)
            }
            4 => {
                let ino = self.file().unwrap_or(parent);
                Mutation::Link { ino, parent, name, at }
            }
            5 => Mutation::Unlink { parent, name, held, at },
            6 => Mutation::Rmdir { parent, name, held, at },
            _ => {
                let modes = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
                let mode = self.random.pick(&modes).unwrap();
                let (new_parent, new_name) = (self.directory(), self.name());
                Mutation::Rename(Rename { parent, name, new_parent, new_name, mode, held, at })
            }
        }
    }

    fn attribute_change(&mut self) -> Mutation {
        let ino = self.file().unwrap_or(Ino::ROOT);
        let at = self.bench.now();
        if self.random.percent(50) {
            let (name, value) = (b"user.x".to_vec(), vec![1; self.random.below(99) as usize]);
            let mode = XattrMode::Any;
            return Mutation::SetXattr(SetXattr { ino, name, value, mode, permissions: None, at });
        }
        let mode = Some(Mode::new(self.random.next() as u32));
        let (uid, gid) = (Some(3), None);
        let (atime, mtime) = (None, Some(at));
        Mutation::SetAttr(SetAttr { ino, mode, uid, gid, atime, mtime, strip_privilege: true, at })
    }

    fn session_change(&mut self) -> Mutation {
        match self.other.take() {
            None => {
                self.nonce += 1;
                let session = self.bench.open_session(self.nonce);
                self.model.sessions.insert(session);
                let old = std::mem::replace(&mut self.bench.who, Speaker::new(session));
                self.other = Some(old);
                Mutation::ReleaseOrphans { inos: vec![Ino(999)] }
            }
            Some(other) if self.random.percent(50) => {
                Mutation::EndSession { session: other.session }
            }
            Some(other) => {
                self.other = Some(std::mem::replace(&mut self.bench.who, other));
                Mutation::ReleaseOrphans { inos: vec![Ino(999)] }
            }
        }
    }

    fn commit(&mut self) -> Mutation {
        let Some(ino) = self.file() else { return self.name_change() };
        let inode = self.bench.inode(ino).unwrap();
        let inline = matches!(inode.body, Body::Inline(_)) && self.random.percent(40);
        let (mut ops, mut chunks) = (Vec::new(), Vec::new());
        if !inline {
            ops.push(WriteOp::Outline { content: self.bench.next_content() });
            if let Body::Inline(data) = &inode.body
                && !data.is_empty()
            {
                ops.push(self.write_new(0, data.clone(), &mut chunks));
            }
        }
        for _ in 0..self.random.below(5) {
            if inline {
                ops.push(self.inline_op());
            } else {
                self.chunk_op(ino, &mut ops, &mut chunks);
            }
        }
        let versions = [None, None, None, Some(inode.version), Some(inode.version)];
        let expected_version = self.random.pick(&versions).unwrap();
        let expected_version =
            if self.random.percent(2) { Some(inode.version + 1) } else { expected_version };
        let at = self.bench.now();
        let strip_privilege = self.random.percent(50);
        Mutation::Commit(Commit {
            ino,
            ops,
            chunks,
            expected_version,
            at,
            mtime: None,
            strip_privilege,
        })
    }

    fn inline_op(&mut self) -> WriteOp {
        let (offset, len) = (self.random.below(5000), 1 + self.random.below(1500));
        let data = vec![self.random.next() as u8; len as usize];
        match self.random.below(7) {
            0..3 => WriteOp::Inline { offset, data },
            3 => WriteOp::AppendInline { data },
            4 => WriteOp::Truncate { size: offset },
            5 => WriteOp::Punch { offset, len },
            _ => WriteOp::Extend { size: offset },
        }
    }

    /// Brings a chunk with these bytes to `offset`.
    fn write_new(&mut self, offset: u64, bytes: Vec<u8>, chunks: &mut Vec<NewChunk>) -> WriteOp {
        let chunk = self.bench.new_chunk(bytes.len() as u32);
        let (id, len) = (chunk.id, chunk.len);
        self.model.chunks.insert(id, bytes);
        chunks.push(chunk);
        WriteOp::Write { offset, len, chunk: id, chunk_offset: 0 }
    }

    fn random_bytes(&mut self, len: u64) -> Vec<u8> {
        let seed = self.random.next();
        (0..len).map(|at| (seed.rotate_left((at % 61) as u32) ^ at) as u8).collect()
    }

    fn chunk_op(&mut self, ino: Ino, ops: &mut Vec<WriteOp>, chunks: &mut Vec<NewChunk>) {
        let longest = if self.random.percent(50) { SLOT } else { 2000 };
        let (offset, len) = (self.random.below(3 * SLOT), 1 + self.random.below(longest));
        match self.random.below(15) {
            0..6 => {
                let bytes = self.random_bytes(len);
                ops.push(self.write_new(offset, bytes, chunks));
            }
            6 => {
                let bytes = self.random_bytes(len);
                let write = self.write_new(0, bytes, chunks);
                let WriteOp::Write { len, chunk, chunk_offset, .. } = write else { return };
                ops.push(WriteOp::Append { len, chunk, chunk_offset });
            }
            7 => ops.extend(self.write_known(offset)),
            8 => ops.push(WriteOp::Truncate { size: offset }),
            9 => ops.push(WriteOp::Extend { size: offset }),
            10 => ops.push(WriteOp::Punch { offset, len }),
            11 | 12 => ops.extend(self.copy(ino, offset, len)),
            13 => {
                let content = self.model.staged.iter().next_back();
                let content = content.map(|(&id, bytes)| (id, bytes.len() as u64));
                if let Some((content, size)) = content
                    && content.session == self.bench.who.session
                    && !ops.iter().any(|op| matches!(op, WriteOp::Adopt { .. }))
                {
                    ops.push(WriteOp::Adopt { content, size: size + self.random.below(9) });
                }
            }
            _ => {
                ops.push(WriteOp::Reset);
                ops.push(WriteOp::Outline { content: self.bench.next_content() });
                if self.random.percent(20) {
                    self.far_apart(ops, chunks);
                }
            }
        }
    }

    /// More slots than are freed at once.
    fn far_apart(&mut self, ops: &mut Vec<WriteOp>, chunks: &mut Vec<NewChunk>) {
        let bytes = self.random_bytes(100);
        let WriteOp::Write { len, chunk, chunk_offset, .. } = self.write_new(0, bytes, chunks)
        else {
            return;
        };
        let write = |slot| WriteOp::Write { offset: slot * SLOT, len, chunk, chunk_offset };
        ops.extend((0..70).map(write));
    }

    /// A part of a chunk that is recorded already.
    fn write_known(&mut self, offset: u64) -> Option<WriteOp> {
        let known = self.bench.table.keys(keys::CHUNK);
        let known: Vec<_> = known.iter().filter_map(|key| keys::tail_id(key)).collect();
        let chunk = ChunkId::from_bytes(self.random.pick(&known)?);
        let whole = self.model.chunks[&chunk].len() as u64;
        let chunk_offset = self.random.below(whole);
        let len = 1 + self.random.below(whole - chunk_offset);
        let (len, chunk_offset) = (len as u32, chunk_offset as u32);
        Some(WriteOp::Write { offset, len, chunk, chunk_offset })
    }

    fn copy(&mut self, ino: Ino, offset: u64, len: u64) -> Option<WriteOp> {
        let from = self.file()?;
        let size = self.model.nodes[&from].bytes.len() as u64;
        let from_offset = self.random.below(size);
        let len = len.min(size.saturating_sub(from_offset));
        let apart = from != ino || from_offset + len <= offset || offset + len <= from_offset;
        (len > 0 && apart).then_some(WriteOp::Copy { from, from_offset, offset, len })
    }

    fn stage(&mut self) -> Mutation {
        let own = |content: &ContentId| content.session == self.bench.who.session;
        let staged: Vec<_> = self.model.staged.keys().copied().filter(own).collect();
        let content = self.random.pick(&staged).filter(|_| self.random.percent(60));
        if let Some(content) = content
            && self.random.percent(25)
        {
            return Mutation::Unstage { content };
        }
        let content = content.unwrap_or_else(|| self.bench.next_content());
        let (mut ops, mut chunks) = (Vec::new(), Vec::new());
        for _ in 0..1 + self.random.below(4) {
            self.chunk_op(Ino(0), &mut ops, &mut chunks);
        }
        ops.retain(|op| {
            !matches!(op, WriteOp::Reset | WriteOp::Outline { .. } | WriteOp::Adopt { .. })
        });
        Mutation::Stage { content, ops, chunks, may_relax: false }
    }

    fn upkeep(&mut self) -> Mutation {
        match self.random.below(10) {
            0..2 => {
                let all: Vec<_> = self.model.nodes.keys().copied().collect();
                let some = 1 + self.random.below(4);
                let inos = (0..some).filter_map(|_| self.random.pick(&all)).collect();
                Mutation::ReleaseOrphans { inos }
            }
            2..4 => {
                let all = [keys::DOOMED, keys::SLOT].map(|prefix| self.bench.table.keys(prefix));
                let all = all.iter().flatten().filter_map(|key| keys::slot_content(key));
                let all: Vec<_> = all.collect();
                let content = self.random.pick(&all);
                content
                    .map_or_else(|| self.name_change(), |content| Mutation::FreeContent { content })
            }
            4..6 => {
                let ids = self.model.chunks.keys().copied();
                Mutation::Reap { ids: ids.take(2000).collect() }
            }
            6..9 => self.compact(),
            _ => {
                let sequence = self.bench.who.sequence;
                if sequence > self.bench.who.settled {
                    let history = self.bench.history.iter();
                    let own = |id: RequestId| {
                        (id.session, id.sequence) == (self.bench.who.session, sequence)
                    };
                    let kept = history.rev().find(|(request, _)| own(request.id));
                    let expected = kept.map(|(_, outcome)| outcome.clone());
                    let outcome = self.bench.propose(Mutation::Abort { sequence });
                    assert_eq!(Some(outcome), expected);
                }
                Mutation::ReleaseOrphans { inos: vec![Ino(999)] }
            }
        }
    }

    fn compact(&mut self) -> Mutation {
        let slots = self.bench.table.keys(keys::SLOT);
        let Some(at) = self.random.pick(&(0..slots.len()).collect::<Vec<_>>()) else {
            return self.name_change();
        };
        let content = keys::slot_content(&slots[at]).unwrap();
        let number = keys::slot_number(&slots[at]).unwrap();
        let mut slot: Slot = self.bench.slot(content, number);
        let chunk = self.bench.new_chunk(slot.pieces.iter().map(|piece| piece.len).sum());
        let (mut bytes, mut pieces) = (Vec::new(), Vec::new());
        for piece in &slot.pieces {
            let from = piece.chunk_offset as usize;
            let chunk_offset = bytes.len() as u32;
            pieces.push(Piece { chunk: chunk.id, chunk_offset, ..*piece });
            bytes.extend(&self.model.chunks[&piece.chunk][from..from + piece.len as usize]);
        }
        self.model.chunks.insert(chunk.id, bytes);
        if self.random.percent(10) {
            slot.pieces[0].chunk_offset += 1;
        }
        Mutation::Compact {
            content,
            slot: number,
            expected: slot.pieces,
            pieces,
            chunks: vec![chunk],
        }
    }
}
