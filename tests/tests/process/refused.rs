//! Starts that are refused before anything is touched: the process ends at once, and says why.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use quorate::NodeId;
use quorate_tests::process::{Configuration, NodeProcess, ProcessCluster, assert_serves};
use rocksdb::{DBWithThreadMode, MultiThreaded, Options};

use crate::{CLUSTER, turn};

const EXIT: Duration = Duration::from_secs(20);
const THIRD: NodeId = NodeId(3);
const FAILED: Option<i32> = Some(1);
const WRONG_CONFIGURATION: Option<i32> = Some(2);

/// Asserts that `process` ends with `code` and says all of `words`.
async fn assert_refused(mut process: NodeProcess, code: Option<i32>, words: &[&str]) {
    let found = process.wait_exit(EXIT).await;
    let said = process.said();
    println!("exit code {found:?}: {said}");
    assert_eq!(found, code, "{said}");
    for word in words {
        assert!(said.contains(word), "it should say {word:?}: {said}");
    }
}

/// Goal: any fault of node 3 before its start is named with a remedy, nothing is started, and the
/// others continue. Method: a running cluster, node 3 stopped, one start for each fault; at the end
/// the unharmed node starts.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_before_the_start_is_named() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    cluster.kill(THIRD);
    let good = cluster.configuration(THIRD);

    let file = cluster.path().join("unknown-key.toml");
    let text = good.text().replacen("redis = ", "redsi = ", 1);
    std::fs::write(&file, text).expect("written");
    let process = cluster.spawn_file("unknown-key", &file);
    let words = ["unknown-key.toml:12: ", "`redsi`", "`redis`", "nothing was started"];
    assert_refused(process, WRONG_CONFIGURATION, &words).await;

    let other = cluster.configuration(NodeId(2));
    let stolen = Configuration { certificate: other.certificate, key: other.key, ..good.clone() };
    let process = cluster.spawn_beside("stolen-certificate", &stolen);
    let words = ["certificate of node 2", "the file is of node 3", "node-3.pem", "nothing was"];
    assert_refused(process, WRONG_CONFIGURATION, &words).await;

    let mixed = Configuration { key: cluster.configuration(NodeId(2)).key, ..good.clone() };
    let process = cluster.spawn_beside("mixed-certificate", &mixed);
    assert_refused(process, WRONG_CONFIGURATION, &["key", "nothing was started"]).await;

    let taken = cluster.addresses(THIRD);
    let tcp = TcpListener::bind(taken.redis).expect("the node is dead");
    let words = [taken.redis.to_string(), "Redis clients".into(), "another `redis`".into()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_refused(cluster.spawn_beside("redis-taken", &good), FAILED, &words).await;
    drop(tcp);
    let udp = UdpSocket::bind(taken.address).expect("the node is dead");
    let words = [taken.address.to_string(), "other nodes".into(), "another `address`".into()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    assert_refused(cluster.spawn_beside("quic-taken", &good), FAILED, &words).await;
    drop(udp);

    let own = cluster.configuration(NodeId(1));
    let foreign = Configuration { directory: own.directory, ..good.clone() };
    let process = cluster.spawn_beside("used-directory", &foreign);
    assert_refused(process, FAILED, &["in use by another process"]).await;

    assert_serves(&cluster.redis_without(THIRD), "others").await;
    cluster.start_nodes(&[THIRD]).await;
    assert_serves(&cluster.redis(), "all").await;
}

/// Goal: a directory written by a newer release, and one of another cluster, are left as they are.
/// Method: a stopped node's log is marked as newer; its directory is offered to another cluster.
#[tokio::test(flavor = "multi_thread")]
async fn directories_of_others_are_left_alone() {
    let _turn = turn();
    let mut cluster = ProcessCluster::start(CLUSTER).await;
    assert_eq!(cluster.stop(THIRD, EXIT).await, Some(0));
    let good = cluster.configuration(THIRD);

    let foreign = ForeignCluster::make(&cluster, 0xbad);
    let process = cluster.spawn_beside("other-cluster", &foreign.configuration(&good));
    assert_refused(process, FAILED, &["belongs to cluster", "use an empty directory"]).await;

    mark_as_newer(&good.directory.join("log"));
    let process = cluster.spawn_beside("newer-format", &good);
    assert_refused(process, FAILED, &["has format 3", "start the release that wrote it"]).await;
    assert_serves(&cluster.redis_without(THIRD), "others").await;
}

/// Another cluster's certificates.
pub(crate) struct ForeignCluster {
    path: std::path::PathBuf,
}

impl ForeignCluster {
    pub(crate) fn make(cluster: &ProcessCluster, id: u128) -> ForeignCluster {
        use quorate_node::certs::directory::{CertificateDirectory, Existing};
        let path = cluster.path().join("foreign-certificates");
        let directory = CertificateDirectory::at(&path);
        let authority =
            directory.init(quorate::ClusterId(id), Existing::Refuse).expect("an authority");
        directory.issue(&authority, THIRD, Existing::Refuse).expect("a certificate");
        ForeignCluster { path }
    }

    /// `good` with these certificates.
    pub(crate) fn configuration(&self, good: &Configuration) -> Configuration {
        Configuration {
            authority: self.path.join("authority.pem"),
            certificate: self.path.join("node-3.pem"),
            key: self.path.join("node-3.key"),
            ..good.clone()
        }
    }
}

/// Writes the format record behind the log's back, one version up: kind and version, then a
/// checksum over key and record (docs/design.md; as the log's own test of refusals does).
fn mark_as_newer(log: &std::path::Path) {
    let key = [1u8, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut record = vec![1u8, 3, 0, 0, 0];
    record.extend(crc32c::crc32c(&[&key[..], &record].concat()).to_le_bytes());
    let names = DBWithThreadMode::<MultiThreaded>::list_cf(&Options::default(), log);
    let names = names.expect("a closed log has families");
    let db = DBWithThreadMode::<MultiThreaded>::open_cf(&Options::default(), log, names);
    db.expect("opens").put(key, record).expect("put");
}
