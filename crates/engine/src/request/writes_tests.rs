//! Goal: a write whose outcome is unknown is never retried automatically. Method: real engines whose
//! state machine waits before it applies, so that a forwarded increment is committed and unanswered for
//! as long as the test wants; meanwhile the test removes what would answer it. An increment that was
//! sent twice counts twice.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use quorate_machine::{ApplyContext, KvMachine, OrderedMap, StateMachine};
use quorate_transport::Receiver;
use quorate_types::NodeId;
use tokio::sync::Semaphore;

use crate::api::engine::Engine;
use crate::calls::read::ReadLevel;
use crate::error::{IncrementError, Indeterminate, WriteError};
use crate::test_engines::{HANG, KEY, SHARD, TestEngines};

/// Holds every command of the shard back before it is applied.
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// One permit for each command that arrived here.
    arrived: Semaphore,
}

impl Gate {
    fn set_open(&self, is_open: bool) {
        *self.is_open.lock().expect("not poisoned") = is_open;
        self.opened.notify_all();
    }
}

/// Opens the gate when dropped, however the test ends: an engine stops only when its machines do.
struct Opener(Arc<Gate>);

impl Drop for Opener {
    fn drop(&mut self) {
        self.0.set_open(true);
    }
}

struct Machine(Arc<Gate>);

impl StateMachine for Machine {
    fn apply(&mut self, context: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
        self.0.arrived.add_permits(1);
        let is_open = self.0.is_open.lock().expect("not poisoned");
        drop(self.0.opened.wait_while(is_open, |is_open| !*is_open).expect("not poisoned"));
        KvMachine.apply(context, command, map)
    }
}

async fn open(nodes: u64, replicas: usize) -> (TestEngines, Opener) {
    let (is_open, opened) = (Mutex::new(false), Condvar::new());
    let gate = Arc::new(Gate { is_open, opened, arrived: Semaphore::new(0) });
    let opener = Opener(Arc::clone(&gate));
    let machine = move || Box::new(Machine(Arc::clone(&gate))) as Box<dyn StateMachine>;
    (TestEngines::open_with(nodes, replicas, machine).await, opener)
}

/// Lets `asker` increment; returns once that is committed and waits in `arrivals` machines.
async fn increment(
    asker: &Engine,
    gate: &Gate,
    arrivals: u32,
) -> tokio::task::JoinHandle<Result<i64, IncrementError>> {
    let asker = asker.clone();
    let asked = tokio::spawn(async move { asker.increment(KEY.to_vec(), 1).await });
    let arrived = tokio::time::timeout(HANG, gate.arrived.acquire_many(arrivals)).await;
    arrived.expect("committed").expect("never closed").forget();
    asked
}

async fn assert_counted_once(engine: &Engine) {
    let sum = engine.get(&KEY, ReadLevel::Linearizable).await.expect("up");
    assert_eq!(sum.as_deref(), Some(&b"1"[..]));
}

/// The connection is cut: the test reports it as the transport would.
#[tokio::test]
async fn a_forwarded_write_is_not_sent_again_when_the_connection_is_lost() {
    let (mut cluster, opener) = open(2, 1).await;
    let leader = NodeId(1);
    let asker = &cluster.engines[1];
    let asked = increment(asker, &opener.0, 1).await;
    asker.running.inbound().handle_disconnected(leader, "cut by the test");
    // A second one would be applied as well, and its answer would be taken for the first one's.
    opener.0.set_open(true);
    let end = tokio::time::timeout(HANG, asked).await.expect("answered").expect("no panic");
    let lost = WriteError::OutcomeUnknown(Indeterminate::ConnectionLost { node: leader });
    assert_eq!(end, Err(lost.into()));
    assert_counted_once(asker).await;
    cluster.stop().await;
}

/// The leader transfers its leadership before it has answered.
#[tokio::test]
async fn a_forwarded_write_is_not_sent_again_when_the_leader_changes() {
    let (mut cluster, opener) = open(3, 3).await;
    let (leader, others) = cluster.leader_and_others();
    let (asker, target) = (others[0], others[1]);
    let asked = increment(asker, &opener.0, 1).await;
    leader.transfer_leader(SHARD, target.node()).await.expect("all are up");
    let end = tokio::time::timeout(HANG, asked).await.expect("answered").expect("no panic");
    opener.0.set_open(true);
    let changed = WriteError::OutcomeUnknown(Indeterminate::LeaderChanged { shard: SHARD });
    assert_eq!(end, Err(changed.into()));
    assert_counted_once(asker).await;
    cluster.stop().await;
}
