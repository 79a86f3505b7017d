//! Requests as no honest node sends them: each is refused or done, none stops the node or bends
//! the table.

use super::moves::Random;
use super::write::with_manifest;
use super::{Bench, SLOT, file_name};
use crate::meta::Outcome;
use crate::meta::mutation::{
    Commit, Loss, Make, Mutation, NewChunk, Refusal, Rename, RenameMode, SetAttr, SetXattr,
    WriteOp, XattrMode,
};
use crate::meta::object::{
    Chosen, Condition, ObjectBody, ObjectPath, Part, PutObject, Sums, Upload, UploadRef,
};
use crate::meta::record::{NodeRecord, NodeState, Piece};
use crate::types::limits::{FILE_SIZE_MAX, INLINE_MAX};
use crate::types::{ChecksumKind, ChunkId, ContentId, FileKind, Ino, Mode, SessionId, Timestamp};

struct Wild {
    random: Random,
}

impl Wild {
    fn number(&mut self) -> u64 {
        let edges = [
            0,
            1,
            2,
            7,
            INLINE_MAX as u64,
            SLOT - 1,
            SLOT,
            SLOT + 1,
            u64::from(u32::MAX),
            1 << 32,
            FILE_SIZE_MAX,
            FILE_SIZE_MAX + 1,
            u64::MAX / 2,
            u64::MAX - 1,
            u64::MAX,
        ];
        self.random.pick(&edges).unwrap()
    }

    fn small(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX - 1)
    }

    fn id(&mut self) -> (SessionId, u64) {
        let session = if self.random.percent(60) { 1 } else { self.number() };
        let counter = if self.random.percent(60) { self.random.below(12) } else { self.number() };
        (SessionId(session), counter)
    }

    fn chunk(&mut self) -> ChunkId {
        let (session, counter) = self.id();
        ChunkId { session, counter }
    }

    fn content(&mut self) -> ContentId {
        let (session, counter) = self.id();
        ContentId { session, counter }
    }

    fn ino(&mut self) -> Ino {
        Ino(if self.random.percent(70) { self.random.below(8) } else { self.number() })
    }

    fn time(&mut self) -> Timestamp {
        Timestamp { seconds: self.number() as i64, nanos: self.small() }
    }

    fn op(&mut self) -> WriteOp {
        let (offset, len, chunk) = (self.number(), self.small(), self.chunk());
        let (chunk_offset, size) = (self.small(), self.number());
        let data = vec![1; self.random.below(INLINE_MAX as u64 + 9) as usize];
        match self.random.below(11) {
            0 => WriteOp::Reset,
            1 => WriteOp::Write { offset, len, chunk, chunk_offset },
            2 => WriteOp::Append { len, chunk, chunk_offset },
            3 => WriteOp::Inline { offset, data },
            4 => WriteOp::AppendInline { data },
            5 => WriteOp::Outline { content: self.content() },
            6 => WriteOp::Truncate { size },
            7 => WriteOp::Extend { size },
            8 => WriteOp::Punch { offset, len: size },
            9 => {
                let (from, from_offset) = (self.ino(), self.number());
                WriteOp::Copy { from, from_offset, offset, len: size }
            }
            _ => WriteOp::Adopt { content: self.content(), size },
        }
    }

    fn ops(&mut self) -> Vec<WriteOp> {
        (0..self.random.below(4)).map(|_| self.op()).collect()
    }

    fn chunks(&mut self) -> Vec<NewChunk> {
        let mut chunk = || {
            let stored_on = vec![self.number(); self.random.below(70) as usize];
            NewChunk { id: self.chunk(), len: self.small(), sha256: [0; 32], stored_on }
        };
        (0..2).map(|_| chunk()).collect()
    }

    fn pieces(&mut self) -> Vec<Piece> {
        let mut piece = || Piece {
            start: self.small(),
            len: self.small(),
            chunk: self.chunk(),
            chunk_offset: self.small(),
        };
        (0..2).map(|_| piece()).collect()
    }

    fn about_nodes(&mut self) -> Mutation {
        let states = [NodeState::Active, NodeState::Draining, NodeState::Gone];
        let state = self.random.pick(&states).unwrap();
        let node = if self.random.percent(80) { self.random.below(4) } else { self.number() };
        let zone = "z".repeat(self.random.below(260) as usize);
        let record = NodeRecord { address: zone.clone(), zone, weight: self.small(), state };
        match self.random.below(4) {
            0 => Mutation::SetReplicationFactor { factor: self.number() as u8 },
            1 => Mutation::SetQuorumRequired { bucket: self.ino(), is_required: false },
            _ => Mutation::SetNode { node, record },
        }
    }

    fn about_copies(&mut self) -> Mutation {
        let node = if self.random.percent(80) { self.random.below(4) } else { self.number() };
        let ids = (0..self.random.below(3000)).map(|_| self.chunk()).collect();
        let whys = [Loss::Damaged, Loss::Surplus];
        match self.random.below(4) {
            0 => Mutation::Survey { epoch: self.random.below(9) },
            1 => Mutation::Vouch { content: self.content() },
            2 => Mutation::Stored { node, ids },
            _ => Mutation::Unstored { node, ids, why: self.random.pick(&whys).unwrap() },
        }
    }

    /// Up to 280 KiB: few large attributes, or very many small ones.
    fn xattrs(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let sizes = [(1, 1), (1, 70_000), (4, 70_000), (90, 700), (1700, 1), (2900, 1), (3000, 9)];
        let (count, len) = self.random.pick(&sizes).unwrap();
        let name = |n: usize| format!("user.s3.meta.{n:04}").into_bytes();
        (0..count).map(|n| (name(n), vec![b'v'; len])).collect()
    }

    fn text(&mut self) -> String {
        let lengths = [0, 32, 256, 257, 20_000, 32_000, 64_000, 65_500, 70_000];
        "x".repeat(self.random.pick(&lengths).unwrap())
    }

    fn sums(&mut self) -> Sums {
        let checksums = vec![(ChecksumKind::Sha256, self.text())];
        let parts = vec![(self.number(), 1); self.random.below(9000) as usize];
        let part_sums = self.text().into_bytes();
        Sums { version: self.number(), checksums, composite: true, parts, part_sums }
    }

    fn put(&mut self, bucket: Ino) -> PutObject {
        PutObject {
            body: match self.random.below(2) {
                0 => ObjectBody::Inline(vec![1; INLINE_MAX]),
                _ => ObjectBody::Staged { content: self.content(), size: self.number() },
            },
            etag: Some(self.text()),
            sums: if self.random.percent(50) { Sums::default() } else { self.sums() },
            xattrs: if self.random.percent(50) { Vec::new() } else { self.xattrs() },
            ..put(bucket)
        }
    }

    fn about_objects(&mut self, bucket: Ino) -> Mutation {
        let key = "k".repeat(self.random.pick(&[1, 2, 1024, 1025]).unwrap());
        let upload = UploadRef { bucket, key, id: self.content() };
        let (xattrs, stored_at, etag) = (self.xattrs(), self.time(), self.text());
        match self.random.below(4) {
            0 => {
                let (checksum, started_at) = (None, stored_at);
                let record = Upload { xattrs, checksum, uid: 1, gid: 2, started_at };
                Mutation::CreateUpload { upload, record }
            }
            1 => {
                let checksums = vec![(ChecksumKind::Sha256, self.text())];
                let part = Part { content: None, size: 0, etag, checksums, stored_at };
                Mutation::PutPart { upload, number: 1, part }
            }
            2 => Mutation::CompleteUpload { upload, put: Box::new(self.put(bucket)) },
            _ => Mutation::PutObject(Box::new(self.put(bucket))),
        }
    }

    fn mutation(&mut self) -> Mutation {
        let (ino, at, session) = (self.ino(), self.time(), self.id().0);
        let content = self.content();
        match self.random.below(18) {
            15..18 => self.about_objects(ino),
            12 => self.about_nodes(),
            13 | 14 => self.about_copies(),
            0..4 => Mutation::Commit(Commit {
                ino,
                ops: self.ops(),
                chunks: self.chunks(),
                expected_version: None,
                at,
                mtime: Some(self.time()),
                strip_privilege: true,
            }),
            4 | 5 => Mutation::Stage {
                content,
                ops: self.ops(),
                chunks: self.chunks(),
                may_relax: false,
            },
            6 => Mutation::Compact {
                content,
                slot: self.number(),
                expected: self.pieces(),
                pieces: self.pieces(),
                chunks: self.chunks(),
            },
            7 => Mutation::Reap { ids: (0..5).map(|_| self.chunk()).collect() },
            8 if session != SessionId(1) => Mutation::EndSession { session },
            8 => Mutation::Abort { sequence: self.number() },
            9 => Mutation::FreeContent { content },
            _ => self.name_change(ino, at),
        }
    }

    fn name_change(&mut self, ino: Ino, at: Timestamp) -> Mutation {
        let (parent, name) = (self.ino(), file_name("x"));
        match self.random.below(6) {
            0 => Mutation::Link { ino, parent, name, at },
            1 => Mutation::Rename(Rename {
                parent,
                name,
                new_parent: ino,
                new_name: file_name("d"),
                mode: RenameMode::Exchange,
                held: true,
                at,
            }),
            2 => Mutation::Make(Make {
                parent,
                name,
                kind: FileKind::Symlink,
                mode: Mode::new(self.small()),
                uid: self.small(),
                gid: self.small(),
                rdev: self.small(),
                target: vec![b'/'; self.random.below(5000) as usize],
                xattrs: vec![(vec![b'x'; self.random.below(300) as usize], vec![])],
                published: false,
                at,
            }),
            3 => Mutation::SetAttr(SetAttr {
                ino,
                mode: Some(Mode::new(self.small())),
                uid: Some(self.small()),
                gid: None,
                atime: Some(self.time()),
                mtime: None,
                strip_privilege: true,
                at,
            }),
            4 => Mutation::SetXattr(SetXattr {
                ino,
                name: vec![b'n'; self.random.below(300) as usize],
                value: vec![0; self.random.below(50_000) as usize],
                mode: XattrMode::Any,
                permissions: None,
                at,
            }),
            _ => Mutation::ReleaseOrphans { inos: vec![ino] },
        }
    }
}

#[test]
fn no_request_stops_the_node() {
    let (mut bench, _, content, _) = with_manifest(&[60, 10, 4]);
    let parent = bench.lookup(Ino::ROOT, "bkt").unwrap().ino;
    bench.mkdir(parent, "d");
    bench.propose(Mutation::Stage {
        content: ContentId { counter: 9, ..content },
        ops: vec![],
        chunks: vec![],
        may_relax: false,
    });
    let start = bench;
    let mut done = 0;
    for seed in 0..60 {
        let mut wild = Wild { random: Random(seed) };
        let mut bench = Bench {
            table: start.table.clone(),
            history: Vec::new(),
            who: start.who.clone(),
            changes: Vec::new(),
            clock: 0,
        };
        for _ in 0..60 {
            let mutation = wild.mutation();
            let outcome = bench.propose(mutation);
            done += u32::from(!matches!(outcome, Outcome::Refused(_)));
            bench.check();
        }
    }
    assert!(done > 500, "only {done} were done");
}

fn put(bucket: Ino) -> PutObject {
    PutObject {
        path: ObjectPath { bucket, names: vec![file_name("k")], is_directory: false },
        body: ObjectBody::Inline(Vec::new()),
        etag: None,
        sums: Sums::default(),
        xattrs: Vec::new(),
        uid: 1,
        gid: 2,
        mode: Mode::new(0o644),
        directory_mode: Mode::new(0o755),
        chosen: Chosen::default(),
        condition: Condition::Always,
        held: false,
        at: Timestamp { seconds: 1, nanos: 1 },
    }
}

/// Kept headers that together had no room in a record stopped every node, for good: each replay
/// came to the same entry.
#[test]
fn uploads_without_room_are_refused_and_others_can_be_read() {
    let (mut bench, bucket) = Bench::new();
    let mut create = |count: usize, len: usize| {
        let upload = UploadRef { bucket, key: "k".into(), id: bench.next_content() };
        let name = |n: usize| format!("user.s3.header.{n:04}").into_bytes();
        let xattrs = (0..count).map(|n| (name(n), vec![b'v'; len])).collect();
        let started_at = bench.now();
        let record = Upload { xattrs, checksum: None, uid: 1, gid: 2, started_at };
        let outcome = bench.propose(Mutation::CreateUpload { upload, record });
        bench.check();
        outcome
    };
    for (count, len) in [(1, 70_000), (1, 49_153), (2, 40_000), (90, 800), (5000, 1)] {
        assert_eq!(create(count, len), Outcome::Refused(Refusal::Malformed), "{count} of {len}");
    }
    for (count, len) in [(1, 49_152), (2, 30_000), (80, 700), (2900, 1)] {
        assert_eq!(create(count, len), Outcome::Done, "{count} of {len}");
    }
}

/// The outcome of a put names the replaced object too: two large tags had no room in it.
#[test]
fn tags_without_room_are_refused() {
    let (mut bench, bucket) = Bench::new();
    let tagged = |len| Some("x".repeat(len));
    for len in [257, 40_000, 40_000, 65_400, 70_000] {
        let put = PutObject { etag: tagged(len), ..put(bucket) };
        bench.refused(Mutation::PutObject(Box::new(put)), Refusal::Malformed);
    }
    let longest = PutObject { etag: tagged(256), ..put(bucket) };
    assert!(matches!(bench.propose(Mutation::PutObject(Box::new(longest))), Outcome::Put { .. }));
    bench.check();
}
