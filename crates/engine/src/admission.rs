//! Which peers are let in, and what it means to be let in or refused by one.

use quorate_transport::{PeerHello, Rejection};
use quorate_types::{NodeId, NodeLife, WallMillis, limits};

use crate::core::Core;
use crate::error::FatalError;
use crate::inbox::Input;

impl Core {
    /// Whether a peer may connect. An older life of a node, another directory under its id, or a
    /// second process of one start may have lost what the node promised (RULE 5).
    pub(crate) fn admit(&self, hello: &PeerHello) -> Result<(), Rejection> {
        check_clock((self.node, (self.wall_clock)()), (hello.node, hello.wall))?;
        check_first_map((self.node, self.first_map), (hello.node, hello.first_map))?;
        // Held to the end, so that nobody is founded on a directory that is being replaced.
        let mut lives = self.lives.lock();
        let known = lives.get(&hello.node).copied();
        let begins_again = known.is_some_and(|known| known.store != hello.life.store)
            && !self.founding.is_founded();
        if begins_again {
            self.founding.forget(hello.node);
        } else if let Some(known) = known {
            check_life(hello.node, known, hello.life).map_err(Rejection::Disowned)?;
        }
        if known != Some(hello.life) {
            // Durable before the peer is let in: a restart must not forget whom it has heard.
            let recorded = self.log.record_peer(hello.node, hello.life);
            recorded.map_err(|fault| {
                Rejection::NotNow(format!("this node's log has failed: {fault}"))
            })?;
            lives.insert(hello.node, hello.life);
        }
        Ok(())
    }

    /// `peer` and this node have admitted each other.
    pub(crate) fn handle_connected(&self, peer: &PeerHello) {
        let lives = self.lives.lock();
        // Not a directory that was replaced between its hello and now.
        if lives.get(&peer.node) == Some(&peer.life) {
            self.founding.meet(peer.node);
            self.found_if_complete();
        }
        drop(lives);
        self.map_wanted.notify_one();
    }

    /// The connection to `peer` is gone. Until the founding is complete it has to be met again: it may
    /// come back with another directory, on which this node must not be founded unseen.
    pub(crate) fn handle_disconnected(&self, peer: NodeId) {
        let _lives = self.lives.lock();
        self.founding.forget(peer);
    }

    /// Lets the replicas speak once every founder has met this directory. Blocks for one sync, once
    /// in the life of a directory. Whom it has met must not change meanwhile: callers hold `lives`,
    /// or are alone.
    pub(crate) fn found_if_complete(&self) {
        if !self.founding.is_complete() {
            return;
        }
        if let Err(fault) = self.log.record_founded() {
            self.end(FatalError::Log(fault.to_string()));
            return;
        }
        self.founding.set_founded();
        self.inboxes.iter().for_each(|inbox| inbox.push(Input::Founded));
        tracing::info!(node = %self.node, "every founder has met this directory");
    }

    /// `peer` knows another directory or process under this node's id.
    pub(crate) fn handle_disowned(&self, peer: NodeId, reason: &str) {
        tracing::error!(node = %self.node, %peer, reason, "a peer does not take this node for itself");
        if self.founding.disown(peer) {
            self.end(FatalError::Identity(reason.to_owned()));
        }
    }

    /// Ends this engine's service.
    pub(crate) fn end(&self, error: FatalError) {
        self.fatal.latch(error);
    }
}

fn check_life(node: NodeId, known: NodeLife, life: NodeLife) -> Result<(), String> {
    const REMEDY: &str = "give this machine a node id that was never used, with a certificate of \
                          its own, and let it join as a new node";
    if life.store != known.store {
        return Err(format!(
            "node {node} has store {}, but was known with store {}: a wiped or foreign directory \
             can't go on under an old name, because it has forgotten what the node promised; {REMEDY}",
            life.store, known.store
        ));
    }
    if life.incarnation < known.incarnation {
        return Err(format!(
            "node {node} speaks as incarnation {}, but {} was seen: an old process or a restored \
             copy of the directory is running; stop the old process, or, if the newest directory \
             is lost, {REMEDY}",
            life.incarnation, known.incarnation
        ));
    }
    if life.incarnation == known.incarnation && life.nonce != known.nonce {
        return Err(format!(
            "node {node} speaks as incarnation {} twice: two processes run from copies of one \
             directory; keep the one that was here first, and for the other {REMEDY}",
            life.incarnation
        ));
    }
    Ok(())
}

fn check_first_map(own: (NodeId, u32), peer: (NodeId, u32)) -> Result<(), Rejection> {
    if own.1 == peer.1 || own.1 == 0 || peer.1 == 0 {
        return Ok(());
    }
    Err(Rejection::NotNow(format!(
        "nodes {} and {} were made for different first maps: the bootstrap (shards, copies, nodes) \
         must be the same on every node when the cluster is founded; correct it on the node that is \
         new, empty that node's directory, and start it again",
        own.0.min(peer.0),
        own.0.max(peer.0),
    )))
}

/// The words are the same whoever says them: neither side knows whose clock is wrong.
fn check_clock(own: (NodeId, WallMillis), peer: (NodeId, WallMillis)) -> Result<(), Rejection> {
    let apart_ms = own.1.0.abs_diff(peer.1.0);
    let apart_max_ms = u64::try_from(limits::CLOCK_SKEW_MAX.as_millis()).unwrap_or(u64::MAX);
    if apart_ms <= apart_max_ms {
        return Ok(());
    }
    let ahead = if own.1 > peer.1 { own.0 } else { peer.0 };
    Err(Rejection::NotNow(format!(
        "the clocks of nodes {} and {} are {} s apart, that of node {ahead} is ahead; at most {} s \
         are allowed: set the one that is wrong (timedatectl shows whether NTP keeps it), and they \
         connect by themselves",
        own.0.min(peer.0),
        own.0.max(peer.0),
        apart_ms / 1_000,
        limits::CLOCK_SKEW_MAX.as_secs(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_types::{Incarnation, StoreId};

    fn life(store: u128, incarnation: u64, nonce: u64) -> NodeLife {
        NodeLife { store: StoreId(store), incarnation: Incarnation(incarnation), nonce }
    }

    /// Goal: of all lives of a node only the newest is let in, and each refusal names its cause.
    #[test]
    fn only_the_newest_life_of_a_directory_is_taken() {
        let known = life(1, 4, 7);
        let check = |life| check_life(NodeId(2), known, life);
        assert_eq!(check(known), Ok(()), "the same process again");
        assert_eq!(check(life(1, 5, 9)), Ok(()), "its next start");
        for (other, cause) in [
            (life(2, 9, 7), "wiped or foreign directory"),
            (life(1, 3, 7), "incarnation 3, but 4 was seen"),
            (life(1, 4, 8), "incarnation 4 twice"),
        ] {
            let refusal = check(other).expect_err(cause);
            assert!(refusal.contains(cause), "{refusal}");
            assert!(refusal.contains("never used"), "a remedy: {refusal}");
        }
    }
}
