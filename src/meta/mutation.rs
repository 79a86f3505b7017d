//! The changes that can be made to the metadata. Everything a change depends on is inside it: times
//! and ids come from the proposer, so that applying it gives the same result on every node.

use serde::{Deserialize, Serialize};

use super::lock::SetLock;
use super::object::{
    DeleteObject, Part, PutObject, RenameObject, ReplaceXattrs, Upload, UploadRef,
};
use super::record::{AccessKey, Inode, KeyState, NodeRecord, Piece};
use crate::error::Error;
use crate::types::{
    ChunkId, ContentId, FileKind, FileName, Ino, KeyId, Mode, NodeId, RequestId, Rights, SessionId,
    Timestamp,
};

/// One proposal as it stands in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    /// All sequences of the session up to here have been answered: their outcomes may be dropped,
    /// and a late copy of them must not be applied.
    pub settled: u64,
    /// See [`super::Session::chunk_mark`].
    pub chunk_mark: u64,
    pub mutation: Mutation,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Mutation {
    /// First entry of a store: makes the superblock and the root. Refused when there is one.
    Genesis {
        cluster: u128,
        chunk_size: u64,
        uid: u32,
        gid: u32,
        at: Timestamp,
    },
    /// Starts a session; the only mutation whose request names session 0. → [`Outcome::Session`].
    /// `nonce` makes a repeated proposal recognisable.
    OpenSession {
        node: NodeId,
        address: String,
        nonce: u64,
    },
    /// Nothing of that session is applied afterwards. Its unpublished files are published, its
    /// staged contents doomed, its holds dropped; in bounded steps: → [`Outcome::More`] until done.
    EndSession {
        session: SessionId,
    },
    /// Makes sure that `sequence` of the requesting session is never applied, if it was not yet;
    /// → the kept outcome of it, or `Refused(Aborted)`.
    Abort {
        sequence: u64,
    },
    /// Makes an inode with its first name. → [`Outcome::Node`].
    Make(Make),
    /// A further name for a file. → [`Outcome::Node`].
    Link {
        ino: Ino,
        parent: Ino,
        name: FileName,
        at: Timestamp,
    },
    /// Removes a name that is no directory. A file that loses its last one stays as an orphan while
    /// a session holds it: all live ones do; one that is alone only if it has the file open (`held`).
    /// → [`Outcome::Removed`].
    Unlink {
        parent: Ino,
        name: FileName,
        held: bool,
        at: Timestamp,
    },
    /// Removes an empty directory. → [`Outcome::Removed`].
    Rmdir {
        parent: Ino,
        name: FileName,
        held: bool,
        at: Timestamp,
    },
    Rename(Rename),
    /// → [`Outcome::Node`].
    SetAttr(SetAttr),
    /// → [`Outcome::Done`].
    SetXattr(SetXattr),
    RemoveXattr {
        ino: Ino,
        name: Vec<u8>,
        at: Timestamp,
    },
    /// A change of a file's bytes. → [`Outcome::Node`].
    Commit(Commit),
    /// Adds pieces to a content that no inode names yet; starts it when new.
    Stage {
        content: ContentId,
        ops: Vec<WriteOp>,
        chunks: Vec<NewChunk>,
        /// It is for a bucket that requires no quorum, which is seen to when it is taken.
        may_relax: bool,
    },
    /// Sees to the chunks of a staged content again, as many slots as one mutation may: the placement
    /// has changed since they were staged. → [`Outcome::More`].
    Vouch {
        content: ContentId,
    },
    /// Gives up a staged content; `Refused(NotFound)` when nothing was staged under the id.
    Unstage {
        content: ContentId,
    },
    /// The proposer's session holds these orphans no longer; one that nobody holds goes, with its
    /// xattrs and body. At most `RELEASED_MAX`; no effect on what it does not hold. → `Done`.
    ReleaseOrphans {
        inos: Vec<Ino>,
    },
    /// → `Done`, or `Refused(Locked)`.
    SetLock(SetLock),
    /// Removes up to `SLOTS_FREED_MAX` slots of a doomed content. → [`Outcome::More`].
    FreeContent {
        content: ContentId,
    },
    /// Replaces the first pieces of one slot by new ones that cover the same bytes, holes left
    /// holes, if they are still `expected`; else `Refused(Conflict)`. Others may follow by then.
    Compact {
        content: ContentId,
        slot: u64,
        expected: Vec<Piece>,
        pieces: Vec<Piece>,
        chunks: Vec<NewChunk>,
    },
    /// Forgets chunks without references; ids that do have references, or that another live session
    /// may still introduce, are left out. For its own the proposer vouches: it has settled them.
    /// → [`Outcome::Reaped`] with what may be deleted.
    Reap {
        ids: Vec<ChunkId>,
    },
    /// A node comes, or is another; one that is gone stays so. → [`Outcome::Done`].
    SetNode {
        node: NodeId,
        record: NodeRecord,
    },
    /// Whether changes in a bucket wait for a quorum of copies, or for one. → [`Outcome::Done`].
    SetQuorumRequired {
        bucket: Ino,
        is_required: bool,
    },
    /// Copies of each chunk. → [`Outcome::Done`].
    SetReplicationFactor {
        factor: u8,
    },
    /// Looks through some chunks after the placement became that of `epoch`: who misses them, and
    /// who has them for nothing. → [`Outcome::More`]; no more when it is not that of `epoch`.
    Survey {
        epoch: u64,
    },
    /// The node has the chunks on disk. → [`Outcome::Reaped`] with those that are no more.
    Stored {
        node: NodeId,
        ids: Vec<ChunkId>,
    },
    /// The node has the chunks no more, or would give them up: see
    /// [`super::Errand::Drop`]. A chunk's last copy is never struck. → [`Outcome::Reaped`] with those it has to have no more.
    Unstored {
        node: NodeId,
        ids: Vec<ChunkId>,
        why: Loss,
    },
    PutObject(Box<PutObject>),
    DeleteObject(DeleteObject),
    RenameObject(Box<RenameObject>),
    ReplaceXattrs(ReplaceXattrs),
    /// → [`Outcome::Done`].
    CreateUpload {
        upload: UploadRef,
        record: Upload,
    },
    /// Takes a staged content as a part, in place of one of that number. → [`Outcome::Done`].
    PutPart {
        upload: UploadRef,
        number: u16,
        part: Part,
    },
    /// Ends the upload and puts its object. → [`Outcome::Put`].
    CompleteUpload {
        upload: UploadRef,
        put: Box<PutObject>,
    },
    /// → [`Outcome::Done`].
    AbortUpload {
        upload: UploadRef,
    },
    /// Removes some parts of an upload that has ended. → [`Outcome::More`].
    FreeUpload {
        upload: ContentId,
    },
    /// Makes a bucket that belongs to an access key. → [`Outcome::Node`].
    MakeBucket {
        make: Make,
        owner: KeyId,
    },
    /// → [`Outcome::Done`].
    CreateKey {
        id: KeyId,
        key: AccessKey,
    },
    /// → [`Outcome::Done`].
    ChangeKey {
        id: KeyId,
        change: KeyChange,
    },
    /// → [`Outcome::Done`].
    DeleteKey {
        id: KeyId,
    },
    /// What a key may do with a bucket from now on. → [`Outcome::Done`].
    Grant {
        bucket: Ino,
        key: KeyId,
        rights: Rights,
    },
}

impl Mutation {
    /// The session that alone may propose it, because it brings chunks or contents of that session.
    pub fn session(&self) -> Option<SessionId> {
        match self {
            Self::Stage { content, .. } | Self::Unstage { content } => Some(content.session),
            Self::Commit(commit) => {
                let adopted = commit.ops.iter().find_map(|op| match op {
                    WriteOp::Adopt { content, .. } => Some(content.session),
                    _ => None,
                });
                adopted.or_else(|| session_of(&commit.chunks))
            }
            Self::Compact { chunks, .. } => session_of(chunks),
            Self::PutObject(put) | Self::CompleteUpload { put, .. } => put.body.session(),
            Self::PutPart { part, .. } => part.content.map(|content| content.session),
            Self::CreateUpload { upload, .. } => Some(upload.id.session),
            _ => None,
        }
    }
}

fn session_of(chunks: &[NewChunk]) -> Option<SessionId> {
    chunks.first().map(|chunk| chunk.id.session)
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Make {
    pub parent: Ino,
    pub name: FileName,
    pub kind: FileKind,
    /// Umask or default ACL applied already. A set-group-ID parent hands down its group, and to
    /// directories its bit.
    pub mode: Mode,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    /// Of a symlink; else empty.
    pub target: Vec<u8>,
    /// Set on the new inode: inherited ACLs.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// False for open(O_CREAT): S3 shows it from the first commit.
    pub published: bool,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenameMode {
    Replace,
    /// RENAME_NOREPLACE of rename(2).
    NoReplace,
    /// RENAME_EXCHANGE of rename(2).
    Exchange,
}

/// → [`Outcome::Removed`] when a name was replaced, else [`Outcome::Done`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rename {
    pub parent: Ino,
    pub name: FileName,
    pub new_parent: Ino,
    pub new_name: FileName,
    pub mode: RenameMode,
    /// The proposer has the replaced inode open.
    pub held: bool,
    pub at: Timestamp,
}

/// `None` leaves a field as it is. `at` becomes ctime.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetAttr {
    pub ino: Ino,
    pub mode: Option<Mode>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<Timestamp>,
    pub mtime: Option<Timestamp>,
    /// Drops set-user-ID and set-group-ID after the rest, as chown(2) and truncate(2) do.
    pub strip_privilege: bool,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum XattrMode {
    Any,
    /// XATTR_CREATE of setxattr(2).
    Create,
    /// XATTR_REPLACE of setxattr(2).
    Replace,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetXattr {
    pub ino: Ino,
    pub name: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub value: Vec<u8>,
    pub mode: XattrMode,
    /// A POSIX access ACL sets the mode, all twelve bits of it, in the same change.
    pub permissions: Option<Mode>,
    pub at: Timestamp,
}

/// Operations are applied in order, byte by byte over what is there at that moment. Without any,
/// the commit only publishes the file: version, mtime and ctime stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    pub ino: Ino,
    pub ops: Vec<WriteOp>,
    /// Chunks that `ops` name for the first time.
    pub chunks: Vec<NewChunk>,
    /// `Refused(Conflict)` unless the inode's version is this one.
    pub expected_version: Option<u64>,
    /// Also mtime, ctime and `committed_at` unless `mtime` says otherwise.
    pub at: Timestamp,
    /// The mtime when it is not `at`: a write's time is when it was made, and utimens may follow.
    pub mtime: Option<Timestamp>,
    pub strip_privilege: bool,
}

/// One change of an access key; others at the same time keep theirs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeyChange {
    State(KeyState),
    Secret { sealed: Vec<u8>, at: Timestamp },
}

/// One change of bytes. Offsets and lengths in bytes of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WriteOp {
    /// Forgets all bytes: size 0, inline body. The old content is freed.
    Reset,
    /// `len` bytes of a chunk at `offset`. On an inline body: `Refused(Conflict)`, see `Outline`.
    Write { offset: u64, len: u32, chunk: ChunkId, chunk_offset: u32 },
    /// As `Write` at the end of the file of the moment; cut at slots.
    Append { len: u32, chunk: ChunkId, chunk_offset: u32 },
    /// Bytes for an inline body; ends at `INLINE_MAX` at most. On a manifest: `Refused(Conflict)`.
    Inline {
        offset: u64,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// As `Inline` at the end of the file of the moment; `Refused(Conflict)` where it would end
    /// beyond `INLINE_MAX` or the body is a manifest.
    AppendInline {
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    },
    /// Turns an inline body into an empty manifest of this id; `Refused(Conflict)` unless later
    /// operations of the commit replace all of its bytes (the writer brings them along in `Write`s,
    /// with `expected_version`). No effect on a manifest.
    Outline { content: ContentId },
    /// Sets the size both ways. Shrinking frees at most `SLOTS_FREED_MAX` slots: a larger cut is
    /// several truncations, else `Refused(TooMuch)`.
    Truncate { size: u64 },
    /// Size = max(size, `size`).
    Extend { size: u64 },
    /// Zeros without data: frees the range, of `SLOTS_FREED_MAX` slots at most.
    Punch { offset: u64, len: u64 },
    /// `len` bytes of another (or the same, not overlapping) file by reference. Both bodies must be
    /// manifests or hold no bytes in the range: else `Refused(Conflict)` and the caller copies bytes.
    Copy { from: Ino, from_offset: u64, offset: u64, len: u64 },
    /// The body becomes the staged content with this size; the old content is freed.
    Adopt { content: ContentId, size: u64 },
    /// As `Copy` from the content of an upload's part, which has no holes: `Refused(Conflict)` when
    /// it has any in the range, because it was replaced and is being freed.
    CopyContent { from: ContentId, from_offset: u64, offset: u64, len: u64 },
}

/// Introduces a chunk that is on disk on the nodes named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewChunk {
    pub id: ChunkId,
    pub len: u32,
    pub sha256: [u8; 32],
    pub stored_on: Vec<NodeId>,
}

/// Why a node is without a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    /// Its file is missing or bad.
    Damaged,
    /// It is given up, where that is its errand.
    Surplus,
}

/// The answer to a mutation; kept under its request id until the session settles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    Session(SessionId),
    /// The inode as it is after the change.
    Node {
        ino: Ino,
        inode: Box<Inode>,
    },
    /// The inode that lost a name (after the change), if any: `nlink` 0 means an orphan, or gone
    /// when it was not held.
    Removed {
        ino: Ino,
        inode: Box<Inode>,
    },
    /// A bounded step was done; `true` when there is more to do: propose it again.
    More(bool),
    /// Chunk files that may now be deleted: by every node, or by the one that is asked about.
    Reaped(Vec<ChunkId>),
    Refused(Refusal),
    /// An object was put; `replaced` is the inode that lost its name to it.
    Put {
        ino: Ino,
        inode: Box<Inode>,
        replaced: Option<(Ino, Box<Inode>)>,
    },
}

/// Why a mutation changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    NotFound,
    AlreadyExists,
    NotEmpty,
    NotADirectory,
    IsADirectory,
    /// The inode is gone.
    Stale,
    NoAttribute,
    /// Root and bucket rules of DESIGN §6, renaming a directory below itself.
    RootRule,
    BelowItself,
    TooManyLinks,
    FileTooLarge,
    NotARegularFile,
    /// What the change was based on has changed; see each operation.
    Conflict,
    /// More slots than one mutation may free, or pieces than one slot may hold.
    TooMuch,
    /// A chunk or content that is reaped, never introduced, or not this session's.
    UnknownChunk,
    /// The session has ended, or the sequence is settled.
    Fenced,
    Aborted,
    /// Field out of its limits: a peer or a program error.
    Malformed,
    /// The names of all attributes of one inode would pass `XATTR_NAMES_MAX`.
    TooManyAttributes,
    /// See [`super::Condition`].
    PreconditionFailed,
    /// The upload is completed, aborted, or never was.
    NoUpload,
    /// A name on the way to a key, or the key itself, is taken by something of another kind.
    InTheWay,
    /// There is no such access key.
    NoKey,
    /// More grants than the record of a bucket can hold.
    TooManyGrants,
    /// Chunks are on fewer nodes than the placement in force asks for.
    TooFewCopies,
    /// A node that is gone.
    NodeGone,
    /// Another owner has a lock that excludes this one.
    Locked,
    /// More locks of one file, or ranges of one owner, than there may be.
    TooManyLocks,
    /// Without the node there would be fewer than each chunk has copies.
    TooFewNodes,
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::NotFound,
            Refusal::AlreadyExists => Self::AlreadyExists,
            Refusal::NotEmpty => Self::NotEmpty,
            Refusal::NotADirectory => Self::NotADirectory,
            Refusal::IsADirectory => Self::IsADirectory,
            Refusal::Stale => Self::Stale,
            Refusal::NoAttribute => Self::NoAttribute,
            Refusal::RootRule => {
                Self::NotPermitted("only buckets live at the root, and they keep their names")
            }
            Refusal::BelowItself => Self::invalid("a directory cannot move below itself"),
            Refusal::TooManyLinks => Self::TooManyLinks,
            Refusal::FileTooLarge => Self::FileTooLarge,
            Refusal::NotARegularFile => Self::invalid("not a regular file"),
            Refusal::Conflict | Refusal::TooMuch | Refusal::Locked => Self::Conflict,
            Refusal::UnknownChunk => Self::damaged("a change named a chunk that is not there"),
            Refusal::Fenced => Self::NoQuorum(
                "the cluster has ended this node's session: what it had not saved is lost".into(),
            ),
            Refusal::Aborted => Self::Timeout("the change was given up"),
            Refusal::Malformed => Self::invalid("a malformed change"),
            Refusal::TooManyAttributes | Refusal::TooManyLocks => Self::NoSpace,
            Refusal::PreconditionFailed => Self::PreconditionFailed,
            Refusal::NoUpload => Self::NoUpload,
            Refusal::InTheWay => Self::InTheWay("something".into()),
            Refusal::NoKey => Self::NoKey,
            Refusal::TooManyGrants => Self::NotPermitted("a bucket has at most 1000 grants"),
            Refusal::TooFewCopies => Self::TooFewCopies,
            Refusal::NodeGone => {
                Self::NotPermitted("a node that was removed comes back under a new id only")
            }
            Refusal::TooFewNodes => Self::Store(
                "without this node there would be fewer nodes than each chunk has copies: let \
                 another node join first"
                    .into(),
            ),
        }
    }
}

/// What an applied mutation touched, for caches above: told after it is readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A name came, went or names another inode now.
    Entry { parent: Ino, name: FileName },
    /// A name of the inode went, for another one or for good.
    Unnamed(Ino),
    /// Attributes or xattrs.
    Attributes(Ino),
    /// Bytes (and attributes).
    Data(Ino),
    /// Bytes that were shown at one place before their commit have come to lie at another, or are
    /// lost. Not from the log: a node says it of itself.
    Moved(Ino),
    /// The inode has lost its last name and is kept for the sessions that may have it open.
    Orphaned(Ino),
    /// The inode is gone.
    Gone(Ino),
    /// Chunk files without a record: delete them.
    Reaped(Vec<ChunkId>),
    /// The node has files of chunks that it was not recorded with, for they belong elsewhere.
    Unwanted(NodeId, Vec<ChunkId>),
    /// Somebody who waits for a lock of this file may get it now.
    Unlocked(Ino),
    /// Nothing of the session is applied any more.
    SessionEnded(SessionId),
    /// A snapshot has taken the place of the table: anything may be different.
    Everything,
}
