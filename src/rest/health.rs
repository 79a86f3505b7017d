//! Health: alive, ready, and how the cluster is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Monitor;
use super::error::{Answer, Problem};
use super::state::Shared;

/// How the node is, in one word.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(example = "ready")]
    status: &'static str,
}

/// How this node sees the cluster.
#[derive(Serialize, ToSchema)]
pub(super) struct Cluster {
    /// `healthy`; `degraded` when nodes are silent or there is no quorum; `failed` when this node's
    /// disk has failed a write.
    #[schema(example = "healthy")]
    status: &'static str,
    /// The same in a sentence.
    health: String,
    cluster: String,
    node: u64,
    session: u64,
    /// Position of the last change that can be read here.
    applied: Option<u64>,
    log_bytes: u64,
    /// Why nothing is written any more.
    disk_failed: Option<String>,
}

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/health/live",
    tag = "health",
    responses((status = 200, body = Health))
)]
pub(super) async fn live() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether requests are answered: not while the node starts, not while it has no quorum, and not
/// while it stops.
#[utoipa::path(
    get,
    path = "/health/ready",
    tag = "health",
    responses((status = 200, body = Health), (status = 503, body = Health))
)]
pub(super) async fn ready(State(shared): State<Shared>) -> Response {
    match shared.is_ready() {
        Ok(()) => Json(Health { status: "ready" }).into_response(),
        Err(status) => (StatusCode::SERVICE_UNAVAILABLE, Json(Health { status })).into_response(),
    }
}

/// How the cluster is, 200 only when it is healthy; for the keys of monitors and administrators.
#[utoipa::path(
    get,
    path = "/health/cluster",
    tag = "health",
    responses(
        (status = 200, body = Cluster), (status = 401, body = Problem),
        (status = 403, body = Problem),
        (status = 503, description = "It is not healthy: as with 200; or the node is starting: a Problem", body = Cluster),
    ),
    security(("bearer" = []))
)]
pub(super) async fn cluster(_: Monitor, State(shared): State<Shared>) -> Answer<Response> {
    let replica = Arc::clone(&shared.watched()?.replica);
    let (status, census) = (replica.status(), replica.cluster_status().await);
    let (code, word) = match (&status.disk_failed, census.healthy) {
        (Some(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        (None, false) => (StatusCode::SERVICE_UNAVAILABLE, "degraded"),
        (None, true) => (StatusCode::OK, "healthy"),
    };
    let cluster = Cluster {
        status: word,
        health: census.health,
        cluster: status.cluster,
        node: status.node,
        session: status.session.0,
        applied: status.applied,
        log_bytes: status.log_bytes,
        disk_failed: status.disk_failed,
    };
    Ok((code, Json(cluster)).into_response())
}
