//! Goal: reads of one shard that can't be answered hold up no reads of another shard, for a node
//! that has neither. Method: a state machine that does not finish, so that its shard's reads wait
//! at the node that has both; so many that they would still take turns long after the last
//! deadline.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use quorate::{
    ApplyContext, Bootstrap, ClusterAuthority, ClusterId, Engine, NodeId, OrderedMap, ReadLevel,
    StateMachine,
};

const CLUSTER: ClusterId = ClusterId(8);
const HANG: Duration = Duration::from_secs(60);
const LEVEL: ReadLevel = ReadLevel::Linearizable;
/// A key of the first shard, and below one of the second.
const STUCK: [u8; 3] = [0, 0, b'k'];
const HEALTHY: [u8; 3] = [0x3f, 0xff, b'k'];
const READS: usize = 200;

/// Opened once.
#[derive(Default)]
struct Gate {
    is_open: Mutex<bool>,
    opened: Condvar,
}

/// Ends a command once the gate is open.
struct Machine(Arc<Gate>);

impl StateMachine for Machine {
    fn apply(&mut self, _: ApplyContext, _: &[u8], _: &mut dyn OrderedMap) -> Bytes {
        let is_open = self.0.is_open.lock().expect("not poisoned");
        drop(self.0.opened.wait_while(is_open, |is_open| !*is_open).expect("not poisoned"));
        Bytes::new()
    }
}

/// Opens when dropped, however the test ends: an engine stops only when its machines do.
struct Opener(Arc<Gate>);

impl Drop for Opener {
    fn drop(&mut self) {
        *self.0.is_open.lock().expect("not poisoned") = true;
        self.0.opened.notify_all();
    }
}

fn open(directory: &Path, authority: &ClusterAuthority, node: u64, gate: &Arc<Gate>) -> Engine {
    let gate = Arc::clone(gate);
    Engine::builder(directory.join(node.to_string()))
        .cluster(CLUSTER)
        .node(NodeId(node))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .tls(authority.issue(NodeId(node)).expect("a certificate"))
        .bootstrap(Bootstrap::split_at(&[NodeId(1)], 1, [HEALTHY.to_vec()]))
        .state_machine(move |_| Box::new(Machine(Arc::clone(&gate))))
        .open()
        .expect("a new directory")
}

#[tokio::test]
async fn a_shard_that_hangs_holds_up_no_other() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = ClusterAuthority::generate(CLUSTER).expect("certificates can be made");
    let gate = Arc::new(Gate::default());
    let engines = [1, 2].map(|node| open(directory.path(), &authority, node, &gate));
    // Dropped before the engines.
    let opener = Opener(Arc::clone(&gate));
    engines[0].set_peer(NodeId(2), engines[1].local_address());
    engines[1].set_peer(NodeId(1), engines[0].local_address());
    engines[0].wait_ready(HANG).await.expect("its replicas are alone");
    let asker = &engines[1];
    for key in [&STUCK, &HEALTHY] {
        assert_eq!(asker.get(key, LEVEL).await, Ok(None), "both answer as long as nothing hangs");
    }

    let hanging = engines[0].submit(&STUCK, "wait");
    hanging.committed().await.expect("up");
    let mut stuck: Vec<_> = (0..READS).map(|_| Box::pin(asker.get(&STUCK, LEVEL))).collect();
    let mut still_wait = || {
        let mut context = Context::from_waker(Waker::noop());
        stuck.iter_mut().all(|read| read.as_mut().poll(&mut context).is_pending())
    };
    // Polled once, all are sent; the other reads come behind them. The first of those may overtake
    // them at the other node, whose runtime begins with the newest task; once it is answered they
    // all wait.
    assert!(still_wait());
    for _ in 0..3 {
        assert_eq!(asker.get(&HEALTHY, LEVEL).await, Ok(None));
    }
    assert!(still_wait(), "for what hangs");
    drop(opener);
    for read in stuck {
        assert_eq!(read.await, Ok(None));
    }
    for engine in engines {
        engine.shutdown().await;
    }
}
