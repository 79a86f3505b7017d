//! Access keys over the admin socket.

use axum::extract::{Path, State};
use axum::routing::{delete, get, post};
use axum::{Json, Router};

use super::server::{Answer, Serving, bucket_name};
use crate::error::{Error, Result};
use crate::node::operate::NewGrant;
use crate::types::KeyId;
use crate::vfs::{KeyInfo, KeyState, KeyWithSecret, NewKey};

pub(super) fn routes() -> Router<Serving> {
    Router::new()
        .route("/keys", get(list).post(create))
        .route("/keys/{id}", delete(remove))
        .route("/keys/{id}/state", post(set_state))
        .route("/keys/{id}/rotate", post(rotate))
        .route("/keys/{id}/grants", post(grant))
}

fn key_id(text: &str) -> Result<KeyId> {
    text.parse().map_err(|_| Error::NoKey)
}

async fn list(State(Serving { store, .. }): State<Serving>) -> Answer<Vec<KeyInfo>> {
    Ok(Json(store.vfs.keys()?))
}

async fn create(
    State(Serving { store, .. }): State<Serving>,
    Json(new): Json<NewKey>,
) -> Answer<KeyWithSecret> {
    Ok(Json(store.vfs.create_key(&new).await?))
}

async fn remove(
    State(Serving { store, .. }): State<Serving>,
    Path(id): Path<String>,
) -> Answer<()> {
    Ok(Json(store.vfs.delete_key(key_id(&id)?).await?))
}

async fn set_state(
    State(Serving { store, .. }): State<Serving>,
    Path(id): Path<String>,
    Json(state): Json<KeyState>,
) -> Answer<()> {
    Ok(Json(store.vfs.set_key_state(key_id(&id)?, state).await?))
}

async fn rotate(
    State(Serving { store, .. }): State<Serving>,
    Path(id): Path<String>,
) -> Answer<KeyWithSecret> {
    Ok(Json(store.vfs.rotate_key(key_id(&id)?).await?))
}

async fn grant(
    State(Serving { store, .. }): State<Serving>,
    Path(id): Path<String>,
    Json(new): Json<NewGrant>,
) -> Answer<()> {
    Ok(Json(store.vfs.grant(key_id(&id)?, &bucket_name(&new.bucket)?, new.rights).await?))
}
