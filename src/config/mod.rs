//! Every setting with its unit, default and range, and where its value comes from: flag before
//! environment before file before default. What is not allowed is refused, never corrected.

mod duration;
mod load;
mod setting;
mod size;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::types::limits::{CHUNK_SIZE_DEFAULT, FILE_SIZE_MAX};

pub use duration::Period;
pub use load::{Loaded, Origin, PREFIX, Sources, load};
pub use setting::{SETTINGS, Setting};
pub use size::ByteSize;

/// The ordered key-value engine that holds the metadata table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sled,
    Redb,
}

/// What goes to the log on standard error, from little to much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// All settings of one node, valid each for itself and together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the store lives; [`Config::data_dir`] asks for it.
    pub data_dir: Option<PathBuf>,
    /// Bytes of a manifest slot; a power of two. Taken at `init`, fixed for the store's life.
    pub chunk_size: ByteSize,
    /// Largest file or object.
    pub max_object_size: ByteSize,
    /// Copies wanted of each chunk; `None`: as many as the cluster has, three in a new one.
    pub replication_factor: Option<u8>,
    /// What new buckets ask of a write: a quorum of copies, or one.
    pub quorum_required: bool,
    /// How long a write waits for its quorum before it fails.
    pub replication_timeout: Period,
    /// `None`: the one the store has, sled for a new one.
    pub meta_engine: Option<Engine>,
    /// Memory for the table's cache.
    pub meta_cache: ByteSize,
    /// Memory for bytes written and not yet sealed into chunks.
    pub write_buffer: ByteSize,
    /// Memory for blocks of chunks that S3 and REST have sent.
    pub read_cache: ByteSize,
    /// Where S3 is served; nowhere without.
    pub s3_listen: Option<SocketAddr>,
    /// The region S3 signatures are made for.
    pub s3_region: String,
    /// Buckets are also reached as `BUCKET.DOMAIN`.
    pub s3_domain: Option<String>,
    /// Whether Signature Version 2 is taken too.
    pub s3_signature_v2: bool,
    /// Where the other nodes of a cluster reach this one; it is alone without.
    pub peers_listen: Option<SocketAddr>,
    /// The address the others are told, when it is another than where this node listens.
    pub peers_address: Option<String>,
    /// What fails together with this node; the cluster's record of it stays as it is without.
    pub peers_zone: Option<String>,
    /// Where the REST API is served; nowhere without.
    pub rest_listen: Option<SocketAddr>,
    /// The certificate chain that S3 and REST show, and its key; in the clear without.
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub log_level: LogLevel,
}

impl Config {
    /// # Errors
    /// [`Error::Config`] when no source named a data directory.
    pub fn data_dir(&self) -> Result<&Path> {
        self.data_dir.as_deref().ok_or_else(|| {
            Error::Config(
                "no data directory: give --data-dir DIR, set BUCKETFS_DATA_DIR, or write \
                 data_dir into the file named by --config"
                    .into(),
            )
        })
    }

    /// Whether the write buffer fits to the chunk size, which only a new store takes from here.
    ///
    /// # Errors
    /// [`Error::Config`] with what it has to be at least.
    pub fn check_buffer(&self) -> Result<()> {
        let buffer_min = self.chunk_size.0 * 2;
        if self.write_buffer.0 >= buffer_min {
            return Ok(());
        }
        Err(Error::Config(format!(
            "`write_buffer` is {} but must hold two chunks: at least {} with chunk_size {}",
            self.write_buffer,
            ByteSize(buffer_min),
            self.chunk_size
        )))
    }

    /// What no setting shows for itself.
    fn check_together(&self) -> Result<()> {
        let cannot_be_told =
            |listen: SocketAddr| listen.ip().is_unspecified() || listen.port() == 0;
        if self.peers_listen.is_some_and(cannot_be_told) && self.peers_address.is_none() {
            let what = "`peers.listen` names no address that the other nodes could use: set \
                        `peers.address` to the host and port where they reach this one";
            return Err(Error::Config(what.into()));
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            let both = "`tls.certificate` and `tls.key` belong together: set both, or none";
            return Err(Error::Config(both.into()));
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: None,
            chunk_size: ByteSize(CHUNK_SIZE_DEFAULT),
            max_object_size: ByteSize::tib(5),
            replication_factor: None,
            quorum_required: true,
            replication_timeout: Period::seconds(10),
            meta_engine: None,
            meta_cache: ByteSize::mib(128),
            write_buffer: ByteSize::mib(64),
            read_cache: ByteSize::mib(128),
            s3_listen: None,
            s3_region: "us-east-1".into(),
            s3_domain: None,
            s3_signature_v2: false,
            peers_listen: None,
            peers_address: None,
            peers_zone: None,
            rest_listen: None,
            tls_certificate: None,
            tls_key: None,
            log_level: LogLevel::Info,
        }
    }
}

const _: () = assert!(ByteSize::tib(5).0 <= FILE_SIZE_MAX);

impl Engine {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
