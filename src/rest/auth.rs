//! Who asks: the bearer token of an access key.

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::error::{Answer, Refused};
use super::state::{Serving, Shared};
use crate::vfs::Caller;

/// The holder of the access key that a request was sent with: `Bearer KEY.SECRET`; RFC 6750.
pub(super) struct Who {
    pub caller: Caller,
    pub serving: Serving,
}

impl FromRequestParts<Shared> for Who {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Answer<Self> {
        let serving = shared.serving()?;
        let token = token(parts).ok_or_else(Refused::no_token)?;
        // Keys, buckets and uploads are what was acknowledged before the request, by whatever node.
        serving.served.vfs.barrier().await?;
        let caller = serving.served.vfs.token_caller(token)?;
        Ok(Self { caller, serving })
    }
}

/// The holder of a key that may look at the node: a monitor's or an administrator's. Passes no
/// barrier: a node without a quorum is looked at too.
pub(super) struct Monitor;

impl FromRequestParts<Shared> for Monitor {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Answer<Self> {
        let served = shared.watched()?;
        let token = token(parts).ok_or_else(Refused::no_token)?;
        let caller = served.vfs.token_caller(token)?;
        served.vfs.require_monitor(&caller)?;
        Ok(Self)
    }
}

fn token(parts: &Parts) -> Option<&str> {
    let header = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
