//! The REST API of a node: there from before the store is opened until after it is closed, so that
//! health can be asked for all the while.

use std::net::SocketAddr;
use std::sync::Arc;

use super::measures::Measures;
use super::store::Store;
use crate::error::Result;
use crate::rest::{Options, Rest, Served};
use crate::web::Tls;

/// Serves REST until it is closed.
pub struct RestDoor(Rest);

impl RestDoor {
    /// Listens, if the settings say where.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn open(
        listen: Option<SocketAddr>,
        tls: Option<Arc<Tls>>,
        measures: &Measures,
    ) -> Result<Option<Self>> {
        let Some(listen) = listen else { return Ok(None) };
        let requests = measures.of_door("rest");
        Rest::open(Options { listen, tls, requests }).await.map(|rest| Some(Self(rest)))
    }

    /// Answers from this store from now on.
    pub fn serve(&self, store: &Store, measures: &Measures) {
        self.0.serve(Served {
            vfs: Arc::clone(&store.vfs),
            replica: Arc::clone(&store.replica),
            requests: measures.requests.latencies().clone(),
            kernel: measures.kernel.latencies().clone(),
            syncs: measures.syncs.latencies().clone(),
            chunks: measures.chunks.latencies().clone(),
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Only health is answered from now on; what was begun is finished.
    pub async fn drain(&self) {
        self.0.drain().await;
    }

    pub async fn close(self) {
        self.0.close().await;
    }
}
