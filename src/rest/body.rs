//! Bodies as they stream, in bounded memory and time.

use std::io;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};

use super::error::{Answer, Refused};
use super::state::Serving;
use crate::error::Error;
use crate::types::{ByteRange, base64, from_base64};
use crate::vfs::{ObjectReader, ObjectWriter, Uploaded};

/// Bytes read at once for a download, and how many pieces of them wait for the client.
const READ: u64 = 1 << 20;
const READS_AHEAD: usize = 2;
/// How long a client may take to send anything more; `web` sees to it that it takes what it is
/// sent.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// The md5 that the bytes are to have, in base64.
///
/// # Errors
/// 400 for what is no md5.
pub(super) fn expected_md5(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let text =
        value.to_str().ok().filter(|text| from_base64(text).is_some_and(|bytes| bytes.len() == 16));
    let text = text.ok_or_else(|| Refused::malformed("Content-MD5 is no md5 in base64"))?;
    Ok(Some(text.to_owned()))
}

/// Takes a whole upload and checks it.
pub(super) async fn receive(
    mut writer: ObjectWriter,
    mut body: Body,
    md5: Option<String>,
) -> Answer<Uploaded> {
    let silent = || {
        Refused::new(
            axum::http::StatusCode::REQUEST_TIMEOUT,
            "too_slow",
            "nothing more of the body came in time",
            "Send the request again.",
        )
    };
    let broken = || Refused::malformed("the body ended before its end");
    loop {
        let frame = writer.next(tokio::time::timeout(IDLE_MAX, body.frame())).await?;
        let frame = frame.map_err(|_| silent())?;
        let Some(frame) = frame else { break };
        if let Ok(data) = frame.map_err(|_| broken())?.into_data() {
            writer.write(&data).await?;
        }
    }
    let uploaded = writer.finish().await?;
    match md5 {
        Some(md5) if md5 != base64(&uploaded.md5) => Err(Error::BadDigest("Content-MD5").into()),
        _ => Ok(uploaded),
    }
}

/// A range of an object as a body. What cannot be read at once is an error instead of a body that
/// breaks off.
pub(super) async fn send(reader: ObjectReader, range: ByteRange, serving: Serving) -> Answer<Body> {
    if range.len() <= READ {
        return Ok(Body::from(reader.read_whole(range).await?));
    }
    let mut pieces = range.slots(READ).map(|(_, piece)| piece);
    let first = match pieces.next() {
        Some(piece) => reader.read(piece).await?,
        None => Vec::new(),
    };
    let (sender, body) = Channel::<Bytes, io::Error>::new(READS_AHEAD);
    tokio::spawn(async move {
        pump(&reader, first, pieces, sender).await;
        drop(serving);
    });
    Ok(Body::new(body))
}

/// Sends until the end, or until the client is gone.
async fn pump(
    reader: &ObjectReader,
    first: Vec<Bytes>,
    mut rest: impl Iterator<Item = ByteRange>,
    mut sender: Sender<Bytes, io::Error>,
) {
    let mut slices = first;
    loop {
        for bytes in slices {
            if sender.send_data(bytes).await.is_err() {
                return;
            }
        }
        let Some(piece) = rest.next() else { return };
        slices = match reader.read(piece).await {
            Ok(slices) => slices,
            Err(error) => {
                log::warn!("REST: a download breaks off: {error}");
                return sender.abort(io::Error::other(error));
            }
        };
    }
}
