//! The operations, and what the system can answer to one.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// How many descriptors a run holds open at most.
pub const SLOTS: usize = 6;

/// Bytes to write, as the seed they are made from.
#[derive(Clone, Copy, Debug)]
pub struct Data {
    pub seed: u64,
    pub len: usize,
}

/// One operation. Paths are relative to the directory of the run; every operation is legal in every state (what it
/// must answer depends on the state), so that any part of a log can be replayed alone.
#[derive(Clone, Debug)]
pub enum Op {
    Open {
        slot: usize,
        path: PathBuf,
        flags: i32,
        mode: u32,
    },
    Close {
        slot: usize,
    },
    Write {
        slot: usize,
        data: Data,
    },
    WriteAt {
        slot: usize,
        at: u64,
        data: Data,
    },
    MapWrite {
        slot: usize,
        at: u64,
        data: Data,
    },
    Read {
        slot: usize,
        len: usize,
    },
    ReadAt {
        slot: usize,
        at: u64,
        len: usize,
    },
    Seek {
        slot: usize,
        at: u64,
        hole: bool,
    },
    Allocate {
        slot: usize,
        mode: i32,
        at: u64,
        len: u64,
    },
    Copy {
        from: usize,
        at: u64,
        to: usize,
        target: u64,
        len: u64,
    },
    Resize {
        slot: usize,
        size: u64,
    },
    Sync {
        slot: usize,
        data_only: bool,
    },
    Truncate {
        path: PathBuf,
        size: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        flags: u32,
    },
    Link {
        from: PathBuf,
        to: PathBuf,
    },
    Symlink {
        path: PathBuf,
        target: String,
    },
    ReadLink {
        path: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    Mkdir {
        path: PathBuf,
        mode: u32,
    },
    Rmdir {
        path: PathBuf,
    },
    Fifo {
        path: PathBuf,
        mode: u32,
    },
    Chmod {
        path: PathBuf,
        mode: u32,
    },
    Chown {
        path: PathBuf,
        uid: u32,
        gid: u32,
    },
    Times {
        path: PathBuf,
        times: [(i64, i64); 2],
    },
    SetXattr {
        path: PathBuf,
        name: &'static str,
        value: Data,
        flags: i32,
    },
    GetXattr {
        path: PathBuf,
        name: &'static str,
    },
    RemoveXattr {
        path: PathBuf,
        name: &'static str,
    },
    ListXattr {
        path: PathBuf,
    },
    Stat {
        path: PathBuf,
    },
    List {
        path: PathBuf,
    },
    /// All descriptors are closed, the program is stopped and started.
    Restart,
    /// The whole tree is read and compared.
    Compare,
}

/// What kind of thing a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    File,
    Dir,
    Symlink,
    Fifo,
}

/// What stat(2) says, as far as the model can know it. A directory's size is the file system's own affair: 0 here.
#[derive(Clone, Debug, PartialEq)]
pub struct Attr {
    pub kind: Type,
    pub mode: u32,
    pub links: u64,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Access and modification time; the model leaves out (`None`) what the system's clock has set.
    pub times: [Option<(i64, i64)>; 2],
    /// The inode number; the model has its own, `run` checks that they map one to one.
    pub ino: u64,
}

/// Everything about one name.
#[derive(Clone, Debug)]
pub struct Entry {
    pub attr: Attr,
    /// A file's bytes, a symlink's target, nothing for the others.
    pub content: Vec<u8>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What the system answered.
#[derive(Clone, Debug)]
pub enum Answer {
    Done,
    /// Nothing was asked: the slot is empty, or the range of a mapping is not inside its file.
    Nothing,
    Number(u64),
    Bytes(Vec<u8>),
    Names(Vec<(String, Option<Type>)>),
    Attr(Attr),
    Tree(BTreeMap<PathBuf, Entry>, Vec<(usize, Vec<u8>)>),
    Error(i32),
}

impl Answer {
    /// An answer as a line of a report: long bytes are cut.
    pub fn brief(&self) -> String {
        match self {
            Self::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Self::Tree(entries, open) => {
                format!("{} names, {} open files", entries.len(), open.len())
            }
            Self::Error(number) => format!("{}", std::io::Error::from_raw_os_error(*number)),
            other => format!("{other:?}"),
        }
    }
}
