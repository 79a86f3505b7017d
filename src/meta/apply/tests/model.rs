//! What the state machine should do, said a second time: a tree of names, and files that are plain
//! byte strings. Only refusals that come from the layout of bytes are taken on trust.

use std::collections::{BTreeMap, BTreeSet};

use super::{Bench, SLOT};
use crate::meta::keys;
use crate::meta::mutation::{Commit, Mutation, Outcome, Refusal, Rename, RenameMode, WriteOp};
use crate::meta::record::{Body, Inode};
use crate::types::{ChunkId, ContentId, FileKind, FileName, Ino, SessionId};

pub struct Node {
    pub kind: FileKind,
    pub parent: Ino,
    pub links: u32,
    pub entries: BTreeMap<FileName, Ino>,
    pub bytes: Vec<u8>,
    version: u64,
    /// Sessions that keep it without a name.
    holders: BTreeSet<SessionId>,
}

pub struct Model {
    pub nodes: BTreeMap<Ino, Node>,
    pub staged: BTreeMap<ContentId, Vec<u8>>,
    /// The bytes of all chunk files.
    pub chunks: BTreeMap<ChunkId, Vec<u8>>,
    /// Those that live.
    pub sessions: BTreeSet<SessionId>,
    /// The one that proposes.
    pub who: SessionId,
}

type Refused<T> = Result<T, Refusal>;

impl Model {
    /// The store as [`Bench::new`] makes it.
    pub fn new(bucket: Ino) -> Self {
        let mut nodes = BTreeMap::from([
            (Ino::ROOT, node(FileKind::Directory, Ino::ROOT)),
            (bucket, node(FileKind::Directory, Ino::ROOT)),
        ]);
        let name = FileName::new(b"bkt").unwrap();
        nodes.get_mut(&Ino::ROOT).unwrap().entries.insert(name, bucket);
        let who = SessionId(1);
        Self {
            nodes,
            staged: BTreeMap::new(),
            chunks: BTreeMap::new(),
            sessions: BTreeSet::from([who]),
            who,
        }
    }

    pub fn of_kind(&self, directories: bool) -> Vec<Ino> {
        let wanted = |node: &Node| (node.kind == FileKind::Directory) == directories;
        self.nodes.iter().filter(|(_, node)| wanted(node)).map(|(&ino, _)| ino).collect()
    }

    /// Does the same; the outcome must be what it should be.
    pub fn follow(&mut self, mutation: &Mutation, outcome: &Outcome) {
        let done = self.names(mutation, outcome).unwrap_or_else(|| {
            self.bytes(mutation, outcome);
            Ok(())
        });
        match (done, outcome) {
            (Err(expected), outcome) => assert_eq!(outcome, &Outcome::Refused(expected)),
            (Ok(()), Outcome::Refused(Refusal::Conflict | Refusal::TooMuch)) => {
                assert!(is_about_bytes(mutation), "{mutation:?}");
            }
            (Ok(()), Outcome::Refused(refusal)) => panic!("{refusal:?}: {mutation:?}"),
            (Ok(()), _) => {}
        }
    }

    /// `None` when the mutation is not about names.
    fn names(&mut self, mutation: &Mutation, outcome: &Outcome) -> Option<Refused<()>> {
        Some(match mutation {
            Mutation::Make(make) => self.make(make.parent, &make.name, make.kind, outcome),
            Mutation::Link { ino, parent, name, .. } => self.link(*ino, *parent, name),
            Mutation::Unlink { parent, name, held, .. } => self.remove(*parent, name, *held, false),
            Mutation::Rmdir { parent, name, held, .. } => self.remove(*parent, name, *held, true),
            Mutation::Rename(rename) => self.rename(rename),
            _ => return None,
        })
    }

    fn directory(&self, ino: Ino) -> Refused<&Node> {
        let node = self.nodes.get(&ino).ok_or(Refusal::Stale)?;
        match (node.kind, node.links) {
            (FileKind::Directory, 0) => Err(Refusal::NotFound),
            (FileKind::Directory, _) => Ok(node),
            _ => Err(Refusal::NotADirectory),
        }
    }

    fn entries(&mut self, ino: Ino) -> &mut BTreeMap<FileName, Ino> {
        &mut self.nodes.get_mut(&ino).unwrap().entries
    }

    fn kind(&self, ino: Ino) -> FileKind {
        self.nodes[&ino].kind
    }

    fn free_name(&self, parent: Ino, name: &FileName) -> Refused<()> {
        let taken = self.directory(parent)?.entries.contains_key(name);
        if taken { Err(Refusal::AlreadyExists) } else { Ok(()) }
    }

    fn make(
        &mut self,
        parent: Ino,
        name: &FileName,
        kind: FileKind,
        outcome: &Outcome,
    ) -> Refused<()> {
        self.directory(parent)?;
        if parent == Ino::ROOT {
            return Err(match kind {
                FileKind::Directory => Refusal::Malformed,
                _ => Refusal::RootRule,
            });
        }
        self.free_name(parent, name)?;
        let Outcome::Node { ino, .. } = outcome else { panic!("{outcome:?}") };
        assert!(self.nodes.insert(*ino, node(kind, parent)).is_none());
        self.entries(parent).insert(name.clone(), *ino);
        Ok(())
    }

    fn link(&mut self, ino: Ino, parent: Ino, name: &FileName) -> Refused<()> {
        self.directory(parent)?;
        let node = self.nodes.get(&ino).ok_or(Refusal::Stale)?;
        if node.kind == FileKind::Directory {
            return Err(Refusal::IsADirectory);
        }
        if parent == Ino::ROOT {
            return Err(Refusal::RootRule);
        }
        if node.links == 0 {
            return Err(Refusal::NotFound);
        }
        self.free_name(parent, name)?;
        self.entries(parent).insert(name.clone(), ino);
        self.nodes.get_mut(&ino).unwrap().links += 1;
        Ok(())
    }

    fn remove(&mut self, parent: Ino, name: &FileName, held: bool, dir: bool) -> Refused<()> {
        let ino = *self.directory(parent)?.entries.get(name).ok_or(Refusal::NotFound)?;
        match (self.kind(ino), dir) {
            (FileKind::Directory, false) => return Err(Refusal::IsADirectory),
            (FileKind::Directory, true) if !self.nodes[&ino].entries.is_empty() => {
                return Err(Refusal::NotEmpty);
            }
            (FileKind::Directory, true) | (_, false) => {}
            (_, true) => return Err(Refusal::NotADirectory),
        }
        self.entries(parent).remove(name);
        self.drop_link(ino, held);
        Ok(())
    }

    fn drop_link(&mut self, ino: Ino, held: bool) {
        let node = self.nodes.get_mut(&ino).unwrap();
        node.links = if node.kind == FileKind::Directory { 0 } else { node.links - 1 };
        if node.links > 0 {
            return;
        }
        let regular = node.kind == FileKind::Regular;
        let shared = regular && self.sessions.iter().any(|session| *session != self.who);
        let holds = |session: &&SessionId| shared || held && **session == self.who;
        node.holders = self.sessions.iter().filter(holds).copied().collect();
        if node.holders.is_empty() {
            self.nodes.remove(&ino);
        }
    }

    fn let_go(&mut self, ino: Ino, session: SessionId) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        if node.holders.remove(&session) && node.holders.is_empty() {
            self.nodes.remove(&ino);
        }
    }

    fn is_below(&self, mut ino: Ino, top: Ino) -> bool {
        while ino != top && ino != Ino::ROOT {
            ino = self.nodes[&ino].parent;
        }
        ino == top
    }

    fn rename(&mut self, rename: &Rename) -> Refused<()> {
        let Rename { parent, name, new_parent, new_name, mode, held, .. } = rename;
        self.directory(*parent)?;
        self.directory(*new_parent)?;
        let source = *self.nodes[parent].entries.get(name).ok_or(Refusal::NotFound)?;
        let target = self.nodes[new_parent].entries.get(new_name).copied();
        if *parent == Ino::ROOT || *new_parent == Ino::ROOT {
            return Err(Refusal::RootRule);
        }
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Refusal::AlreadyExists),
            (RenameMode::Exchange, None) => return Err(Refusal::NotFound),
            (_, Some(target)) if target == source => return Ok(()),
            _ => {}
        }
        let is_directory = |ino| self.kind(ino) == FileKind::Directory;
        let swaps = *mode == RenameMode::Exchange;
        let source_below = is_directory(source) && self.is_below(*new_parent, source);
        let target_below =
            target.is_some_and(|target| is_directory(target) && self.is_below(*parent, target));
        if source_below || (swaps && target_below) {
            return Err(Refusal::BelowItself);
        }
        if let (Some(target), false) = (target, swaps) {
            match (is_directory(source), is_directory(target)) {
                (true, false) => return Err(Refusal::NotADirectory),
                (false, true) => return Err(Refusal::IsADirectory),
                (true, true) if !self.nodes[&target].entries.is_empty() => {
                    return Err(Refusal::NotEmpty);
                }
                _ => self.drop_link(target, *held),
            }
        }
        self.entries(*parent).remove(name);
        self.settle(*new_parent, new_name, source);
        if let (Some(target), true) = (target, swaps) {
            self.settle(*parent, name, target);
        }
        Ok(())
    }

    fn settle(&mut self, parent: Ino, name: &FileName, ino: Ino) {
        self.entries(parent).insert(name.clone(), ino);
        let node = self.nodes.get_mut(&ino).unwrap();
        if node.kind == FileKind::Directory {
            node.parent = parent;
        }
    }

    fn bytes(&mut self, mutation: &Mutation, outcome: &Outcome) {
        if matches!(outcome, Outcome::Refused(_)) {
            return;
        }
        match mutation {
            Mutation::Commit(commit) => self.commit(commit),
            Mutation::Stage { content, ops, .. } => {
                let mut bytes = self.staged.remove(content).unwrap_or_default();
                ops.iter().for_each(|op| self.operate(None, &mut bytes, op));
                self.staged.insert(*content, bytes);
            }
            Mutation::Unstage { content } => drop(self.staged.remove(content).unwrap()),
            Mutation::ReleaseOrphans { inos } => {
                inos.iter().for_each(|ino| self.let_go(*ino, self.who));
            }
            Mutation::EndSession { session } => {
                self.staged.retain(|content, _| content.session != *session);
                self.sessions.remove(session);
                let all: Vec<Ino> = self.nodes.keys().copied().collect();
                all.into_iter().for_each(|ino| self.let_go(ino, *session));
            }
            _ => {}
        }
        if let Outcome::Reaped(ids) = outcome {
            self.chunks.retain(|id, _| !ids.contains(id));
        }
    }

    fn commit(&mut self, commit: &Commit) {
        let mut bytes = std::mem::take(&mut self.nodes.get_mut(&commit.ino).unwrap().bytes);
        commit.ops.iter().for_each(|op| self.operate(Some(commit.ino), &mut bytes, op));
        let node = self.nodes.get_mut(&commit.ino).unwrap();
        node.bytes = bytes;
        node.version += u64::from(!commit.ops.is_empty());
    }

    fn operate(&mut self, ino: Option<Ino>, bytes: &mut Vec<u8>, op: &WriteOp) {
        let part = |chunks: &BTreeMap<ChunkId, Vec<u8>>, chunk: &ChunkId, offset: u32, len: u32| {
            chunks[chunk][offset as usize..(offset + len) as usize].to_vec()
        };
        match op {
            WriteOp::Reset => bytes.clear(),
            WriteOp::Write { offset, len, chunk, chunk_offset } => {
                lay(bytes, *offset, &part(&self.chunks, chunk, *chunk_offset, *len));
            }
            WriteOp::Append { len, chunk, chunk_offset } => {
                bytes.extend(part(&self.chunks, chunk, *chunk_offset, *len));
            }
            WriteOp::Inline { offset, data } => lay(bytes, *offset, data),
            WriteOp::AppendInline { data } => bytes.extend(data),
            WriteOp::Outline { .. } => {}
            WriteOp::Truncate { size } => bytes.resize(*size as usize, 0),
            WriteOp::Extend { size } => bytes.resize(bytes.len().max(*size as usize), 0),
            WriteOp::Punch { offset, len } => {
                let end = bytes.len().min((offset + len) as usize);
                bytes[end.min(*offset as usize)..end].fill(0);
            }
            WriteOp::Copy { from, from_offset, offset, len } => {
                let range = *from_offset as usize..(from_offset + len) as usize;
                let own = Some(*from) == ino;
                let source = if own { &*bytes } else { &self.nodes[from].bytes };
                let copied = source[range].to_vec();
                lay(bytes, *offset, &copied);
            }
            WriteOp::CopyContent { .. } => panic!("uploads have tests of their own"),
            WriteOp::Adopt { content, size } => {
                *bytes = self.staged.remove(content).unwrap();
                bytes.resize(*size as usize, 0);
            }
        }
    }

    /// The bytes of one file, as its records and the chunk files give them.
    pub fn compare_bytes(&self, bench: &Bench, ino: Ino) {
        let (node, inode) = (&self.nodes[&ino], bench.inode(ino).unwrap());
        assert_eq!((inode.size, inode.version), (node.bytes.len() as u64, node.version));
        assert!(self.assemble(bench, &inode) == node.bytes, "bytes of inode {}", ino.0);
    }

    fn assemble(&self, bench: &Bench, inode: &Inode) -> Vec<u8> {
        let mut bytes = vec![0; inode.size as usize];
        match &inode.body {
            Body::Inline(data) => lay(&mut bytes, 0, data),
            Body::Manifest(content) => {
                for number in 0..inode.size.div_ceil(SLOT) {
                    for piece in bench.slot(*content, number).pieces {
                        let from = piece.chunk_offset as usize;
                        let data = &self.chunks[&piece.chunk][from..from + piece.len as usize];
                        lay(&mut bytes, number * SLOT + u64::from(piece.start), data);
                    }
                }
            }
            Body::None | Body::Symlink(_) => {}
        }
        bytes
    }

    /// All names, links and bytes.
    pub fn compare(&self, bench: &Bench) {
        let inodes: BTreeSet<Ino> = self.nodes.keys().copied().collect();
        let stored = bench.table.keys(keys::INODE);
        let stored = stored.iter().map(|key| Ino(keys::tail_number(key).unwrap()));
        assert_eq!(stored.collect::<BTreeSet<_>>(), inodes);
        for (&ino, node) in &self.nodes {
            let inode = bench.inode(ino).unwrap();
            assert_eq!(inode.kind, node.kind);
            match node.kind {
                FileKind::Directory => {
                    for (name, child) in &node.entries {
                        let name = std::str::from_utf8(name.as_bytes()).unwrap();
                        assert_eq!(bench.lookup(ino, name).map(|it| it.ino), Some(*child));
                    }
                    assert_eq!(inode.size, node.entries.len() as u64);
                    assert_eq!((inode.parent, inode.nlink == 0), (node.parent, node.links == 0));
                }
                _ => {
                    assert_eq!(inode.nlink, node.links);
                    self.compare_bytes(bench, ino);
                }
            }
        }
    }
}

fn node(kind: FileKind, parent: Ino) -> Node {
    Node {
        kind,
        parent,
        links: 1,
        entries: BTreeMap::new(),
        bytes: Vec::new(),
        version: 0,
        holders: BTreeSet::new(),
    }
}

fn is_about_bytes(mutation: &Mutation) -> bool {
    matches!(mutation, Mutation::Commit(_) | Mutation::Stage { .. } | Mutation::Compact { .. })
}

fn lay(bytes: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + data.len());
    bytes.resize(bytes.len().max(end), 0);
    bytes[start..end].copy_from_slice(data);
}
