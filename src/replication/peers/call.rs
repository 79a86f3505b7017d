//! One message with typed body and answer.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::messages::{Denied, Kind};
use super::transport::Transport;
use crate::error::Result;
use crate::meta::codec;
use crate::types::NodeId;

/// Sends `body` and decodes the answer.
///
/// # Errors
/// [`crate::error::Error::Unreachable`] when there is none, `Damaged` when it has another form.
pub async fn call<B: Serialize, A: DeserializeOwned>(
    transport: &dyn Transport,
    to: NodeId,
    kind: Kind,
    body: &B,
    within: Duration,
) -> Result<Result<A, Denied>> {
    let body = Bytes::from(codec::encode_message(body)?);
    let answer = transport.call(to, kind, body, within).await?;
    codec::decode_message(&answer)
}
