//! The first words on a connection: who is there, and whether either side takes the other in.
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
//! Both sides have admitted each other before either is connected. The receiver may block in each of
//! its answers (it reads and syncs), so it is asked on a thread of its own: the one that carries all
//! connections must not wait behind one peer's disk.

use quinn::{Connection, RecvStream};
use quorate_types::{ClusterId, Incarnation, NodeId};
use rustls_pki_types::CertificateDer;

use crate::certificates::check_names;
use crate::guard::ask_blocking;
use crate::hello::{
    HELLO_HEAD_BYTES, Hello, PeerHello, Refusal, Rejection, WELCOME_BYTES, Welcome,
};
use crate::session::{describe, failed, refuse};
use crate::transport::{Receiver, Shared};

/// What the acceptor says once it has admitted the dialer.
const ADMITTED: [u8; 1] = *b"!";

/// The dialer's half of the greeting.
///
/// # Errors
/// The reason why there is no session; if it was this side's, the connection is closed with it.
pub(crate) async fn greet_as_dialer(
    shared: &Shared,
    expected: NodeId,
    connection: &Connection,
) -> Result<PeerHello, String> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(describe)?;
    let own = Hello { asks: shared.receiver.remembered(expected), ..shared.hello() };
    send.write_all(&own.encode()).await.map_err(|e| failed(connection, e))?;
    let hello = read_hello(connection, &mut receive).await?;
    let checked = check_peer(&own, connection, &hello).and_then(|peer| match peer.node {
        found if found == expected => Ok(peer),
        found => Err(Refusal::Node { found, expected }),
    });
    let peer = match checked {
        Ok(peer) => admit(shared, peer).await,
        Err(refusal) => Err(refusal),
    };
    let peer = peer.map_err(|refusal| refuse(connection, &refusal))?;
    let answer = answer(shared, hello.asks).await;
    let welcome = Welcome { answer: answer.map_err(|refusal| refuse(connection, &refusal))? };
    send.write_all(&welcome.encode()).await.map_err(|error| failed(connection, error))?;
    send.finish().map_err(|error| error.to_string())?;
    let mut admitted = [0];
    receive.read_exact(&mut admitted).await.map_err(|error| failed(connection, error))?;
    if admitted == ADMITTED {
        return Ok(peer);
    }
    let what = "the acceptor's last word is another byte";
    Err(refuse(connection, &Refusal::Malformed { found: admitted.len(), what }))
}

/// The acceptor's half of the greeting.
///
/// # Errors
/// As for [`greet_as_dialer`], and who it was, as far as it said so.
pub(crate) async fn greet_as_acceptor(
    shared: &Shared,
    connection: &Connection,
) -> Result<PeerHello, (Option<NodeId>, String)> {
    let (mut send, mut receive) =
        connection.accept_bi().await.map_err(|error| (None, describe(error)))?;
    let hello = read_hello(connection, &mut receive).await.map_err(|reason| (None, reason))?;
    let greeted = async {
        let refuse = |refusal| refuse(connection, &refusal);
        let node = shared.hello.node;
        let asks = shared.receiver.remembered(hello.node);
        let checked = check_peer(&Hello { asks, ..shared.hello() }, connection, &hello);
        let peer = checked.map_err(refuse)?;
        if peer.node == node {
            return Err(refuse(Refusal::OwnId { own: node }));
        }
        let answer = answer(shared, hello.asks).await.map_err(refuse)?;
        // Anew, so that the clock is not as old as the look into the log took.
        let own = Hello { asks, answer, ..shared.hello() };
        send.write_all(&own.encode()).await.map_err(|error| failed(connection, error))?;
        let mut welcome = [0; WELCOME_BYTES];
        receive.read_exact(&mut welcome).await.map_err(|error| failed(connection, error))?;
        let descent = Welcome::decode(&welcome).map_err(refuse)?.descent(asks);
        let peer = admit(shared, PeerHello { descent, ..peer }).await.map_err(refuse)?;
        send.write_all(&ADMITTED).await.map_err(|error| failed(connection, error))?;
        send.finish().map_err(|error| error.to_string())?;
        Ok(peer)
    };
    greeted.await.map_err(|reason| (Some(hello.node), reason))
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

/// Versions, cluster, limits, and that the certificate is the one of the node named.
fn check_peer(own: &Hello, connection: &Connection, hello: &Hello) -> Result<PeerHello, Refusal> {
    let peer = own.agree(hello)?;
    check_certificate(connection, peer.node, peer.cluster).map_err(|detail| {
        Refusal::Certificate { node: peer.node, cluster: peer.cluster, detail }
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

async fn admit(shared: &Shared, peer: PeerHello) -> Result<PeerHello, Refusal> {
    let (node, own) = (peer.node, shared.hello.node);
    let admitted = on_blocking_thread(shared, move |receiver| receiver.admit(&peer).map(|()| peer));
    let not_admitted = |rejection| Refusal::NotAdmitted { peer: node, own, rejection };
    admitted.await.map_err(not_admitted)?.map_err(not_admitted)
}

/// This directory's answer to the question for one of its starts.
async fn answer(
    shared: &Shared,
    asked: Option<Incarnation>,
) -> Result<Option<(Incarnation, u64)>, Refusal> {
    let Some(start) = asked else {
        return Ok(None);
    };
    let nonce = on_blocking_thread(shared, move |receiver| receiver.start_nonce(start)).await;
    match nonce.and_then(|nonce| nonce) {
        Ok(nonce) => Ok(nonce.map(|nonce| (start, nonce))),
        Err(rejection) => {
            let own = shared.hello.node;
            Err(Refusal::NotAdmitted { peer: own, own, rejection })
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
