//! How nodes prove to each other who they are: a certificate authority for each cluster, which
//! every member holds, and a certificate for each node that names its id.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::env::{Access, Disk, replace_file};
use crate::error::{Error, Result};
use crate::types::NodeId;

/// The cluster's authority, PEM.
#[derive(Clone)]
pub struct Credentials {
    pub authority: String,
    pub authority_key: String,
}

/// Without the key: what is printed may end in a log.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// Bytes of a kept certificate or key.
const PEM_MAX: usize = 64 << 10;

/// Who a node is, ready for TLS.
#[derive(Clone)]
pub struct Identity {
    pub node: NodeId,
    cluster: String,
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

/// `DATA_DIR/peers/`: `authority.pem` and `authority.key`, both 0600.
fn paths(data_dir: &Path) -> (PathBuf, PathBuf) {
    let dir = data_dir.join("peers");
    (dir.join("authority.pem"), dir.join("authority.key"))
}

impl Credentials {
    /// A new cluster's.
    ///
    /// # Errors
    /// [`Error::Store`] when no key can be made.
    pub fn generate(cluster: &str) -> Result<Self> {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = authority(cluster).self_signed(&key).map_err(failed)?;
        Ok(Self { authority: certificate.pem(), authority_key: key.serialize_pem() })
    }

    /// Those that are kept in a data directory; `None` when there are none.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be read.
    pub fn load(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>> {
        let (authority, key) = paths(data_dir);
        Ok(read(disk, &authority)?
            .zip(read(disk, &key)?)
            .map(|(authority, authority_key)| Self { authority, authority_key }))
    }

    /// Keeps them in a data directory, durably.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::NoSpace`].
    pub fn save(&self, disk: &dyn Disk, data_dir: &Path) -> Result<()> {
        let (authority, key) = paths(data_dir);
        let dir = data_dir.join("peers");
        let writing = |error| Error::io(format!("writing {}", dir.display()), error);
        disk.create_dir_all(&dir).map_err(writing)?;
        disk.sync_dir(data_dir).map_err(writing)?;
        // The key last: with it both are there.
        replace_file(disk, &authority, self.authority.as_bytes()).map_err(writing)?;
        replace_file(disk, &key, self.authority_key.as_bytes()).map_err(writing)
    }

    /// What node `node` of `cluster` shows and demands.
    ///
    /// # Errors
    /// [`Error::Store`] when the kept authority is of no use.
    pub fn identity(&self, cluster: &str, node: NodeId) -> Result<Identity> {
        let (chain, key) = self.certificate(cluster, node)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failed)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(failed)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            // A stranger may ask to join; nothing else is answered to him.
            .allow_unauthenticated()
            .build()
            .map_err(failed)?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(failed)?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let cluster = cluster.to_owned();
        Ok(Identity { node, cluster, client: Arc::new(client), server: Arc::new(server) })
    }

    fn certificate(
        &self,
        cluster: &str,
        node: NodeId,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let issuing = KeyPair::from_pem(&self.authority_key).map_err(failed)?;
        let issuer = Issuer::new(authority(cluster), issuing);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new(vec![host(cluster, node)]).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, format!("BucketFS node {node}"));
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(failed)?;
        Ok((vec![certificate.der().clone()], key))
    }

    fn roots(&self) -> Result<RootCertStore> {
        roots(&self.authority)
    }
}

/// What somebody without a certificate trusts who was told the cluster's authority.
///
/// # Errors
/// [`Error::Config`] when it is no certificate.
pub fn stranger(authority: &str) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(roots(authority)?)
        .with_no_client_auth();
    Ok(config)
}

impl Identity {
    /// The name that node `node` has in TLS.
    pub fn host(&self, node: NodeId) -> String {
        host(&self.cluster, node)
    }

    /// Whether a certificate, whose chain was verified, is node `node`'s.
    pub fn is_node(&self, certificate: &CertificateDer<'_>, node: NodeId) -> bool {
        let (Ok(parsed), Ok(name)) =
            (ParsedCertificate::try_from(certificate), ServerName::try_from(self.host(node)))
        else {
            return false;
        };
        rustls::client::verify_server_name(&parsed, &name).is_ok()
    }
}

/// One name for each node, which no other cluster's authority signs.
pub fn host(cluster: &str, node: NodeId) -> String {
    format!("node-{node}.{cluster}.bucketfs")
}

fn authority(cluster: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("BucketFS cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn roots(authority: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(failed)?;
    roots.add(certificate).map_err(failed)?;
    Ok(roots)
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Option<String>> {
    let failed = |error| Error::io(format!("reading {}", path.display()), error);
    let file = match disk.open(path, Access::Read, false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let mut bytes = vec![0; PEM_MAX];
    let read = file.read_at(&mut bytes, 0).map_err(failed)?;
    bytes.truncate(read);
    let text = String::from_utf8(bytes);
    text.map(Some).map_err(|_| Error::Store(format!("{} is no text", path.display())))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Store(format!("the cluster's certificates cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_one_nodes_of_one_cluster() {
        let credentials = Credentials::generate("aa").unwrap();
        let (chain, _) = credentials.certificate("aa", 7).unwrap();
        let identity = credentials.identity("aa", 9).unwrap();
        assert!(identity.is_node(&chain[0], 7));
        assert!(!identity.is_node(&chain[0], 9));
        let other = Credentials::generate("bb").unwrap().identity("bb", 9).unwrap();
        assert!(!other.is_node(&chain[0], 7));
    }

    #[test]
    fn credentials_are_kept_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let disk = crate::env::RealDisk::new();
        assert!(Credentials::load(&disk, dir.path()).unwrap().is_none());
        let credentials = Credentials::generate("aa").unwrap();
        credentials.save(&disk, dir.path()).unwrap();
        let back = Credentials::load(&disk, dir.path()).unwrap().unwrap();
        assert_eq!(back.authority_key, credentials.authority_key);
        let mode = std::fs::metadata(paths(dir.path()).1).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{credentials:?}").contains("KEY"));
    }
}
