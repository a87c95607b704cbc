//! Goal: no answer makes a client believe something false. Method: what clients send for it, to one
//! node, and a check of what is there afterwards.

use std::io::Read;

use crate::support::OneNode;

/// Sends `request` in one piece; returns everything until the server closes.
fn until_closed(node: &OneNode, request: &str) -> String {
    let mut client = node.client();
    client.send(request.as_bytes());
    let mut all = Vec::new();
    client.stream.read_to_end(&mut all).expect("closed in time");
    String::from_utf8_lossy(&all).into_owned()
}

/// As redis-py's pipeline sends it by default.
#[test]
fn nothing_of_a_refused_transaction_runs() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    assert_eq!(client.ask("SET b 7"), ["+OK"]);
    client.send(
        b"MULTI\r\nSET a 1\r\nINCR b\r\nMSET c 1 d 2\r\nEXEC\r\nGET a\r\nGET b\r\nEXISTS c d\r\n",
    );
    let multi = client.read();
    assert!(multi[0].contains("unknown command 'MULTI'") && multi[0].contains("not built yet"));
    for _ in 0..3 {
        let refused = client.read();
        assert!(refused[0].starts_with("-ERR not run: "), "{refused:?}");
    }
    let aborted = "-EXECABORT Transaction discarded because of previous errors.";
    assert_eq!(client.read(), [aborted]);
    assert_eq!([client.read(), client.read(), client.read()], [["nil"], ["7"], [":0"]]);
    client.send(b"MULTI\r\nINCR b\r\nDISCARD\r\nINCR b\r\n");
    let replies: Vec<String> = (0..4).flat_map(|_| client.read()).collect();
    assert_eq!(replies[2..], ["+OK", ":8"]);
}

/// A web page can send this through a browser on the same machine.
#[test]
fn http_ends_the_connection() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    for request in [
        "POST / HTTP/1.1\r\nSET http 1\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\n\r\nSET http 1\r\n",
        "MULTI\r\nPOST / HTTP/1.1\r\nEXEC\r\nSET http 1\r\n",
    ] {
        let found = until_closed(&node, request);
        assert!(!found.contains("+OK") && found.lines().count() <= 1, "{found}");
    }
    assert_eq!(client.ask("GET http"), ["nil"]);
}

#[test]
fn keys_are_checked_before_any_is_written() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let long = "k".repeat(5_000);
    let refused = client.ask(&format!("MSET {{1}} x {{2}} x {long} x {{3}} x"));
    assert!(refused[0].starts_with("-ERR key of 5002 bytes"), "{refused:?}");
    assert_eq!(client.ask("EXISTS {1} {2} {3}"), [":0"]);
    assert_eq!(client.ask("SET kept 1"), ["+OK"]);
    let refused = client.ask(&format!("DEL kept {long}"));
    assert!(refused[0].starts_with("-ERR key of 5002 bytes"), "{refused:?}");
    assert_eq!(client.ask("EXISTS kept kept nothing"), [":2"]);
}

#[test]
fn errors_are_those_of_redis() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let most = i64::MAX;
    assert_eq!(client.ask(&format!("MSET high {most} low -{most} text x")), ["+OK"]);
    let overflow = "-ERR increment or decrement would overflow";
    let table = [
        ("INCR high", overflow),
        ("DECRBY low 2", overflow),
        ("INCR text", "-ERR value is not an integer or out of range"),
        ("CLIENT NO-EVICT xx", "-ERR syntax error"),
        ("CLIENT NO-EVICT on", "+OK"),
        ("CLIENT LIST TYPE nonsense", "-ERR Unknown client type 'nonsense'"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID"),
        ("CLIENT LIST nonsense", "-ERR syntax error"),
        ("HELLO 3 AUTH default", "-ERR Syntax error in HELLO option 'AUTH'"),
        (
            "HELLO 3 AUTH DEFAULT x",
            "-WRONGPASS invalid username-password pair or user is disabled.",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(client.ask(line), [expected], "{line}");
    }
    assert_eq!(client.ask("GET high"), [most.to_string()], "nothing was changed");
}

/// `redis-cli --stat` and redis-py's `info()` read these as numbers.
#[test]
fn info_has_what_clients_look_for() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    assert_eq!(client.ask("SET key 1"), ["+OK"]);
    let info = client.ask("INFO").remove(0);
    let field = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {info}"))
    };
    for name in [
        "used_memory",
        "used_memory_rss",
        "connected_clients",
        "blocked_clients",
        "total_commands_processed",
        "total_connections_received",
        "loading",
        "rdb_bgsave_in_progress",
        "aof_rewrite_in_progress",
        "used_cpu_sys",
        "used_cpu_user",
    ] {
        assert!(field(name).parse::<f64>().is_ok(), "{name}: {}", field(name));
    }
    assert!(field("used_memory").parse::<u64>().expect("a number") > 1 << 20);
    assert!(field("used_memory_human").ends_with('M'));
    let keys = field("db0").strip_prefix("keys=").and_then(|rest| rest.split(',').next());
    assert!(keys.expect("keys").parse::<u64>().expect("a number") > 0);
    assert!(!client.ask("INFO keyspace")[0].contains("used_memory"), "one section alone");
}
