//! The demo cluster through its real ports. The tests are few and small: each has three real nodes.

use std::net::SocketAddr;
use std::time::Duration;

use quorate::{NodeId, SyncMode};
use quorate_node::bench::{self, BenchConfig, ClientPlace, Mode};
use quorate_node::demo::{Demo, DemoConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const READY: Duration = Duration::from_secs(60);

fn config(directory: Option<std::path::PathBuf>) -> DemoConfig {
    DemoConfig {
        nodes: 3,
        shards: 6,
        directory,
        redis_port: 0,
        admin_port: 0,
        sync: SyncMode::Sync,
    }
}

async fn started(config: DemoConfig) -> Demo {
    let demo = Demo::start(config).await.expect("started");
    demo.wait_ready(READY).await.expect("ready");
    demo
}

fn redis_of(demo: &Demo, node: u64) -> SocketAddr {
    demo.node(NodeId(node)).expect("runs").redis_address()
}

/// Sends `request` in one piece and reads exactly as many bytes as `expected` has.
async fn exchange(address: SocketAddr, request: &str, expected: &str) {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut found = vec![0; expected.len()];
    let read = tokio::time::timeout(READY, stream.read_exact(&mut found)).await;
    read.expect("in time").expect("read");
    assert_eq!(String::from_utf8_lossy(&found), expected);
}

/// Everything until the server closes the connection.
async fn exchange_until_closed(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(request).await.expect("sent");
    let mut found = Vec::new();
    let read = tokio::time::timeout(READY, stream.read_to_end(&mut found)).await;
    read.expect("closed in time").expect("read");
    String::from_utf8_lossy(&found).into_owned()
}

/// Goal: a pipeline is answered in order, commands on one key take effect in order, and any node
/// serves any key. Method: one packet with reads and writes of the same keys, to each node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelines_keep_their_order() {
    let demo = started(config(None)).await;
    for node in 1..=3 {
        let mut request = String::new();
        let mut expected = String::new();
        for round in 0..100 {
            let (own, shared) = (format!("own{node}-{round}"), format!("counter{node}"));
            request += &format!("SET {own} v{round}\r\nGET {own}\r\nINCR {shared}\r\n");
            request += &format!("INCRBY {shared} 2\r\nMGET {own} {shared} none\r\nDEL {own}\r\n");
            request += &format!("EXISTS {own} {shared}\r\nMSET {own} a {shared} {round}\r\n");
            request += &format!("DEL {own} {shared}\r\n");
            let value = format!("v{round}");
            let bulk = format!("${}\r\n{value}\r\n", value.len());
            expected += &format!("+OK\r\n{bulk}:1\r\n:3\r\n*3\r\n{bulk}$1\r\n3\r\n$-1\r\n");
            expected += ":1\r\n:1\r\n+OK\r\n:2\r\n";
        }
        exchange(redis_of(&demo, node), &request, &expected).await;
    }
    demo.stop().await.expect("stopped");
}

/// Goal: HELLO changes the replies after it and none before; bad input is named; QUIT ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocols_and_bad_input() {
    let demo = started(config(None)).await;
    let address = redis_of(&demo, 1);
    let found = exchange_until_closed(
        address,
        b"GET none\r\nHELLO 4\r\nHELLO 3\r\nGET none\r\nHELLO 2\r\nGET none\r\nQUIT\r\nSET a b\r\n",
    )
    .await;
    assert!(found.starts_with("$-1\r\n-NOPROTO unsupported protocol version\r\n%7\r\n"), "{found}");
    assert!(found.contains("*0\r\n_\r\n*14\r\n"), "{found}");
    assert!(found.ends_with("*0\r\n$-1\r\n+OK\r\n"), "{found}");

    let found = exchange_until_closed(address, b"PING\r\n*1\r\n!garbage").await;
    assert_eq!(found, "+PONG\r\n-ERR Protocol error: expected '$', got '!'\r\n");

    let key = "k".repeat(5_000);
    let found = exchange_until_closed(address, format!("SET {key} v\r\nQUIT\r\n").as_bytes()).await;
    assert!(found.starts_with("-ERR key of 5002 bytes; at most 4096 are allowed"), "{found}");
    assert!(found.ends_with("+OK\r\n"), "{found}");
    demo.stop().await.expect("stopped");
}

/// Goal: a full scan returns every key once, whatever the step. Method: a thousand keys, some of
/// one slot, and small steps over all three nodes in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scans_return_every_key() {
    let demo = started(config(None)).await;
    let names: Vec<String> = (0..1_000)
        .map(|n| if n % 10 == 0 { format!("{{tag}}{n}") } else { format!("key{n}") })
        .collect();
    let pairs = names.iter().map(|name| format!(" {name} 1")).collect::<String>();
    exchange(redis_of(&demo, 1), &format!("MSET{pairs}\r\nDBSIZE\r\n"), "+OK\r\n:1000\r\n").await;
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    for step in 0.. {
        let address = redis_of(&demo, step % 3 + 1);
        let request = format!("SCAN {cursor} COUNT 20\r\nQUIT\r\n");
        let reply = exchange_until_closed(address, request.as_bytes()).await;
        // The reply's lines: *2, $n, cursor, *n, then a length and a key each, then +OK.
        let lines: Vec<&str> = reply.lines().collect();
        cursor = lines[2].to_owned();
        found.extend(lines[4..lines.len() - 1].iter().skip(1).step_by(2).map(|&s| s.to_owned()));
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    let mut names = names;
    names.sort();
    assert_eq!(found, names);
    demo.stop().await.expect("stopped");
}

/// Goal: one node stops, the others serve, it comes back from its directory and catches up; then
/// the whole cluster is started again. Method: writes in each of the three states.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_stops_and_comes_back() {
    let temporary = tempfile::tempdir().expect("a directory");
    let shape = config(Some(temporary.path().join("cluster")));
    let mut demo = started(shape.clone()).await;
    exchange(redis_of(&demo, 3), "SET before 1\r\n", "+OK\r\n").await;
    demo.stop_node(NodeId(3)).await.expect("stopped");
    demo.wait_ready(READY).await.expect("two of three are enough");
    exchange(redis_of(&demo, 1), "SET while 2\r\nGET before\r\n", "+OK\r\n$1\r\n1\r\n").await;
    demo.start_node(NodeId(3)).await.expect("started");
    demo.wait_ready(READY).await.expect("ready");
    exchange(redis_of(&demo, 3), "MGET before while\r\n", "*2\r\n$1\r\n1\r\n$1\r\n2\r\n").await;
    demo.stop().await.expect("stopped");

    let other = Demo::start(DemoConfig { shards: 7, ..shape.clone() }).await;
    let text = other.err().expect("other shape").to_string();
    assert!(text.contains("was made with --nodes 3 --shards 6"), "{text}");
    let demo = started(shape).await;
    exchange(redis_of(&demo, 2), "GET while\r\n", "$1\r\n2\r\n").await;
    demo.stop().await.expect("stopped");
}

/// Goal: without a majority a request is held and then refused, in the words on which clients
/// retry. Method: one node of three is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_the_slot_is_not_served() {
    let mut demo = started(config(None)).await;
    demo.stop_node(NodeId(2)).await.expect("stopped");
    demo.stop_node(NodeId(3)).await.expect("stopped");
    let down = "-CLUSTERDOWN Hash slot not served\r\n";
    // The read ends only after the old leader has stepped down, if it was here.
    exchange(redis_of(&demo, 1), "GET a\r\n", down).await;
    exchange(
        redis_of(&demo, 1),
        "SET a 1\r\nMGET a b\r\nPING\r\n",
        &format!("{down}{down}+PONG\r\n"),
    )
    .await;
    demo.stop().await.expect("stopped");
}

/// Goal: every mode of the bench works and measures. Method: a short run on the build's disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bench_measures() {
    for mode in [Mode::Write, Mode::Mixed] {
        let report = bench::run(&BenchConfig {
            mode,
            nodes: 3,
            shards: 4,
            payload: 16,
            outstanding: 64,
            window: Duration::from_secs(1),
            warm_up: Duration::ZERO,
            directory: Some(env!("CARGO_TARGET_TMPDIR").into()),
            client: ClientPlace::Any,
            sync: SyncMode::Sync,
        })
        .await
        .expect("measured");
        assert_eq!(report.errors, 0);
        assert!(report.ops_per_s > 0.0 && report.syncs_per_s > 0.0 && report.p50_us > 0);
    }
}

/// Goal: a taken port is named with its flag, and leaves nothing behind. Method: take it first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = taken.local_addr().expect("bound").port();
    let refused = Demo::start(DemoConfig { nodes: 1, admin_port: port, ..config(None) }).await;
    let text = refused.err().expect("refused").to_string();
    assert!(text.contains(&format!("127.0.0.1:{port} for HTTP")), "{text}");
    assert!(text.contains("--admin-port") && text.contains(&format!("sport = :{port}")), "{text}");
    let own = DemoConfig { redis_port: 7001, admin_port: 7003, ..config(None) };
    let text = Demo::start(own).await.err().expect("refused").to_string();
    assert!(
        text.contains("--redis-port 7001 and --admin-port 7003: the ports of 3 nodes"),
        "{text}"
    );
}

/// Goal: the admin port tells health, readiness, metrics, and the state of node and cluster.
/// Method: plain HTTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_answers() {
    let demo = started(config(None)).await;
    let address = demo.node(NodeId(2)).expect("runs").admin_address();
    for (path, expected) in [
        ("/health", "ok\n"),
        ("/ready", "ready\n"),
        ("/status", "\"node\":2"),
        ("/status", "\"snapshots\":{\"wanted\":0,\"under_way\":[]},\"damaged\":[]"),
        ("/cluster", "\"health\":\"healthy\""),
        ("/metrics", "quorate_log_syncs_total "),
        ("/metrics", "quorate_replicas_damaged 0"),
        ("/metrics", "# EOF"),
        ("/", "/cluster"),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let reply = exchange_until_closed(address, request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert!(reply.contains(expected), "{path}: {reply}");
    }
    // Seven shards with three replicas each; the data of one is measured.
    for (path, unknown) in [("/cluster", 21), ("/cluster?shard=4", 18), ("/cluster?shard=9", 21)] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let reply = exchange_until_closed(address, request.as_bytes()).await;
        assert_eq!(reply.matches("\"data_bytes\":null").count(), unknown, "{path}: {reply}");
    }
    for path in ["/cluster?shard=x", "/cluster?x=4"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let reply = exchange_until_closed(address, request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 400") && reply.contains("?shard=N"), "{reply}");
    }
    let request = b"GET /nonsense HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let reply = exchange_until_closed(address, request).await;
    assert!(reply.starts_with("HTTP/1.1 404") && reply.contains("/cluster"), "{reply}");
    demo.stop().await.expect("stopped");
}
