//! The request parser: reads RESP arrays and inline commands out of a growing buffer.
//!
//! It keeps its place between calls, so that a request that arrives slowly is scanned once, and it
//! takes arguments out of the buffer without copying them. Whatever the bytes are, it never panics
//! and never holds more than [`REQUEST_BYTES_MAX`] of arguments.

use bytes::{Buf, Bytes, BytesMut};
use quorate_types::limits;
use smallvec::SmallVec;

/// Longest inline command, and longest header line, in bytes; as Redis has it.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// Most arguments of one command; as Redis has it.
pub const ARGUMENTS_MAX: usize = 1 << 20;
/// Longest argument that is kept. Longer ones are skipped and their command is refused, so that the
/// client reads a reason and keeps its connection.
pub const ARGUMENT_BYTES_MAX: usize = limits::VALUE_BYTES_MAX;
/// Longest argument that is skipped; beyond it the connection ends. As Redis has it.
pub const SKIPPED_BYTES_MAX: usize = 512 << 20;
/// Most bytes of arguments that one command may hold in memory.
pub const REQUEST_BYTES_MAX: usize = 64 << 20;

/// The arguments of one command, its name first. Never empty.
pub type Arguments = SmallVec<[Bytes; 4]>;

/// What the parser found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A command and its arguments.
    Command(Arguments),
    /// A whole request was read and thrown away, because it is larger than this server takes.
    Oversize(Oversize),
}

/// Why a request was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Oversize {
    /// One argument is too long.
    #[error("argument of {found} bytes; at most {max} are allowed, split it over several keys")]
    Argument {
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The arguments are too long together.
    #[error("command of more than {max} bytes; send it as several commands")]
    Request {
        /// The bound.
        max: usize,
    },
}

/// The bytes are not the Redis protocol. The connection must end, because the start of the next
/// request is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// An inline command without an end.
    #[error("Protocol error: too big inline request")]
    InlineTooLong,
    /// A header line without an end.
    #[error("Protocol error: too big bulk count string")]
    HeaderTooLong,
    /// The count after `*` is wrong.
    #[error("Protocol error: invalid multibulk length")]
    MultibulkLength,
    /// The length after `$` is wrong.
    #[error("Protocol error: invalid bulk length")]
    BulkLength,
    /// Another byte where a `$` must be.
    #[error("Protocol error: expected '$', got '{}'", char::from(*.0).escape_default())]
    ExpectedBulk(
        /// The byte found.
        u8,
    ),
    /// An argument is not followed by a line end.
    #[error("Protocol error: expected CRLF after bulk")]
    ExpectedLineEnd,
    /// An inline command with an open quote.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
}

/// A parser of one connection's requests.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes at the front of the buffer that are known to hold no line end.
    scanned: usize,
    /// The array that is being read.
    multibulk: Option<Multibulk>,
}

#[derive(Debug)]
struct Multibulk {
    missing: usize,
    arguments: Arguments,
    bytes: usize,
    oversize: Option<Oversize>,
    bulk: Bulk,
}

#[derive(Debug)]
enum Bulk {
    Header,
    Keep(usize),
    /// Bytes still to be thrown away, then the line end.
    Skip(usize),
}

impl Parser {
    /// Takes the next request from the front of `buffer`; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`ProtocolError`]: the connection must be closed, the buffer holds nothing of use.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Request>, ProtocolError> {
        loop {
            if let Some(multibulk) = &mut self.multibulk {
                if !multibulk.advance(buffer, &mut self.scanned)? {
                    return Ok(None);
                }
                let whole = self.multibulk.take().expect("just looked at");
                return Ok(Some(match whole.oversize {
                    Some(oversize) => Request::Oversize(oversize),
                    None => Request::Command(whole.arguments),
                }));
            }
            match buffer.first() {
                None => return Ok(None),
                Some(b'*') => {
                    let Some(line) = take_line(buffer, &mut self.scanned)
                        .map_err(|TooLong| ProtocolError::HeaderTooLong)?
                    else {
                        return Ok(None);
                    };
                    let count = parse_integer(&line[1..]);
                    let count = count.ok_or(ProtocolError::MultibulkLength)?;
                    if count <= 0 {
                        continue;
                    }
                    let count = usize::try_from(count).unwrap_or(usize::MAX);
                    if count > ARGUMENTS_MAX {
                        return Err(ProtocolError::MultibulkLength);
                    }
                    self.multibulk = Some(Multibulk::new(count));
                }
                Some(_) => {
                    let Some(line) = take_line(buffer, &mut self.scanned)
                        .map_err(|TooLong| ProtocolError::InlineTooLong)?
                    else {
                        return Ok(None);
                    };
                    let arguments = split_inline(&line).ok_or(ProtocolError::UnbalancedQuotes)?;
                    if !arguments.is_empty() {
                        return Ok(Some(Request::Command(arguments)));
                    }
                }
            }
        }
    }
}

impl Multibulk {
    fn new(missing: usize) -> Multibulk {
        Multibulk {
            missing,
            // The count is only a claim until the bytes arrive: it reserves no memory.
            arguments: Arguments::new(),
            bytes: 0,
            oversize: None,
            bulk: Bulk::Header,
        }
    }

    /// True when the array is whole.
    fn advance(
        &mut self,
        buffer: &mut BytesMut,
        scanned: &mut usize,
    ) -> Result<bool, ProtocolError> {
        while self.missing > 0 {
            match self.bulk {
                Bulk::Header => {
                    if let Some(&first) = buffer.first()
                        && first != b'$'
                    {
                        return Err(ProtocolError::ExpectedBulk(first));
                    }
                    let Some(line) = take_line(buffer, scanned)
                        .map_err(|TooLong| ProtocolError::HeaderTooLong)?
                    else {
                        return Ok(false);
                    };
                    let length = parse_integer(&line[1..])
                        .and_then(|length| usize::try_from(length).ok())
                        .filter(|&length| length <= SKIPPED_BYTES_MAX)
                        .ok_or(ProtocolError::BulkLength)?;
                    self.bulk = self.admit(length);
                    if let Bulk::Keep(length) = self.bulk {
                        // At most one argument's room ahead of the bytes that are here.
                        buffer.reserve((length + 2).saturating_sub(buffer.len()));
                    }
                }
                Bulk::Keep(length) => {
                    if buffer.len() < length + 2 {
                        return Ok(false);
                    }
                    let argument = buffer.split_to(length).freeze();
                    take_line_end(buffer)?;
                    self.arguments.push(argument);
                    self.finish_bulk();
                }
                Bulk::Skip(left) => {
                    let here = left.min(buffer.len());
                    buffer.advance(here);
                    self.bulk = Bulk::Skip(left - here);
                    if here < left || buffer.len() < 2 {
                        return Ok(false);
                    }
                    take_line_end(buffer)?;
                    self.finish_bulk();
                }
            }
        }
        Ok(true)
    }

    fn finish_bulk(&mut self) {
        self.missing -= 1;
        self.bulk = Bulk::Header;
    }

    fn admit(&mut self, length: usize) -> Bulk {
        if self.oversize.is_none() {
            self.bytes += length;
            if length > ARGUMENT_BYTES_MAX {
                self.refuse(Oversize::Argument { found: length, max: ARGUMENT_BYTES_MAX });
            } else if self.bytes > REQUEST_BYTES_MAX {
                self.refuse(Oversize::Request { max: REQUEST_BYTES_MAX });
            }
        }
        match self.oversize {
            None => Bulk::Keep(length),
            Some(_) => Bulk::Skip(length),
        }
    }

    fn refuse(&mut self, why: Oversize) {
        self.oversize = Some(why);
        self.arguments = Arguments::new();
    }
}

struct TooLong;

/// Takes a line without its end; both CRLF and a bare LF end it.
fn take_line(buffer: &mut BytesMut, scanned: &mut usize) -> Result<Option<BytesMut>, TooLong> {
    let from = (*scanned).min(buffer.len());
    let Some(found) = buffer[from..].iter().position(|&byte| byte == b'\n') else {
        *scanned = buffer.len();
        return if buffer.len() > LINE_BYTES_MAX { Err(TooLong) } else { Ok(None) };
    };
    *scanned = 0;
    let length = from + found;
    if length > LINE_BYTES_MAX {
        return Err(TooLong);
    }
    let mut line = buffer.split_to(length);
    buffer.advance(1);
    if line.last() == Some(&b'\r') {
        line.truncate(length - 1);
    }
    Ok(Some(line))
}

fn take_line_end(buffer: &mut BytesMut) -> Result<(), ProtocolError> {
    if !buffer.starts_with(b"\r\n") {
        return Err(ProtocolError::ExpectedLineEnd);
    }
    buffer.advance(2);
    Ok(())
}

/// A decimal 64-bit integer in its one canonical form, as Redis reads every number: no sign but
/// `-`, no leading zero, no space.
#[must_use]
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let canonical = match digits {
        [b'0'] => !negative,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !canonical {
        return None;
    }
    digits.iter().try_fold(0i64, |number, &byte| {
        let digit = i64::from(byte.is_ascii_digit().then(|| byte - b'0')?);
        let shifted = number.checked_mul(10)?;
        if negative { shifted.checked_sub(digit) } else { shifted.checked_add(digit) }
    })
}

/// Splits an inline command as Redis does: blanks separate, "..." takes escapes, '...' takes none
/// but `\'`. `None` if a quote stays open or is followed by something else than a blank.
fn split_inline(line: &[u8]) -> Option<Arguments> {
    let mut arguments = Arguments::new();
    let mut rest = line;
    loop {
        rest = rest.trim_ascii_start();
        if rest.is_empty() {
            return Some(arguments);
        }
        let (argument, after) = split_word(rest)?;
        arguments.push(argument.into());
        rest = after;
    }
}

fn split_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] => return Some((word, rest)),
            [blank, ..] if blank.is_ascii_whitespace() => return Some((word, rest)),
            [quote @ (b'"' | b'\''), after @ ..] => {
                rest = unquote(*quote, after, &mut word)?;
                return rest.first().is_none_or(u8::is_ascii_whitespace).then_some((word, rest));
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn unquote<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [byte, after @ ..] if *byte == quote => return Some(after),
            [b'\\', b'\'', after @ ..] if quote == b'\'' => {
                word.push(b'\'');
                rest = after;
            }
            [b'\\', b'x', high, low, after @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = after;
            }
            [b'\\', escaped, after @ ..] if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = after;
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => 0,
    }
}

#[cfg(test)]
#[path = "parser_tests.rs"]
mod tests;
