//! Accepts and dials the connections of one node, and reports those that failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ConnectionError, Endpoint, Incoming};
use quorate_types::NodeId;
use tokio::task::JoinSet;

use crate::connection::closing::describe;
use crate::connection::greeting::{NotGreeted, Verdict, greet_as_acceptor, greet_as_dialer};
use crate::connection::handshakes::{Handshakes, Permit};
use crate::connection::news::Tells;
use crate::connection::session::{HELLO_TIMEOUT, serve};
use crate::guard::guarded;
use crate::hello::PeerHello;
use crate::peer::Peer;
use crate::peer::statistics::add;
use crate::shared::Shared;
use crate::tls::certificates::node_name;

/// Time for a connection attempt, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// First wait after a failed attempt; doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest wait between attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long the node with the higher id waits for the lower one to dial, before it dials.
const LATE_DIAL: Duration = Duration::from_secs(3);
impl Shared {
    /// Reports a connection that was not established.
    fn report_refused(&self, peer: Option<NodeId>, address: SocketAddr, refused: &Refused) {
        let Refused { reason, verdict, tells } = refused;
        if self.is_stopped() {
            return;
        }
        let known = peer.and_then(|node| self.peer(node));
        let is_new = known.as_ref().is_none_or(|peer| peer.set_failure(reason));
        if tells.is_news(known.as_deref(), is_new) {
            tracing::warn!(own = %self.hello.node, ?peer, %address, reason, "no connection");
        } else {
            tracing::debug!(own = %self.hello.node, ?peer, %address, reason, "no connection");
        }
        match (peer, verdict) {
            (Some(peer), Some(Verdict::IdentityRejected)) => {
                self.receiver.handle_identity_rejected(peer, reason)
            }
            (Some(peer), Some(Verdict::Forked)) => self.receiver.handle_forked(peer, reason),
            (peer, _) => self.receiver.handle_refused(peer, reason),
        }
    }
}

/// Why a connection was not established.
struct Refused {
    reason: String,
    verdict: Option<Verdict>,
    tells: Tells,
}

impl Refused {
    /// An attempt that failed before there was a connection.
    fn early(reason: impl ToString) -> Refused {
        Refused { reason: reason.to_string(), verdict: None, tells: Tells::Cause }
    }

    /// An attempt that was not answered in time.
    fn silent(reason: &str) -> Refused {
        Refused { tells: Tells::Silence, ..Refused::early(reason) }
    }

    /// An attempt that ended with `error`.
    fn ended(error: ConnectionError) -> Refused {
        Refused { tells: Tells::of(&error), ..Refused::early(describe(error)) }
    }

    /// An attempt that failed in the greeting.
    fn at_hello(connection: &quinn::Connection, failure: NotGreeted) -> Refused {
        let NotGreeted { reason, verdict, .. } = failure;
        let tells =
            connection.close_reason().map_or(Tells::Cause, |error| match Tells::of(&error) {
                // A refusal by this side is a cause.
                Tells::GivenUp if error == ConnectionError::LocallyClosed => Tells::Cause,
                tells => tells,
            });
        Refused { reason, verdict, tells }
    }
}

/// Accepts connections until the endpoint closes, then waits for their sessions.
pub(crate) async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    let handshakes = Handshakes::default();
    let mut sessions = JoinSet::new();
    while let Some(incoming) = endpoint.accept().await {
        while sessions.try_join_next().is_some() {}
        if let Some((incoming, permit)) = handshakes.admit(incoming) {
            let accepting = accept_one(shared.clone(), incoming, permit);
            sessions.spawn(guarded(shared.receiver.clone(), "accept one", accepting, drop));
        }
    }
    if !shared.is_stopped() {
        // The library ends an endpoint whose socket fails, without a report.
        let reason = "the QUIC endpoint has ended by itself: its socket failed";
        shared.receiver.handle_task_died("accept", reason);
    }
    while sessions.join_next().await.is_some() {}
}

async fn accept_one(shared: Arc<Shared>, incoming: Incoming, permit: Permit) {
    let address = incoming.remote_address();
    let greeted = async {
        let connection = incoming.await.map_err(|error| (None, Refused::ended(error)))?;
        match greet_as_acceptor(&shared, &connection).await {
            Ok(hello) => Ok((connection, hello)),
            Err(failure) => Err((failure.peer, Refused::at_hello(&connection, failure))),
        }
    };
    let greeted = tokio::time::timeout(CONNECT_TIMEOUT + HELLO_TIMEOUT, greeted)
        .await
        .unwrap_or_else(|_| Err((None, Refused::silent("no hello in time"))));
    drop(permit);
    match greeted {
        Ok((connection, hello)) => {
            let peer = shared.peer_or_new(hello.node);
            serve(&shared, &peer, connection, &hello).await;
        }
        Err((peer, refused)) => {
            add(&shared.refused, 1);
            shared.report_refused(peer, address, &refused);
        }
    }
}

/// Dials a peer with a lower id that has not dialed for a while: it may know an old address of this
/// node, or, if this is not the node whose name it bears, another process at the right address. If
/// both sides dial at once, each ends the connection that came first; the lower id redials at once,
/// the higher one only after its wait.
pub(crate) async fn dial_late(shared: Arc<Shared>, endpoint: Endpoint, peer: Arc<Peer>) {
    let mut stop = shared.stop.clone();
    while !shared.is_stopped() {
        tokio::select! {
            () = tokio::time::sleep(LATE_DIAL) => {}
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
        if peer.is_connected() {
            continue;
        }
        let address = peer.address().expect("dialing begins with the first address");
        match connect(&shared, &endpoint, &peer, address).await {
            Ok((connection, hello)) => {
                serve(&shared, &peer, connection, &hello).await;
            }
            Err(refused) => shared.report_refused(Some(peer.node), address, &refused),
        }
    }
}

/// Keeps a connection to a peer with a higher id. The waits need no jitter: the other side dials
/// only when this one has not dialed for a while.
pub(crate) async fn dial(shared: Arc<Shared>, endpoint: Endpoint, peer: Arc<Peer>) {
    let mut stop = shared.stop.clone();
    let mut backoff = BACKOFF_FIRST;
    while !shared.is_stopped() {
        if peer.is_connected() {
            // The peer has dialed.
            tokio::select! {
                () = tokio::time::sleep(BACKOFF_MAX) => continue,
                _ = stop.wait_for(|stopped| *stopped) => return,
            }
        }
        let address = peer.address().expect("dialing begins with the first address");
        let changed = peer.address_changed();
        let connected = tokio::select! {
            connected = connect(&shared, &endpoint, &peer, address) => connected,
            // An attempt at the old address would only waste time.
            () = changed => continue,
        };
        match connected {
            Ok((connection, hello)) => {
                serve(&shared, &peer, connection, &hello).await;
                backoff = BACKOFF_FIRST;
            }
            Err(refused) => shared.report_refused(Some(peer.node), address, &refused),
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => backoff = (backoff * 2).min(BACKOFF_MAX),
            () = peer.address_changed() => backoff = BACKOFF_FIRST,
            _ = stop.wait_for(|stopped| *stopped) => return,
        }
    }
}

async fn connect(
    shared: &Shared,
    endpoint: &Endpoint,
    peer: &Peer,
    address: SocketAddr,
) -> Result<(quinn::Connection, PeerHello), Refused> {
    let name = node_name(peer.node, shared.hello.cluster);
    let client = shared.client.read().clone();
    let connecting = endpoint.connect_with(client, address, &name);
    let connecting = connecting.map_err(Refused::early)?;
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| Refused::silent("timed out: nothing answers at the address"))?
        .map_err(Refused::ended)?;
    let greeting = greet_as_dialer(shared, peer.node, &connection);
    let hello = tokio::time::timeout(HELLO_TIMEOUT, greeting)
        .await
        .map_err(|_| Refused::silent("no hello in time"))?
        .map_err(|failure| Refused::at_hello(&connection, failure))?;
    Ok((connection, hello))
}
