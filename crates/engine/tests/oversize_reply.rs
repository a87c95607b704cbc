//! Goal: when a reply is too large for a frame, a caller on another node is told just that, and the
//! other replies of its batch still arrive. Method: two engines, and a state machine that waits
//! until all of the batch is queued behind it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate::{
    ApplyContext, Bootstrap, ClusterAuthority, ClusterId, Engine, Indeterminate, NodeId,
    OrderedMap, StateMachine, WriteError, limits,
};

const CLUSTER: ClusterId = ClusterId(3);
const HANG: Duration = Duration::from_secs(60);
const KEY: [u8; 3] = [0, 0, b'k'];

/// Opened once.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

/// Echoes every command but two.
struct Machine {
    gate: Arc<Gate>,
}

impl StateMachine for Machine {
    fn apply(&mut self, _: ApplyContext, command: &[u8], _: &mut dyn OrderedMap) -> Bytes {
        match command {
            b"wait" => {
                let open = self.gate.open.lock().expect("not poisoned");
                drop(self.gate.opened.wait_while(open, |open| !*open).expect("not poisoned"));
                Bytes::new()
            }
            b"large" => vec![0; limits::FRAME_BYTES_MAX + 1].into(),
            other => Bytes::copy_from_slice(other),
        }
    }
}

fn open(directory: &Path, authority: &ClusterAuthority, node: u64, gate: &Arc<Gate>) -> Engine {
    let gate = Arc::clone(gate);
    Engine::builder(directory.join(node.to_string()))
        .cluster(CLUSTER)
        .node(NodeId(node))
        .listen(SocketAddr::from(([127, 0, 0, 1], 0)))
        .tls(authority.issue(NodeId(node)).expect("a certificate"))
        .bootstrap(Bootstrap::single(&[NodeId(1), NodeId(2)], 2))
        .state_machine(move |_| Box::new(Machine { gate: Arc::clone(&gate) }))
        .open()
        .expect("a new directory")
}

#[tokio::test]
async fn one_reply_too_large_leaves_the_others_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let authority = ClusterAuthority::generate(CLUSTER).expect("certificates can be made");
    let gate = Arc::new(Gate::default());
    let engines = [1, 2].map(|node| open(directory.path(), &authority, node, &gate));
    engines[0].set_peer(NodeId(2), engines[1].local_address());
    engines[1].set_peer(NodeId(1), engines[0].local_address());
    for engine in &engines {
        engine.wait_ready(HANG).await.expect("both are up");
    }
    let leader = engines[0].locate(&KEY).expect("one shard").leader.expect("ready");
    let other = engines.iter().find(|engine| engine.node() != leader).expect("two nodes");

    let first = other.submit(&KEY, "wait");
    let first_place = first.committed().await.expect("both are up");
    let commands = ["a", "b", "large", "c", "d"];
    let batch = commands.map(|command| (command, other.submit(&KEY, command)));
    for (_, submission) in &batch {
        let place = submission.committed().await.expect("both are up");
        assert!(place > first_place, "queued behind the one that waits");
    }
    *gate.open.lock().expect("not poisoned") = true;
    gate.opened.notify_all();
    for (command, submission) in batch {
        let end = tokio::time::timeout(HANG, submission.applied()).await.expect("answered");
        match end {
            Ok(applied) => assert_eq!(applied.reply, command),
            Err(error) => {
                assert_eq!(command, "large", "{error}");
                let WriteError::OutcomeUnknown(Indeterminate::ReplyTooLarge { found, max }) = error
                else {
                    panic!("{error}")
                };
                assert!(found > max as u64 && max == limits::FRAME_BYTES_MAX, "{error}");
            }
        }
    }
    assert!(first.applied().await.is_ok());
    for engine in engines {
        engine.shutdown().await;
    }
}
