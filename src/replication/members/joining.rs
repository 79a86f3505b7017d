//! The new node's side of joining: an invitation becomes an identity.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Invitation;
use crate::error::{Error, Result};
use crate::meta::codec;
use crate::replication::peers::{Denied, Joined, Kind, ask_as_stranger, host};

const WITHIN: Duration = Duration::from_secs(15);

/// The body of [`Kind::Join`].
#[derive(Debug, Serialize, Deserialize)]
pub struct AskToJoin {
    pub secret: String,
}

/// Asks the node that gave the invitation, which is used up by that.
///
/// # Errors
/// [`Error::Store`] when it is not good any more, [`Error::Unreachable`].
pub async fn ask_to_join(invitation: &Invitation) -> Result<Joined> {
    let body = codec::encode_message(&AskToJoin { secret: invitation.secret.clone() })?;
    let host = host(&invitation.cluster, invitation.node);
    let place = (host.as_str(), invitation.address.as_str());
    let body = Bytes::from(body);
    let answer = ask_as_stranger(&invitation.authority, place, Kind::Join, body, WITHIN).await?;
    let joined: Result<Joined, Denied> = codec::decode_message(&answer)?;
    let joined = joined.map_err(|denied| match denied {
        Denied::Refused(what) | Denied::Failed(what) => Error::Store(what),
        Denied::NotLeader(_) | Denied::NoSpace => Error::Store("the invitation was refused".into()),
    })?;
    if joined.cluster == invitation.cluster {
        Ok(joined)
    } else {
        Err(Error::damaged("the node that invited answered for another cluster"))
    }
}
