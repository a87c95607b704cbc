//! Decides which peers are let in, and what to do when a peer lets this node in or refuses it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_log::LogStore;
use quorate_machine::NodeRecord;
use quorate_transport::{PeerHello, Rejection, WallClock};
use quorate_types::{Incarnation, NodeId, NodeInstance, WallMillis, limits};

use crate::cluster::bootstrap_state::BootstrapState;
use crate::cluster::identity::NodeIdentity;
use crate::cluster::map::ClusterMap;
use crate::error::FatalError;
use crate::state::fatal::Fatal;
use crate::state::tasks::{run_blocking, spawn_guarded};
use crate::worker::inbox::{Inbox, Input};

/// How long a peer waits while another one's admission is synced, before it is told to try again:
/// well under the transport's timeout, and so that no thread waits long for a disk that hangs.
const ADMISSION_WAIT: Duration = Duration::from_secs(1);

/// How long a fork waits until its end is noted before it ends anyway: a disk that hangs must not
/// keep it alive.
const NOTE_WAIT: Duration = Duration::from_secs(3);

/// The newest instance of every peer that was ever admitted, as the log holds it durably.
struct KnownInstances {
    known: Mutex<BTreeMap<NodeId, NodeInstance>>,
    /// Held through a decision and its sync. Never taken while `known` is held.
    deciding: Mutex<()>,
    /// Set once this directory is shown to be a fork: then it admits no more peers.
    is_fork: AtomicBool,
}

impl KnownInstances {
    fn new(known: BTreeMap<NodeId, NodeInstance>) -> KnownInstances {
        KnownInstances {
            known: Mutex::new(known),
            deciding: Mutex::default(),
            is_fork: AtomicBool::default(),
        }
    }

    /// What is known of `node`. Never waits for a disk.
    fn of(&self, node: NodeId) -> Option<NodeInstance> {
        self.known.lock().get(&node).copied()
    }
}

/// The parts that [`Admission`] uses.
pub(crate) struct AdmissionParts {
    pub(crate) identity: NodeIdentity,
    /// Digest of the first map that this directory was made for.
    pub(crate) first_map: u32,
    pub(crate) wall_clock: WallClock,
    pub(crate) bootstrap_state: Arc<BootstrapState>,
    pub(crate) log: Arc<LogStore>,
    pub(crate) fatal: Arc<Fatal>,
    pub(crate) map: Arc<ClusterMap>,
    pub(crate) inboxes: Vec<Arc<Inbox>>,
}

/// Admits peers or refuses them, and remembers those that it admitted.
pub(crate) struct Admission {
    parts: AdmissionParts,
    instances: KnownInstances,
}

impl Admission {
    /// `known` is the newest instance of every peer that was ever admitted.
    pub(crate) fn new(parts: AdmissionParts, known: BTreeMap<NodeId, NodeInstance>) -> Admission {
        Admission { parts, instances: KnownInstances::new(known) }
    }

    /// The newest known start of `peer`.
    pub(crate) fn remembered(&self, peer: NodeId) -> Option<Incarnation> {
        self.instances.of(peer).map(|instance| instance.incarnation)
    }

    /// The nonce of a start of this directory, which proves descent from it. Blocks on the disk.
    pub(crate) fn start_nonce(&self, start: Incarnation) -> Result<Option<u64>, String> {
        self.parts.log.start_nonce(start)
    }

    /// True once the directory is founded: its replicas may speak.
    pub(crate) fn is_founded(&self) -> bool {
        self.parts.bootstrap_state.is_founded()
    }

    fn node(&self) -> NodeId {
        self.parts.identity.node
    }
}

impl Admission {
    /// Whether a peer may connect. Another directory under a known node's id, or one that does not
    /// descend from the instance that was met, may have lost what the node promised (RULES 5 and 17).
    /// Blocks for a sync if the instance is new.
    pub(crate) fn admit(&self, hello: &PeerHello) -> Result<(), Rejection> {
        if self.parts.fatal.is_set() || self.instances.is_fork.load(Ordering::Acquire) {
            return Err(Rejection::NotNow("this node has failed and ends".to_owned()));
        }
        check_clock((self.node(), (self.parts.wall_clock)()), (hello.node, hello.wall))?;
        check_first_map((self.node(), self.parts.first_map), (hello.node, hello.first_map))?;
        if self.instances.of(hello.node) == Some(hello.instance)
            && self.parts.bootstrap_state.is_founded()
        {
            // The process that was let in before: nothing to note, and no disk to wait for.
            return check_instance(hello.instance, hello);
        }
        // Held to the end, so that no node is founded on a directory that is being replaced.
        let deciding = self.instances.deciding.try_lock_for(ADMISSION_WAIT);
        let _deciding = deciding.ok_or_else(|| {
            Rejection::NotNow("this node's log is slow to note another admission".to_owned())
        })?;
        let known = self.instances.of(hello.node);
        let begins_again = known.is_some_and(|known| known.store != hello.instance.store)
            && !self.parts.bootstrap_state.is_founded();
        if let Some(known) = known.filter(|_| !begins_again) {
            check_instance(known, hello)?;
        }
        if known != Some(hello.instance) {
            // Durable before the peer is let in: a restart must not forget which peers it has
            // heard.
            let recorded = self.parts.log.record_peer(hello.node, hello.instance);
            recorded.map_err(|fault| {
                Rejection::NotNow(format!("this node's log has failed: {fault}"))
            })?;
            let mut instances = self.instances.known.lock();
            if begins_again {
                self.parts.bootstrap_state.forget(hello.node);
            }
            instances.insert(hello.node, hello.instance);
        }
        Ok(())
    }

    /// `peer` and this node have admitted each other. Blocks for a sync if that founds this node.
    pub(crate) fn handle_connected(&self, peer: &PeerHello) {
        {
            let instances = self.instances.known.lock();
            // Not a directory that was replaced between its hello and now.
            if instances.get(&peer.node) == Some(&peer.instance) {
                self.parts.bootstrap_state.meet(peer.node);
            }
        }
        self.found_if_complete();
        self.parts.map.ask_refresh();
    }

    /// The connection to `peer` is gone. Until the founding is complete, this node has to meet it
    /// again: it may come back with another directory, and this node must not be founded without
    /// having seen it.
    pub(crate) fn handle_disconnected(&self, peer: NodeId) {
        self.parts.bootstrap_state.forget(peer);
    }

    /// Lets the replicas speak once every founder has met this directory. Blocks for one sync, once
    /// in the lifetime of a directory.
    pub(crate) fn found_if_complete(&self) {
        if !self.parts.bootstrap_state.is_complete() {
            return;
        }
        // No founder's directory is replaced meanwhile; and this is done once.
        let _deciding = self.instances.deciding.lock();
        if !self.parts.bootstrap_state.is_complete() {
            return;
        }
        if let Err(fault) = self.parts.log.record_founded() {
            self.end(FatalError::Log(fault.to_string()));
            return;
        }
        self.parts.bootstrap_state.set_founded();
        self.parts.inboxes.iter().for_each(|inbox| inbox.push(Input::Founded));
        tracing::info!(node = %self.node(), "every founder has met this directory");
    }

    /// `peer` has proof that this directory is a copy, or that a copy was let in. This is noted
    /// durably before anything else: a later start may find only peers that do not know it
    /// (RULE 17).
    pub(crate) fn handle_forked(self: &Arc<Self>, peer: NodeId, reason: &str) {
        if self.instances.is_fork.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(node = %self.node(), %peer, reason, "this directory is not the node's own line");
        let admission = Arc::clone(self);
        let reason = format!("node {peer} says: {reason}");
        let noted = reason.clone();
        // The note syncs, and this thread drives the connections.
        let note = run_blocking(Arc::clone(&self.parts.fatal), "end of the directory", move || {
            admission.parts.log.record_end(&noted)
        });
        let admission = Arc::clone(self);
        spawn_guarded(&self.parts.fatal, "end of the directory", async move {
            match tokio::time::timeout(NOTE_WAIT, note).await {
                Ok(Some(Ok(()))) => {}
                failed => tracing::error!(?failed, "the end of this directory is not noted"),
            }
            admission.end(FatalError::Identity(reason));
        });
    }

    /// `peer` knows another directory or process under this node's id.
    pub(crate) fn handle_identity_rejected(&self, peer: NodeId, reason: &str) {
        tracing::error!(node = %self.node(), %peer, reason, "a peer does not take this node for itself");
        if self.parts.bootstrap_state.note_rejection_by(peer) {
            self.end(FatalError::Identity(reason.to_owned()));
        }
    }

    /// Ends this engine's service.
    pub(crate) fn end(&self, error: FatalError) {
        self.parts.fatal.latch(error);
    }
}

impl Admission {
    /// Learns the starts of other nodes from a newer map, so that a node that slept asks for the
    /// newest, and checks whether the map knows a start of this directory that the directory does
    /// not. Does not block: syncs are done on another thread.
    pub(crate) async fn hear_instances(self: &Arc<Self>, nodes: Vec<NodeRecord>) {
        let admission = Arc::clone(self);
        let hear = move || {
            for record in nodes {
                if record.node == admission.node() {
                    admission.check_own_instance(record.instance);
                } else {
                    admission.learn_instance(record.node, record.instance);
                }
            }
        };
        // A panic has set the latch by then; a runtime that shuts down is no panic.
        let _heard: Option<()> =
            run_blocking(Arc::clone(&self.parts.fatal), "instances of the map", hear).await;
    }

    /// Learns only newer starts of the known directory, because the map is a cache.
    fn learn_instance(&self, node: NodeId, instance: NodeInstance) {
        let is_news = |known: NodeInstance| {
            known.store == instance.store && known.incarnation < instance.incarnation
        };
        if !self.instances.of(node).is_some_and(is_news) {
            return;
        }
        let _deciding = self.instances.deciding.lock();
        if !self.instances.of(node).is_some_and(is_news) {
            return;
        }
        match self.parts.log.record_peer(node, instance) {
            Ok(()) => drop(self.instances.known.lock().insert(node, instance)),
            Err(fault) => self.end(FatalError::Log(fault.to_string())),
        }
    }

    /// The map was committed by a majority: a start in it that this directory never had proves as
    /// much as a peer's word.
    fn check_own_instance(self: &Arc<Self>, registered: NodeInstance) {
        if registered.store != self.parts.identity.instance.store {
            return;
        }
        match self.parts.log.start_nonce(registered.incarnation) {
            Ok(Some(nonce)) if nonce == registered.nonce => {}
            Ok(_) => self.handle_forked(
                self.node(),
                &format!(
                    "the cluster's map has incarnation {} of this node's directory, which this \
                     one does not know: it is a restored copy, and has forgotten what the node \
                     promised",
                    registered.incarnation
                ),
            ),
            Err(error) => tracing::error!(%error, "this node's own starts can't be read"),
        }
    }
}

/// Checks that `hello` is of the directory that was met as `known`, and descends from that start.
fn check_instance(known: NodeInstance, hello: &PeerHello) -> Result<(), Rejection> {
    const REMEDY: &str = "give this machine a node id that was never used, with a certificate of \
                          its own, and let it join as a new node";
    let (node, instance) = (hello.node, hello.instance);
    if instance.store != known.store {
        return Err(Rejection::IdentityRejected(format!(
            "node {node} has store {}, but was known with store {}: a wiped or foreign directory \
             can't go on under an old name, because it has forgotten what the node promised; {REMEDY}",
            instance.store, known.store
        )));
    }
    if hello.asked != Some(known.incarnation) {
        return Err(Rejection::NotNow(format!(
            "node {node} was met as incarnation {} in the same moment",
            known.incarnation
        )));
    }
    if hello.descent == Some(known.nonce) && instance.incarnation >= known.incarnation {
        if hello.has_rival {
            // No proof: what the other process said may have been on its way when it was killed.
            return Err(Rejection::NotNow(format!(
                "another process of node {node} is connected and answers: two processes run from \
                 copies of one directory; stop the one that was started last"
            )));
        }
        return Ok(());
    }
    Err(Rejection::Forked(if instance.incarnation < known.incarnation {
        format!(
            "node {node} speaks as incarnation {}, but {} was seen: an old process or a restored \
             copy of the directory is running; stop the old process, or, if the newest directory \
             is lost, {REMEDY}",
            instance.incarnation, known.incarnation
        )
    } else if instance.incarnation == known.incarnation {
        format!(
            "node {node} speaks as incarnation {} twice: two processes run from copies of one \
             directory; keep the one that was here first, and for the other {REMEDY}",
            instance.incarnation
        )
    } else {
        format!(
            "node {node} speaks as incarnation {}, and does not know the incarnation {} that was \
             seen: its directory is a restored copy, which was started since and has forgotten what \
             the node promised; if the newest directory is lost, {REMEDY}",
            instance.incarnation, known.incarnation
        )
    }))
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

/// Both sides use the same words, because neither knows whose clock is wrong.
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
    use quorate_types::{ClusterId, Incarnation, StoreId};

    fn instance(store: u128, incarnation: u64, nonce: u64) -> NodeInstance {
        NodeInstance { store: StoreId(store), incarnation: Incarnation(incarnation), nonce }
    }

    /// A hello of node 2, which was asked for start `asked` and answered `descent`.
    fn hello(instance: NodeInstance, asked: u64, descent: Option<u64>) -> PeerHello {
        PeerHello {
            node: NodeId(2),
            cluster: ClusterId(1),
            instance,
            wall: WallMillis(0),
            first_map: 0,
            version: 1,
            asked: Some(Incarnation(asked)),
            descent,
            has_rival: false,
        }
    }

    /// Goal: only a descendant of the known instance is let in, however often another one started,
    /// and each refusal names its cause.
    #[test]
    fn only_descendants_of_the_known_life_are_taken() {
        let known = instance(1, 4, 7);
        let check = |instance, descent| check_instance(known, &hello(instance, 4, descent));
        assert_eq!(check(known, Some(7)), Ok(()), "the same process again");
        assert_eq!(check(instance(1, 5, 9), Some(7)), Ok(()), "its next start");
        assert_eq!(check(instance(1, 90, 2), Some(7)), Ok(()), "after many starts");
        for (other, descent, cause) in [
            (instance(1, 3, 7), None, "incarnation 3, but 4 was seen"),
            (instance(1, 4, 8), Some(8), "incarnation 4 twice"),
            (instance(1, 5, 9), Some(8), "restored copy"),
            (instance(1, 5, 9), None, "restored copy"),
            (instance(1, 90, 2), Some(8), "restored copy"),
        ] {
            match check(other, descent).expect_err(cause) {
                Rejection::Forked(refusal) => {
                    assert!(refusal.contains(cause), "{refusal}");
                    assert!(refusal.contains("never used"), "a remedy: {refusal}");
                }
                rejection => panic!("{cause}: {rejection:?}"),
            }
        }
        let foreign = check(instance(2, 9, 7), Some(7)).expect_err("another directory");
        assert!(
            matches!(&foreign, Rejection::IdentityRejected(text) if text.contains("wiped or foreign"))
        );
    }

    /// Goal: a copy of the newest instance does not replace the process that runs, and is not ended
    /// either, because that process may have been killed just now. A copy that is no descendant is
    /// ended.
    #[test]
    fn who_is_here_keeps_its_place() {
        let known = instance(1, 4, 7);
        let rival = |descent| PeerHello { has_rival: true, ..hello(instance(1, 5, 9), 4, descent) };
        assert!(matches!(check_instance(known, &rival(Some(7))), Err(Rejection::NotNow(_))));
        assert!(matches!(check_instance(known, &rival(Some(8))), Err(Rejection::Forked(_))));
    }

    /// Goal: an answer to an older question proves nothing, neither for a peer nor against it.
    #[test]
    fn a_life_that_was_met_meanwhile_is_asked_for_again() {
        let refusal = check_instance(instance(1, 5, 9), &hello(instance(1, 6, 3), 4, Some(7)));
        assert!(matches!(refusal, Err(Rejection::NotNow(_))), "{refusal:?}");
    }
}
