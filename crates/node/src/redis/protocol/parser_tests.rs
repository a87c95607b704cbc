//! The parser by tables, and against itself under every cut of its input.

use proptest::prelude::*;

use super::*;

/// Everything found in `bytes`, given in pieces of `step` bytes.
fn parse_all(bytes: &[u8], step: usize) -> (Vec<Request>, Option<ProtocolError>) {
    let mut parser = Parser::default();
    let mut buffer = BytesMut::new();
    let mut found = Vec::new();
    for piece in bytes.chunks(step.max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&mut buffer) {
                Ok(Some(request)) => found.push(request),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn command(words: &[&[u8]]) -> Request {
    Request::Command(words.iter().map(|word| Bytes::copy_from_slice(word)).collect())
}

/// Goal: what clients send is read as Redis reads it, however it is cut. Method: a table.
#[test]
fn requests_are_read_in_any_pieces() {
    let table: &[(&[u8], Vec<Request>)] = &[
        (b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n", vec![command(&[b"GET", b"a"])]),
        (
            b"*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$0\r\n\r\n",
            vec![command(&[b"PING"]), command(&[b"PING"]), command(&[b""])],
        ),
        (b"\r\n\n*0\r\n*-1\r\n  get   a\t b \n", vec![command(&[b"get", b"a", b"b"])]),
        (
            b"set \"a\\x41\\n\\\"\" 'it\\'s \\n'\r\n",
            vec![command(&[b"set", b"aA\n\"", b"it's \\n"])],
        ),
        (b"*1\r\n$2\r\n\r\n\r\n", vec![command(&[b"\r\n"])]),
        (b"*2\r\n$3\r\nGET\r\n$1\r\n", vec![]),
    ];
    for (bytes, expected) in table {
        for step in 1..=bytes.len() {
            assert_eq!(parse_all(bytes, step), (expected.clone(), None), "{bytes:?} by {step}");
        }
    }
}

/// Goal: garbage is named in the exact words of Redis. Method: a table.
#[test]
fn garbage_is_named() {
    let long = vec![b'a'; LINE_BYTES_MAX + 1];
    let long_header = [b"*".as_slice(), &vec![b'1'; LINE_BYTES_MAX + 1]].concat();
    let table: &[(&[u8], &str)] = &[
        (b"*x\r\n", "Protocol error: invalid multibulk length"),
        (b"*1048577\r\n", "Protocol error: invalid multibulk length"),
        (b"*99999999999999999999\r\n", "Protocol error: invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "Protocol error: invalid bulk length"),
        (b"*1\r\n:1\r\n", "Protocol error: expected '$', got ':'"),
        (b"*1\r\n\xff", "Protocol error: expected '$', got '\\u{ff}'"),
        (b"*1\r\n$1\r\nab\r\n", "Protocol error: expected CRLF after bulk"),
        (b"get \"a\r\n", "Protocol error: unbalanced quotes in request"),
        (b"get \"a\"b\r\n", "Protocol error: unbalanced quotes in request"),
        (&long, "Protocol error: too big inline request"),
        (&long_header, "Protocol error: too big bulk count string"),
    ];
    for (bytes, expected) in table {
        let (_, error) = parse_all(bytes, 4096);
        assert_eq!(error.map(|error| error.to_string()).as_deref(), Some(*expected));
    }
}

/// Goal: an oversize argument costs no memory and leaves the connection alive. Method: a value
/// over the bound, then a PING.
#[test]
fn oversize_arguments_are_skipped() {
    let found = ARGUMENT_BYTES_MAX + 1;
    let mut bytes = format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${found}\r\n").into_bytes();
    bytes.resize(bytes.len() + found, b'x');
    bytes.extend_from_slice(b"\r\n*1\r\n$4\r\nPING\r\n");
    let oversize = Oversize::Argument { found, max: ARGUMENT_BYTES_MAX };
    let expected = vec![Request::Oversize(oversize), command(&[b"PING"])];
    assert_eq!(parse_all(&bytes, 64 << 10), (expected, None));
}

/// Goal: many arguments that are too long together. Method: nine of 8 MiB less a little.
#[test]
fn oversize_requests_are_skipped() {
    let mut bytes = b"*9\r\n".to_vec();
    for _ in 0..9 {
        bytes.extend_from_slice(format!("${ARGUMENT_BYTES_MAX}\r\n").as_bytes());
        bytes.resize(bytes.len() + ARGUMENT_BYTES_MAX, b'x');
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"PING\r\n");
    let oversize = Request::Oversize(Oversize::Request { max: REQUEST_BYTES_MAX });
    assert_eq!(parse_all(&bytes, 1 << 20), (vec![oversize, command(&[b"PING"])], None));
}

/// Goal: numbers have one form. Method: a table.
#[test]
fn integers_are_canonical() {
    let table: &[(&[u8], Option<i64>)] = &[
        (b"0", Some(0)),
        (b"-7", Some(-7)),
        (b"9223372036854775807", Some(i64::MAX)),
        (b"-9223372036854775808", Some(i64::MIN)),
        (b"9223372036854775808", None),
        (b"", None),
        (b"-", None),
        (b"-0", None),
        (b"01", None),
        (b"+1", None),
        (b"1 ", None),
        (b"1x", None),
    ];
    for &(text, expected) in table {
        assert_eq!(parse_integer(text), expected, "{text:?}");
    }
}

/// Bytes that look enough like the protocol to reach its corners.
fn almost_requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"*2\r\n".to_vec()),
        Just(b"$3\r\n".to_vec()),
        Just(b"GET\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\"a\\x4".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..12),
        proptest::collection::vec(proptest::sample::select(b"*$0123456789-\r\n".to_vec()), 0..6),
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Goal: no bytes panic, and no cut changes what is found.
    #[test]
    fn cuts_change_nothing(bytes in almost_requests(), step in 1usize..20) {
        prop_assert_eq!(parse_all(&bytes, step), parse_all(&bytes, usize::MAX));
    }

    /// Goal: what a client encodes is what is found.
    #[test]
    fn requests_survive_the_wire(
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..9),
        step in 1usize..50,
    ) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in &words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(parse_all(&bytes, step), (vec![command(&words)], None));
    }
}
