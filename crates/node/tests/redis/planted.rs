//! Goal: faults that were once planted and that no test noticed are noticed. Method: a client that
//! meets each of them.

use std::collections::BTreeSet;
use std::net::Shutdown;

use crate::support::{OneNode, request};

/// A slot of more keys than one page holds twice over: every further page has to be read.
#[test]
fn a_scan_returns_every_key_of_a_large_slot() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let names: Vec<String> = (0..3_500).map(|n| format!("{{tag}}{n}")).collect();
    for part in names.chunks(500) {
        let pairs: String = part.iter().map(|name| format!(" {name} 1")).collect();
        assert_eq!(client.ask(&format!("MSET{pairs} other{} 1", part[0])), ["+OK"]);
    }
    let mut found = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        // Its reply, its cursor, the list, and the keys.
        let reply = client.ask(&format!("SCAN {cursor} COUNT 20"));
        cursor.clone_from(&reply[1]);
        found.extend(reply[3..].iter().filter(|key| key.starts_with('{')).cloned());
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), names.len(), "none twice");
    let found: BTreeSet<String> = found.into_iter().collect();
    assert!(found.into_iter().eq(names.into_iter().collect::<BTreeSet<_>>()));
}

/// More writes of few keys than a sort moves one by one: the last value of each key stays.
#[test]
fn mset_keeps_the_last_value_of_each_key() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let pairs: String = (0..500).map(|n| format!(" key{} {n}", n * 37 % 100)).collect();
    assert_eq!(client.ask(&format!("MSET{pairs}")), ["+OK"]);
    for key in 0..100 {
        let last = (0..500).rfind(|n| n * 37 % 100 == key).expect("every key is written");
        assert_eq!(client.ask(&format!("GET key{key}")), [last.to_string()]);
    }
}

/// Goal: a connection that only the client's side has closed runs all that it was sent. Method: as
/// many commands as may be under way, whose replies together just fill the output, so that all of
/// them are written at once while more wait to be parsed; and simply many.
#[test]
fn a_half_closed_connection_runs_all_it_was_sent() {
    const REPLIES_BYTES: usize = 1 << 20;
    let node = OneNode::start(1, 2);
    let mut client = node.client();
    for part in 0..20 {
        let pairs: String = (0..1_000).map(|n| format!(" {{{n}}}{part} 1")).collect();
        assert_eq!(client.ask(&format!("MSET{pairs}")), ["+OK"]);
    }
    // The walk is slow, so that all replies behind it wait for it: with it 1,024 of them.
    let text = vec![b'x'; 1_016];
    let echoes = request(&[b"ECHO", &text]).repeat(1_023);
    let replies = ":20000\r\n".len() + "$1016\r\n\r\n".len() * 1_023 + text.len() * 1_023;
    assert!((REPLIES_BYTES..REPLIES_BYTES + text.len()).contains(&replies));
    client.send(&[b"DBSIZE\r\n", &echoes[..], &b"INCR a\r\n".repeat(10)].concat());
    client.stream.get_ref().shutdown(Shutdown::Write).expect("shut");
    client.skip(replies);
    (1..=10).for_each(|number| assert_eq!(client.read(), [format!(":{number}")]));

    const COMMANDS: usize = 5_000;
    let mut client = node.client();
    client.send("INCR n\r\n".repeat(COMMANDS).as_bytes());
    client.stream.get_ref().shutdown(Shutdown::Write).expect("shut");
    (1..=COMMANDS).for_each(|number| assert_eq!(client.read(), [format!(":{number}")]));
}
