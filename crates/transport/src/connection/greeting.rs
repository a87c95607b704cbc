//! The greeting of a connection: both sides say who they are, and each admits or refuses the other.
//!
//! ```text
//! dialer                                        acceptor
//!   hello: who I am, which of your starts I met  ─▶
//!                       ◀─  hello: who I am, my answer, which of your starts I met
//!   admits the acceptor
//!   welcome: my answer                           ─▶
//!                                                admits the dialer
//!                       ◀─  `!`
//! ```
//!
//! Both sides have admitted each other before either is connected. A side that takes the other for
//! a fork ends the connection with [`CODE_FORKED`], which makes the other's directory unusable for
//! good. So the code counts only from a peer that the accused side would admit itself. A dialer
//! that accuses says so in its welcome, with its answer, and first waits to learn whether it is
//! believed: if two copies of a directory have each continued with different nodes, neither can end
//! the other.
//!
//! The receiver may block in each of its answers (it reads and syncs), so it is called on a
//! separate thread: the thread that carries all connections must not wait for one peer's disk.

use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use quorate_types::{ClusterId, Incarnation, NodeId};
use rustls_pki_types::CertificateDer;

use crate::connection::closing::{
    CODE_FORKED, CODE_IDENTITY_REJECTED, code_of_peer, describe, failed, refuse,
};
use crate::guard::ask_blocking;
use crate::hello::handshake_error::{HandshakeError, Rejection};
use crate::hello::{HELLO_HEAD_BYTES, Hello, PeerHello, WELCOME_BYTES, Welcome};
use crate::receiver::Receiver;
use crate::shared::Shared;
use crate::tls::certificates::check_names;

/// What the acceptor says once it has admitted the dialer.
const ADMITTED: [u8; 1] = *b"!";
/// How long an older process of a newcomer's node has to show that it is alive: a few round trips.
/// A process that was killed and restarted waits this long at most.
const LIFE_SIGN: Duration = Duration::from_millis(300);

/// Why the greeting failed. If this side refused, it closed the connection with this reason.
pub(crate) struct NotGreeted {
    /// The peer, if it is known.
    pub(crate) peer: Option<NodeId>,
    pub(crate) reason: String,
    pub(crate) verdict: Option<Verdict>,
}

/// A trusted peer's verdict on this node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As [`Rejection::IdentityRejected`].
    IdentityRejected,
    /// As [`Rejection::Forked`].
    Forked,
}

impl NotGreeted {
    fn before_names(reason: String) -> NotGreeted {
        NotGreeted { peer: None, reason, verdict: None }
    }

    /// For a peer that was believed until it ended the connection.
    fn told(peer: NodeId, connection: &Connection, reason: String) -> NotGreeted {
        let verdict = match code_of_peer(connection) {
            Some(CODE_IDENTITY_REJECTED) => Some(Verdict::IdentityRejected),
            Some(CODE_FORKED) => Some(Verdict::Forked),
            _ => None,
        };
        NotGreeted { peer: Some(peer), reason, verdict }
    }

    /// As [`NotGreeted::told`], for a peer that was not judged yet: it can't end this directory.
    fn claimed(peer: NodeId, connection: &Connection, reason: String) -> NotGreeted {
        let told = NotGreeted::told(peer, connection, reason);
        NotGreeted { verdict: told.verdict.filter(|verdict| *verdict != Verdict::Forked), ..told }
    }
}

/// The dialer's half of the greeting.
pub(crate) async fn greet_as_dialer(
    shared: &Shared,
    expected: NodeId,
    connection: &Connection,
) -> Result<PeerHello, NotGreeted> {
    let claimed = |reason| NotGreeted::claimed(expected, connection, reason);
    let (mut send, mut receive, own, hello) =
        hear_acceptor(shared, expected, connection).await.map_err(claimed)?;
    let checked = check_peer(&own, connection, &hello).and_then(|peer| match peer.node {
        found if found == expected => Ok(peer),
        found => Err(HandshakeError::Node { found, expected }),
    });
    let admitted = match checked {
        Ok(peer) => admit(shared, peer).await,
        Err(refusal) => Err(refusal),
    };
    if let Err(refusal) = &admitted
        && !is_fork(refusal)
    {
        return Err(claimed(refuse(connection, refusal)));
    }
    let last_word = async {
        let answer = answer(shared, hello.asks).await;
        let answer = answer.map_err(|refusal| refuse(connection, &refusal))?;
        let welcome = Welcome { is_admitted: admitted.is_ok(), answer };
        send.write_all(&welcome.encode()).await.map_err(|error| failed(connection, error))?;
        send.finish().map_err(|error| error.to_string())?;
        let mut word = [0];
        receive.read_exact(&mut word).await.map_err(|error| failed(connection, error))?;
        if word == ADMITTED {
            return Ok(());
        }
        let what = "the acceptor's last word is another byte";
        Err(refuse(connection, &HandshakeError::Malformed { found: word.len(), what }))
    };
    let last_word = last_word.await;
    match admitted {
        Ok(peer) => match last_word {
            Ok(()) => Ok(peer),
            Err(reason) => Err(NotGreeted::told(expected, connection, reason)),
        },
        // If the acceptor did not believe this side, it has ended the connection, and this changes
        // nothing.
        Err(refusal) => Err(NotGreeted {
            peer: Some(expected),
            reason: refuse(connection, &refusal),
            verdict: None,
        }),
    }
}

/// Sends the hello and reads the acceptor's.
async fn hear_acceptor(
    shared: &Shared,
    expected: NodeId,
    connection: &Connection,
) -> Result<(quinn::SendStream, RecvStream, Hello, Hello), String> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(describe)?;
    let own = Hello { asks: shared.receiver.remembered(expected), ..shared.hello() };
    send.write_all(&own.encode()).await.map_err(|e| failed(connection, e))?;
    let hello = read_hello(connection, &mut receive).await?;
    Ok((send, receive, own, hello))
}

/// The acceptor's half of the greeting.
pub(crate) async fn greet_as_acceptor(
    shared: &Shared,
    connection: &Connection,
) -> Result<PeerHello, NotGreeted> {
    let (mut send, mut receive) =
        connection.accept_bi().await.map_err(|error| NotGreeted::before_names(describe(error)))?;
    let hello = read_hello(connection, &mut receive).await.map_err(NotGreeted::before_names)?;
    let claimed = |reason| NotGreeted::claimed(hello.node, connection, reason);
    let judged = async {
        let refuse = |refusal| refuse(connection, &refusal);
        let node = shared.hello.node;
        let asks = shared.receiver.remembered(hello.node);
        let checked = check_peer(&Hello { asks, ..shared.hello() }, connection, &hello);
        let peer = checked.map_err(refuse)?;
        if peer.node == node {
            return Err(refuse(HandshakeError::OwnId { own: node }));
        }
        let answer = answer(shared, hello.asks).await.map_err(refuse)?;
        // Made again, because reading the log took time and the clock must be recent.
        let own = Hello { asks, answer, ..shared.hello() };
        send.write_all(&own.encode()).await.map_err(|error| failed(connection, error))?;
        let mut welcome = [0; WELCOME_BYTES];
        receive.read_exact(&mut welcome).await.map_err(|error| failed(connection, error))?;
        let welcome = Welcome::decode(&welcome).map_err(refuse)?;
        let descent = welcome.descent(asks);
        let peer = admit(shared, PeerHello { descent, ..peer }).await.map_err(refuse)?;
        send.write_all(&ADMITTED).await.map_err(|error| failed(connection, error))?;
        send.finish().map_err(|error| error.to_string())?;
        Ok((peer, welcome))
    };
    let (peer, welcome) = judged.await.map_err(claimed)?;
    if welcome.is_admitted {
        return Ok(peer);
    }
    // This node has admitted its accuser, so the accusation counts.
    let reason = describe(connection.closed().await);
    Err(NotGreeted::told(peer.node, connection, reason))
}

fn is_fork(refusal: &HandshakeError) -> bool {
    matches!(refusal, HandshakeError::NotAdmitted { rejection: Rejection::Forked(_), .. })
}

async fn read_hello(connection: &Connection, stream: &mut RecvStream) -> Result<Hello, String> {
    let mut bytes = vec![0; HELLO_HEAD_BYTES];
    stream.read_exact(&mut bytes).await.map_err(|error| failed(connection, error))?;
    let head = bytes.first_chunk().expect("just as many bytes were read");
    let length = Hello::decode_length(head).map_err(|refusal| refuse(connection, &refusal))?;
    bytes.resize(length, 0);
    let rest = stream.read_exact(&mut bytes[HELLO_HEAD_BYTES..]);
    rest.await.map_err(|error| failed(connection, error))?;
    Hello::decode(&bytes).map_err(|refusal| refuse(connection, &refusal))
}

/// Checks versions, cluster and limits, and that the certificate is the named node's.
fn check_peer(
    own: &Hello,
    connection: &Connection,
    hello: &Hello,
) -> Result<PeerHello, HandshakeError> {
    let peer = own.agree(hello)?;
    check_certificate(connection, peer.node, peer.cluster).map_err(|detail| {
        HandshakeError::Certificate { node: peer.node, cluster: peer.cluster, detail }
    })?;
    Ok(peer)
}

fn check_certificate(
    connection: &Connection,
    node: NodeId,
    cluster: ClusterId,
) -> Result<(), String> {
    let identity = connection.peer_identity().ok_or("no certificate was presented")?;
    let chain = identity
        .downcast::<Vec<CertificateDer<'static>>>()
        .map_err(|_| "the TLS library gives no certificates")?;
    check_names(chain.first().ok_or("no certificate was presented")?, node, cluster)
}

async fn admit(shared: &Shared, peer: PeerHello) -> Result<PeerHello, HandshakeError> {
    let (node, own) = (peer.node, shared.hello.node);
    let has_rival = has_rival(shared, &peer).await;
    let peer = PeerHello { has_rival, ..peer };
    let admitted = on_blocking_thread(shared, move |receiver| receiver.admit(&peer).map(|()| peer));
    let not_admitted = |rejection| HandshakeError::NotAdmitted { peer: node, own, rejection };
    admitted.await.map_err(not_admitted)?.map_err(not_admitted)
}

/// As in [`PeerHello::has_rival`]. A killed process sends nothing more; if a late packet from it
/// arrives, its successor needs another attempt.
async fn has_rival(shared: &Shared, newcomer: &PeerHello) -> bool {
    let Some(former) = shared.connection_of_another_instance(newcomer) else {
        return false;
    };
    let heard = former.stats().udp_rx.datagrams;
    // A living peer has to acknowledge it. If it can't be sent, there is other traffic, or no peer.
    drop(former.send_datagram(Bytes::new()));
    tokio::time::sleep(LIFE_SIGN).await;
    former.close_reason().is_none() && former.stats().udp_rx.datagrams > heard
}

/// This directory's answer when a peer asks about one of its starts.
async fn answer(
    shared: &Shared,
    asked: Option<Incarnation>,
) -> Result<Option<(Incarnation, u64)>, HandshakeError> {
    let Some(start) = asked else {
        return Ok(None);
    };
    let nonce = on_blocking_thread(shared, move |receiver| receiver.start_nonce(start)).await;
    match nonce.and_then(|nonce| nonce) {
        Ok(nonce) => Ok(nonce.map(|nonce| (start, nonce))),
        Err(rejection) => {
            let own = shared.hello.node;
            Err(HandshakeError::NotAdmitted { peer: own, own, rejection })
        }
    }
}

/// # Errors
/// [`Rejection::NotNow`] if the receiver panicked.
async fn on_blocking_thread<T: Send + 'static>(
    shared: &Shared,
    ask: impl FnOnce(&dyn Receiver) -> T + Send + 'static,
) -> Result<T, Rejection> {
    let asked = ask_blocking(&shared.receiver, "admission", ask).await;
    asked.map_err(|error| Rejection::NotNow(format!("this node has failed: {error}")))
}
