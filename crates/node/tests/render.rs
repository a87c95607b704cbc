//! Whole texts that an operator reads: the status of clusters in each kind of trouble.
//!
//! A text in `tests/render` is the expected output; `UPDATE_RENDER=1` rewrites it, so that the diff
//! can be reviewed.

use std::collections::BTreeMap;
use std::path::Path;

use quorate::{
    CatchUp, DamagedReplica, Health, IncomingSnapshot, Index, Lag, NodeId, NodeState, ReplicaId,
    ShardId, ShardState, SnapshotCounts, SnapshotProgress,
};
use quorate_node::render;
use quorate_node::report::{ClusterReport, NodeReport, ReplicaReport, SCHEMA, ShardReport};

fn check(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render").join(name);
    if std::env::var_os("UPDATE_RENDER").is_some() {
        std::fs::write(&path, found).expect("written");
        return;
    }
    let expected = std::fs::read_to_string(&path).expect("read");
    assert_eq!(found, expected, "{name}; UPDATE_RENDER=1 writes it anew");
}

fn node(node: u64, shards: u64) -> NodeReport {
    let services = [("redis", 7000 + node), ("admin", 8000 + node)];
    let services = services.map(|(name, port)| (name.to_owned(), format!("127.0.0.1:{port}")));
    NodeReport {
        node,
        state: NodeState::Up,
        reason: None,
        address: format!("127.0.0.1:{}", 7100 + node),
        services: BTreeMap::from(services),
        store: Some(format!("{node:032x}")),
        incarnation: Some(3),
        replicas: shards + 1,
        leaders: Some(shards / 3 + 1),
        sync_p99_us: Some(2_048),
        resources: None,
        snapshots: Some(SnapshotCounts::default()),
        damaged: Vec::new(),
        warnings: Vec::new(),
        unheard: Vec::new(),
    }
}

fn replica(place: u64, node: u64, leader: u64) -> ReplicaReport {
    let role = if node == leader { "leader" } else { "follower" };
    ReplicaReport {
        replica: place + 1,
        node,
        role: Some(role.to_owned()),
        last: Some(120),
        commit: Some(120),
        applied: Some(119),
        base: Some(20),
        log_entries: Some(100),
        log_bytes: Some(12_345),
        data_bytes: None,
        behind: Some(0),
        lag: None,
        catch_up: None,
        snapshot: None,
        damaged: None,
    }
}

/// Makes `replica` one of which nothing is known.
fn unsee(replica: &mut ReplicaReport) {
    let ReplicaReport { role, last, commit, applied, base, log_entries, log_bytes, behind, .. } =
        replica;
    *role = None;
    for number in [last, commit, applied, base, log_entries, log_bytes, behind] {
        *number = None;
    }
}

/// Three nodes, the meta shard, and shards numbered from 1 over even slots, each led by its first
/// replica.
fn healthy(shards: u64) -> ClusterReport {
    let border = |number: u64| format!("{:04x}", 16_384 * number / shards);
    let shard = |shard: u64| {
        let nodes: Vec<u64> = (0..3).map(|place| (shard + 2 + place) % 3 + 1).collect();
        let replicas = nodes.iter().zip(0..).map(|(node, place)| replica(place, *node, nodes[0]));
        ShardReport {
            shard,
            state: ShardState::Healthy,
            start: if shard <= 1 { String::new() } else { border(shard - 1) },
            end: (shard > 0 && shard < shards).then(|| border(shard)),
            version: 1,
            membership: 1,
            term: 2,
            leader: Some(nodes[0]),
            replicas: replicas.collect(),
        }
    };
    ClusterReport {
        schema: SCHEMA,
        cluster: "3f2a91c07be84d5f9a1e62d8c4b7f013".to_owned(),
        asked: 1,
        health: Health::Healthy,
        problems: Vec::new(),
        notes: Vec::new(),
        map_revision: 7,
        nodes: (1..=3).map(|id| node(id, shards)).collect(),
        shards: (0..=shards).map(shard).collect(),
    }
}

/// Makes `lost` a node that does not answer, with the consequences for its shards.
fn lose(status: &mut ClusterReport, lost: u64, state: NodeState, reason: &str) {
    for node in status.nodes.iter_mut().filter(|node| node.node == lost) {
        node.state = state;
        node.reason = Some(reason.to_owned());
        (node.incarnation, node.leaders, node.sync_p99_us) = (None, None, None);
    }
    for shard in &mut status.shards {
        let seen = |replica: &&ReplicaReport| replica.node != lost && replica.role.is_some();
        let next = shard.replicas.iter().find(seen).map(|replica| replica.node);
        for replica in &mut shard.replicas {
            if replica.node == lost {
                unsee(replica);
            } else if shard.leader == Some(lost) && Some(replica.node) == next {
                replica.role = Some("leader".to_owned());
            }
        }
        if shard.leader == Some(lost) {
            (shard.leader, shard.term) = (next, 3);
        }
        shard.state = ShardState::UnderReplicated;
    }
}

#[test]
fn healthy_cluster() {
    let status = healthy(4);
    check("healthy.txt", &render::status(&status));
    check("node_list.txt", &render::node_list(&status));
    check("shard_list.txt", &render::shard_list(&status));
    check("shard.txt", &render::shard(&status.shards[2]));
}

/// Goal: a warning of what is to come is not shown as if something were missing already. Method: a
/// healthy cluster, one of whose nodes warns.
#[test]
fn a_warning_alone_is_told_as_one() {
    let mut status = healthy(4);
    status.health = Health::Degraded;
    status.problems = vec!["node 2: its certificate expires on 2027-01-01".to_owned()];
    let said = render::status(&status);
    assert!(
        said.starts_with("DEGRADED: every shard serves and has all its replicas, but"),
        "{said}"
    );
    status.shards[1].state = ShardState::UnderReplicated;
    assert!(render::status(&status).starts_with("DEGRADED: every shard serves, but one more"));
}

/// One node is gone: all 65 shards lack a replica, and the list is cut short.
#[test]
fn one_node_down() {
    let mut status = healthy(64);
    let reason = "no connection: timed out after 1 s";
    lose(&mut status, 3, NodeState::Unreachable, reason);
    status.health = Health::Degraded;
    status.problems = vec![
        format!("node 3 (127.0.0.1:7103) is unreachable: {reason}; start it, or check the network"),
        "65 shards lack a replica, because of node 3; they catch up by themselves once it is back"
            .to_owned(),
    ];
    check("node_down.txt", &render::status(&status));
}

/// Two shards are between leaders for a moment.
#[test]
fn leader_moving() {
    let mut status = healthy(4);
    status.health = Health::Unavailable;
    status.problems = vec![
        "shards 2, 3 have no leader; an election takes about 2 s: ask again, and if they still have \
         none, see which of their nodes don't reach each other"
            .to_owned(),
    ];
    for shard in &mut status.shards[2..=3] {
        (shard.state, shard.leader, shard.term) = (ShardState::NoLeader, None, 5);
        for (replica, role) in
            shard.replicas.iter_mut().zip(["follower", "candidate", "pre-candidate"])
        {
            replica.role = Some(role.to_owned());
        }
    }
    check("leader_moving.txt", &render::status(&status));
    check("shard_without_leader.txt", &render::shard(&status.shards[2]));
}

/// Two of three nodes are gone: nothing serves.
#[test]
fn no_quorum() {
    let mut status = healthy(4);
    let reason = "connection refused";
    lose(&mut status, 2, NodeState::Unreachable, reason);
    lose(&mut status, 3, NodeState::Unreachable, reason);
    for shard in &mut status.shards {
        (shard.state, shard.leader) = (ShardState::NoLeader, None);
        for replica in shard.replicas.iter_mut().filter(|replica| replica.node == 1) {
            replica.role = Some("pre-candidate".to_owned());
        }
    }
    status.nodes[0].leaders = Some(0);
    status.health = Health::Unavailable;
    status.problems = vec![
        format!("node 2 (127.0.0.1:7102) is unreachable: {reason}; start it"),
        format!("node 3 (127.0.0.1:7103) is unreachable: {reason}; start it"),
        "5 shards have no leader: a majority of their replicas is out of reach".to_owned(),
    ];
    check("no_quorum.txt", &render::status(&status));
}

/// The first node of a new cluster waits for the others.
#[test]
fn founding() {
    let mut status = healthy(2);
    status.health = Health::Unavailable;
    status.problems = vec!["node 1: waits to meet nodes [2, 3] before it serves".to_owned()];
    for shard in &mut status.shards {
        (shard.state, shard.leader, shard.term) = (ShardState::Unknown, None, 0);
        shard.replicas.iter_mut().for_each(unsee);
    }
    for node in &mut status.nodes {
        (node.state, node.leaders) = (NodeState::Unreachable, None);
        node.reason = Some("not connected yet".to_owned());
    }
    status.nodes[0].state = NodeState::Founding;
    status.nodes[0].reason = Some("waits to meet nodes [2, 3] before it serves".to_owned());
    check("founding.txt", &render::status(&status));
}

/// No disk has room: everything is there, and takes no writes.
#[test]
fn disks_without_room() {
    let mut status = healthy(2);
    status.health = Health::Unavailable;
    for node in &mut status.nodes {
        node.state = NodeState::ReadOnly;
        let reason = "its disk has 700 MiB left, and needs 960 MiB: free some, or give it a larger \
                      disk; it goes on by itself";
        node.reason = Some(reason.to_owned());
        status.problems.push(format!("node {} takes no writes: {reason}", node.node));
    }
    check("disks_without_room.txt", &render::status(&status));
}

/// A node whose clock is wrong is refused by the others; its reason is long, and holds a line break
/// that must not break the table.
#[test]
fn wrong_clock() {
    let mut status = healthy(2);
    lose(
        &mut status,
        2,
        NodeState::Failed,
        "the cluster refuses this node: its clock is 92 s ahead of node 1's;\nset the clock (NTP) and \
         start it again",
    );
    status.health = Health::Degraded;
    status.problems = vec![
        "node 2 (127.0.0.1:7102) ended its service: its clock is 92 s ahead of node 1's; set the clock \
         (NTP) and start it again"
            .to_owned(),
    ];
    check("wrong_clock.txt", &render::status(&status));
}

/// Two nodes do not hear each other: the shards that one leads lack the other's replica, one more is
/// far behind, and most leaders are on one node.
#[test]
fn nodes_apart() {
    let mut status = healthy(4);
    status.health = Health::Degraded;
    status.problems = vec![
        "nodes 1 and 3 do not hear each other: let UDP pass both ways".to_owned(),
        "node 3 gets nothing of shards 1, 4: its replicas hear no leader".to_owned(),
    ];
    status.notes = vec!["leaders are not spread: `quorate balance leaders`".to_owned()];
    for place in [1, 4] {
        let shard = &mut status.shards[place];
        shard.state = ShardState::UnderReplicated;
        let replica = shard.replicas.iter_mut().find(|replica| replica.node == 3).expect("one");
        replica.lag = Some(Lag::Leaderless);
        (replica.role, replica.applied) = (Some("pre-candidate".to_owned()), Some(2));
    }
    status.shards[2].state = ShardState::UnderReplicated;
    status.shards[2].replicas[1].lag = Some(Lag::CatchingUp);
    status.shards[2].replicas[2].lag = Some(Lag::Stuck);
    check("nodes_apart.txt", &render::status(&status));
    check("shard_that_lags.txt", &render::shard(&status.shards[2]));
}

/// A node was away until the logs of the others began later than its own ends: one of its replicas gets
/// a snapshot, one waits for it, and one gets what it lacks from the log.
fn a_node_that_was_away() -> ClusterReport {
    let mut status = healthy(4);
    status.health = Health::Degraded;
    status.problems = vec![
        "node 3 is behind with shards 1, 2, 4 and catches up, 2 of them by snapshot: 1 under way \
         (about 300 MiB left, 4.0 MiB/s, 1 min 15 s), 1 not yet begun; if that takes long, it gets less \
         than is written: look at its disk and processor"
            .to_owned(),
    ];
    let counts = |sending, waiting, receiving| Some(SnapshotCounts { sending, waiting, receiving });
    status.nodes[1].snapshots = counts(1, 1, 0);
    status.nodes[2].snapshots = counts(0, 0, 1);
    let snapshot = SnapshotProgress {
        base: Index(90),
        bytes_done: 700 << 20,
        bytes_total: 1_000 << 20,
        bytes_left: 300 << 20,
        bytes_per_second: 4 << 20,
        seconds_left: Some(75),
        running_ms: 175_000,
        has_arrived: false,
    };
    for (place, catch_up) in
        [(1, CatchUp::SnapshotAwaited), (2, CatchUp::Snapshot), (4, CatchUp::Log)]
    {
        let shard = &mut status.shards[place];
        shard.state = ShardState::UnderReplicated;
        for replica in &mut shard.replicas {
            replica.data_bytes = Some(1_040 << 20);
        }
        let replica = shard.replicas.iter_mut().find(|replica| replica.node == 3).expect("one");
        (replica.last, replica.commit, replica.applied) = (Some(15), Some(15), Some(15));
        (replica.base, replica.log_entries) = (Some(3), Some(12));
        (replica.behind, replica.lag) = (Some(105), Some(Lag::CatchingUp));
        replica.catch_up = Some(catch_up);
        if catch_up == CatchUp::Snapshot {
            let from = NodeId(2);
            replica.snapshot = Some(IncomingSnapshot { from, progress: snapshot });
        }
    }
    status
}

#[test]
fn snapshots_under_way() {
    let mut status = a_node_that_was_away();
    check("snapshots.txt", &render::status(&status));
    check("shard_that_waits_for_a_snapshot.txt", &render::shard(&status.shards[1]));
    check("shard_that_gets_a_snapshot.txt", &render::shard(&status.shards[2]));
    check("shard_that_gets_the_log.txt", &render::shard(&status.shards[4]));
    let json = serde_json::to_string_pretty(&status.shards[2]).expect("plain");
    check("shard_that_gets_a_snapshot.json", &(json + "\n"));
    let json = serde_json::to_string_pretty(&status.nodes[2]).expect("plain");
    check("node_that_gets_a_snapshot.json", &(json + "\n"));

    let replica = status.shards[2].replicas.iter_mut().find(|replica| replica.node == 3);
    let snapshot = replica.and_then(|replica| replica.snapshot.as_mut()).expect("set above");
    let mut told = |change: fn(&mut SnapshotProgress)| {
        change(&mut snapshot.progress);
        let mut shard = a_node_that_was_away().shards.swap_remove(2);
        let replica = shard.replicas.iter_mut().find(|replica| replica.node == 3).expect("one");
        replica.snapshot = Some(*snapshot);
        render::shard(&shard)
    };
    let stands = told(|it| (it.bytes_per_second, it.seconds_left) = (0, None));
    assert!(stands.contains("300 MiB left, and nothing arrives, 105 entries behind"), "{stands}");
    let beyond = told(|it| (it.bytes_done, it.bytes_left) = (1_200 << 20, 0));
    assert!(beyond.contains("1.2 GiB, more than the 1000 MiB that were estimated"), "{beyond}");
    let arrived = told(|it| it.has_arrived = true);
    assert!(arrived.contains("1.2 GiB have arrived, and are being put in force"), "{arrived}");
}

/// A replica was given up because its bytes are damaged: it is told from one that is not seen.
#[test]
fn a_damaged_replica() {
    let mut status = healthy(4);
    let what = "its data: block checksum mismatch in 000012.sst".to_owned();
    status.health = Health::Degraded;
    status.problems = vec![format!("node 3: a replica is damaged and given up ({what})")];
    let (shard, replica) = (ShardId(2), ReplicaId(3));
    status.nodes[2].damaged =
        vec![DamagedReplica { shard, replica, what: what.clone(), until_restart: false }];
    let shard = &mut status.shards[2];
    shard.state = ShardState::UnderReplicated;
    let replica = shard.replicas.iter_mut().find(|replica| replica.node == 3).expect("one");
    unsee(replica);
    replica.damaged = Some(what);
    check("damaged.txt", &render::status(&status));
    check("damaged_shard.txt", &render::shard(&status.shards[2]));
}

/// Goal: the answer of a node of an older version can be shown. Method: leave out what it does not
/// write.
#[test]
fn the_answer_of_an_older_node() {
    let mut told = serde_json::to_value(healthy(2)).expect("plain");
    let objects = |value: &mut serde_json::Value, fields: &[&str]| {
        for object in value.as_array_mut().expect("a list") {
            let object = object.as_object_mut().expect("an object");
            fields.iter().for_each(|field| drop(object.remove(*field).expect("it is new")));
        }
    };
    objects(&mut told["nodes"], &["snapshots", "damaged"]);
    for shard in told["shards"].as_array_mut().expect("a list") {
        let new = [
            "base",
            "log_entries",
            "log_bytes",
            "data_bytes",
            "behind",
            "catch_up",
            "snapshot",
            "damaged",
        ];
        objects(&mut shard["replicas"], &new);
    }
    let status: ClusterReport = serde_json::from_value(told).expect("readable");
    assert_eq!(render::status(&status), render::status(&healthy(2)));
    assert!(render::shard(&status.shards[1]).contains("follower   120     120"));
}
