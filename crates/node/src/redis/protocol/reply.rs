//! Replies, and how both versions of the protocol write them.

use std::borrow::Cow;

use bytes::Bytes;

use super::output::Output;

/// Which version of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// The one that every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

/// What a command answers, before a protocol is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+text`.
    Status(&'static str),
    /// `-text`; the text carries its own code, such as `ERR`.
    Error(Cow<'static, str>),
    /// `:number`.
    Integer(i64),
    /// A byte string.
    Bulk(Bytes),
    /// Text for people; RESP3 marks it as such.
    Verbatim(String),
    /// No value.
    Null,
    /// A list.
    Array(Vec<Reply>),
    /// Status replies without order; RESP3 calls it a set, RESP2 has only lists.
    Set(Vec<Reply>),
    /// Pairs; RESP2 has only lists and sees a flat one.
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Status("OK");

    /// An error of a fixed text.
    #[must_use]
    pub const fn error(text: &'static str) -> Reply {
        Reply::Error(Cow::Borrowed(text))
    }

    /// A byte string of fixed text.
    #[must_use]
    pub const fn text(text: &'static str) -> Reply {
        Reply::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// A value that may be absent.
    #[must_use]
    pub fn optional(value: Option<Bytes>) -> Reply {
        value.map_or(Reply::Null, Reply::Bulk)
    }

    /// Appends the reply's bytes. Long values are not copied.
    pub fn write(self, protocol: Protocol, out: &mut Output) {
        let resp3 = protocol == Protocol::Resp3;
        match self {
            Reply::Status(text) => line(out, b'+', text.as_bytes()),
            Reply::Error(text) => write_error(out, &text),
            Reply::Integer(number) => header(out, b':', number),
            Reply::Bulk(bytes) => bulk(out, b'$', bytes),
            Reply::Verbatim(text) if resp3 => bulk(out, b'=', format!("txt:{text}").into()),
            Reply::Verbatim(text) => bulk(out, b'$', text.into()),
            Reply::Null => out.put_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
            Reply::Array(items) => list(out, b'*', items, protocol),
            Reply::Set(items) => list(out, if resp3 { b'~' } else { b'*' }, items, protocol),
            Reply::Map(pairs) => {
                let (kind, count) =
                    if resp3 { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
                header(out, kind, length(count));
                for (key, value) in pairs {
                    key.write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
    }

    /// Roughly how many bytes the reply holds, for bounds; not fewer than it will write, except for
    /// headers.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        size_of::<Reply>()
            + match self {
                Reply::Status(_) | Reply::Integer(_) | Reply::Null => 0,
                Reply::Error(text) => text.len(),
                Reply::Bulk(bytes) => bytes.len(),
                Reply::Verbatim(text) => text.len(),
                Reply::Array(items) | Reply::Set(items) => items.iter().map(Reply::len_bytes).sum(),
                Reply::Map(pairs) => pairs.iter().map(|(k, v)| k.len_bytes() + v.len_bytes()).sum(),
            }
    }
}

fn list(out: &mut Output, kind: u8, items: Vec<Reply>, protocol: Protocol) {
    header(out, kind, length(items.len()));
    for item in items {
        item.write(protocol, out);
    }
}

fn length(count: usize) -> i64 {
    i64::try_from(count).expect("nothing in memory is longer than 2^63")
}

fn bulk(out: &mut Output, kind: u8, bytes: Bytes) {
    header(out, kind, length(bytes.len()));
    out.put_bytes(bytes);
    out.put_slice(b"\r\n");
}

fn line(out: &mut Output, kind: u8, text: &[u8]) {
    out.put_slice(&[kind]);
    out.put_slice(text);
    out.put_slice(b"\r\n");
}

/// A line end within an error's text would end the reply and begin a forged one.
fn write_error(out: &mut Output, text: &str) {
    if text.contains(['\r', '\n']) {
        line(out, b'-', text.replace(['\r', '\n'], " ").as_bytes());
    } else {
        line(out, b'-', text.as_bytes());
    }
}

/// Writes the kind, a decimal number and a line end. Avoids `format!`, because every reply has a
/// header.
fn header(out: &mut Output, kind: u8, number: i64) {
    let mut digits = [0; 24];
    let mut at = digits.len() - 2;
    digits[at..].copy_from_slice(b"\r\n");
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        digits[at] = b'-';
    }
    at -= 1;
    digits[at] = kind;
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each kind's bytes in both versions. Method: a table.
    #[test]
    fn replies_have_the_shapes_of_both_protocols() {
        let map = Reply::Map(vec![(Reply::text("a"), Reply::Integer(1))]);
        let table = [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (Reply::error("ERR a\r\n+b"), "-ERR a  +b\r\n", "-ERR a  +b\r\n"),
            (Reply::Integer(i64::MIN), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"),
            (Reply::Integer(0), ":0\r\n", ":0\r\n"),
            (Reply::text(""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Verbatim("hi".into()), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"),
            (Reply::Null, "$-1\r\n", "_\r\n"),
            (Reply::Array(vec![Reply::Null]), "*1\r\n$-1\r\n", "*1\r\n_\r\n"),
            (Reply::Set(vec![]), "*0\r\n", "~0\r\n"),
            (map, "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
        ];
        for (reply, resp2, resp3) in table {
            for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
                let mut out = Output::default();
                reply.clone().write(protocol, &mut out);
                assert_eq!(out.to_vec(), expected.as_bytes(), "{reply:?}");
            }
        }
    }
}
