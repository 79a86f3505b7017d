//! Invents the next operation: mostly sensible in the model's present state, sometimes not, and often at an edge.

use super::op::{Data, Op, SLOTS, Type};
use super::state::{Id, Model};
use crate::support::rng::Rng;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// No file of a run grows beyond this.
const FILE_MAX: u64 = 10 << 20;
/// How many names a run keeps at most; beyond it, it removes.
const NAMES_MAX: usize = 60;
/// Where formats change their ways: a sector, a page, an inline file, a checksummed block, a chunk.
const EDGES: [u64; 8] = [512, 4096, 8192, 16_384, 65_536, 131_072, 1 << 20, 4 << 20];
const XATTRS: [&str; 5] =
    ["user.a", "user.b", "user.long-name.with.dots", "trusted.t", "security.s"];

/// Chooses operations for a model.
pub struct Chooser<'a> {
    pub rng: &'a mut Rng,
    pub model: &'a Model,
    pub paths: Vec<(PathBuf, Id)>,
}

impl<'a> Chooser<'a> {
    /// Looks at the model as it is now.
    pub fn new(rng: &'a mut Rng, model: &'a Model) -> Self {
        Self { rng, model, paths: model.paths() }
    }

    /// The next operation.
    pub fn next(&mut self) -> Op {
        if self.paths.len() > NAMES_MAX && self.rng.chance(30) {
            return self.removal();
        }
        match self.rng.below(100) {
            0..45 => self.on_file(),
            45..60 => self.opening(),
            60..84 => self.on_names(),
            84..94 => self.on_attributes(),
            94..99 => self.looking(),
            _ => Op::Compare,
        }
    }

    fn removal(&mut self) -> Op {
        let path = self.existing(None);
        if self.rng.chance(30) { Op::Rmdir { path } } else { Op::Unlink { path } }
    }

    fn opening(&mut self) -> Op {
        let slot = self.rng.below(SLOTS as u64) as usize;
        if self.model.handles[slot].is_some() {
            return Op::Close { slot };
        }
        let access = *self.rng.pick(&[libc::O_RDWR, libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY]);
        let mut flags = access;
        let add =
            |flag: i32, percent: u64, rng: &mut Rng| if rng.chance(percent) { flag } else { 0 };
        flags |= add(libc::O_CREAT, 70, self.rng) | add(libc::O_APPEND, 15, self.rng);
        flags |= if access == libc::O_RDONLY { 0 } else { add(libc::O_TRUNC, 15, self.rng) };
        flags |= if flags & libc::O_CREAT == 0 { 0 } else { add(libc::O_EXCL, 10, self.rng) };
        flags |= add(libc::O_SYNC, 3, self.rng);
        let path = if self.rng.chance(70) { self.existing(Some(Type::File)) } else { self.any() };
        Op::Open { slot, path, flags, mode: self.mode() }
    }

    fn on_file(&mut self) -> Op {
        let open: Vec<_> = (0..SLOTS).filter(|slot| self.model.handles[*slot].is_some()).collect();
        if open.is_empty() {
            return self.opening();
        }
        let slot = *self.rng.pick(&open);
        let size = self.size_of(slot);
        let at = self.offset(size);
        match self.rng.below(100) {
            0..22 => Op::WriteAt { slot, at, data: self.data(at.max(size)) },
            22..34 => Op::Write { slot, data: self.data(size.max(self.position(slot))) },
            34..40 => self.map_write(slot, size),
            40..52 => Op::ReadAt { slot, at, len: self.length() as usize },
            52..58 => Op::Read { slot, len: self.length() as usize },
            58..64 => Op::Seek { slot, at, hole: self.rng.chance(50) },
            64..74 => self.allocation(slot, at),
            74..83 => self.copy(&open, slot),
            83..92 => Op::Resize { slot, size: at },
            _ => Op::Sync { slot, data_only: self.rng.chance(50) },
        }
    }

    fn map_write(&mut self, slot: usize, size: u64) -> Op {
        let at = self.rng.below(size + 1);
        let len = self.length().min(size - at) as usize;
        Op::MapWrite { slot, at, data: Data { seed: self.rng.next(), len } }
    }

    fn allocation(&mut self, slot: usize, at: u64) -> Op {
        const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
        let modes = [
            0,
            KEEP,
            libc::FALLOC_FL_PUNCH_HOLE | KEEP,
            libc::FALLOC_FL_PUNCH_HOLE | KEEP,
            libc::FALLOC_FL_ZERO_RANGE,
        ];
        let mode = *self.rng.pick(&modes) | if self.rng.chance(20) { KEEP } else { 0 };
        let len = self.length().clamp(1, (FILE_MAX - at).max(1));
        Op::Allocate { slot, mode, at, len }
    }

    fn copy(&mut self, open: &[usize], to: usize) -> Op {
        let from = *self.rng.pick(open);
        let at = self.offset(self.size_of(from));
        let target = self.offset(self.size_of(to));
        Op::Copy { from, at, to, target, len: self.length().min(FILE_MAX - target).max(1) }
    }

    fn on_names(&mut self) -> Op {
        match self.rng.below(100) {
            0..15 => Op::Mkdir { path: self.any(), mode: self.mode() },
            15..22 => Op::Rmdir { path: self.existing(Some(Type::Dir)) },
            22..36 => Op::Unlink { path: self.existing(None) },
            36..64 => {
                let flags =
                    *self.rng.pick(&[0, 0, 0, libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE]);
                Op::Rename { from: self.existing(None), to: self.any(), flags }
            }
            64..78 => Op::Link { from: self.existing(None), to: self.any() },
            78..86 => {
                let len = *self.rng.pick(&[1, 10, 50, 100, 300, 2000, 4000]);
                Op::Symlink { path: self.any(), target: format!("nowhere/{}", "x".repeat(len)) }
            }
            86..90 => Op::Fifo { path: self.any(), mode: self.mode() },
            _ => Op::Truncate { path: self.existing(Some(Type::File)), size: self.offset(4096) },
        }
    }

    fn on_attributes(&mut self) -> Op {
        let path = self.existing(None);
        let name = *self.rng.pick(&XATTRS);
        match self.rng.below(100) {
            0..20 => Op::Chmod { path, mode: self.mode() },
            20..35 => {
                let ids = [0, 1, 65_534, 1 << 31, u32::MAX];
                Op::Chown { path, uid: *self.rng.pick(&ids), gid: *self.rng.pick(&ids) }
            }
            35..60 => Op::Times { path, times: [self.time(), self.time()] },
            60..80 => {
                let value = Data { seed: self.rng.next(), len: self.rng.below(200) as usize };
                let flags = *self.rng.pick(&[0, 0, libc::XATTR_CREATE, libc::XATTR_REPLACE]);
                Op::SetXattr { path, name, value, flags }
            }
            80..90 => Op::GetXattr { path, name },
            _ => Op::RemoveXattr { path, name },
        }
    }

    fn looking(&mut self) -> Op {
        match self.rng.below(5) {
            0 => Op::Stat { path: self.any() },
            1 => Op::List { path: self.existing(Some(Type::Dir)) },
            2 => Op::ReadLink { path: self.existing(Some(Type::Symlink)) },
            3 => Op::ListXattr { path: self.existing(None) },
            _ => Op::Stat { path: self.existing(None) },
        }
    }

    /// A time before 1970, after 2038, with and without fractions, now, or none.
    fn time(&mut self) -> (i64, i64) {
        let nanos =
            *self.rng.pick(&[0, 1, 500_000_000, 999_999_999, libc::UTIME_NOW, libc::UTIME_OMIT]);
        (
            *self.rng.pick(&[
                0,
                -1,
                -86_400,
                -2_000_000_000,
                1_700_000_000,
                i64::from(i32::MAX) + 1,
                8_000_000_000,
            ]),
            nanos,
        )
    }

    fn mode(&mut self) -> u32 {
        *self.rng.pick(&[
            0o644, 0o600, 0o755, 0o777, 0o000, 0o4755, 0o2755, 0o2775, 0o1777, 0o6711, 0o2644,
        ])
    }

    /// A path that exists, of a kind if there is one; now and then any path.
    fn existing(&mut self, kind: Option<Type>) -> PathBuf {
        let fits =
            |(_, id): &&(PathBuf, Id)| kind.is_none_or(|kind| self.model.get(*id).kind() == kind);
        let fitting: Vec<_> =
            self.paths.iter().filter(fits).map(|(path, _)| path.clone()).collect();
        if fitting.is_empty() || self.rng.chance(8) {
            self.any()
        } else {
            self.rng.pick(&fitting).clone()
        }
    }

    /// Any name in any directory, or (seldom) below something that is none.
    fn any(&mut self) -> PathBuf {
        let wanted = |id: Id| self.model.get(id).kind() == Type::Dir || id % 16 == 3;
        let mut dirs = vec![PathBuf::new(), PathBuf::new(), PathBuf::from("missing")];
        dirs.extend(self.paths.iter().filter(|(_, id)| wanted(*id)).map(|(path, _)| path.clone()));
        let short = dirs.into_iter().filter(|path| path.iter().count() < 5).collect::<Vec<_>>();
        self.rng.pick(&short).join(self.name())
    }

    fn name(&mut self) -> OsString {
        match self.rng.below(100) {
            0..80 => format!("{}", *self.rng.pick(&['a', 'b', 'c', 'd', 'e', 'f'])).into(),
            80..84 => "a b".into(),
            84..88 => "a.b".into(),
            88..91 => "Größe\u{1F5C0}".into(),
            91..94 => OsString::from_vec(vec![0xff, b'x', 0xfe]),
            94..98 => "n".repeat(255).into(),
            _ => "n".repeat(256).into(),
        }
    }

    fn size_of(&self, slot: usize) -> u64 {
        self.model.handles[slot]
            .as_ref()
            .map_or(0, |handle| self.model.bytes(handle.id).len() as u64)
    }

    fn position(&self, slot: usize) -> u64 {
        self.model.handles[slot].as_ref().map_or(0, |handle| handle.position)
    }

    /// An offset inside the file, at its end, a little beyond, or near an edge; large ones are rare.
    fn offset(&mut self, size: u64) -> u64 {
        let far = self.rng.chance(6);
        let edge = *self.rng.pick(if far { &EDGES } else { &EDGES[..5] });
        let near = edge * (1 + self.rng.below(2)) + self.rng.below(17);
        let at = match self.rng.below(6) {
            0 => near.saturating_sub(8),
            1 => size,
            2 => size + self.rng.below(9000),
            3 => 0,
            _ => self.rng.below(size + 1),
        };
        at.min(FILE_MAX)
    }

    fn length(&mut self) -> u64 {
        match self.rng.below(100) {
            0..40 => 1 + self.rng.below(300),
            40..75 => 1 + self.rng.below(20_000),
            75..88 => *self.rng.pick(&EDGES[..5]),
            88..97 => 1 + self.rng.below(200_000),
            97..99 => 1 + self.rng.below(1 << 20),
            _ => 1 + self.rng.below(6 << 20),
        }
    }

    /// Bytes for a write that ends before the largest size a file may have, if it starts at `at`.
    fn data(&mut self, at: u64) -> Data {
        let len = self.length().min(FILE_MAX.saturating_sub(at)) as usize;
        Data { seed: self.rng.next(), len }
    }
}
