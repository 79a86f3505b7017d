//! The certificate that listeners show: read from files, and read again when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{Error, Result};

/// The protocols offered, best first; RFC 7301.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate chain with its key. Connections keep what they began with.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The files as they were when they were read, or failed to be.
    stamp: Stamp,
}

/// What a file system says of a file that changes when it is written or replaced.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Tls {
    /// Reads a chain (the server's certificate first) and its key, both PEM.
    ///
    /// # Errors
    /// [`Error::Config`] with the file that cannot be used, and why.
    pub fn open(certificate: &Path, key: &Path) -> Result<Arc<Self>> {
        let stamp = stamp(certificate, key);
        let config = read(certificate, key)?;
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Arc::new(Self { certificate, key, current: Mutex::new(Current { config, stamp }) }))
    }

    /// What a connection that comes now is served with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.lock().config)
    }

    /// Reads the files again. With ones that cannot be used it goes on with those it has.
    pub fn reload(&self) {
        let stamp = stamp(&self.certificate, &self.key);
        let read = read(&self.certificate, &self.key);
        let mut current = self.current.lock();
        current.stamp = stamp;
        match read {
            Ok(config) => {
                current.config = config;
                log::info!("TLS: {} was read again", self.certificate.display());
            }
            Err(error) => log::error!("the old certificate stays in use: {error}"),
        }
    }

    /// As [`Self::reload`], if the files are others than those that were read last.
    pub fn reload_if_changed(&self) {
        let stamp = stamp(&self.certificate, &self.key);
        if self.current.lock().stamp != stamp {
            self.reload();
        }
    }
}

fn stamp(certificate: &Path, key: &Path) -> Stamp {
    [certificate, key].map(|path| {
        let meta = std::fs::metadata(path).ok()?;
        Some((meta.modified().ok()?, std::os::unix::fs::MetadataExt::ino(&meta)))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>> {
    let bad = |path: &Path, what: String| Error::Config(format!("{}: {what}", path.display()));
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(certificate).and_then(|certificates| certificates.collect());
    let chain = chain.map_err(|error| bad(certificate, format!("no certificate: {error}")))?;
    if chain.is_empty() {
        return Err(bad(certificate, "holds no certificate in PEM form".into()));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| bad(key, format!("no private key: {error}")))?;
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, secret));
    let mut config =
        config.map_err(|error| bad(certificate, format!("cannot be used: {error}")))?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
    Ok(Arc::new(config))
}
