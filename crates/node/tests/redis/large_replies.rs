//! Goal: replies larger than a connection's share come whole and in their place, and commands sent
//! after them take effect after them. Method: pipelines of large and small commands on the same
//! keys, from several clients at once.

use crate::support::{Client, OneNode, request};

const MIB: usize = 1 << 20;
/// Together more than one connection's share of the room.
const KEYS: usize = 20;

fn get_all() -> Vec<u8> {
    let names: Vec<String> = (0..KEYS).map(|number| format!("large{number}")).collect();
    let words: Vec<&[u8]> =
        [&b"MGET"[..]].into_iter().chain(names.iter().map(String::as_bytes)).collect();
    request(&words)
}

/// Reads the reply to [`get_all`]; each value begins with a letter and has its length.
fn read_all(client: &mut Client, first_letter: char) {
    let reply = client.read();
    assert_eq!(reply[0], format!("*{KEYS}"));
    assert_eq!(reply.len(), KEYS + 1);
    for (number, value) in reply[1..].iter().enumerate() {
        let letter = if number == 0 { first_letter } else { 'v' };
        assert!(value.len() == MIB && value.starts_with(letter), "{number}: {}", value.len());
    }
}

#[test]
fn large_replies_come_in_their_place() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let [old, new] = [b'v', b'w'].map(|letter| vec![letter; MIB]);
    for number in 0..KEYS {
        let key = format!("large{number}");
        assert_eq!(client.ask_words(&[b"SET", key.as_bytes(), &old]), ["+OK"]);
    }
    let all = get_all();
    let mut pipeline = request(&[b"GET", b"large3"]);
    pipeline.extend_from_slice(&all);
    pipeline.extend_from_slice(b"INCR n\r\n");
    pipeline.extend_from_slice(&all);
    pipeline.extend_from_slice(&request(&[b"SET", b"large0", &new]));
    pipeline.extend_from_slice(&all);
    pipeline.extend_from_slice(b"INCR n\r\nGET large0\r\n");
    pipeline.extend_from_slice(&request(&[b"SET", b"large0", &old]));
    pipeline.extend_from_slice(b"PING\r\n");
    client.send(&pipeline);
    assert_eq!(client.read()[0].len(), MIB);
    read_all(&mut client, 'v');
    assert_eq!(client.read(), [":1"]);
    read_all(&mut client, 'v');
    assert_eq!(client.read(), ["+OK"]);
    read_all(&mut client, 'w');
    assert_eq!(client.read(), [":2"]);
    assert!(client.read()[0].starts_with('w'));
    assert_eq!([client.read(), client.read()], [["+OK"], ["+PONG"]]);

    let mut clients: Vec<Client> = (0..8).map(|_| node.client()).collect();
    for client in &mut clients {
        client.send(&[&all[..], b"GET n\r\n", &all[..]].concat());
    }
    for client in &mut clients {
        read_all(client, 'v');
        assert_eq!(client.read(), ["2"]);
        read_all(client, 'v');
    }
    drop((client, clients));
    while node.reply_bytes() > 0 {
        std::thread::yield_now();
    }
}
