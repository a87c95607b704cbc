//! The built-in state machine: an ordered key-value store. Pure: it runs over any [`OrderedMap`].

use bytes::Bytes;

use crate::state_machine::{ApplyContext, OrderedMap, StateMachine};
use quorate_types::{ByteReader, CutShort, put_field, put_optional_field};

/// The most commands of one batch. Batches do not nest, so that reading one can't recurse without
/// bound.
const BATCH_COMMANDS_MAX: usize = 65_536;

/// A change of the keys of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvCommand {
    /// Sets a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Removes every key in `[start, end)`.
    DeleteRange {
        /// First key removed.
        start: Bytes,
        /// First key kept.
        end: Bytes,
    },
    /// Adds to the decimal integer stored under a key; an absent key counts as 0.
    Increment {
        /// The key.
        key: Bytes,
        /// What to add.
        by: i64,
    },
    /// Sets or removes a key if its value is the one expected.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// Value expected; `None`: expected to be absent.
        expected: Option<Bytes>,
        /// New value; `None`: remove.
        value: Option<Bytes>,
    },
    /// Commands that take effect together. Does not nest.
    Batch(Vec<KvCommand>),
}

/// The reply to a [`KvCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvReply {
    /// Put and range delete.
    Done,
    /// How many keys existed and were removed.
    Deleted(u64),
    /// The value after an increment.
    Integer(i64),
    /// The value is no 64-bit decimal integer: nothing was changed.
    NotAnInteger,
    /// The value was the one expected: changed.
    Swapped,
    /// The value was another one: nothing was changed.
    Conflict {
        /// The value found.
        actual: Option<Bytes>,
    },
    /// The replies of a batch, in its order.
    Batch(Vec<KvReply>),
    /// The command's bytes are not known to this version: nothing was changed, on any replica.
    Unknown,
    /// The sum is beyond 64 bits: nothing was changed.
    WouldOverflow,
}

/// The bytes are no key-value command or reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Cut short.
    #[error("key-value bytes are cut short")]
    CutShort,
    /// Unknown kind, a nested or oversize batch, or trailing bytes.
    #[error("key-value bytes are malformed: {0}")]
    Malformed(&'static str),
}

impl From<CutShort> for CommandError {
    fn from(_: CutShort) -> Self {
        CommandError::CutShort
    }
}

impl KvCommand {
    /// The first key that the command touches; `None` for an empty batch.
    #[must_use]
    pub fn first_key(&self) -> Option<&Bytes> {
        match self {
            KvCommand::Put { key, .. }
            | KvCommand::Delete { key }
            | KvCommand::Increment { key, .. }
            | KvCommand::CompareAndSet { key, .. } => Some(key),
            KvCommand::DeleteRange { start, .. } => Some(start),
            KvCommand::Batch(commands) => commands.first().and_then(KvCommand::first_key),
        }
    }

    /// Bytes: kind u8, then the fields in order; a field is a u32 length and its bytes, an optional
    /// one is led by u8 0 or 1, a batch by a u32 count. Little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        self.encode_into(&mut out);
        out
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            KvCommand::Put { key, value } => {
                out.push(1);
                put_field(out, key);
                put_field(out, value);
            }
            KvCommand::Delete { key } => {
                out.push(2);
                put_field(out, key);
            }
            KvCommand::DeleteRange { start, end } => {
                out.push(3);
                put_field(out, start);
                put_field(out, end);
            }
            KvCommand::Increment { key, by } => {
                out.push(4);
                put_field(out, key);
                out.extend_from_slice(&by.to_le_bytes());
            }
            KvCommand::CompareAndSet { key, expected, value } => {
                out.push(5);
                put_field(out, key);
                put_optional_field(out, expected.as_deref());
                put_optional_field(out, value.as_deref());
            }
            KvCommand::Batch(commands) => {
                out.push(6);
                out.extend_from_slice(&count(commands.len()).to_le_bytes());
                commands.iter().for_each(|command| command.encode_into(out));
            }
        }
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).expect("a batch is bounded")
}

/// A command borrowed from an entry's bytes: apply copies nothing that it does not keep.
enum Parsed<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    DeleteRange { start: &'a [u8], end: &'a [u8] },
    Increment { key: &'a [u8], by: i64 },
    CompareAndSet { key: &'a [u8], expected: Option<&'a [u8]>, value: Option<&'a [u8]> },
}

fn parse_single<'a>(
    kind: u8,
    reader: &mut ByteReader<&'a [u8]>,
) -> Result<Parsed<'a>, CommandError> {
    Ok(match kind {
        1 => Parsed::Put { key: reader.field()?, value: reader.field()? },
        2 => Parsed::Delete { key: reader.field()? },
        3 => Parsed::DeleteRange { start: reader.field()?, end: reader.field()? },
        4 => Parsed::Increment { key: reader.field()?, by: reader.u64()?.cast_signed() },
        5 => Parsed::CompareAndSet {
            key: reader.field()?,
            expected: reader.optional_field()?,
            value: reader.optional_field()?,
        },
        6 => return Err(CommandError::Malformed("a batch within a batch")),
        _ => return Err(CommandError::Malformed("unknown kind of command")),
    })
}

/// Reads a whole command before any of it is applied: half a batch must not take effect.
fn parse(bytes: &[u8]) -> Result<(Vec<Parsed<'_>>, bool), CommandError> {
    let mut reader = ByteReader::new(bytes);
    let kind = reader.u8()?;
    let is_batch = kind == 6;
    let mut parsed = Vec::with_capacity(1);
    if is_batch {
        let commands = reader.u32()? as usize;
        if commands > BATCH_COMMANDS_MAX {
            return Err(CommandError::Malformed("too many commands in a batch"));
        }
        for _ in 0..commands {
            let kind = reader.u8()?;
            parsed.push(parse_single(kind, &mut reader)?);
        }
    } else {
        parsed.push(parse_single(kind, &mut reader)?);
    }
    if !reader.is_empty() {
        return Err(CommandError::Malformed("trailing bytes"));
    }
    Ok((parsed, is_batch))
}

impl KvReply {
    /// Bytes laid out as by [`KvCommand::encode`], with separate kinds. `Done` needs no allocation.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        if *self == KvReply::Done {
            return Bytes::from_static(&[1]);
        }
        let mut out = Vec::with_capacity(16);
        self.encode_into(&mut out);
        Bytes::from(out)
    }

    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            KvReply::Done => out.push(1),
            KvReply::Deleted(keys) => {
                out.push(2);
                out.extend_from_slice(&keys.to_le_bytes());
            }
            KvReply::Integer(value) => {
                out.push(3);
                out.extend_from_slice(&value.to_le_bytes());
            }
            KvReply::NotAnInteger => out.push(4),
            KvReply::Swapped => out.push(5),
            KvReply::Conflict { actual } => {
                out.push(6);
                put_optional_field(out, actual.as_deref());
            }
            KvReply::Batch(replies) => {
                out.push(7);
                out.extend_from_slice(&count(replies.len()).to_le_bytes());
                replies.iter().for_each(|reply| reply.encode_into(out));
            }
            KvReply::Unknown => out.push(8),
            KvReply::WouldOverflow => out.push(9),
        }
    }

    /// Reads what [`KvReply::encode`] wrote.
    ///
    /// # Errors
    /// [`CommandError`] for anything else. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<KvReply, CommandError> {
        let mut reader = ByteReader::new(bytes);
        let reply = match reader.u8()? {
            7 => {
                let replies = reader.u32()? as usize;
                if replies > BATCH_COMMANDS_MAX {
                    return Err(CommandError::Malformed("too many replies in a batch"));
                }
                let mut list = Vec::new();
                for _ in 0..replies {
                    let kind = reader.u8()?;
                    list.push(KvReply::decode_single(kind, &mut reader)?);
                }
                KvReply::Batch(list)
            }
            kind => KvReply::decode_single(kind, &mut reader)?,
        };
        if reader.is_empty() { Ok(reply) } else { Err(CommandError::Malformed("trailing bytes")) }
    }

    fn decode_single(kind: u8, reader: &mut ByteReader<&[u8]>) -> Result<KvReply, CommandError> {
        Ok(match kind {
            1 => KvReply::Done,
            2 => KvReply::Deleted(reader.u64()?),
            3 => KvReply::Integer(reader.u64()?.cast_signed()),
            4 => KvReply::NotAnInteger,
            5 => KvReply::Swapped,
            6 => KvReply::Conflict { actual: reader.optional_field()?.map(Bytes::copy_from_slice) },
            8 => KvReply::Unknown,
            9 => KvReply::WouldOverflow,
            _ => return Err(CommandError::Malformed("unknown kind of reply")),
        })
    }
}

/// Applies [`KvCommand`]s. It has no state of its own: all of it is in the map.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvMachine;

impl StateMachine for KvMachine {
    fn apply(&mut self, _: ApplyContext, command: &[u8], map: &mut dyn OrderedMap) -> Bytes {
        let reply = match parse(command) {
            Err(_) => KvReply::Unknown,
            Ok((commands, true)) => {
                KvReply::Batch(commands.into_iter().map(|one| apply_single(one, map)).collect())
            }
            Ok((commands, false)) => commands
                .into_iter()
                .map(|one| apply_single(one, map))
                .next()
                .unwrap_or(KvReply::Unknown),
        };
        reply.encode()
    }
}

fn apply_single(command: Parsed<'_>, map: &mut dyn OrderedMap) -> KvReply {
    match command {
        Parsed::Put { key, value } => {
            map.put(key, value);
            KvReply::Done
        }
        Parsed::Delete { key } => {
            let existed = map.get(key).is_some();
            if existed {
                map.delete(key);
            }
            KvReply::Deleted(u64::from(existed))
        }
        Parsed::DeleteRange { start, end } => {
            if start < end {
                map.delete_range(start, end);
            }
            KvReply::Done
        }
        Parsed::Increment { key, by } => {
            let current = match map.get(key) {
                None => Some(0),
                Some(value) => parse_integer(&value),
            };
            let Some(current) = current else { return KvReply::NotAnInteger };
            match current.checked_add(by) {
                None => KvReply::WouldOverflow,
                Some(sum) => {
                    map.put(key, sum.to_string().as_bytes());
                    KvReply::Integer(sum)
                }
            }
        }
        Parsed::CompareAndSet { key, expected, value } => {
            let actual = map.get(key);
            if actual.as_deref() != expected {
                return KvReply::Conflict { actual };
            }
            match value {
                Some(value) => map.put(key, value),
                None => map.delete(key),
            }
            KvReply::Swapped
        }
    }
}

/// A decimal integer in its one canonical form, as Redis reads it: no sign but `-`, no leading
/// zeros, no spaces.
fn parse_integer(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
