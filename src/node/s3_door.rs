//! The S3 endpoint of a node, in builds that have one.

#[cfg(feature = "s3")]
pub use present::S3Door;

#[cfg(not(feature = "s3"))]
pub use absent::S3Door;

#[cfg(feature = "s3")]
mod present {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use crate::config::Config;
    use crate::error::Result;
    use crate::node::store::Store;
    use crate::s3::Options;
    use crate::web::{Endpoint, Requests, Tls};

    /// Serves S3 until it is closed.
    pub struct S3Door(Endpoint);

    impl S3Door {
        pub async fn open(
            store: &Store,
            config: &Config,
            listen: SocketAddr,
            tls: Option<Arc<Tls>>,
            requests: Requests,
        ) -> Result<Self> {
            let options = Options {
                listen,
                tls,
                requests,
                region: config.s3_region.clone(),
                domain: config.s3_domain.clone(),
                signature_v2: config.s3_signature_v2,
                max_object_size: config.max_object_size.0,
            };
            crate::s3::open(Arc::clone(&store.vfs), options).await.map(Self)
        }

        pub fn address(&self) -> SocketAddr {
            self.0.address()
        }

        pub async fn close(self) {
            self.0.close().await;
        }
    }
}

#[cfg(not(feature = "s3"))]
mod absent {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use crate::config::Config;
    use crate::error::{Error, Result};
    use crate::node::store::Store;
    use crate::web::{Requests, Tls};

    /// There is none in this build.
    pub enum S3Door {}

    impl S3Door {
        #[expect(clippy::unused_async, reason = "as in builds that have one")]
        pub async fn open(
            _: &Store,
            _: &Config,
            _: SocketAddr,
            _: Option<Arc<Tls>>,
            _: Requests,
        ) -> Result<Self> {
            let without =
                "`s3.listen` is set, but this program was built without S3: build with make";
            Err(Error::Config(without.into()))
        }

        pub fn address(&self) -> SocketAddr {
            match *self {}
        }

        #[expect(clippy::unused_async, reason = "as in builds that have one")]
        pub async fn close(self) {
            match self {}
        }
    }
}
