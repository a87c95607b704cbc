//! The command table: every command this port knows, and what `COMMAND` says about it.

use crate::redis::protocol::reply::Reply;

/// Which command a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each stands for the command of its name")]
pub enum CommandId {
    Ping,
    Echo,
    Get,
    Set,
    Mget,
    Mset,
    Del,
    Exists,
    Incr,
    Incrby,
    Decr,
    Decrby,
    Dbsize,
    Scan,
    Command,
    Hello,
    Info,
    Config,
    Client,
    Select,
    Reset,
    Quit,
}

/// What is known about one command. Some clients refuse a command that is missing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEntry {
    /// The command.
    pub id: CommandId,
    /// Its name in lower case.
    pub name: &'static str,
    /// Number of arguments with the name; negative: at least that many.
    pub arity: i64,
    /// The words that `COMMAND` shows.
    pub flags: &'static [&'static str],
    /// Place of the first key among the arguments; 0 if there is none.
    pub first_key: i64,
    /// Place of the last key; negative counts from the end.
    pub last_key: i64,
    /// Places from one key to the next.
    pub step: i64,
    /// Its categories of access, as Redis 7.0 has them.
    pub categories: &'static [&'static str],
}

const fn entry(
    id: CommandId,
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    (first_key, last_key, step): (i64, i64, i64),
    categories: &'static [&'static str],
) -> CommandEntry {
    CommandEntry { id, name, arity, flags, first_key, last_key, step, categories }
}

const NO_KEY: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);
const PAIRS: (i64, i64, i64) = (1, -1, 2);
const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const FAST: &[&str] = &["fast"];
const ADMIN: &[&str] = &["loading", "stale"];

const FAST_CONNECTION: &[&str] = &["@fast", "@connection"];
const SLOW_CONNECTION: &[&str] = &["@slow", "@connection"];
const READ_STRING: &[&str] = &["@read", "@string", "@fast"];
const FAST_STRING: &[&str] = &["@write", "@string", "@fast"];
const SLOW_STRING: &[&str] = &["@write", "@string", "@slow"];
const FAST_KEYS: &[&str] = &["@keyspace", "@read", "@fast"];
const SLOW_KEYS: &[&str] = &["@keyspace", "@read", "@slow"];
const DELETES: &[&str] = &["@keyspace", "@write", "@slow"];

/// All commands, by name.
pub static COMMANDS: [CommandEntry; 22] = [
    entry(CommandId::Client, "client", -2, ADMIN, NO_KEY, &["@slow"]),
    entry(CommandId::Command, "command", -1, ADMIN, NO_KEY, SLOW_CONNECTION),
    entry(CommandId::Config, "config", -2, &["admin", "loading", "stale"], NO_KEY, &["@slow"]),
    entry(CommandId::Dbsize, "dbsize", 1, &["readonly"], NO_KEY, FAST_KEYS),
    entry(CommandId::Decr, "decr", 2, FAST_WRITE, ONE_KEY, FAST_STRING),
    entry(CommandId::Decrby, "decrby", 3, FAST_WRITE, ONE_KEY, FAST_STRING),
    entry(CommandId::Del, "del", -2, &["write"], ALL_KEYS, DELETES),
    entry(CommandId::Echo, "echo", 2, FAST, NO_KEY, FAST_CONNECTION),
    entry(CommandId::Exists, "exists", -2, READ, ALL_KEYS, FAST_KEYS),
    entry(CommandId::Get, "get", 2, READ, ONE_KEY, READ_STRING),
    entry(CommandId::Hello, "hello", -1, &["loading", "stale", "fast"], NO_KEY, FAST_CONNECTION),
    entry(CommandId::Incr, "incr", 2, FAST_WRITE, ONE_KEY, FAST_STRING),
    entry(CommandId::Incrby, "incrby", 3, FAST_WRITE, ONE_KEY, FAST_STRING),
    entry(CommandId::Info, "info", -1, ADMIN, NO_KEY, &["@slow", "@dangerous"]),
    entry(CommandId::Mget, "mget", -2, READ, ALL_KEYS, READ_STRING),
    entry(CommandId::Mset, "mset", -3, WRITE, PAIRS, SLOW_STRING),
    entry(CommandId::Ping, "ping", -1, FAST, NO_KEY, FAST_CONNECTION),
    entry(CommandId::Quit, "quit", -1, &["loading", "stale", "fast"], NO_KEY, FAST_CONNECTION),
    entry(CommandId::Reset, "reset", 1, &["loading", "stale", "fast"], NO_KEY, FAST_CONNECTION),
    entry(CommandId::Scan, "scan", -2, &["readonly"], NO_KEY, SLOW_KEYS),
    entry(CommandId::Select, "select", 2, &["loading", "stale", "fast"], NO_KEY, FAST_CONNECTION),
    entry(CommandId::Set, "set", -3, WRITE, ONE_KEY, SLOW_STRING),
];

/// Most bytes that one entry's description holds: four lists and sets of a few words among ten
/// elements.
pub const DESCRIPTION_BYTES_MAX: usize = 24 * (size_of::<Reply>() + 16);

const NAME_BYTES_MAX: usize = 8;

/// Finds a command by name, whatever its case.
#[must_use]
pub fn find(name: &[u8]) -> Option<&'static CommandEntry> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|entry| entry.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}

impl CommandEntry {
    /// True if the command may have this many arguments, its name included.
    #[must_use]
    pub fn accepts(&self, arguments: usize) -> bool {
        match usize::try_from(self.arity) {
            Ok(exactly) => arguments == exactly,
            Err(_) => arguments as u64 >= self.arity.unsigned_abs(),
        }
    }

    /// The entry as `COMMAND` shows it: ten elements since Redis 7.
    #[must_use]
    pub fn describe(&self) -> Reply {
        Reply::Array(vec![
            Reply::text(self.name),
            Reply::Integer(self.arity),
            Reply::Set(self.flags.iter().copied().map(Reply::Status).collect()),
            Reply::Integer(self.first_key),
            Reply::Integer(self.last_key),
            Reply::Integer(self.step),
            Reply::Set(self.categories.iter().copied().map(Reply::Status).collect()),
            Reply::Array(Vec::new()),
            Reply::Array(Vec::new()),
            Reply::Array(Vec::new()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for entry in &COMMANDS {
            assert_eq!(find(entry.name.as_bytes()), Some(entry));
            assert_eq!(find(entry.name.to_ascii_uppercase().as_bytes()), Some(entry));
            assert!(entry.name.len() < NAME_BYTES_MAX);
            assert!(entry.describe().len_bytes() <= DESCRIPTION_BYTES_MAX, "{}", entry.name);
        }
        assert_eq!(find(b"nonsense"), None);
        assert_eq!(find(b"a-name-longer-than-any"), None);
        assert_eq!(find(b""), None);
    }

    #[test]
    fn arity_counts_the_name() {
        let get = find(b"get").expect("known");
        assert!(get.accepts(2) && !get.accepts(1) && !get.accepts(3));
        let mget = find(b"mget").expect("known");
        assert!(mget.accepts(2) && mget.accepts(9) && !mget.accepts(1));
    }
}
