//! Estimates the size of a reply, so that its room is reserved before it uses memory.

use super::command::{Command, Local};
use super::table;
use crate::redis::protocol::reply::Reply;

/// A reply without a value, with room for an error's text.
const SMALL_BYTES: usize = 256;
/// One element of a list, without its own bytes.
pub(crate) const ELEMENT_BYTES: usize = size_of::<Reply>() + 16;
/// Least and most bytes that a value is expected to have. A longer value is read a second time,
/// with room of its size.
const VALUE_BYTES_MIN: usize = 512;
const VALUE_BYTES_MAX: usize = 8 << 20;
/// Most bytes that the values of one command of many keys are expected to have together.
const VALUES_BYTES_MAX: usize = 1 << 20;
/// Bytes that a key is expected to have, where many are listed.
const KEY_BYTES: usize = 64;
/// A client's line in CLIENT LIST, with a long name.
const CLIENT_LINE_BYTES: usize = 384;
/// INFO, with all its sections.
const INFO_BYTES: usize = 4 << 10;

/// How large the values of one connection are expected to be.
#[derive(Debug)]
pub(crate) struct Expectation {
    value_bytes: usize,
}

impl Default for Expectation {
    fn default() -> Expectation {
        Expectation { value_bytes: VALUE_BYTES_MIN }
    }
}

impl Expectation {
    /// Bytes for the reply of a command that needs the engine.
    pub(crate) fn reply_bytes(&self, command: &Command) -> usize {
        match command {
            Command::Get(_) => list_bytes(1) + self.value_bytes,
            Command::GetMany(keys) => {
                let values = keys.len().saturating_mul(self.value_bytes).min(VALUES_BYTES_MAX);
                list_bytes(keys.len()) + values
            }
            Command::Scan(scan) => list_bytes(scan.count) + scan.count * KEY_BYTES,
            Command::Local(_)
            | Command::Write(_)
            | Command::Exists(_)
            | Command::SetMany(_)
            | Command::DeleteMany(_)
            | Command::CountKeys => SMALL_BYTES,
        }
    }

    /// Raises the expectation: a reply was larger.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.value_bytes = self.value_bytes.max(bytes).min(VALUE_BYTES_MAX);
    }

    /// Notes the size of a reply. The expectation falls slowly after smaller ones.
    pub(crate) fn note(&mut self, bytes: usize) {
        let excess = self.value_bytes.saturating_sub(bytes.max(VALUE_BYTES_MIN));
        self.value_bytes -= excess / 16;
    }
}

/// A list of `count` elements without their own bytes, and the reply around it.
pub(crate) fn list_bytes(count: usize) -> usize {
    SMALL_BYTES + count.saturating_mul(ELEMENT_BYTES)
}

/// Bytes for the reply of a command that is answered from the connection; `clients` says how many are
/// connected.
pub(crate) fn local_bytes(local: &Local, clients: impl FnOnce() -> usize) -> usize {
    match local {
        Local::Answer(reply) => reply.len_bytes(),
        Local::Describe(arguments) => {
            let entries = table::COMMANDS.len().max(arguments.len());
            SMALL_BYTES + entries * table::DESCRIPTION_BYTES_MAX
        }
        Local::Client(_) => SMALL_BYTES + clients() * CLIENT_LINE_BYTES,
        Local::Info(_) => INFO_BYTES,
        Local::Hello(_) | Local::ConfigGet(_) => SMALL_BYTES * 4,
        Local::Reset | Local::Quit => SMALL_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Goal: the expectation follows the replies: up at once, down slowly, and within its bounds.
    #[test]
    fn expectations_follow_the_replies() {
        let mut expectation = Expectation::default();
        let get = Command::Get(Bytes::from_static(b"k"));
        let small = expectation.reply_bytes(&get);
        expectation.note(10);
        assert_eq!(expectation.reply_bytes(&get), small);
        expectation.grow(1 << 20);
        assert_eq!(expectation.reply_bytes(&get), list_bytes(1) + (1 << 20));
        expectation.grow(1 << 30);
        assert_eq!(expectation.reply_bytes(&get), list_bytes(1) + VALUE_BYTES_MAX);
        (0..400).for_each(|_| expectation.note(10));
        assert!(expectation.reply_bytes(&get) < small + 32);
        let many = Command::GetMany(vec![Bytes::new(); 1 << 20]);
        assert!(expectation.reply_bytes(&many) < (1 << 20) * ELEMENT_BYTES + (2 << 20));
    }
}
