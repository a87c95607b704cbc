//! Serves HTTP with bounds on connections, and on the times for a request and for an answer.
//!
//! A client that sends nothing, or does not read its answer, must not keep a descriptor forever,
//! and many such clients must not take the last one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::patience::Impatient;
use crate::process::accept::AcceptTrouble;

/// Most bytes of a request's head. Real ones are a line and a few headers; this is the least that
/// the library accepts.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// The bounds of a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once. Further ones wait in the kernel's backlog.
    pub(super) connections_max: usize,
    /// Time from the beginning of a connection, or from the last answer, to the end of a request.
    pub(super) request: Duration,
    /// Time for a client to take an answer, from the moment its window is full.
    pub(super) answer: Duration,
    /// How long requests may continue once the server stops.
    pub(super) drain: Duration,
}

/// Serves `router` on `listener` until `stopping` turns true or loses its sender.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    mut stopping: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    let mut trouble = AcceptTrouble::none("the admin port");
    let mut connections = JoinSet::new();
    let each = stopping.clone();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
            (accept(&listener, &mut trouble).await, place)
        };
        let (stream, place) = tokio::select! {
            () = stopped(&mut stopping) => break,
            next = next => next,
        };
        while let Some(ended) = connections.try_join_next() {
            report(ended);
        }
        connections.spawn(serve_one(stream, place, router.clone(), bounds, each.clone()));
    }
    drop(listener);
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(bounds.drain, drained).await.is_err() {
        tracing::debug!("connections to the admin port cut off at the stop");
    }
    connections.shutdown().await;
}

/// The next connection, however long it takes.
async fn accept(listener: &TcpListener, trouble: &mut AcceptTrouble) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                trouble.note_success(Instant::now());
                return stream;
            }
            Err(error) => {
                tokio::time::sleep(trouble.note_failure(&error, Instant::now())).await;
            }
        }
    }
}

async fn serve_one(
    stream: TcpStream,
    place: OwnedSemaphorePermit,
    router: Router,
    bounds: Bounds,
    mut stopping: watch::Receiver<bool>,
) {
    let io = TokioIo::new(Impatient::new(stream, bounds.answer));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.request)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(io, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin port ended");
    }
    drop(place);
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped.
    drop(stopping.wait_for(|stop| *stop).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task of the admin port");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Larger than what two sockets keep between them.
    const LARGE_BYTES: usize = 32 << 20;
    const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    /// Only a failing test waits this long.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn start(request: Duration, answer: Duration) -> (SocketAddr, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let router = Router::new()
            .route("/small", get(|| async { "small" }))
            .route("/large", get(|| async { "x".repeat(LARGE_BYTES) }));
        let (stop, stopping) = watch::channel(false);
        let bounds = Bounds { connections_max: 4, request, answer, drain: PATIENCE };
        tokio::spawn(serve(listener, router, bounds, stopping));
        (address, stop)
    }

    async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, future)
            .await
            .unwrap_or_else(|_| panic!("never ended: {what}"))
    }

    /// Everything that the server sends on `stream`, that of `whom`, until it closes it.
    async fn rest_of(whom: &str, stream: &mut TcpStream) -> Vec<u8> {
        let mut found = Vec::new();
        if let Err(error) = within(whom, stream.read_to_end(&mut found)).await {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        found
    }

    /// Goal: clients that send half a request, or none, hold their places for a bounded time, and one
    /// that asks is served then. Method: more of them than there are places, then an honest one.
    #[tokio::test]
    async fn silent_clients_are_cut_off() {
        let (address, _stop) = start(Duration::from_millis(200), PATIENCE).await;
        let mut silent = Vec::new();
        for number in 0..6 {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            if number % 2 == 0 {
                stream.write_all(b"GET /sm").await.expect("sent");
            }
            silent.push(stream);
        }
        let mut honest = TcpStream::connect(address).await.expect("connected");
        honest.write_all(REQUEST).await.expect("sent");
        let answer = String::from_utf8(rest_of("the honest one", &mut honest).await).expect("text");
        assert!(answer.ends_with("small"), "{answer}");
        for stream in &mut silent {
            rest_of("one that is cut off", stream).await;
        }
    }

    /// Goal: a client that does not take its answer is cut off. Method: as many as there are places ask
    /// for more than the sockets hold and read nothing; an honest client gets the place of one.
    #[tokio::test]
    async fn clients_that_do_not_read_are_cut_off() {
        let (address, _stop) = start(PATIENCE, Duration::from_millis(200)).await;
        let mut stuck = Vec::new();
        for _ in 0..4 {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
            stuck.push(stream);
        }
        let mut honest = TcpStream::connect(address).await.expect("connected");
        honest.write_all(REQUEST).await.expect("sent");
        assert!(rest_of("the honest one", &mut honest).await.ends_with(b"small"));
        drop(stuck);
    }

    /// Goal: a head without end is refused. Method: a request that is one long header.
    #[tokio::test]
    async fn a_long_request_is_refused() {
        let (address, _stop) = start(PATIENCE, PATIENCE).await;
        let mut stream = TcpStream::connect(address).await.expect("connected");
        let head = format!("GET /small HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(64 << 10));
        // The server may close before all of it was taken.
        drop(stream.write_all(head.as_bytes()).await);
        let answer = rest_of("a long request", &mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }

    /// Goal: a stop ends idle connections at once and closes the port.
    #[tokio::test]
    async fn a_stop_ends_idle_connections() {
        let (address, stop) = start(PATIENCE, PATIENCE).await;
        let mut idle = TcpStream::connect(address).await.expect("connected");
        idle.write_all(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
        let mut first = [0; 12];
        within("an answer", idle.read_exact(&mut first)).await.expect("answered");
        stop.send_replace(true);
        rest_of("an idle one", &mut idle).await;
    }
}
