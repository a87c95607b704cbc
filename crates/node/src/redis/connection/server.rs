//! Accepts connections within a bound, and ends them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate::Engine;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::shared::{Client, Place, RedisStatistics, Shared};
use super::task::Connection;
use crate::process::accept::AcceptTrouble;

/// How long connections have to finish running commands once the server stops.
const DRAIN: Duration = Duration::from_secs(3);
/// What a client is told when there are too many; the words of Redis.
const REFUSAL: &[u8] = b"-ERR max number of clients reached\r\n";

/// A running Redis port.
pub struct RedisServer {
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    statistics: Arc<RedisStatistics>,
}

impl RedisServer {
    /// Serves `engine` on `listener`, to at most `clients_max` connections.
    ///
    /// # Errors
    /// If the listener does not know its own address.
    pub fn start(
        engine: Engine,
        listener: TcpListener,
        clients_max: usize,
    ) -> std::io::Result<RedisServer> {
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared::new(engine, listener.local_addr()?, clients_max));
        let statistics = Arc::clone(&shared.statistics);
        let accepting = tokio::spawn(accept(listener, shared, stopping));
        Ok(RedisServer { stop, accepting, statistics })
    }

    /// The port's totals.
    #[must_use]
    pub fn statistics(&self) -> &Arc<RedisStatistics> {
        &self.statistics
    }

    /// Stops accepting and reading, lets running commands end, closes every connection.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.accepting.await {
            tracing::error!(%error, "the Redis port's task");
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    let stop = stopping.clone();
    let mut trouble = AcceptTrouble::none("the Redis port");
    let mut not_before = Instant::now();
    loop {
        let next = async {
            tokio::time::sleep_until(not_before.into()).await;
            listener.accept().await
        };
        tokio::select! {
            // A dropped sender means a dropped server: the same as a stop.
            () = stopped(&mut stopping) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            accepted = next => match accepted {
                Ok((stream, address)) => {
                    trouble.note_success(Instant::now());
                    match shared.admit(address) {
                        Some(client) => {
                            let shared = Arc::clone(&shared);
                            connections.spawn(serve(stream, shared, client, stop.clone()));
                        }
                        None => refuse(stream, address, &shared.statistics),
                    }
                }
                Err(error) => {
                    let now = Instant::now();
                    not_before = now + trouble.note_failure(&error, now);
                }
            },
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN, async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(left = connections.len(), "connections cut off at the stop");
    }
    connections.shutdown().await;
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender was dropped.
    drop(stopping.wait_for(|stop| *stop).await);
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection's task");
    }
}

/// Tells a client that there are too many, and closes the connection at once: a separate task would
/// hold the refused client's descriptor for longer.
fn refuse(stream: TcpStream, address: SocketAddr, statistics: &RedisStatistics) {
    statistics.connections_refused.fetch_add(1, Ordering::Relaxed);
    // The text always fits an empty socket.
    let told = stream.into_std().and_then(|mut stream| stream.write_all(REFUSAL));
    if let Err(error) = told {
        tracing::debug!(%address, %error, "a refused client is already gone");
    }
}

async fn serve(
    stream: TcpStream,
    shared: Arc<Shared>,
    client: Arc<Client>,
    stopping: watch::Receiver<bool>,
) {
    let address = client.address;
    let place = Place::of(&client, &shared);
    shared.statistics.connections.fetch_add(1, Ordering::Relaxed);
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%address, %error, "no TCP_NODELAY");
    }
    if let Err(error) = Connection::new(stream, shared, client).run(stopping).await {
        tracing::debug!(%address, %error, "connection ended");
    }
    drop(place);
}
