//! Files with faults, and the errors that name them.

use quorate::{ClusterAuthority, ClusterId, Validity, WallMillis};

use super::*;
use crate::certs::directory::{CertificateDirectory, Existing};
use crate::process::descriptors::Descriptors;
use crate::redis::protocol::slot::split_keys;

const GOOD: &str = r#"node = 1
directory = "data/node-1"
[certificates]
authority = "certs/authority.pem"
certificate = "certs/node-1.pem"
key = "certs/node-1.key"
[[nodes]]
id = 1
address = "127.0.0.1:7101"
redis = "127.0.0.1:7001"
admin = "127.0.0.1:8001"
[[nodes]]
id = 2
address = "127.0.0.1:7102"
redis = "127.0.0.1:7002"
admin = "127.0.0.1:8002"
[bootstrap]
shards = 8
copies = 2
nodes = [1, 2]
[listen]
redis = "0.0.0.0:7001"
"#;

/// A directory with certificates of nodes 1 and 2, where a `node.toml` would be.
struct Place {
    directory: tempfile::TempDir,
    certificates: CertificateDirectory,
    authority: ClusterAuthority,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let certificates = CertificateDirectory::at(directory.path().join("certs"));
        let authority = certificates.init(ClusterId(0xC1), Existing::Refuse).expect("made");
        for node in [1, 2] {
            certificates.issue(&authority, NodeId(node), Existing::Refuse).expect("issued");
        }
        Place { directory, certificates, authority }
    }

    fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        Config::parse(&self.directory.path().join("node.toml"), text)
    }

    /// The errors about `text`, line by line, without the directory.
    fn faults(&self, text: &str) -> String {
        let Err(error) = self.parse(text) else {
            return "no fault".to_owned();
        };
        error.to_string().replace(&format!("{}/", self.directory.path().display()), "")
    }
}

#[test]
fn a_good_file_is_understood() {
    let place = Place::new();
    let config = place.parse(GOOD).expect("good");
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    assert_eq!((config.node, config.tls.cluster()), (NodeId(1), ClusterId(0xC1)));
    assert_eq!(config.directory, place.directory.path().join("data/node-1"));
    assert_eq!(config.log_kept_bytes_max, limits::LOG_KEPT_BYTES_MAX);
    assert_eq!(config.listen.redis, address("0.0.0.0:7001"));
    assert_eq!(config.listen.address, address("127.0.0.1:7101"));
    assert_eq!(config.own().redis, address("127.0.0.1:7001"));
    assert_eq!(config.bootstrap, Bootstrap::split_at(&[NodeId(1), NodeId(2)], 2, split_keys(8)));
    assert_eq!(config.disk_floor_bytes, None);
    let node = config.node_config(Descriptors::share(1_024, 1).expect("enough"));
    assert_eq!(node.peers, [(NodeId(2), address("127.0.0.1:7102"))]);
    assert_eq!(node.reached_at.expect("published").redis, address("127.0.0.1:7001"));
}

#[test]
fn a_floor_of_the_disk_is_in_mebibytes() {
    let place = Place::new();
    let floored = GOOD.replace("node = 1\n", "node = 1\ndisk_floor_mib = 2_000\n");
    let config = place.parse(&floored).expect("good");
    assert_eq!(config.disk_floor_bytes, Some(2_000 << 20));
    let node = config.node_config(Descriptors::share(1_024, 1).expect("enough"));
    assert_eq!(node.disk_floor_bytes, Some(2_000 << 20));
}

#[test]
fn the_bytes_that_the_log_keeps_are_set_in_mib() {
    let place = Place::new();
    let kept = place.parse(&format!("log_kept_mib = 7\n{GOOD}")).expect("good");
    let node = kept.node_config(Descriptors::share(1_024, 1).expect("enough"));
    assert_eq!(node.log_kept_bytes_max, 7 << 20);
}

/// Goal: nodes make the same map however their files are ordered, and defaults fit small clusters.
#[test]
fn the_map_does_not_depend_on_the_order() {
    let place = Place::new();
    let turned = GOOD.replace("nodes = [1, 2]", "nodes = [2, 1]");
    assert_eq!(
        place.parse(&turned).expect("good").bootstrap,
        place.parse(GOOD).expect("good").bootstrap
    );
    let defaults = GOOD.replace("shards = 8\ncopies = 2\nnodes = [1, 2]\n", "");
    let bootstrap = place.parse(&defaults).expect("good").bootstrap;
    assert_eq!(bootstrap, Bootstrap::split_at(&[NodeId(1), NodeId(2)], 3, split_keys(64)));
}

/// Goal: each kind of fault is found, with its line and its remedy, and no second fault is made up.
/// Method: the good file with one change each.
#[test]
fn each_fault_is_named() {
    let place = Place::new();
    // The text to replace, its replacement, and the one expected line or its beginning.
    let table: &[(&str, &str, &str)] = &[
        ("node = 1\n", "\n", "1: `node` is missing; add node = 1"),
        (
            "node = 1\n",
            "number = 1\n",
            "1: `node` is missing; add node = 1\nnode.toml:1: unknown key",
        ),
        ("node = 1\n", "Node = 1\n", "1: unknown key `Node`; did you mean `node`?"),
        (
            "node = 1\n",
            "node = \"1\"\n",
            "1: `node` is a text; write a whole number, without quotes",
        ),
        ("node = 1\n", "node = 0\n", "1: `node` is 0; write a whole number from 1 on"),
        ("node = 1\n", "node = -1\n", "1: `node` is -1; write a whole number from 1 on"),
        (
            "node = 1\n",
            "node = 1\ndisk_floor_mib = 127\n",
            "2: `disk_floor_mib` is 127; write at least 128, or leave it out",
        ),
        (
            "node = 1\n",
            "node = 3\n",
            "1: this is node 3, but [[nodes]] has only 1, 2; add it there",
        ),
        ("\"data/node-1\"", "7", "2: `directory` is a number, not a text; write \"data/node-1\""),
        (
            "node = 1\n",
            "node = 1\nlog_kept_mib = 1048577\n",
            "2: `log_kept_mib` is 1048577; write at most 1048576",
        ),
        (
            "node = 1\n",
            "node = 1\nlog_kept_mib = 0\n",
            "2: `log_kept_mib` is 0; write a whole number from 1 on",
        ),
        ("\"data/node-1\"", "\" \"", "2: `directory` is empty; write \"data/node-1\""),
        ("[certificates]\n", "[certificate]\n", "3: unknown key `certificate`; did you mean"),
        (
            "key = \"certs/node-1.key\"\n",
            "",
            "3: `key` is missing in [certificates]; add key = \"c",
        ),
        ("certs/node-1.pem", "certs/lost.pem", "5: certs/lost.pem does not exist; issue it where"),
        ("certs/authority.pem", "lost.pem", "4: lost.pem does not exist; copy authority.pem of"),
        ("certs/node-1.pem", "certs/node-2.pem", "6: the node private key does not belong to the"),
        ("certs/authority.pem", "certs/node-1.pem", "4: the authority certificate names [\"n1."),
        ("certs/node-1.key", "certs", "6: certs can't be read: Is a directory"),
        ("id = 2", "id = 1", "13: node 1 stands in line 8 already; give each node its own id"),
        ("id = 2", "name = 2", "12: `id` is missing in [[nodes]]; add id = 1"),
        ("127.0.0.1:7102", "node2:7102", "14: `address` is \"node2:7102\", not an IP address with"),
        ("127.0.0.1:7102", "0.0.0.0:7102", "14: `address` is 0.0.0.0:7102, which nobody can conn"),
        ("127.0.0.1:7102", "127.0.0.1:0", "14: `address` has port 0, which means another port at"),
        ("127.0.0.1:7102", "127.0.0.1:7101", "14: `address` is 127.0.0.1:7101, which is `address`"),
        ("127.0.0.1:8002", "127.0.0.1:7001", "16: `admin` is 127.0.0.1:7001, which is `redis` of "),
        (
            "redis = \"127.0.0.1:7002\"",
            "reddis = \"127.0.0.1:7002\"",
            "15: unknown key `reddis` in",
        ),
        ("shards = 8", "shards = 0", "18: `shards` is 0; write a whole number from 1 on"),
        ("shards = 8", "shards = 16385", "18: `shards` is 16385; write one from 1 to 16384: a sha"),
        ("shards = 8", "shards = [8]", "18: `shards` is a list; write a whole number, without qu"),
        ("copies = 2", "copies = 3", "19: `copies` is 3, more than the nodes that hold replicas"),
        (
            "copies = 2",
            "directory = \"x\"",
            "19: unknown key `directory` in [bootstrap]; it belong",
        ),
        ("nodes = [1, 2]", "nodes = 1", "20: `nodes` is a number, not a list; write [1, 2, 3]"),
        ("nodes = [1, 2]", "nodes = [1, 2, 4]", "20: `nodes` names node 4, which is not under [["),
        ("nodes = [1, 2]", "nodes = [1, 2, 2]", "20: `nodes` names node 2 twice; once is enough"),
        ("0.0.0.0:7001", "0.0.0.0:0", "22: `redis` has port 0, which means another port at each "),
        ("[listen]", "[listens]", "21: unknown key `listens`; did you mean `listen`?"),
        ("[listen]", "[[listen]]", "21: `listen` is a list; write [listen] above its keys"),
        ("nodes = [1, 2]", "nodes = [1, 2", "21: not TOML: "),
        ("node = 1\n", "node = 1\nnode = 1\n", "2: not TOML: duplicate key; repair this first"),
    ];
    for (old, new, expected) in table {
        let text = GOOD.replacen(old, new, 1);
        assert_ne!(text, GOOD, "{old:?} is in the file");
        // Nothing else is known of a misspelt required section, so nothing else is reported.
        let found = place.faults(&text);
        let expected = format!("node.toml:{expected}");
        assert!(found.starts_with(&expected), "{old:?} -> {new:?}\n{found}\nexpected: {expected}");
        let lines = found.lines().count();
        let is_double = *new == "number = 1\n" || *new == "node = 3\n" || *new == "name = 2";
        assert_eq!(lines, if is_double { 2 } else { 1 }, "{old:?} -> {new:?}\n{found}");
    }
}

/// Goal: certificates of another node and of other clusters are told apart.
#[test]
fn certificates_must_be_of_this_node_and_cluster() {
    let place = Place::new();
    let other_node = GOOD.replace("certs/node-1.", "certs/node-2.");
    let found = place.faults(&other_node);
    assert!(found.starts_with("node.toml:5: this is the certificate of node 2"), "{found}");

    let issue = |authority: &ClusterAuthority| {
        place.certificates.issue(authority, NodeId(1), Existing::Replace).expect("issued");
        place.faults(GOOD)
    };
    let other_cluster = ClusterAuthority::generate(ClusterId(0xC2)).expect("made");
    let found = issue(&other_cluster);
    assert!(found.starts_with("node.toml:5: the authority is of cluster 0"), "{found}");
    let twin = ClusterAuthority::generate(ClusterId(0xC1)).expect("made");
    let found = issue(&twin);
    assert!(found.starts_with("node.toml:5: the node certificate is not signed by"), "{found}");
    assert_eq!(issue(&place.authority), "no fault");
}

/// Goal: a certificate out of its time is reported by its date and file, not as one of another
/// authority. Method: files with past and future times.
#[test]
fn certificates_must_count_now() {
    let place = Place::new();
    let found = |not_before, not_after| {
        let validity =
            Validity { not_before: WallMillis(not_before), not_after: WallMillis(not_after) };
        let tls = place.authority.issue_between(NodeId(1), validity).expect("issued");
        let write = |path, text: &str| std::fs::write(path, text).expect("written");
        write(place.certificates.node_pem(NodeId(1)), tls.certificate_pem());
        write(place.certificates.node_key(NodeId(1)), tls.key_pem());
        place.faults(GOOD)
    };
    let expired = found(1_577_836_800_000, 1_580_515_200_000);
    let expected = "node.toml:5: the node certificate expired on 2020-02-01 00:00:00 UTC, it is 20";
    assert!(expired.starts_with(expected) && expired.contains("--renew"), "{expired}");
    let end = place.authority.validity().not_after.0;
    let early = found(end - 1_000, end);
    let expected = "node.toml:5: the node certificate counts from 20";
    assert!(early.starts_with(expected) && early.contains("clock"), "{early}");
}

/// Goal: an operator repairs a file in one go. Method: one fault of every section at once, as the
/// whole text that is shown.
#[test]
fn all_faults_are_reported_at_once() {
    let place = Place::new();
    let text = r#"node = 3
directry = "data"
colour = "blue"
[certificates]
authority = "certs/authority.pem"
certificate = "certs/node-3.pem"
[[nodes]]
id = 1
address = "127.0.0.1:7101"
redis = "127.0.0.1:7001"
admin = "127.0.0.1:7001"
[[nodes]]
id = 1
address = "somewhere"
redis = 7002
[bootstrap]
shards = 20000
copies = 5
[listen]
redis = "0.0.0.0:0"
"#;
    let expected = "\
node.toml:1: this is node 3, but [[nodes]] has only 1; add it there, as on every node
node.toml:2: unknown key `directry`; did you mean `directory`?
node.toml:3: unknown key `colour`; known here: node, directory, disk_floor_mib, log_kept_mib, certificates, nodes, bootstrap, listen
node.toml:4: `key` is missing in [certificates]; add key = \"certs/node-1.key\"
node.toml:6: certs/node-3.pem does not exist; issue it where the authority's key is, with: quorate cert node --dir certs --node 3
node.toml:11: `admin` is 127.0.0.1:7001, which is `redis` of node 1 (line 10) already; give each its own
node.toml:12: `admin` is missing in [[nodes]]; add admin = \"127.0.0.1:8001\"
node.toml:13: node 1 stands in line 8 already; give each node its own id
node.toml:14: `address` is \"somewhere\", not an IP address with a port; write it like \"127.0.0.1:7101\" or \"[::1]:7101\" (names of hosts are not looked up)
node.toml:15: `redis` is a number, not a text; write \"127.0.0.1:7001\"
node.toml:17: `shards` is 20000; write one from 1 to 16384: a shard owns at least one of 16384 hash slots
node.toml:18: `copies` is 5, more than the nodes that hold replicas (2), each at most one copy; lower it or add nodes
node.toml:20: `redis` has port 0, which means another port at each start, and nobody would know it; choose one";
    assert_eq!(place.faults(text), expected);
}

#[test]
fn empty_and_missing_files_say_how_to_begin() {
    let place = Place::new();
    assert_eq!(
        place.faults(""),
        "node.toml:1: `certificates` is missing; add a section [certificates]\n\
         node.toml:1: `directory` is missing; add directory = \"data/node-1\"\n\
         node.toml:1: `node` is missing; add node = 1\n\
         node.toml:1: `nodes` is missing; add a section [[nodes]] for every node of the cluster"
    );
    let nobody = format!("nodes = []\n{}", &GOOD[..GOOD.find("[[nodes]]").expect("there")]);
    assert_eq!(
        place.faults(&nobody),
        "node.toml:1: `nodes` is empty; write [[nodes]] for each node"
    );
    let missing = Config::read(Path::new("no/such/node.toml")).expect_err("missing").to_string();
    assert!(missing.starts_with("no/such/node.toml does not exist; name another"), "{missing}");
    assert!(missing.contains("quorate cert init"), "{missing}");
}

/// Goal: a user who may not read the keys can still ask for the status; the own port comes first.
#[test]
fn admin_addresses_need_no_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.toml");
    std::fs::write(&path, GOOD.replace("node = 1", "node = 2")).expect("written");
    let ports: Vec<u16> =
        read_admin_addresses(&path).expect("good").iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [8002, 8001]);
}

/// Goal: the example that is shown is right.
#[test]
fn the_example_is_good() {
    let place = Place::new();
    let config = place.parse(EXAMPLE).expect("good");
    assert_eq!(config.nodes.len(), 3);
}
