//! One listener: connections served until the node stops, then drained.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::answers::Answers;
use super::counted::{Counted, Requests};
use super::preface;
use super::tls::Tls;
use crate::error::{Error, Result};

/// How long a client may take for the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on a key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take nothing of an answer.
const TAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of a request's head.
const HEAD_MAX: u32 = 64 << 10;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 256;
/// Connections at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 4096;
/// How long open requests may go on when the node stops.
const DRAIN: Duration = Duration::from_secs(20);
/// After a failed accept: the process is out of descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at the files of the certificate.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(5);

type Failure = Box<dyn StdError + Send + Sync>;

/// What a listener is opened with.
pub struct Options {
    /// Names the door in the log.
    pub name: &'static str,
    pub listen: SocketAddr,
    /// Without: in the clear.
    pub tls: Option<Arc<Tls>>,
    pub requests: Requests,
}

/// A listener that serves requests.
pub struct Endpoint {
    name: &'static str,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Endpoint {
    /// Listens and serves in the background.
    ///
    /// # Errors
    /// [`Error::Io`] when the address is taken.
    pub async fn open<S, B>(options: Options, service: S) -> Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Failure>,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Failure>,
    {
        let Options { name, listen, tls, requests } = options;
        let taken = |error| Error::io(format!("listening for {name} at {listen}"), error);
        let listener = TcpListener::bind(listen).await.map_err(taken)?;
        let address = listener.local_addr().map_err(taken)?;
        let (stop, stopped) = watch::channel(false);
        let service = Counted::new(service, requests);
        let door = Door { name, tls, service, patience: TAKE_TIMEOUT };
        let serving = tokio::spawn(serve(listener, door, stopped));
        Ok(Self { name, address, stop, serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, and waits for those that are being answered.
    pub async fn close(self) {
        self.stop.send_replace(true);
        if self.serving.await.is_err() {
            log::warn!("the {} endpoint had stopped before it was told to", self.name);
        }
    }
}

/// What each connection is served with.
#[derive(Clone)]
struct Door<S> {
    name: &'static str,
    tls: Option<Arc<Tls>>,
    service: S,
    patience: Duration,
}

async fn serve<S, B>(listener: TcpListener, door: Door<S>, mut stopped: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Failure>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Failure>,
{
    let connections = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut certificate_check = tokio::time::interval(CERTIFICATE_CHECK);
    loop {
        tokio::select! {
            accepted = accept(&listener, &room) => match accepted {
                Ok((stream, pass)) => {
                    tokio::spawn(door.clone().connect(stream, pass, connections.watcher()));
                }
                Err(error) => {
                    log::warn!("a connection for {} was not accepted: {error}", door.name);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = certificate_check.tick() => {
                if let Some(tls) = &door.tls {
                    tls.reload_if_changed();
                }
            }
            () = told(&mut stopped) => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, connections.shutdown()).await.is_err() {
        log::warn!("{} requests were broken off after {} s", door.name, DRAIN.as_secs());
    }
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let pass = Arc::clone(room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, pass))
}

async fn told(stopped: &mut watch::Receiver<bool>) {
    // An error means that nobody is left who could tell.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

impl<S, B> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Failure>,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Failure>,
{
    async fn connect(self, stream: TcpStream, pass: OwnedSemaphorePermit, watcher: Watcher) {
        let name = self.name;
        // Small answers must not wait for the client's acknowledgement.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!("TCP_NODELAY: {error}");
        }
        let ended = match &self.tls {
            None => self.answer(stream, watcher).await,
            Some(tls) => {
                let handshake = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => self.answer(stream, watcher).await,
                    Ok(Err(error)) => Err(error.into()),
                    Err(_) => Err("no TLS handshake in time".into()),
                }
            }
        };
        if let Err(error) = ended {
            log::debug!("a connection for {name} ended: {error}");
        }
        drop(pass);
    }

    async fn answer<IO>(self, mut stream: IO, watcher: Watcher) -> Result<(), Failure>
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let begun = tokio::time::timeout(HEAD_TIMEOUT, preface::read(&mut stream)).await??;
        let builder = Builder::new(TokioExecutor::new());
        let mut builder =
            if begun.is_http2() { builder.http2_only() } else { builder.http1_only() };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_MAX as usize);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEAD_MAX)
            .max_concurrent_streams(STREAMS_MAX)
            .keep_alive_interval(HEAD_TIMEOUT);
        let answers = Answers::default();
        let (seen, service) = (answers.clone(), self.service);
        let service = service_fn(move |request| {
            let (answer, seen) = (service.call(request), seen.clone());
            async move { answer.await.map(|answer| answer.map(|body| seen.watch(body))) }
        });
        let connection = builder.serve_connection(TokioIo::new(begun.before(stream)), service);
        tokio::select! {
            ended = watcher.watch(connection.into_owned()) => ended,
            () = answers.stalled(self.patience) => Err("the client takes nothing more".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(400);

    /// Memory of an answer, which tells when it is given back.
    struct Memory(Vec<u8>, Sender<()>);

    impl AsRef<[u8]> for Memory {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            let _ = self.1.send(());
        }
    }

    /// Sends a request for 1 MiB over a connection that holds little; gives the client's end,
    /// whether the memory is free, and how the connection ends.
    async fn asked(
        request: &[u8],
    ) -> (DuplexStream, Receiver<()>, JoinHandle<Result<(), Failure>>) {
        let (mut client, server) = duplex(4096);
        let (sender, freed) = channel();
        let service = service_fn(move |_| {
            let body = Bytes::from_owner(Memory(vec![7; 1 << 20], sender.clone()));
            async move { Ok::<_, Infallible>(Response::new(Full::new(body))) }
        });
        let door = Door { name: "test", tls: None, service, patience: PATIENCE };
        let serving = tokio::spawn(async move {
            // Goes on for as long as nobody asks it to end.
            let connections = GracefulShutdown::new();
            door.answer(server, connections.watcher()).await
        });
        client.write_all(request).await.unwrap();
        (client, freed, serving)
    }

    async fn is_let_go(request: &[u8]) {
        let (client, freed, serving) = asked(request).await;
        let ended = tokio::time::timeout(20 * PATIENCE, serving).await;
        let error = ended.expect("the connection is held").unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the client takes nothing more");
        assert!(freed.recv_timeout(20 * PATIENCE).is_ok(), "the memory is held");
        drop(client);
    }

    const HTTP1: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test(flavor = "multi_thread")]
    async fn a_client_that_takes_nothing_is_let_go() {
        is_let_go(HTTP1).await;
        // RFC 9113: no window at all, then one of a single byte; RFC 7541 for the fields.
        for window in [0, 1] {
            let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, window];
            let headers = [0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x84, 0x86, 0x41, 1, b'x'];
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
            is_let_go(&[preface, &settings, &headers].concat()).await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slow_client_gets_the_whole_answer() {
        let (mut client, _freed, serving) = asked(HTTP1).await;
        let (mut answer, start) = (Vec::new(), tokio::time::Instant::now());
        let mut piece = vec![0; 64 << 10];
        while answer.len() < 1 << 20 {
            let read = client.read_exact(&mut piece).await;
            read.expect("the answer broke off");
            answer.extend_from_slice(&piece);
            tokio::time::sleep(PATIENCE / 8).await;
        }
        assert!(start.elapsed() > PATIENCE);
        drop(client);
        drop(serving.await);
    }
}
