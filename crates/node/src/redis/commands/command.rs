//! Turns the arguments of a request into a checked command. Pure: no socket, no engine.

use bytes::Bytes;

use super::table::{self, CommandEntry, CommandId};
use super::{absent, glob};
use crate::redis::protocol::parser::{Arguments, parse_integer};
use crate::redis::protocol::reply::Reply;
use crate::redis::protocol::slot::{KeyMaker, SLOTS};

/// A command with checked arguments. Its keys are the engine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answered from the connection alone.
    Local(Local),
    /// GET.
    Get(Bytes),
    /// A write of one key.
    Write(SingleWrite),
    /// MGET.
    GetMany(Vec<Bytes>),
    /// EXISTS.
    Exists(Vec<Bytes>),
    /// MSET.
    SetMany(Vec<(Bytes, Bytes)>),
    /// DEL of several keys.
    DeleteMany(Vec<Bytes>),
    /// DBSIZE.
    CountKeys,
    /// SCAN.
    Scan(Scan),
}

impl Command {
    /// True if it may read many keys for a short reply. A connection runs one of these at a time: a
    /// client that sends hundreds of them and disconnects leaves only one running.
    #[must_use]
    pub fn is_walk(&self) -> bool {
        matches!(self, Command::CountKeys | Command::Scan(_))
    }

    /// True if its reply holds values.
    #[must_use]
    pub fn reads_values(&self) -> bool {
        matches!(self, Command::Get(_) | Command::GetMany(_))
    }
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SingleWrite {
    /// SET.
    Set {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// INCR and similar commands.
    Add {
        /// The key.
        key: Bytes,
        /// What to add.
        by: i64,
    },
    /// DEL of one key.
    Delete {
        /// The key.
        key: Bytes,
    },
}

impl SingleWrite {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            SingleWrite::Set { key, .. }
            | SingleWrite::Add { key, .. }
            | SingleWrite::Delete { key } => key,
        }
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let value = if let SingleWrite::Set { value, .. } = self { value.len() } else { 0 };
        self.key().len() + value
    }
}

/// SCAN's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// First slot to look at.
    pub slot: u16,
    /// How many keys the client would like.
    pub count: usize,
    /// Keys that do not match are left out.
    pub pattern: Option<Bytes>,
    /// False if the client asks for a type that no key has.
    pub strings: bool,
}

/// Commands that need no engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Local {
    /// The reply is already known.
    Answer(Reply),
    /// COMMAND; a subcommand is at place 1.
    Describe(Arguments),
    /// HELLO; the rest is in the arguments.
    Hello(Arguments),
    /// INFO of these sections; none: all.
    Info(Vec<Bytes>),
    /// CLIENT; the subcommand is at place 1.
    Client(Arguments),
    /// CONFIG GET of these patterns.
    ConfigGet(Vec<Bytes>),
    /// RESET: back to the state of a new connection.
    Reset,
    /// QUIT: answer, then close.
    Quit,
}

const SYNTAX: Reply = Reply::error("ERR syntax error");
const NOT_AN_INTEGER: Reply = Reply::error("ERR value is not an integer or out of range");
/// A SCAN that asks for more keys gets about this many; the next steps return the rest.
const SCAN_COUNT_MAX: usize = 4096;
const SCAN_COUNT_DEFAULT: usize = 10;
/// Most arguments of COMMAND: each may be answered with hundreds of bytes.
const DESCRIBED_MAX: usize = 1_026;

/// Checks a command's name, number of arguments and options.
///
/// # Errors
/// The error reply for the client; the connection stays open.
pub fn parse(arguments: Arguments, keys: &mut KeyMaker) -> Result<Command, Reply> {
    let name = arguments.first().cloned().unwrap_or_default();
    let entry = table::find(&name).ok_or_else(|| unknown_command(&arguments))?;
    if !entry.accepts(arguments.len()) {
        return Err(wrong_arity(entry));
    }
    let mut many = |arguments: &[Bytes]| -> Vec<Bytes> {
        arguments.iter().map(|key| keys.engine_key(key)).collect()
    };
    let local = |local| Ok(Command::Local(local));
    match entry.id {
        CommandId::Get => Ok(Command::Get(keys.engine_key(&arguments[1]))),
        CommandId::Set if arguments.len() > 3 => Err(unsupported_option(&arguments[3])),
        CommandId::Set => {
            let key = keys.engine_key(&arguments[1]);
            Ok(Command::Write(SingleWrite::Set { key, value: arguments[2].clone() }))
        }
        CommandId::Incr => add(keys.engine_key(&arguments[1]), 1),
        CommandId::Decr => add(keys.engine_key(&arguments[1]), -1),
        CommandId::Incrby => {
            let by = parse_integer(&arguments[2]).ok_or(NOT_AN_INTEGER)?;
            add(keys.engine_key(&arguments[1]), by)
        }
        CommandId::Decrby => {
            let by = parse_integer(&arguments[2]).ok_or(NOT_AN_INTEGER)?;
            let by = by.checked_neg().ok_or(Reply::error("ERR decrement would overflow"))?;
            add(keys.engine_key(&arguments[1]), by)
        }
        CommandId::Del if arguments.len() == 2 => {
            Ok(Command::Write(SingleWrite::Delete { key: keys.engine_key(&arguments[1]) }))
        }
        CommandId::Del => Ok(Command::DeleteMany(many(&arguments[1..]))),
        CommandId::Exists => Ok(Command::Exists(many(&arguments[1..]))),
        CommandId::Mget => Ok(Command::GetMany(many(&arguments[1..]))),
        CommandId::Mset => {
            let (pairs, []) = arguments[1..].as_chunks::<2>() else {
                return Err(wrong_arity(entry));
            };
            let pair = |[key, value]: &[Bytes; 2]| (keys.engine_key(key), value.clone());
            Ok(Command::SetMany(pairs.iter().map(pair).collect()))
        }
        CommandId::Dbsize => Ok(Command::CountKeys),
        CommandId::Scan => Ok(Command::Scan(parse_scan(&arguments)?)),
        CommandId::Ping if arguments.len() > 2 => Err(wrong_arity(entry)),
        CommandId::Ping => local(Local::Answer(match arguments.get(1) {
            None => Reply::Status("PONG"),
            Some(text) => Reply::Bulk(text.clone()),
        })),
        CommandId::Echo => local(Local::Answer(Reply::Bulk(arguments[1].clone()))),
        CommandId::Select => local(Local::Answer(select(&arguments[1]))),
        CommandId::Command if arguments.len() > DESCRIBED_MAX => {
            Err(Reply::error("ERR COMMAND takes at most 1024 names at once"))
        }
        CommandId::Command => local(Local::Describe(arguments)),
        CommandId::Hello => local(Local::Hello(arguments)),
        CommandId::Info => local(Local::Info(arguments[1..].to_vec())),
        CommandId::Config => parse_config(&arguments),
        CommandId::Client => local(Local::Client(arguments)),
        CommandId::Reset => local(Local::Reset),
        CommandId::Quit => local(Local::Quit),
    }
}

fn add(key: Bytes, by: i64) -> Result<Command, Reply> {
    Ok(Command::Write(SingleWrite::Add { key, by }))
}

fn select(index: &[u8]) -> Reply {
    match parse_integer(index) {
        Some(0) => Reply::OK,
        Some(_) => Reply::error("ERR DB index is out of range"),
        None => NOT_AN_INTEGER,
    }
}

fn parse_scan(arguments: &[Bytes]) -> Result<Scan, Reply> {
    let slot = parse_integer(&arguments[1])
        .and_then(|slot| u16::try_from(slot).ok())
        .filter(|&slot| slot < SLOTS)
        .ok_or(Reply::error("ERR invalid cursor"))?;
    let mut scan = Scan { slot, count: SCAN_COUNT_DEFAULT, pattern: None, strings: true };
    let (options, []) = arguments[2..].as_chunks::<2>() else { return Err(SYNTAX) };
    for [option, value] in options {
        if option.eq_ignore_ascii_case(b"match") {
            scan.pattern = Some(value.clone());
        } else if option.eq_ignore_ascii_case(b"count") {
            let count = parse_integer(value).ok_or(NOT_AN_INTEGER)?;
            let count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(SYNTAX)?;
            scan.count = count.min(SCAN_COUNT_MAX);
        } else if option.eq_ignore_ascii_case(b"type") {
            scan.strings = value.eq_ignore_ascii_case(b"string");
        } else {
            return Err(SYNTAX);
        }
    }
    Ok(scan)
}

/// The reply to an argument after the value of SET.
fn unsupported_option(option: &[u8]) -> Reply {
    const OPTIONS: [&str; 9] = ["NX", "XX", "GET", "EX", "PX", "EXAT", "PXAT", "KEEPTTL", "IFEQ"];
    match OPTIONS.iter().find(|known| option.eq_ignore_ascii_case(known.as_bytes())) {
        Some(known) => Reply::Error(
            format!("ERR syntax error, {known} and other options of SET are not supported yet")
                .into(),
        ),
        None => SYNTAX,
    }
}

fn parse_config(arguments: &[Bytes]) -> Result<Command, Reply> {
    let subcommand = &arguments[1];
    if !subcommand.eq_ignore_ascii_case(b"get") {
        return Err(unknown_subcommand("CONFIG", subcommand, "CONFIG GET"));
    }
    if arguments.len() < 3 {
        return Err(Reply::error("ERR wrong number of arguments for 'config|get' command"));
    }
    Ok(Command::Local(Local::ConfigGet(arguments[2..].to_vec())))
}

/// The answer to COMMAND.
#[must_use]
pub fn describe_commands(arguments: &[Bytes]) -> Reply {
    let Some(subcommand) = arguments.get(1) else {
        return Reply::Array(table::COMMANDS.iter().map(CommandEntry::describe).collect());
    };
    let known = |name: &Bytes| table::find(name).map_or(Reply::Null, CommandEntry::describe);
    match subcommand.to_ascii_lowercase().as_slice() {
        b"docs" => Reply::Map(Vec::new()),
        b"count" => Reply::Integer(table::COMMANDS.len() as i64),
        b"info" if arguments.len() == 2 => describe_commands(&[]),
        b"info" => Reply::Array(arguments[2..].iter().map(known).collect()),
        b"list" => list_commands(&arguments[2..]),
        _ => unknown_subcommand("COMMAND", subcommand, "COMMAND COUNT, DOCS, INFO or LIST"),
    }
}

/// COMMAND LIST, with its filter.
fn list_commands(filter: &[Bytes]) -> Reply {
    let (by, wanted) = match filter {
        [] => (Vec::new(), &b""[..]),
        [word, by, wanted] if word.eq_ignore_ascii_case(b"filterby") => {
            (by.to_ascii_lowercase(), &wanted[..])
        }
        _ => return SYNTAX,
    };
    let lower = wanted.to_ascii_lowercase();
    let matches: &dyn Fn(&CommandEntry) -> bool = match by.as_slice() {
        b"" => &|_| true,
        // There are no modules.
        b"module" => &|_| false,
        b"aclcat" => &|entry| entry.categories.iter().any(|name| name.as_bytes()[1..] == lower),
        b"pattern" => &|entry| glob::matches(&lower, entry.name.as_bytes()),
        _ => return SYNTAX,
    };
    let entries = table::COMMANDS.iter().filter(|entry| matches(entry));
    Reply::Array(entries.map(|entry| Reply::text(entry.name)).collect())
}

/// The reply to a subcommand that this port does not have.
#[must_use]
pub fn unknown_subcommand(command: &str, subcommand: &[u8], try_this: &str) -> Reply {
    let subcommand = printable(subcommand, 128);
    Reply::Error(
        format!("ERR unknown subcommand '{subcommand}' of {command}. Try {try_this}.").into(),
    )
}

fn wrong_arity(entry: &CommandEntry) -> Reply {
    wrong_arguments(entry.name)
}

/// The reply to a command with too few arguments, or too many.
#[must_use]
pub fn wrong_arguments(name: &str) -> Reply {
    Reply::Error(format!("ERR wrong number of arguments for '{name}' command").into())
}

/// The exact text of Redis, with its trailing blank, because clients look for it; then what exists
/// here instead.
#[must_use]
pub fn unknown_command(arguments: &[Bytes]) -> Reply {
    const SHOWN_BYTES_MAX: usize = 128;
    let name = arguments.first().map(|name| &name[..name.len().min(SHOWN_BYTES_MAX)]);
    let name = name.unwrap_or_default();
    let mut shown = String::new();
    for argument in arguments.iter().skip(1) {
        if shown.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - shown.len();
        shown.push_str(&format!("'{}' ", printable(argument, room)));
    }
    let remark = absent::remark(&name.to_ascii_lowercase());
    let name = String::from_utf8_lossy(name);
    Reply::Error(
        format!("ERR unknown command '{name}', with args beginning with: {shown}({remark})").into(),
    )
}

fn printable(bytes: &[u8], bytes_max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)]).into_owned()
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
