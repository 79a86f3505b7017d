//! Asks a running node over its socket: HTTP/1.1 with JSON, one request after the other.

use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::socket;
use super::wire::{Failure, Line};
use crate::error::{Error, Result};

/// How long a running node may take for an answer that needs no work.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// A connection to the node that runs a store.
#[derive(Debug)]
pub struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    /// `None` when no node runs the store in `data_dir`.
    ///
    /// # Errors
    /// [`Error::Io`] when the socket is there but cannot be used.
    pub async fn connect(data_dir: &Path) -> Result<Option<Self>> {
        let Some(stream) = socket::connect(data_dir).await? else { return Ok(None) };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends with the sender; a failure reaches whoever waits for an answer.
        tokio::spawn(connection);
        Ok(Some(Self { sender }))
    }

    /// Asks for what needs no work.
    pub async fn get<A: DeserializeOwned>(&mut self, path: &str) -> Result<A> {
        let answer = self.call(Method::GET, path, &());
        tokio::time::timeout(ANSWER_MAX, answer).await.map_err(|_| {
            Error::Store("the node runs but does not answer: look at its log".into())
        })?
    }

    /// Changes something, or asks with a body.
    pub async fn post<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Q,
    ) -> Result<A> {
        self.call(Method::POST, path, question).await
    }

    pub async fn delete(&mut self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, &()).await
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        question: &Q,
    ) -> Result<A> {
        let response = self.send(method, path, question).await?;
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        from_json(&body)
    }

    /// A request that is answered by lines: progress, then the one answer.
    pub async fn post_long<Q: Serialize, P: DeserializeOwned, A: DeserializeOwned>(
        &mut self,
        path: &str,
        question: &Q,
        on_progress: &mut (dyn FnMut(P) -> Result<()> + Send),
    ) -> Result<A> {
        let mut body = self.send(Method::POST, path, question).await?.into_body();
        let mut pending = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = pending.drain(..=end).collect();
                match from_json(&line)? {
                    Line::Progress(state) => on_progress(state)?,
                    Line::Answer(answer) => return Ok(answer),
                    Line::Failure(failure) => return Err(failure.into()),
                }
            }
        }
        Err(Error::Store("the node stopped before it had answered".into()))
    }

    async fn send<Q: Serialize>(
        &mut self,
        method: Method,
        path: &str,
        question: &Q,
    ) -> Result<Response<Incoming>> {
        let body = serde_json::to_vec(question)
            .map_err(|error| Error::invalid(format!("a question has no JSON form: {error}")))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "node")
            .header("content-type", "application/json")
            .body(Full::from(body))
            .map_err(|error| Error::invalid(format!("no address of the node: {error}")))?;
        self.sender.ready().await.map_err(broken)?;
        let response = self.sender.send_request(request).await.map_err(broken)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
        Err(from_json::<Failure>(&body)?.into())
    }
}

fn from_json<A: DeserializeOwned>(text: &[u8]) -> Result<A> {
    serde_json::from_slice(text).map_err(|error| {
        Error::Store(format!("the running node is of another version ({error}): restart it"))
    })
}

fn broken(error: hyper::Error) -> Error {
    Error::Store(format!("the node stopped before it had answered ({error})"))
}
