//! A table in memory with one session, and what the tests of all families say often.

mod access;
mod attributes;
mod collect;
mod copies;
mod extremes;
mod locks;
mod model;
mod moves;
mod namespace;
mod object;
mod orphan;
mod random;
mod references;
mod rename;
mod session;
mod write;

use std::collections::BTreeMap;

use super::{Applied, apply};
use crate::error::Result;
use crate::meta::kv::{KvRead, Visitor};
use crate::meta::mutation::{Change, Make, Mutation, NewChunk, Outcome, Refusal, Request};
use crate::meta::overlay::Overlay;
use crate::meta::record::{Dirent, Inode, Slot, Superblock};
use crate::meta::{codec, keys};
use crate::types::{
    ChunkId, ContentId, FileKind, FileName, Ino, Mode, RequestId, SessionId, Timestamp,
};

/// Slots of this size keep the numbers in tests small.
pub const SLOT: u64 = 64 << 10;

#[derive(Clone, Default, PartialEq, Debug)]
pub struct Memory(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl KvRead for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut Visitor<'_>) -> Result<()> {
        for (key, value) in self.0.range(from.to_vec()..to.to_vec()) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }
}

impl Memory {
    /// All keys with a prefix.
    pub fn keys(&self, prefix: u8) -> Vec<Vec<u8>> {
        self.0.keys().filter(|key| key[0] == prefix).cloned().collect()
    }

    pub fn apply(&mut self, request: &Request) -> Applied {
        let mut overlay = Overlay::new(self);
        let applied = apply(&mut overlay, request).unwrap();
        for (key, value) in overlay.into_writes() {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
        applied
    }
}

/// A session as its own node sees it.
#[derive(Clone)]
pub struct Speaker {
    pub session: SessionId,
    pub sequence: u64,
    pub settled: u64,
    pub chunk_mark: u64,
    pub counter: u64,
}

impl Speaker {
    pub fn new(session: SessionId) -> Self {
        Self { session, sequence: 0, settled: 0, chunk_mark: 0, counter: 0 }
    }
}

/// A store, and who proposes.
pub struct Bench {
    pub table: Memory,
    pub who: Speaker,
    pub clock: i64,
    pub changes: Vec<Change>,
    /// All requests so far, and what they gave.
    pub history: Vec<(Request, Outcome)>,
}

impl Bench {
    /// A store with the bucket `bkt`.
    pub fn new() -> (Self, Ino) {
        let mut bench = Self {
            table: Memory::default(),
            who: Speaker::new(SessionId(0)),
            clock: 1000,
            changes: Vec::new(),
            history: Vec::new(),
        };
        let at = bench.now();
        let genesis = Mutation::Genesis { cluster: 7, chunk_size: SLOT, uid: 1, gid: 2, at };
        assert_eq!(bench.propose(genesis), Outcome::Done);
        bench.who = Speaker::new(bench.open_session(1));
        let bucket = bench.mkdir(Ino::ROOT, "bkt");
        (bench, bucket)
    }

    pub fn open_session(&mut self, nonce: u64) -> SessionId {
        let own = std::mem::replace(&mut self.who, Speaker::new(SessionId(0)));
        let outcome =
            self.propose(Mutation::OpenSession { node: 1, address: "here".into(), nonce });
        self.who = own;
        match outcome {
            Outcome::Session(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn request(&mut self, mutation: Mutation) -> Request {
        self.who.sequence += 1;
        let id = RequestId { session: self.who.session, sequence: self.who.sequence };
        Request { id, settled: self.who.settled, chunk_mark: self.who.chunk_mark, mutation }
    }

    pub fn apply(&mut self, request: &Request) -> Outcome {
        let applied = self.table.apply(request);
        self.changes = applied.changes;
        self.history.push((request.clone(), applied.outcome.clone()));
        applied.outcome
    }

    /// Applies a mutation; a refused one must have left nothing but its outcome and marks.
    pub fn propose(&mut self, mutation: Mutation) -> Outcome {
        let request = self.request(mutation);
        let before = self.table.clone();
        let outcome = self.apply(&request);
        let is_abort = matches!(request.mutation, Mutation::Abort { .. });
        if matches!(outcome, Outcome::Refused(_)) && !is_abort {
            let kept = |(key, _): &(&Vec<u8>, &Vec<u8>)| !matches!(key[0], b'r' | b's');
            let same = self.table.0.iter().filter(kept).eq(before.0.iter().filter(kept));
            assert!(same && self.changes.is_empty(), "a refusal left traces: {request:?}");
        }
        outcome
    }

    pub fn refused(&mut self, mutation: Mutation, refusal: Refusal) {
        let shown = format!("{mutation:?}");
        assert_eq!(self.propose(mutation), Outcome::Refused(refusal), "{shown}");
    }

    pub fn now(&mut self) -> Timestamp {
        self.clock += 1;
        Timestamp { seconds: self.clock, nanos: 5 }
    }

    pub fn make(&mut self, make: Make) -> Ino {
        node(self.propose(Mutation::Make(make))).0
    }

    pub fn mkdir(&mut self, parent: Ino, name: &str) -> Ino {
        let make = self.new_node(parent, name, FileKind::Directory);
        self.make(make)
    }

    pub fn create(&mut self, parent: Ino, name: &str) -> Ino {
        let make = self.new_node(parent, name, FileKind::Regular);
        self.make(make)
    }

    pub fn new_node(&mut self, parent: Ino, name: &str, kind: FileKind) -> Make {
        Make {
            parent,
            name: file_name(name),
            kind,
            mode: Mode::new(0o644),
            uid: 10,
            gid: 20,
            rdev: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
            published: true,
            at: self.now(),
        }
    }

    pub fn next_chunk(&mut self) -> ChunkId {
        self.who.counter += 1;
        ChunkId { session: self.who.session, counter: self.who.counter }
    }

    pub fn next_content(&mut self) -> ContentId {
        self.who.counter += 1;
        ContentId { session: self.who.session, counter: self.who.counter }
    }

    pub fn new_chunk(&mut self, len: u32) -> NewChunk {
        let id = self.next_chunk();
        NewChunk { id, len, sha256: [id.counter as u8; 32], stored_on: vec![1] }
    }

    /// The table must agree with itself.
    pub fn check(&self) {
        let findings = crate::meta::check(&self.table).unwrap();
        assert!(findings.is_empty(), "{findings:#?}");
    }

    pub fn inode(&self, ino: Ino) -> Option<Inode> {
        self.read(&keys::inode(ino))
    }

    pub fn superblock(&self) -> Superblock {
        self.read(keys::SUPERBLOCK).unwrap()
    }

    pub fn slot(&self, content: ContentId, number: u64) -> Slot {
        self.read(&keys::slot(content, number)).unwrap_or_default()
    }

    pub fn lookup(&self, parent: Ino, name: &str) -> Option<Dirent> {
        let name = file_name(name);
        self.read(&keys::file_dirent(parent, &name))
            .or_else(|| self.read(&keys::directory_dirent(parent, &name)))
    }

    pub fn references(&self, id: ChunkId) -> Option<u32> {
        let record: Option<crate::meta::ChunkRecord> = self.read(&keys::chunk(id));
        record.map(|record| record.references)
    }

    pub fn has(&self, key: &[u8]) -> bool {
        self.table.0.contains_key(key)
    }

    pub fn read<T: serde::de::DeserializeOwned>(&self, key: &[u8]) -> Option<T> {
        self.table.0.get(key).map(|bytes| codec::decode(bytes).unwrap())
    }
}

pub fn file_name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

pub fn node(outcome: Outcome) -> (Ino, Inode) {
    match outcome {
        Outcome::Node { ino, inode } => (ino, *inode),
        other => panic!("no node: {other:?}"),
    }
}

pub fn removed(outcome: Outcome) -> (Ino, Inode) {
    match outcome {
        Outcome::Removed { ino, inode } => (ino, *inode),
        other => panic!("nothing removed: {other:?}"),
    }
}
