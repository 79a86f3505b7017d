//! Hosts that name a bucket.

use s3s::S3Result;
use s3s::host::{DomainError, S3Host, SingleDomain, VirtualHost};

/// The domain whose names are buckets: `BUCKET.DOMAIN`, in any case, with any port. By every other
/// name, and by the domain itself, the path names the bucket.
pub(super) struct Domain(String);

impl Domain {
    /// # Errors
    /// What is no domain.
    pub fn new(name: &str) -> Result<Self, DomainError> {
        SingleDomain::new(name)?;
        Ok(Self(name.to_ascii_lowercase()))
    }

    fn bucket(&self, host: &str) -> Option<String> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let name = name.to_ascii_lowercase();
        let bucket = name.strip_suffix(&self.0)?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    }
}

impl S3Host for Domain {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let named = VirtualHost::new(host);
        Ok(match self.bucket(host) {
            Some(bucket) => named.with_bucket(bucket),
            None => named,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_domain_are_buckets() {
        let domain = Domain::new("S3.example.com").unwrap();
        let bucket =
            |host: &str| domain.parse_host_header(host).unwrap().bucket().map(str::to_owned);
        for host in ["b-1.s3.example.com", "B-1.s3.EXAMPLE.com:9000"] {
            assert_eq!(bucket(host).as_deref(), Some("b-1"), "{host}");
        }
        assert_eq!(bucket("a.b.s3.example.com").as_deref(), Some("a.b"));
        for host in [
            "s3.example.com",
            "s3.example.com:9000",
            "node-1",
            "node_1:9000",
            "xs3.example.com",
            ".s3.example.com",
        ] {
            assert_eq!(bucket(host), None, "{host}");
        }
        assert!(Domain::new("no domain").is_err());
    }
}
