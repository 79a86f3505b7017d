//! The model's state: inodes, names and open descriptors, and how a path leads to an inode.

use super::op::{Attr, SLOTS, Type};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The model's own inode number.
pub type Id = u64;
/// The directory of the run.
pub const ROOT: Id = 1;
/// The umask the tests run under.
pub const UMASK: u32 = 0o022;

/// What an inode is and holds.
#[derive(Clone, Debug)]
pub enum Kind {
    File(Vec<u8>),
    Dir(BTreeMap<OsString, Id>),
    Symlink(Vec<u8>),
    Fifo,
}

/// One inode.
#[derive(Clone, Debug)]
pub struct Inode {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Names that lead here; a directory that has been removed has none.
    pub names: u64,
    /// Access and modification time where utimensat(2) set them and nothing has changed them since.
    pub times: [Option<(i64, i64)>; 2],
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Inode {
    /// Its type.
    pub fn kind(&self) -> Type {
        match self.kind {
            Kind::File(_) => Type::File,
            Kind::Dir(_) => Type::Dir,
            Kind::Symlink(_) => Type::Symlink,
            Kind::Fifo => Type::Fifo,
        }
    }

    /// The content has changed now.
    pub fn touch(&mut self) {
        self.times[1] = None;
    }
}

/// An open descriptor.
#[derive(Clone, Debug)]
pub struct Handle {
    pub id: Id,
    pub flags: i32,
    pub position: u64,
}

impl Handle {
    /// Whether it may read.
    pub fn reads(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_WRONLY
    }

    /// Whether it may write.
    pub fn writes(&self) -> bool {
        self.flags & libc::O_ACCMODE != libc::O_RDONLY
    }

    /// Whether every write goes to the end.
    pub fn appends(&self) -> bool {
        self.flags & libc::O_APPEND != 0
    }
}

/// The whole model.
pub struct Model {
    pub inodes: BTreeMap<Id, Inode>,
    pub handles: [Option<Handle>; SLOTS],
    pub next: Id,
    /// The inode numbers the real directory has shown.
    pub seen: BTreeMap<Id, u64>,
}

/// Where a path leads: its directory, its last name, and what has that name.
pub struct Place {
    pub dir: Id,
    pub name: OsString,
    pub id: Option<Id>,
}

impl Model {
    /// An empty directory.
    pub fn new() -> Self {
        let times = [None, None];
        let kind = Kind::Dir(BTreeMap::new());
        let root =
            Inode { kind, mode: 0o755, uid: 0, gid: 0, names: 1, times, xattrs: BTreeMap::new() };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            handles: [const { None }; SLOTS],
            next: ROOT + 1,
            seen: BTreeMap::new(),
        }
    }

    /// An inode that is known to exist.
    pub fn get(&self, id: Id) -> &Inode {
        &self.inodes[&id]
    }

    /// The same, to change it.
    pub fn edit(&mut self, id: Id) -> &mut Inode {
        self.inodes.get_mut(&id).expect("the model holds every inode it names")
    }

    /// The names in a directory; ENOTDIR for anything else. The symlinks of a run all lead nowhere: ENOENT.
    pub fn names(&self, id: Id) -> Result<&BTreeMap<OsString, Id>, i32> {
        match &self.get(id).kind {
            Kind::Dir(names) => Ok(names),
            Kind::Symlink(_) => Err(libc::ENOENT),
            Kind::File(_) | Kind::Fifo => Err(libc::ENOTDIR),
        }
    }

    /// The names in a directory that is known to be one, to change them.
    pub fn names_mut(&mut self, id: Id) -> &mut BTreeMap<OsString, Id> {
        let inode = self.edit(id);
        inode.touch();
        match &mut inode.kind {
            Kind::Dir(names) => names,
            _ => unreachable!("not a directory"),
        }
    }

    /// Follows a path (of at least one name) to the directory of its last name.
    pub fn parent(&self, path: &Path) -> Result<(Id, OsString), i32> {
        let mut dir = ROOT;
        let mut parts = path.iter().peekable();
        while let Some(part) = parts.next() {
            self.names(dir)?;
            if parts.peek().is_none() {
                return Ok((dir, part.to_owned()));
            }
            dir = self.lookup(dir, part)?.ok_or(libc::ENOENT)?;
        }
        unreachable!("an empty path")
    }

    /// What has a name in a directory.
    pub fn lookup(&self, dir: Id, name: &OsStr) -> Result<Option<Id>, i32> {
        if name.len() > 255 {
            Err(libc::ENAMETOOLONG)
        } else {
            Ok(self.names(dir)?.get(name).copied())
        }
    }

    /// Follows a path (of at least one name) to its last name.
    pub fn place(&self, path: &Path) -> Result<Place, i32> {
        let (dir, name) = self.parent(path)?;
        let id = self.lookup(dir, &name)?;
        Ok(Place { dir, name, id })
    }

    /// The inode a path names, symlinks not followed.
    pub fn find(&self, path: &Path) -> Result<Id, i32> {
        if path.as_os_str().is_empty() {
            return Ok(ROOT);
        }
        self.place(path)?.id.ok_or(libc::ENOENT)
    }

    /// The inode a path names, a symlink at its end followed (into nowhere).
    pub fn follow(&self, path: &Path) -> Result<Id, i32> {
        let id = self.find(path)?;
        if self.get(id).kind() == Type::Symlink { Err(libc::ENOENT) } else { Ok(id) }
    }

    /// Puts a new inode under a free name, as open, mkdir, symlink and mknod do.
    pub fn make(&mut self, place: Place, kind: Kind, mode: u32) -> Id {
        let id = self.next;
        self.next += 1;
        let parent = self.get(place.dir);
        let inherits = parent.mode & libc::S_ISGID != 0;
        let gid = if inherits { parent.gid } else { 0 };
        let passes_on = inherits && matches!(kind, Kind::Dir(_));
        let mode = if passes_on { mode | libc::S_ISGID } else { mode };
        let times = [None, None];
        self.inodes.insert(
            id,
            Inode { kind, mode, uid: 0, gid, names: 1, times, xattrs: BTreeMap::new() },
        );
        self.names_mut(place.dir).insert(place.name, id);
        id
    }

    /// Takes a name away, and the inode with its last name and descriptor.
    pub fn remove(&mut self, dir: Id, name: &OsString) {
        if let Some(id) = self.names_mut(dir).remove(name) {
            self.edit(id).names -= 1;
            self.forget(id);
        }
    }

    /// Drops an inode that has neither a name nor a descriptor.
    pub fn forget(&mut self, id: Id) {
        let open = self.handles.iter().flatten().any(|handle| handle.id == id);
        if self.get(id).names == 0 && !open {
            self.inodes.remove(&id);
            self.seen.remove(&id);
        }
    }

    /// Whether `id` is `dir` or lies above it.
    pub fn is_above(&self, id: Id, dir: Id) -> bool {
        let below = |at: Id| match &self.get(at).kind {
            Kind::Dir(names) => names.values().copied().collect(),
            _ => Vec::new(),
        };
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            if at == dir {
                return true;
            }
            open.extend(below(at));
        }
        false
    }

    /// What stat(2) must say.
    pub fn attr(&self, id: Id) -> Attr {
        let inode = self.get(id);
        let (links, size) = match &inode.kind {
            Kind::File(data) => (inode.names, data.len() as u64),
            Kind::Symlink(target) => (inode.names, target.len() as u64),
            Kind::Fifo => (inode.names, 0),
            Kind::Dir(names) => {
                let inner = names.values().filter(|id| self.get(**id).kind() == Type::Dir).count();
                (2 + inner as u64, 0)
            }
        };
        let Inode { mode, uid, gid, times, .. } = *inode;
        Attr { kind: inode.kind(), mode, links, uid, gid, size, times, ino: id }
    }

    /// Every path of the tree with its inode, the root left out; a directory before what is in it.
    pub fn paths(&self) -> Vec<(PathBuf, Id)> {
        let mut out = Vec::new();
        let mut open = vec![(PathBuf::new(), ROOT)];
        while let Some((path, id)) = open.pop() {
            if let Kind::Dir(names) = &self.get(id).kind {
                open.extend(names.iter().map(|(name, id)| (path.join(name), *id)));
            }
            if id != ROOT {
                out.push((path, id));
            }
        }
        out
    }
}
