//! One step: applies an operation to the model and judges what the real directory answered.

use super::op::{Answer, Attr, Entry, Op};
use super::state::{Id, Kind, Model};
use std::collections::BTreeMap;
use std::path::PathBuf;

impl Model {
    /// Applies `op` and says what is wrong with `answer`, if anything is.
    pub fn step(&mut self, op: &Op, answer: &Answer) -> Result<(), String> {
        if let Op::Seek { slot, at, hole } = *op {
            return self.judge_seek(slot, at, hole, answer);
        }
        let expected = self.apply(op).unwrap_or_else(Answer::Error);
        self.judge(&expected, answer)
    }

    fn apply(&mut self, op: &Op) -> Result<Answer, i32> {
        match op {
            Op::Open { slot, path, flags, mode } => self.open(*slot, path, *flags, *mode),
            Op::Close { slot } => self.close(*slot),
            Op::Write { slot, data } => self.write(*slot, *data),
            Op::WriteAt { slot, at, data } => self.write_at(*slot, *at, *data),
            Op::MapWrite { slot, at, data } => self.map_write(*slot, *at, *data),
            Op::Read { slot, len } => self.read(*slot, *len),
            Op::ReadAt { slot, at, len } => self.read_at(*slot, *at, *len),
            Op::Allocate { slot, mode, at, len } => self.allocate(*slot, *mode, *at, *len),
            Op::Copy { from, at, to, target, len } => self.copy(*from, *at, *to, *target, *len),
            Op::Resize { slot, size } => self.resize(*slot, *size),
            Op::Sync { slot, .. } | Op::Seek { slot, .. } => {
                Ok(self.handles[*slot].as_ref().map_or(Answer::Nothing, |_| Answer::Done))
            }
            Op::Truncate { path, size } => self.truncate(path, *size),
            Op::Restart => {
                self.close_all();
                Ok(Answer::Done)
            }
            Op::Compare => Ok(self.tree()),
            _ => self.apply_to_names(op),
        }
    }

    fn apply_to_names(&mut self, op: &Op) -> Result<Answer, i32> {
        match op {
            Op::Rename { from, to, flags } => self.rename(from, to, *flags),
            Op::Link { from, to } => self.link(from, to),
            Op::Symlink { path, target } => self.symlink(path, target),
            Op::ReadLink { path } => self.read_link(path),
            Op::Unlink { path } => self.unlink(path),
            Op::Mkdir { path, mode } => self.mkdir(path, *mode),
            Op::Rmdir { path } => self.rmdir(path),
            Op::Fifo { path, mode } => self.fifo(path, *mode),
            Op::Chmod { path, mode } => self.chmod(path, *mode),
            Op::Chown { path, uid, gid } => self.chown(path, *uid, *gid),
            Op::Times { path, times } => self.set_times(path, *times),
            Op::SetXattr { path, name, value, flags } => self.set_xattr(path, name, *value, *flags),
            Op::GetXattr { path, name } => self.get_xattr(path, name),
            Op::RemoveXattr { path, name } => self.remove_xattr(path, name),
            Op::ListXattr { path } => self.list_xattr(path),
            Op::Stat { path } => self.find(path).map(|id| Answer::Attr(self.attr(id))),
            Op::List { path } => self.list(path),
            _ => unreachable!("an operation on descriptors"),
        }
    }

    /// The whole tree as it must be; reading it will move every access time.
    fn tree(&mut self) -> Answer {
        let entry = |id: Id| {
            let inode = self.get(id);
            let content = match &inode.kind {
                Kind::File(bytes) | Kind::Symlink(bytes) => bytes.clone(),
                Kind::Dir(_) | Kind::Fifo => Vec::new(),
            };
            Entry { attr: self.attr(id), content, xattrs: inode.xattrs.clone() }
        };
        let entries = self.paths().into_iter().map(|(path, id)| (path, entry(id))).collect();
        let handles = self.handles.iter().enumerate();
        let readable =
            handles.filter_map(|(slot, handle)| handle.as_ref().map(|handle| (slot, handle)));
        let readable = readable.filter(|(_, handle)| handle.reads());
        let open = readable.map(|(slot, handle)| (slot, self.bytes(handle.id).clone())).collect();
        for inode in self.inodes.values_mut() {
            inode.times[0] = None;
        }
        Answer::Tree(entries, open)
    }

    fn judge(&mut self, expected: &Answer, answer: &Answer) -> Result<(), String> {
        match (expected, answer) {
            (Answer::Done, Answer::Done) | (Answer::Nothing, Answer::Nothing) => Ok(()),
            (Answer::Number(a), Answer::Number(b)) if a == b => Ok(()),
            (Answer::Names(a), Answer::Names(b)) if a == b => Ok(()),
            (Answer::Error(a), Answer::Error(b)) if a == b => Ok(()),
            (Answer::Bytes(a), Answer::Bytes(b)) => same_bytes(a, b),
            (Answer::Attr(a), Answer::Attr(b)) => self.same_attr(a, b),
            (Answer::Tree(a, open), Answer::Tree(b, really)) => {
                self.same_tree(a, b)?;
                open.iter().zip(really).try_for_each(|((slot, a), (_, b))| {
                    same_bytes(a, b).map_err(|what| format!("descriptor {slot}: {what}"))
                })
            }
            _ => Err(format!("expected {}, answered {}", expected.brief(), answer.brief())),
        }
    }

    fn same_tree(
        &mut self,
        a: &BTreeMap<PathBuf, Entry>,
        b: &BTreeMap<PathBuf, Entry>,
    ) -> Result<(), String> {
        if let Some(path) = a.keys().find(|path| !b.contains_key(*path)) {
            return Err(format!("{path:?} is missing"));
        }
        if let Some(path) = b.keys().find(|path| !a.contains_key(*path)) {
            return Err(format!("{path:?} should not be there"));
        }
        a.iter().zip(b.values()).try_for_each(|((path, a), b)| {
            let same =
                self.same_attr(&a.attr, &b.attr).and_then(|()| same_bytes(&a.content, &b.content));
            let same = same.and_then(|()| same_xattrs(&a.xattrs, &b.xattrs));
            same.map_err(|what| format!("{path:?}: {what}"))
        })
    }

    /// Compares attributes, and the inode number with the one seen before.
    fn same_attr(&mut self, a: &Attr, b: &Attr) -> Result<(), String> {
        let seen = *self.seen.entry(a.ino).or_insert(b.ino);
        if seen != b.ino {
            return Err(format!("inode number {} was {seen} before", b.ino));
        }
        if let Some((other, _)) = self.seen.iter().find(|(id, ino)| **ino == b.ino && **id != a.ino)
        {
            return Err(format!(
                "inode number {} belongs to another file (the model's {other}, this {})",
                b.ino, a.ino
            ));
        }
        let times = [0, 1].map(|n| if a.times[n].is_some() { b.times[n] } else { None });
        let b = Attr { ino: a.ino, times, ..b.clone() };
        if *a == b { Ok(()) } else { Err(format!("expected {a:?},\n    answered {b:?}")) }
    }
}

fn same_xattrs(a: &BTreeMap<String, Vec<u8>>, b: &BTreeMap<String, Vec<u8>>) -> Result<(), String> {
    let names = |xattrs: &BTreeMap<String, Vec<u8>>| xattrs.keys().cloned().collect::<Vec<_>>();
    if a == b {
        Ok(())
    } else {
        Err(format!("extended attributes: expected {:?}, answered {:?}", names(a), names(b)))
    }
}

/// Says where two byte strings part.
fn same_bytes(expected: &[u8], answer: &[u8]) -> Result<(), String> {
    if expected == answer {
        return Ok(());
    }
    let lengths = format!("expected {} bytes, answered {}", expected.len(), answer.len());
    let differs = |(a, b): (&u8, &u8)| a != b;
    let Some(at) = expected.iter().zip(answer).position(differs) else { return Err(lengths) };
    let count = expected.iter().zip(answer).filter(|pair| differs(*pair)).count();
    let zeros = answer[at..].iter().take_while(|byte| **byte == 0).count();
    Err(format!(
        "{lengths}; first difference at {at}, {count} bytes differ, {zeros} zeros answered there"
    ))
}
