//! The S3 service, and what it takes of a request.

use std::net::SocketAddr;
use std::sync::Arc;

use s3s::config::S3Config;
use s3s::region::Region;
use s3s::service::S3ServiceBuilder;

use super::auth::{Anybody, Keys};
use super::forms::Settings;
use super::host::Domain;
use super::requests::Requests;
use super::service::Door;
use crate::error::{Error, Result};
use crate::vfs::Vfs;
use crate::web::{self, Endpoint, Tls};

/// Signed chunks are held whole until their signature is known to be good.
const CHUNK_MAX: usize = 16 << 20;
/// What stands in a form beside the file, policy and all: Amazon S3 takes 20 KB of it.
const FIELDS_MAX: usize = 64 << 10;
const XML_MAX: usize = 4 << 20;

/// What the endpoint is opened with.
pub struct Options {
    pub listen: SocketAddr,
    pub tls: Option<Arc<Tls>>,
    pub requests: web::Requests,
    /// The region signatures are made for.
    pub region: String,
    /// Buckets are also reached as `BUCKET.DOMAIN`.
    pub domain: Option<String>,
    /// Signature Version 2 is taken too.
    pub signature_v2: bool,
    /// Largest body of one PUT, in bytes.
    pub max_object_size: u64,
}

/// Serves S3 in the background.
///
/// # Errors
/// [`Error::Config`] for a region or domain that cannot be; [`Error::Io`] when the address is
/// taken.
pub async fn open(vfs: Arc<Vfs>, options: Options) -> Result<Endpoint> {
    let web = web::Options {
        name: "S3",
        listen: options.listen,
        tls: options.tls.clone(),
        requests: options.requests.clone(),
    };
    Endpoint::open(web, service(vfs, options)?).await
}

fn service(vfs: Arc<Vfs>, options: Options) -> Result<Requests> {
    let bad = |what: &str| Error::Config(format!("s3: {what}"));
    let region = Region::new(options.region.clone().into_boxed_str());
    let mut config = S3Config::default();
    config.xml_max_body_size = XML_MAX;
    config.aws_chunked_stream_max_chunk_size = CHUNK_MAX;
    config.form_max_field_size = FIELDS_MAX;
    config.form_max_fields_size = FIELDS_MAX;
    config.post_object_max_file_size = options.max_object_size;
    config.put_object_max_size = Some(options.max_object_size);
    config.expected_region = Some(region.map_err(|_| bad("the region is not a region's name"))?);
    config.enable_sig_v2 = options.signature_v2;
    let keys = Keys::new(Arc::clone(&vfs));
    let scheme = if options.tls.is_some() { "https" } else { "http" };
    let (region, vfs_of_door) = (options.region, Arc::clone(&vfs));
    let door = Door { vfs: vfs_of_door, keys: keys.clone(), region, scheme };
    let mut builder = S3ServiceBuilder::new(door);
    builder.set_auth(keys);
    builder.set_access(Anybody(vfs));
    builder.set_config(Arc::new(Settings::new(config)));
    if let Some(domain) = options.domain {
        let host = Domain::new(&domain);
        builder.set_host(host.map_err(|_| bad("the domain is not a domain's name"))?);
    }
    Ok(Requests::new(builder.build()))
}
