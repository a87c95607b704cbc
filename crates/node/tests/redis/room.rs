//! The room for replies: no client takes that of the others, and each gets its replies in order.

use std::io::Write;

use crate::support::{OneNode, request};

/// Goal: one client can't take the room of all, whatever it asks for. Method: one client asks for
/// as much as a reply may have and stops reading, another's replies are as large as values may be.
/// The first must not block the second, or it would be disconnected for that.
#[test]
fn one_client_never_has_the_room_of_all() {
    let node = OneNode::start(1, 2);
    let value = vec![b'x'; (8 << 20) - (5 << 10)];
    let mut greedy = node.client();
    assert_eq!(greedy.ask_words(&[b"SET", b"largest", &value]), ["+OK"]);
    greedy.send(format!("MGET{}\r\n", " largest".repeat(32)).as_bytes());
    greedy.skip("*32\r\n".len());
    let mut other = node.client();
    let reply = value.len() + "$8383488\r\n\r\n".len();
    for _ in 0..4 {
        other.send(&request(&[b"GET", b"largest"]));
        other.skip(reply);
    }
    greedy.skip(reply * 32);
    assert_eq!(greedy.ask("PING"), ["+PONG"]);
}

/// Goal: replies that are expected to exceed a connection's part of the room come in their order,
/// and see the writes before them. Method: two such commands between others.
#[test]
fn replies_expected_to_be_large_keep_their_order() {
    const NAMES: usize = 400_000;
    let node = OneNode::start(1, 2);
    let mut client = node.client();
    let names = vec![&b"a"[..]; NAMES];
    let mut sent = request(&[b"SET", b"a", b"1"]);
    sent.extend(request(&[&[&b"MGET"[..]], &names[..]].concat()));
    sent.extend(request(&[b"SET", b"a", b"2"]));
    sent.extend(request(&[&[&b"MGET"[..]], &names[..]].concat()));
    sent.extend(request(&[b"GET", b"a"]));
    let mut writing = client.stream.get_ref().try_clone().expect("a socket");
    let sending = std::thread::spawn(move || writing.write_all(&sent).expect("sent"));
    assert_eq!(client.read(), ["+OK"]);
    let found = client.read();
    assert_eq!(found.len(), 1 + NAMES);
    assert!(found[1..].iter().all(|found| found == "1"));
    assert_eq!(client.read(), ["+OK"]);
    let found = client.read();
    assert_eq!(found.len(), 1 + NAMES);
    assert!(found[1..].iter().all(|found| found == "2"));
    assert_eq!(client.read(), ["2"]);
    sending.join().expect("sent");
}
