//! What the program tells an operator.

use std::process::{Command, Output};

use quorate::{Health, NodeId, NodeState};
use quorate_node::report::ClusterReport;
use quorate_tests::process::ProcessCluster;

use crate::{CLUSTER, PROGRAM, turn};

const HEALTHY: Option<i32> = Some(0);
const UNHEALTHY: Option<i32> = Some(1);
const UNKNOWN: Option<i32> = Some(2);

/// Runs the program with `words`, separated by spaces.
fn quorate(cluster: &ProcessCluster, words: &str) -> Output {
    let config = cluster.configuration_path(NodeId(1));
    Command::new(PROGRAM)
        .args(words.split(' '))
        .arg("--config")
        .arg(config)
        .output()
        .expect("the program can be run")
}

fn text(output: &Output) -> String {
    let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    of(&output.stdout) + &of(&output.stderr)
}

fn assert_exit(cluster: &ProcessCluster, words: &str, code: Option<i32>) -> String {
    let output = quorate(cluster, words);
    let text = text(&output);
    println!("$ quorate {words}  (exit code {:?})\n{text}", output.status.code());
    assert_eq!(output.status.code(), code, "{words}: {text}");
    text
}

/// Standard output alone has to be JSON, whatever else is said.
fn json(cluster: &ProcessCluster, words: &str) -> serde_json::Value {
    let output = quorate(cluster, words);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{words}: {error}: {}", text(&output)))
}

/// One shard is shown with the log and the data of each of its replicas, by number and by key; all
/// shards are listed without sizes of data, which are not cheap.
fn assert_measured(cluster: &ProcessCluster) {
    for words in ["shard show 3 -o json", "shard show --key colour -o json"] {
        let shown = json(cluster, words);
        let replicas = shown["shards"][0]["replicas"].as_array().cloned().unwrap_or_default();
        assert_eq!(replicas.len(), 3, "{words}: {shown}");
        for replica in replicas {
            for field in ["base", "log_entries", "log_bytes", "behind", "data_bytes"] {
                assert!(replica[field].is_u64(), "{words}: {field} of {replica}");
            }
            assert!(replica["catch_up"].is_null() && replica["snapshot"].is_null(), "{replica}");
        }
    }
    let listed = json(cluster, "shard list -o json");
    let replica = &listed["shards"][3]["replicas"][0];
    assert!(replica["log_bytes"].is_u64() && replica["data_bytes"].is_null(), "{replica}");
}

/// Goal: exit code and text are correct for a healthy cluster, one with a dead node, and one of
/// which no node answers; the JSON can be read in each case. Method: the program's own commands.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_the_truth() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    cluster.wait_caught_up(NodeId(1)).await;
    for words in ["status", "node list", "shard list", "shard show 0"] {
        assert_exit(&cluster, words, HEALTHY);
    }
    let status: ClusterReport =
        serde_json::from_value(json(&cluster, "status -o json")).expect("the documented form");
    assert_eq!(status.health, Health::Healthy);
    assert_eq!((status.nodes.len(), status.shards.len()), (3, 17));
    assert_measured(&cluster);

    // Node 1 is asked first: its death is also met on the way to the answer.
    cluster.kill(NodeId(1));
    cluster.wait_led(NodeId(2)).await;
    let said = assert_exit(&cluster, "status", UNHEALTHY);
    assert!(said.contains("node 1"), "it names the dead node: {said}");
    for words in ["node list", "shard list"] {
        assert_exit(&cluster, words, UNHEALTHY);
    }
    let status: ClusterReport =
        serde_json::from_value(json(&cluster, "status -o json")).expect("the documented form");
    assert_eq!(status.health, Health::Degraded);
    let dead = status.nodes.iter().find(|node| node.node == 1).expect("it is still listed");
    assert_eq!(dead.state, NodeState::Unreachable);
    assert_eq!(json(&cluster, "node list -o json")["health"], "degraded");
    assert_eq!(json(&cluster, "shard list -o json")["shards"].as_array().map(Vec::len), Some(17));

    cluster.kill(NodeId(2));
    cluster.kill(NodeId(3));
    let said = assert_exit(&cluster, "status", UNKNOWN);
    for node in ProcessCluster::NODES {
        let admin = cluster.addresses(node).admin.to_string();
        assert!(said.contains(&admin), "it names whom it asked: {said}");
    }
    assert_exit(&cluster, "shard list", UNKNOWN);
    assert!(json(&cluster, "node list -o json")["error"].is_string());
}
