//! Goal: the memory that a Redis client's request takes is bounded before it is taken. Method: one
//! node in this process, requests whose replies would be several hundred MiB, and the process' own
//! peak of resident memory.

use std::io::Write;

use crate::support::{Client, OneNode, forget_peak, memory, request};

const MIB: usize = 1 << 20;
/// Above what the node takes at rest. Each request below would take at least twice as much if its
/// whole reply were in memory.
const GROWTH_MAX: u64 = 128 << 20;

/// Runs `step` and checks how far the process' peak rises above its memory at rest.
fn bounded(what: &str, step: impl FnOnce()) {
    bounded_by(GROWTH_MAX, what, step);
}

fn bounded_by(growth_max: u64, what: &str, step: impl FnOnce()) {
    forget_peak();
    let rest = memory("VmRSS");
    step();
    let grown = memory("VmHWM").saturating_sub(rest);
    assert!(grown < growth_max, "{what}: {} MiB above the rest", grown >> 20);
}

#[test]
fn no_request_fills_the_memory() {
    let node = OneNode::start(2, 2);
    let mut client = node.client();
    let largest = vec![b'x'; 8 * MIB - (5 << 10)];
    let large = vec![b'x'; MIB];
    assert_eq!(client.ask_words(&[b"SET", b"largest", &largest]), ["+OK"]);
    for number in 0..100 {
        let key = format!("large{number}");
        assert_eq!(client.ask_words(&[b"SET", key.as_bytes(), &large]), ["+OK"]);
    }

    let many = vec!["largest"; 64].join(" ");
    bounded("EXISTS", || assert_eq!(client.ask(&format!("EXISTS {many}")), [":64"]));
    let each: String = (0..100).map(|number| format!(" large{number}")).collect();
    let distinct = "EXISTS of distinct keys";
    bounded_by(GROWTH_MAX / 2, distinct, || {
        assert_eq!(client.ask(&format!("EXISTS{each}")), [":100"]);
    });
    bounded("MGET", || {
        let refused = client.ask(&format!("MGET {many}"));
        assert!(refused[0].starts_with("-ERR reply of "), "{refused:?}");
    });
    bounded("SCAN", || {
        let mut clients: Vec<Client> = (0..3).map(|_| node.client()).collect();
        clients.iter_mut().for_each(|client| client.send(b"SCAN 0 COUNT 4096\r\n"));
        for client in &mut clients {
            assert_eq!(client.read().len(), 1 + 1 + 1 + 101, "the reply, its cursor, its keys");
        }
    });
    bounded("pipelined GET", || {
        let mut clients: Vec<Client> = (0..2).map(|_| node.client()).collect();
        for client in &mut clients {
            client.send(&request(&[b"GET", b"large7"]).repeat(200));
        }
        // They read nothing until all of both is sent, and then at the pace of this thread.
        for client in &mut clients {
            client.skip((MIB + "$1048576\r\n\r\n".len()) * 200);
        }
    });
    assert_eq!(client.ask("PING"), ["+PONG"]);
    bounded("ECHO behind a slow command", || {
        let echo = request(&[b"ECHO", &largest]);
        let mut reading = node.client();
        let mut writing = reading.stream.get_ref().try_clone().expect("a socket");
        let sending = std::thread::spawn(move || {
            writing.write_all(b"DBSIZE\r\n").expect("sent");
            (0..40).for_each(|_| writing.write_all(&echo).expect("sent"));
        });
        assert_eq!(reading.read(), [":101"]);
        reading.skip((largest.len() + "$8383488\r\n\r\n".len()) * 40);
        sending.join().expect("sent");
    });
    // And all of the room comes back, also from a client that left without reading.
    let mut leaving = node.client();
    leaving.send(&request(&[b"GET", b"large7"]).repeat(20));
    drop((leaving, client));
    while node.reply_bytes() > 0 {
        std::thread::yield_now();
    }
}
