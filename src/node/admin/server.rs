//! The running node's end of the admin socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http_body_util::channel::{Channel, Sender};
use hyper::body::Bytes;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::wire::{Failure, Line};
use super::{keys, socket};
use crate::env::blocking;
use crate::error::{Class, Error, Result};
use crate::meta::{NodeState, Survey};
use crate::node::fsck::{LeftOver, Report};
use crate::node::operate::{Fate, FsckQuestion, NewBucket, PathQuestion};
use crate::node::progress::Progress;
use crate::node::scrub::Scrubber;
use crate::node::status::Status;
use crate::node::store::Store;
use crate::node::{ClusterView, Place};
use crate::types::{BucketName, NodeId};
use crate::vfs::{BucketInfo, Caller, FileInfo};

/// Between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(100);
/// Lines that may wait for a slow reader.
const LINES_WAITING: usize = 16;

pub(super) type Answer<T> = Result<Json<T>, Refused>;

/// Answers at the socket of the store's data directory until it is stopped.
pub struct Server {
    task: JoinHandle<()>,
    data_dir: PathBuf,
    scrubber: Arc<Scrubber>,
}

/// What the answers are made from.
#[derive(Clone)]
pub(super) struct Serving {
    pub store: Arc<Store>,
    mounts: Arc<[PathBuf]>,
    scrubber: Arc<Scrubber>,
}

impl Server {
    /// # Errors
    /// [`Error::Io`] when the socket cannot be made.
    pub fn start(store: Arc<Store>, mounts: Vec<PathBuf>, scrubber: Arc<Scrubber>) -> Result<Self> {
        let listener = socket::listen(&store.data_dir)?;
        let data_dir = store.data_dir.clone();
        let routes = Router::new()
            .route("/status", get(status))
            .route("/buckets", get(buckets).post(create_bucket))
            .route("/buckets/{name}", get(bucket).delete(delete_bucket))
            .route("/buckets/{name}/quorum-required", post(set_quorum_required))
            .merge(keys::routes())
            .route("/cluster", get(cluster))
            .route("/cluster/invite", post(invite))
            .route("/cluster/{node}", post(set_fate))
            .route("/info", post(info))
            .route("/fsck", post(fsck))
            .with_state(Serving { store, mounts: mounts.into(), scrubber: Arc::clone(&scrubber) });
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                log::error!("the admin socket is closed: {error}");
            }
        });
        Ok(Self { task, data_dir, scrubber })
    }

    /// Nobody is answered any more, and nothing scrubbed.
    pub fn stop(self) {
        self.task.abort();
        self.scrubber.stop();
        socket::remove(&self.data_dir);
    }
}

async fn status(State(Serving { store, mounts, scrubber }): State<Serving>) -> Answer<Status> {
    Ok(Json(Status::serving(&store, &mounts, &scrubber)?))
}

async fn buckets(State(Serving { store, .. }): State<Serving>) -> Answer<Vec<BucketInfo>> {
    Ok(Json(store.vfs.buckets(&Caller::default())?))
}

async fn bucket(
    State(Serving { store, .. }): State<Serving>,
    Path(name): Path<String>,
) -> Answer<BucketInfo> {
    Ok(Json(store.vfs.bucket(&Caller::default(), &bucket_name(&name)?)?))
}

async fn create_bucket(
    State(Serving { store, .. }): State<Serving>,
    Json(new): Json<NewBucket>,
) -> Answer<BucketInfo> {
    Ok(Json(new.make(&store).await?))
}

async fn set_quorum_required(
    State(Serving { store, .. }): State<Serving>,
    Path(name): Path<String>,
    Json(is_required): Json<bool>,
) -> Answer<BucketInfo> {
    let (who, name) = (Caller::default(), bucket_name(&name)?);
    Ok(Json(store.vfs.set_quorum_required(&who, &name, is_required).await?))
}

async fn delete_bucket(
    State(Serving { store, .. }): State<Serving>,
    Path(name): Path<String>,
) -> Answer<()> {
    Ok(Json(store.vfs.delete_bucket(&Caller::default(), &bucket_name(&name)?).await?))
}

async fn cluster(State(Serving { store, .. }): State<Serving>) -> Answer<ClusterView> {
    let replica = &store.replica;
    let (status, versions) = tokio::join!(replica.cluster_status(), replica.versions());
    let table = replica.table();
    let places = Place::all(table)?;
    let is_surveying = table.view().placement()?.survey != Survey::Done;
    Ok(Json(ClusterView { status, versions, places, is_surveying }))
}

async fn invite(
    State(Serving { store, .. }): State<Serving>,
    Json(good_for): Json<u64>,
) -> Answer<String> {
    Ok(Json(store.replica.invite(Duration::from_secs(good_for))?))
}

async fn set_fate(
    State(Serving { store, .. }): State<Serving>,
    Path(node): Path<NodeId>,
    Json(fate): Json<Fate>,
) -> Answer<()> {
    let decided = match fate {
        Fate::Active => store.replica.set_draining(node, NodeState::Active).await,
        Fate::Draining => store.replica.set_draining(node, NodeState::Draining).await,
        Fate::Removed { lost } => store.replica.remove_node(node, lost).await,
    };
    Ok(Json(decided?))
}

async fn info(
    State(Serving { store, .. }): State<Serving>,
    Json(question): Json<PathQuestion>,
) -> Answer<FileInfo> {
    Ok(Json(store.vfs.info(store.vfs.resolve(&question.path)?)?))
}

async fn fsck(
    State(Serving { store, .. }): State<Serving>,
    Json(question): Json<FsckQuestion>,
) -> Response {
    let (lines, body) = Channel::<Bytes>::new(LINES_WAITING);
    let runtime = Handle::current();
    blocking(move || {
        let mut lines = Lines { sender: lines, runtime };
        let line = match check(&store, question.repair, &mut lines) {
            Ok(report) => Line::Answer(report),
            Err(error) => Line::Failure(Failure::from(&error)),
        };
        // Whoever asked has gone when this fails.
        let _ = lines.send(&line);
    });
    Body::new(body).into_response()
}

fn check(store: &Store, repair: bool, lines: &mut Lines) -> Result<Report> {
    let left_over = if repair { LeftOver::Remove } else { LeftOver::Keep };
    let mut told = store.clock.elapsed();
    let scratch = store.data_dir.join("fsck");
    store.fsck(left_over, Some(&scratch)).run(&mut |progress| {
        if store.clock.elapsed() < told + PROGRESS_PAUSE {
            return Ok(());
        }
        told = store.clock.elapsed();
        lines.send(&Line::Progress(progress))
    })
}

/// The body of an answer that takes long, filled from a thread that may wait.
struct Lines {
    sender: Sender<Bytes>,
    runtime: Handle,
}

impl Lines {
    /// An error means that nobody listens any more.
    fn send(&mut self, line: &Line<Progress, Report>) -> Result<()> {
        let mut text =
            serde_json::to_vec(line).map_err(|error| Error::invalid(error.to_string()))?;
        text.push(b'\n');
        self.runtime.block_on(self.sender.send_data(text.into())).map_err(|_| Error::ShuttingDown)
    }
}

pub(super) fn bucket_name(text: &str) -> Result<BucketName> {
    Ok(BucketName::new(text)?)
}

/// An error as HTTP has it.
pub(super) struct Refused(Error);

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self.0.class() {
            Class::Caller => StatusCode::BAD_REQUEST,
            Class::Retry => StatusCode::SERVICE_UNAVAILABLE,
            Class::Operator => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, Json(Failure::from(&self.0))).into_response()
    }
}
