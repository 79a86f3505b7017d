//! The routes, and the listener they are served at.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use hyper_util::service::TowerToHyperService;

use super::error::Refused;
use super::state::{Served, Shared};
use super::{buckets, health, listing, metrics, objects, openapi, tags, uploads};
use crate::error::Result;
use crate::web::{self, Endpoint, Requests, Tls};

/// Bytes of a body in JSON: 10,000 parts fit.
const JSON_MAX: usize = 2 << 20;

/// What the API is opened with.
pub struct Options {
    pub listen: SocketAddr,
    pub tls: Option<Arc<Tls>>,
    pub requests: Requests,
}

/// The API at its listener: first only alive, then serving, then draining.
pub struct Rest {
    endpoint: Endpoint,
    shared: Shared,
}

impl Rest {
    /// Listens; everything but health is answered 503 until [`Self::serve`].
    ///
    /// # Errors
    /// [`crate::error::Error::Io`] when the address is taken.
    pub async fn open(options: Options) -> Result<Self> {
        let shared = Shared::new();
        let Options { listen, tls, requests } = options;
        let service = TowerToHyperService::new(routes(shared.clone()));
        let options = web::Options { name: "REST", listen, tls, requests };
        let endpoint = Endpoint::open(options, service).await?;
        Ok(Self { endpoint, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.address()
    }

    /// Answers from this node from now on.
    pub fn serve(&self, served: Served) {
        self.shared.serve(served);
    }

    /// Takes no more requests but those after health, and waits for those that are answered.
    pub async fn drain(&self) {
        self.shared.drain().await;
    }

    /// Answers nobody any more.
    pub async fn close(self) {
        self.endpoint.close().await;
    }
}

fn routes(shared: Shared) -> Router {
    let object = get(objects::get)
        .head(objects::head)
        .put(objects::put)
        .post(objects::post)
        .delete(objects::delete)
        .layer(DefaultBodyLimit::disable());
    let upload = get(uploads::parts)
        .post(uploads::begin)
        .put(uploads::part)
        .delete(uploads::abort)
        .layer(DefaultBodyLimit::disable());
    let bucket = get(buckets::get).put(buckets::create).delete(buckets::delete);
    let tags = get(tags::get).put(tags::put).delete(tags::delete);
    Router::new()
        .route("/buckets", get(buckets::list))
        .route("/buckets/{bucket}", bucket)
        .route("/objects/{bucket}", get(listing::list))
        .route("/objects/{bucket}/{*key}", object)
        .route("/tags/{bucket}/{*key}", tags)
        .route("/uploads/{bucket}/{*key}", upload)
        .route("/completions/{bucket}/{*key}", post(uploads::complete))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/health/cluster", get(health::cluster))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::serve))
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(JSON_MAX))
        .with_state(shared)
}

async fn nowhere() -> Refused {
    let (message, action) = ("there is nothing at this path", "Look at /openapi.json.");
    Refused::new(StatusCode::NOT_FOUND, "no_path", message, action)
}

async fn not_so() -> Refused {
    let (message, action) = ("the path does not take this method", "Look at /openapi.json.");
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", message, action)
}
