//! Goal: watches miss nothing and end with the engine; committed entries are the commands written,
//! on every node; a submitted write reports its stages from any node. Method: the public interface,
//! three engines in one process, real QUIC on loopback, real directories.

use std::time::Duration;

use bytes::Bytes;
use quorate::{
    Applied, CommittedEntries, CommittedEntry, CommittedKind, Engine, EntriesError, Index,
    KvCommand, KvReply, LeaderWatch, LogId, NodeId, ReadLevel, Refusal, ShardId, WriteError,
    limits,
};
use quorate_tests::cluster::{ClusterSpec, close, key};

/// Bounds a test that hangs; everything here is expected to be far faster.
const HANG: Duration = Duration::from_secs(60);
const META: ShardId = ShardId(0);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after {HANG:?}"),
    }
}

fn engine_of(engines: &[Engine], node: NodeId) -> &Engine {
    engines.iter().find(|engine| engine.node() == node).expect("one of the three")
}

fn shard_of(engine: &Engine) -> ShardId {
    engine.locate(&key(1)).expect("every key has a shard").shard
}

/// The node that leads `shard`, and the other two.
fn roles(engines: &[Engine], shard: ShardId) -> (&Engine, Vec<&Engine>) {
    let serves =
        |engine: &&Engine| engine.watch_leader(shard).expect("a replica is here").current().serving;
    let leader = engines.iter().find(serves).expect("the cluster is ready");
    (leader, engines.iter().filter(|engine| engine.node() != leader.node()).collect())
}

fn put(number: u64) -> KvCommand {
    KvCommand::Put { key: key(number).into(), value: number.to_string().into() }
}

/// Waits until the watch shows `leader`; returns whether that node itself serves.
async fn wait_leader(watch: &mut LeaderWatch, leader: NodeId, serving: bool) {
    let mut state = watch.current();
    while state.leader != Some(leader) || state.serving != serving {
        state = in_time("a change of leader", watch.changed()).await.expect("running");
    }
}

/// Transfers leadership until `to` has it. Retries when a transfer was refused or failed, which is
/// possible while others write.
async fn transfer(engines: &[Engine], shard: ShardId, to: NodeId) {
    let mut watch = engine_of(engines, to).watch_leader(shard).expect("a replica is here");
    let serves = async {
        while !watch.current().serving {
            if let Some(leader) = watch.current().leader.filter(|leader| *leader != to) {
                let _begun = engine_of(engines, leader).transfer_leader(shard, to).await;
            }
            drop(tokio::time::timeout(limits::TRANSFER_TIMEOUT, watch.changed()).await);
        }
    };
    in_time("a transfer", serves).await;
}

/// The first index that a node's log holds.
async fn first_index(engine: &Engine, shard: ShardId) -> Index {
    let mut entries = engine.committed_entries(shard, Index(0)).expect("a replica is here");
    match in_time("the log's begin", entries.next()).await {
        Err(EntriesError::Purged { wanted: Index(0), first_available, .. }) => first_available,
        other => panic!("{other:?}"),
    }
}

async fn next(entries: &mut CommittedEntries) -> CommittedEntry {
    in_time("an entry", entries.next()).await.expect("running")
}

/// Reads until `count` commands of a shard have come; entries must be consecutive.
async fn collect(mut entries: CommittedEntries, first: Index, count: usize) -> Vec<(LogId, Bytes)> {
    let (mut commands, mut expected, mut last) = (Vec::new(), first, LogId::default());
    while commands.len() < count {
        let entry = next(&mut entries).await;
        assert_eq!(entry.id.index, expected, "no entry is left out or given twice");
        assert!(entry.id > last, "terms do not fall");
        (expected, last) = (expected.next(), entry.id);
        if let CommittedKind::Command { command, time, descriptor_version, .. } = entry.kind {
            assert!(time.0 > 0 && descriptor_version > 0);
            commands.push((entry.id, command));
        }
    }
    commands
}

#[tokio::test]
async fn the_leadership_watch_sees_a_transfer() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let (old, others) = roles(&engines, shard);
    let new = others[0];
    let watch = |engine: &Engine| engine.watch_leader(shard).expect("a replica is here");
    let (mut at_old, mut at_new, mut beside) = (watch(old), watch(new), watch(others[1]));
    wait_leader(&mut at_new, old.node(), false).await;
    wait_leader(&mut beside, old.node(), false).await;
    transfer(&engines, shard, new.node()).await;
    wait_leader(&mut at_new, new.node(), true).await;
    wait_leader(&mut at_old, new.node(), false).await;
    wait_leader(&mut beside, new.node(), false).await;
    new.put(key(1), "x").await.expect("the new leader serves");
    close(engines).await;
}

#[tokio::test]
async fn the_map_watch_fires_after_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 4);
    let engine = spec.open(NodeId(1)).expect("a new directory");
    let mut watch = engine.watch_map();
    assert_eq!(watch.current().revision, 0, "a node alone has heard nothing");
    assert_eq!(watch.current().shards.len(), 5, "the bootstrap's shards and the meta shard");
    let open = |node| spec.open(NodeId(node)).expect("a new directory");
    let engines = vec![engine, open(2), open(3)];
    quorate_tests::cluster::introduce(&engines);
    let mut view = watch.current();
    while view.revision == 0 {
        view = in_time("the first map", watch.changed()).await.expect("running");
    }
    let ids: Vec<u64> = view.shards.iter().map(|descriptor| descriptor.shard.0).collect();
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    assert!(view.shards.iter().all(|descriptor| descriptor.members.len() == 3));
    close(engines).await;
}

#[tokio::test]
async fn an_applied_index_can_be_awaited_elsewhere() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let mut watches: Vec<_> =
        engines.iter().map(|e| e.watch_position(shard).expect("a replica is here")).collect();
    let mut last = Index(0);
    for number in 0..50u64 {
        let writer = &engines[usize::try_from(number % 3).expect("small")];
        let applied = writer.execute_at(&key(number), put(number).encode()).await.expect("up");
        assert_eq!(KvReply::decode(&applied.reply), Ok(KvReply::Done));
        assert!(applied.id.index > last, "in the order of the calls");
        last = applied.id.index;
        for (engine, watch) in engines.iter().zip(&watches) {
            let position = in_time("applied", watch.wait_applied(last)).await.expect("running");
            assert!(position.applied >= last && position.commit >= position.applied);
            let value = engine.get(&key(number), ReadLevel::Stale).await.expect("here");
            assert_eq!(value, Some(number.to_string().into()), "node {}", engine.node());
        }
    }
    // Step by step, nothing is missed: the position reaches the next write's place.
    for (engine, watch) in engines.iter().zip(&mut watches) {
        let applied = engine.execute_at(&key(1), put(1).encode()).await.expect("up");
        let mut before = watch.current();
        while before.applied < applied.id.index {
            let now = in_time("a change", watch.changed()).await.expect("running");
            assert!(now.applied >= before.applied && now.commit >= before.commit);
            before = now;
        }
    }
    close(engines).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_entries_are_the_commands_written() {
    const COMMANDS: u64 = 600;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let first = first_index(&engines[0], shard).await;
    let mut followers = Vec::new();
    for engine in &engines {
        assert_eq!(first_index(engine, shard).await, first);
        let entries = engine.committed_entries(shard, first).expect("a replica is here");
        let count = usize::try_from(COMMANDS).expect("small");
        followers.push(tokio::spawn(collect(entries, first, count)));
    }
    // One writer that waits for each write, so that the order is known; leadership moves meanwhile.
    let mut written: Vec<(LogId, Bytes)> = Vec::new();
    for number in 0..COMMANDS {
        if number % 100 == 50 {
            let (_, others) = roles_when_ready(&engines, shard).await;
            transfer(&engines, shard, others[0]).await;
        }
        let command = Bytes::from(put(number).encode());
        let writer = &engines[usize::try_from(number % 3).expect("small")];
        let applied = writer.execute_at(&key(number), command.clone()).await;
        written.push((applied.expect("nobody is lost").id, command));
    }
    assert!(written.last().expect("many").0.term > written[0].0.term, "leadership moved");
    for (engine, follower) in engines.iter().zip(followers) {
        let found = in_time("the rest", follower).await.expect("no panic");
        assert!(found == written, "node {} saw something else", engine.node());
    }
    // From the middle on, and for the meta shard as well.
    let middle = written[300].0.index;
    let entries = engines[2].committed_entries(shard, middle).expect("a replica is here");
    assert_eq!(collect(entries, middle, 10).await, written[300..310]);
    let mut meta = engines[1].committed_entries(META, Index(2)).expect("a replica is here");
    assert_eq!(next(&mut meta).await.kind, CommittedKind::Blank, "a term opens with it");
    close(engines).await;
}

/// The serving leader and the others, once there is one.
async fn roles_when_ready(engines: &[Engine], shard: ShardId) -> (NodeId, Vec<NodeId>) {
    for engine in engines {
        engine.wait_ready(HANG).await.expect("a leader is elected");
    }
    let place = engines[0].locate(&key(1)).expect("every key has a shard");
    assert_eq!(place.shard, shard);
    let leader = place.leader.unwrap_or(NodeId(1));
    let others = engines.iter().map(Engine::node).filter(|node| *node != leader);
    (leader, others.collect())
}

#[tokio::test]
async fn a_submission_tells_its_stages_on_every_node() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let (leader, others) = roles(&engines, shard);
    for (number, engine) in [leader, others[0], others[1]].into_iter().enumerate() {
        let number = number as u64;
        let submission = engine.submit(&key(number), put(number).encode());
        let accepted = in_time("accepted", submission.accepted()).await.expect("up");
        let committed = in_time("committed", submission.committed()).await.expect("up");
        let applied = in_time("applied", submission.applied()).await.expect("up");
        assert_eq!(accepted, applied.id);
        assert_eq!(committed, applied.id);
        assert_eq!(KvReply::decode(&applied.reply), Ok(KvReply::Done));
        assert_eq!(submission.accepted().await, Ok(accepted), "as often as wanted");
        let mut entries = engine.committed_entries(shard, accepted.index).expect("a replica here");
        let entry = next(&mut entries).await;
        assert_eq!(entry.id, accepted);
        let CommittedKind::Command { command, .. } = entry.kind else { panic!("{entry:?}") };
        assert_eq!(command, put(number).encode());
    }
    close(engines).await;
}

#[tokio::test]
async fn submissions_keep_their_order_and_need_nobody_who_waits() {
    const WRITES: u64 = 500;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let (leader, others) = roles(&engines, shard);
    for engine in [leader, others[0]] {
        let mut last = LogId::default();
        let submissions: Vec<_> = (0..WRITES)
            .map(|_| KvCommand::Increment { key: key(7).into(), by: 1 })
            .map(|command| engine.submit(&key(7), command.encode()))
            .collect();
        for submission in &submissions {
            let Applied { id, .. } = in_time("applied", submission.applied()).await.expect("up");
            assert!(id > last, "entries are in the order of the calls");
            last = id;
        }
    }
    // Submissions that are dropped at once still run: the last one's reply shows the sum.
    let add = || KvCommand::Increment { key: key(7).into(), by: 1 }.encode();
    (0..WRITES).for_each(|_| drop(others[1].submit(&key(7), add())));
    let last = others[1].submit(&key(7), add());
    let reply = in_time("applied", last.applied()).await.expect("up").reply;
    let sum = i64::try_from(3 * WRITES + 1).expect("small");
    assert_eq!(KvReply::decode(&reply), Ok(KvReply::Integer(sum)));
    close(engines).await;
}

/// Goal: through transfers, the place that a submission reports at its end is that of its entry,
/// and a place that it reported before is never that of another entry. Method: pipelined writes
/// from a node, transfers, then the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submissions_survive_transfers_with_true_places() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let first = first_index(&engines[0], shard).await;
    let mut ends: Vec<(LogId, Bytes)> = Vec::new();
    let mut in_doubt = 0;
    for round in 0..6u64 {
        let (_, others) = roles_when_ready(&engines, shard).await;
        let submit = |number: u64| {
            let command = Bytes::from(put(round * 1_000 + number).encode());
            let engine = &engines[usize::try_from(number % 3).expect("small")];
            (engine.submit(&key(number), command.clone()), command)
        };
        let mut submissions: Vec<_> = (0..100).map(submit).collect();
        let moving = transfer(&engines, shard, others[0]);
        submissions.extend((100..200).map(submit));
        moving.await;
        for (submission, command) in submissions {
            let stages = in_time("stages", async {
                (submission.accepted().await, submission.committed().await)
            });
            let (accepted, committed) = stages.await;
            match in_time("applied", submission.applied()).await {
                Ok(Applied { id, .. }) => {
                    assert_eq!(committed, Ok(id), "what is committed stays");
                    assert!(accepted.is_ok_and(|place| place <= id), "a later try is later");
                    ends.push((id, command));
                }
                Err(WriteError::OutcomeUnknown(_)) => in_doubt += 1,
                Err(WriteError::DidNotHappen(refusal)) => panic!("{refusal}"),
            }
        }
    }
    assert!(ends.len() > 600, "most are applied; {in_doubt} in doubt");
    ends.sort_by_key(|(id, _)| *id);
    let last = ends.last().expect("many").0.index;
    let mut entries = engines[1].committed_entries(shard, first).expect("a replica is here");
    let mut wanted = ends.into_iter().peekable();
    loop {
        let entry = next(&mut entries).await;
        if let Some((_, expected)) = wanted.next_if(|(id, _)| *id == entry.id) {
            let CommittedKind::Command { command, .. } = entry.kind else { panic!("{entry:?}") };
            assert_eq!(command, expected);
        }
        if entry.id.index == last {
            break;
        }
    }
    assert!(wanted.next().is_none(), "an applied write is not at its place");
    close(engines).await;
}

#[tokio::test]
async fn everything_ends_with_a_typed_error() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut engines = ClusterSpec::new(directory.path(), 1).open_all().await;
    let shard = shard_of(&engines[0]);
    let alone = engines.remove(0);
    // Two nodes are gone, so a new call waits for a majority; only the shutdown can end it.
    close(engines).await;
    let mut leader = alone.watch_leader(shard).expect("a replica is here");
    let mut map = alone.watch_map();
    let mut position = alone.watch_position(shard).expect("a replica is here");
    let far = alone.watch_position(shard).expect("a replica is here");
    let mut entries = alone.committed_entries(shard, Index(u64::MAX)).expect("a replica is here");
    let submission = alone.submit(&key(1), put(1).encode());
    let waiting = tokio::spawn(async move {
        tokio::join!(
            async {
                while leader.changed().await.is_ok() {}
                leader.changed().await.map(drop)
            },
            async {
                while map.changed().await.is_ok() {}
                map.changed().await.map(drop)
            },
            async {
                while position.changed().await.is_ok() {}
                position.changed().await.map(drop)
            },
            async { far.wait_applied(Index(u64::MAX)).await.map(drop) },
            async {
                match entries.next().await {
                    Err(EntriesError::Refused(refusal)) => Err(refusal),
                    other => panic!("{other:?}"),
                }
            },
        )
    });
    let accepted = submission.clone();
    let stages = tokio::spawn(async move {
        (accepted.accepted().await, accepted.committed().await, accepted.applied().await)
    });
    tokio::task::yield_now().await;
    alone.clone().shutdown().await;
    let ended = in_time("the watches", waiting).await.expect("no panic");
    let stopped = |end: &Result<(), Refusal>| matches!(end, Err(Refusal::Stopped(_)));
    for end in [ended.0, ended.1, ended.2, ended.3, ended.4] {
        assert!(stopped(&end), "{end:?}");
    }
    let (_, committed, applied) = in_time("the stages", stages).await.expect("no panic");
    assert!(committed.is_err() && applied.is_err(), "{committed:?} {applied:?}");
    assert_eq!(submission.applied().await, applied, "the end stays");

    assert!(stopped(&alone.watch_leader(shard).map(drop)));
    assert!(stopped(&alone.watch_position(shard).map(drop)));
    assert!(stopped(&alone.committed_entries(shard, Index(2)).map(drop)));
    let late = in_time("a late write", alone.submit(&key(1), put(1).encode()).applied()).await;
    assert!(matches!(late, Err(WriteError::DidNotHappen(Refusal::Stopped(_)))), "{late:?}");
}

#[tokio::test]
async fn what_is_not_here_or_not_built_says_so() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut spec = ClusterSpec::new(directory.path(), 1);
    spec.nodes.push(NodeId(4));
    let engines = spec.open_all().await;
    let shard = shard_of(&engines[0]);
    let without = engines.iter().find(|e| !e.locate(&key(1)).expect("a shard").is_here);
    let without = without.expect("three of four nodes have a replica");
    let refusal = without.watch_leader(shard).map(drop).expect_err("no replica is here");
    let Refusal::NotHere { nodes, .. } = &refusal else { panic!("{refusal:?}") };
    assert_eq!(nodes.len(), 3, "who to ask instead");
    assert!(!nodes.contains(&without.node()));
    assert_eq!(without.watch_position(shard).map(drop), Err(refusal.clone()));
    assert_eq!(without.committed_entries(shard, Index(2)).map(drop), Err(refusal));
    let unknown = without.watch_leader(ShardId(99)).map(drop);
    assert_eq!(unknown, Err(Refusal::NoShard));
    // A node without a replica can still submit, and is told every stage.
    let submission = without.submit(&key(1), put(1).encode());
    let accepted = in_time("accepted", submission.accepted()).await.expect("up");
    assert_eq!(in_time("applied", submission.applied()).await.expect("up").id, accepted);
    close(engines).await;
}
