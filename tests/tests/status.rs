//! The cluster's status costs little, and what it says of the leaders can be mended. Method: three
//! engines in one process.

use std::time::Duration;

use quorate::{NodeId, ShardId};
use quorate_node::report::ClusterReport;
use quorate_tests::cluster::{ClusterSpec, READY, close, let_lead};

const ASK: Duration = Duration::from_secs(2);
const CROWD: u64 = 300;
const SHARDS: u32 = 12;

/// Goal: a crowd that asks for the cluster's status makes no peer compute its own more than once a
/// second. Method: count at the peers what a crowd at two nodes costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_of_questions_costs_one_answer_a_second() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), SHARDS).open_all().await;
    let told = async || engines[2].status().await.counters.statuses_told;
    let (before, began) = (told().await, tokio::time::Instant::now());
    let asked: Vec<_> = (0..CROWD)
        .map(|number| {
            let engine = engines[usize::try_from(number % 2).expect("few")].clone();
            tokio::spawn(async move { engine.cluster_status(ASK).await })
        })
        .collect();
    for status in asked {
        let status = status.await.expect("no panic");
        assert_eq!(status.nodes.len(), 3);
    }
    let told = told().await - before;
    // A look and a second one may fall into as many seconds as it took, and one more.
    let bound = began.elapsed().as_secs() + 2;
    assert!((1..=bound).contains(&told), "{told} answers for a crowd of {CROWD}, at most {bound}");
    close(engines).await;
}

/// Goal: leaders that are all on one node are spread on request, whichever node is asked, and the
/// status reports them before and not after. Method: hand all to node 1, and let node 3 spread
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_spread_on_request() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), SHARDS).open_all().await;
    for shard in 0..=u64::from(SHARDS) {
        let_lead(&engines, ShardId(shard), NodeId(1)).await;
    }
    let deadline = tokio::time::Instant::now() + READY;
    let look = async |wanted: &[u64], has_note: bool| {
        loop {
            let status = ClusterReport::from(&engines[1].cluster_status(ASK).await);
            let mut led: Vec<u64> = status.nodes.iter().filter_map(|node| node.leaders).collect();
            led.sort_unstable();
            if led == wanted && status.notes.is_empty() != has_note {
                return status;
            }
            let now = tokio::time::Instant::now();
            assert!(now < deadline, "{led:?} instead of {wanted:?}, {:?}", status.notes);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let before = look(&[0, 0, 13], true).await;
    assert!(before.notes[0].contains("of 13 shards, node 1 leads 13"), "{:?}", before.notes);
    assert!(before.problems.is_empty(), "it is no fault: {:?}", before.problems);
    // Its cached view may be out of date: retry until nothing is left, as an operator would.
    let mut begun = 0;
    loop {
        let round = engines[2].balance_leaders().await;
        begun += round.begun;
        if round.planned == 0 && begun > 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{round:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    look(&[4, 4, 5], false).await;
    close(engines).await;
}
