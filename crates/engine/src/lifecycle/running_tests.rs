//! Goal: an engine's threads begin and end together, and do what they are for. Method: real engines;
//! threads that are refused by name, as the operating system may refuse them.

use std::cell::RefCell;
use std::time::Duration;

use quorate_log::{LogOptions, LogStore, ShardWrite, SyncMode, TurnWrite};
use quorate_raft::{EntryKind, RunDraft, Write};
use quorate_types::{NodeId, StoreId, WriteNumber};

use crate::error::OpenFault;
use crate::test_engines::{CLUSTER, HANG, KEY, SHARD, TestEngines};

const NODE: NodeId = NodeId(1);

thread_local! {
    /// Threads that this thread can't start: the prefix of their names.
    static REFUSED: RefCell<Option<&'static str>> = const { RefCell::new(None) };
}

/// `spawn` calls this first, in tests.
pub(crate) fn refuse_thread(name: &str) -> Result<(), OpenFault> {
    let refused = REFUSED.with_borrow(|prefix| prefix.is_some_and(|it| name.starts_with(it)));
    if refused {
        let cause = std::io::Error::other("refused by the test");
        return Err(OpenFault::System { what: format!("starting thread {name}"), cause });
    }
    Ok(())
}

/// Goal: an engine that can't start one of its threads leaves none of the others behind. Method:
/// each kind is refused in turn; a thread that was left behind would hold the directory, which must
/// open right after.
#[tokio::test]
async fn a_thread_that_does_not_start_leaves_no_others() {
    let mut cluster = TestEngines::open(1, 1).await;
    cluster.engines[0].put(KEY.to_vec(), "x").await.expect("up");
    cluster.stop().await;
    for prefix in ["step-1-0", "step-1-1", "apply-", "fetch-", "tidy-"] {
        REFUSED.set(Some(prefix));
        let refused = cluster.builder(NODE).workers(2).open().map(|_| ()).expect_err(prefix);
        assert!(refused.to_string().contains("refused by the test"), "{refused}");
    }
    REFUSED.set(None);
    let engine = cluster.builder(NODE).workers(2).open().expect("nobody holds the directory");
    engine.shutdown().await;
}

/// Goal: an engine merges the small tables that starts leave. Method: a log that was opened and
/// written to many times; the engine on it has to merge them by itself.
#[tokio::test]
async fn starts_have_their_tables_merged() {
    const STARTS: usize = 20;
    let mut cluster = TestEngines::open(1, 1).await;
    cluster.stop().await;
    for _ in 0..STARTS {
        let options = LogOptions { sync: SyncMode::UnsafeNoSync, ..LogOptions::default() };
        let directory = cluster.path(NODE).join("log");
        let (log, recovery) = LogStore::open(&directory, CLUSTER, NODE, StoreId(1), options)
            .expect("nobody holds the directory");
        let replica = recovery.replicas.iter().find(|replica| replica.shard == SHARD);
        let replica = replica.expect("a replica");
        let last = replica.restored.last;
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Blank, &[]);
        let write = Write {
            number: WriteNumber(1),
            install: None,
            hard_state: None,
            truncate_from: None,
            runs: vec![draft.seal(last.term, last.index.next())],
        };
        let write = ShardWrite { shard: SHARD, replica: replica.replica, write, space: None };
        let turn = TurnWrite { writes: vec![write], ..TurnWrite::default() };
        log.write(&[turn]).expect("a healthy disk");
    }
    let engine = cluster.builder(NODE).open().expect("a sound directory");
    let merged = async {
        while engine.running.log().statistics().tables_merged == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, merged).await.expect("merged");
    engine.shutdown().await;
}
