//! Files and sockets that run out: the program itself, under its own limit.

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use program::{PATIENCE, Program, http};
use quorate_node::process::descriptors::Descriptors;

/// Low enough for a quick test, and high enough for a node at rest.
const LIMIT: usize = 320;

/// Sends PING and returns the line of the answer.
fn ping(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(b"PING\r\n").expect("sent");
    line(stream)
}

fn line(stream: &mut TcpStream) -> String {
    let mut found = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte).expect("an answer in time") > 0 && byte[0] != b'\n' {
        found.push(byte[0]);
    }
    String::from_utf8(found).expect("text")
}

/// Connects and asks until it is refused; returns the clients that were served.
fn take_all(redis: SocketAddr) -> Vec<TcpStream> {
    let mut served = Vec::new();
    for _ in 0..LIMIT {
        let mut stream = TcpStream::connect(redis).expect("connected");
        match ping(&mut stream).trim_end() {
            "+PONG" => served.push(stream),
            refused => {
                assert_eq!(refused, "-ERR max number of clients reached");
                // A reset where the server had not read the request.
                assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is closed");
                return served;
            }
        }
    }
    panic!("{LIMIT} clients were taken under a limit of {LIMIT} descriptors");
}

/// Goal: clients that take every place leave the node what it needs: it answers on its admin port,
/// says that its limit is low, writes new files, and takes a client again when one has gone. Method:
/// idle clients until one is refused, then all of that.
#[test]
fn clients_leave_the_node_its_descriptors() {
    let mut program = Program::start_limited(&format!("ulimit -n {LIMIT}"));
    let allowed = Descriptors::share(LIMIT, 1).expect("enough").clients_max;
    let mut served = take_all(program.redis);
    assert_eq!(served.len(), allowed);

    let status = http(program.admin, "/status");
    assert!(status.contains(&format!("it takes {allowed} clients at once")), "{status}");
    let metrics = http(program.admin, "/metrics");
    for found in [format!("quorate_redis_clients_max {allowed}\n"), format!("_max {LIMIT}\n")] {
        assert!(metrics.contains(&found), "{found}: {metrics}");
    }

    let first = served.last_mut().expect("some were served");
    first.write_all(b"SET a 1\r\n").expect("sent");
    assert_eq!(line(first).trim_end(), "+OK");
    // The place is given back once the node sees the end of the connection.
    drop(served.pop());
    while ping(&mut TcpStream::connect(program.redis).expect("connected")).trim_end() != "+PONG" {}

    // The stop flushes the data store into a new file.
    let (code, said) = program.stop();
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("open files (os"), "{said}");
}

/// Goal: a limit too low for any node is refused with the figure and the remedy.
#[test]
fn a_hopeless_limit_is_refused() {
    let (code, said) = program::run_limited("ulimit -n 200");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("may have 200 open files") && said.contains("LimitNOFILE"), "{said}");
}
