//! A node whose disk fails: the program itself, with a limit on file sizes as the disk's limit.

mod program;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use program::{PATIENCE, Program, configure, http};

const VALUE_BYTES: usize = 256 << 10;
/// Lines of a shell: no file above 4 MiB; a write beyond that is an error and not a signal.
const NO_LARGE_FILES: &str = "trap '' XFSZ; ulimit -f 8192";

/// Sends one command; returns the first line of its answer, and the bulk after it.
fn ask(redis: SocketAddr, command: &[u8]) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(redis).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream.write_all(command).expect("sent");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("an answer in time");
    let length = line.strip_prefix('$').and_then(|length| length.trim_end().parse().ok());
    let mut bulk = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut bulk).expect("the whole answer");
    (line.trim_end().to_owned(), bulk)
}

fn set(redis: SocketAddr, key: usize) -> String {
    let mut command =
        format!("*3\r\n$3\r\nSET\r\n$4\r\n{key:04}\r\n${VALUE_BYTES}\r\n").into_bytes();
    command.extend(std::iter::repeat_n(b'v', VALUE_BYTES));
    command.extend(b"\r\n");
    ask(redis, &command).0
}

/// Goal: a node whose log could not be written serves nothing and gives no false answer, stays to
/// say why, ends with exit code 1 when it is told to, and has all that it acknowledged at its next
/// start. Method: writes until one fails; then every question; then a start without the limit.
#[test]
fn a_failed_disk_is_told_until_the_stop() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = configure(directory.path());
    let mut program = Program::start_node(NO_LARGE_FILES, &config);
    assert!(http(program.admin, "/health").starts_with("HTTP/1.1 200"));
    let acknowledged = (0..100).take_while(|key| set(program.redis, *key) == "+OK").count();
    assert!((1..100).contains(&acknowledged), "{acknowledged} were written");

    let health = http(program.admin, "/health");
    assert!(health.starts_with("HTTP/1.1 503") && health.contains("File too large"), "{health}");
    let ready = http(program.admin, "/ready");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("File too large"), "{ready}");
    let status = http(program.admin, "/status");
    assert!(
        status.contains("\"disk_free_bytes\":") && status.contains("File too large"),
        "{status}"
    );
    assert!(http(program.admin, "/metrics").contains("quorate_healthy 0"));
    let cluster = http(program.admin, "/cluster");
    assert!(cluster.contains("has stopped serving"), "{cluster}");
    let (read, _) = ask(program.redis, b"GET 0000\r\n");
    assert!(read.starts_with('-') && read.contains("File too large"), "{read}");

    let (code, said) = program.stop();
    assert_eq!(code, Some(1), "{said}");
    for words in ["serves nothing any more", "/health", "File too large"] {
        assert!(said.contains(words), "{words}: {said}");
    }

    let mut program = Program::start_node("true", &config);
    for key in 0..acknowledged {
        let (_, value) = ask(program.redis, format!("GET {key:04}\r\n").as_bytes());
        assert_eq!(value.len(), VALUE_BYTES, "{key}");
    }
    assert_eq!(program.stop().0, Some(0));
}
