//! The state of one connection, and the commands that are answered from it alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::info::{REDIS_VERSION, info};
use super::shared::{Client, Shared};
use crate::redis::commands::command::{Local, describe_commands, unknown_subcommand};
use crate::redis::commands::glob;
use crate::redis::protocol::parser::{Arguments, parse_integer};
use crate::redis::protocol::reply::{Protocol, Reply};

/// One connection's state.
pub(super) struct ConnectionState {
    pub(super) protocol: Protocol,
    client: Arc<Client>,
    shared: Arc<Shared>,
}

impl ConnectionState {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>) -> ConnectionState {
        ConnectionState { protocol: Protocol::default(), client, shared }
    }

    /// Answers a command that needs no engine. The protocol changes before the answer is written,
    /// as in Redis.
    pub(super) fn answer(&mut self, local: Local) -> Reply {
        match local {
            Local::Answer(reply) => reply,
            Local::Describe(arguments) => describe_commands(&arguments),
            Local::Hello(arguments) => self.hello(&arguments).unwrap_or_else(|error| error),
            Local::Info(sections) => Reply::Verbatim(info(&self.shared, &sections)),
            Local::Client(arguments) => self.client(&arguments),
            Local::ConfigGet(patterns) => self.config(&patterns),
            Local::Reset => {
                self.protocol = Protocol::Resp2;
                self.client.set_name(Bytes::new());
                Reply::Status("RESET")
            }
            Local::Quit => Reply::OK,
        }
    }

    fn hello(&mut self, arguments: &Arguments) -> Result<Reply, Reply> {
        let mut protocol = self.protocol;
        if let Some(version) = arguments.get(1) {
            protocol = match parse_integer(version) {
                Some(2) => Protocol::Resp2,
                Some(3) => Protocol::Resp3,
                Some(_) => return Err(Reply::error("NOPROTO unsupported protocol version")),
                None => {
                    return Err(Reply::error(
                        "ERR Protocol version is not an integer or out of range",
                    ));
                }
            };
        }
        let mut rest = arguments.get(2..).unwrap_or_default();
        let mut name = None;
        loop {
            rest = match rest {
                [] => break,
                [word, user, _password, rest @ ..] if word.eq_ignore_ascii_case(b"auth") => {
                    // The only user has no password: like Redis, accept any. User names are
                    // case-sensitive.
                    if user != b"default".as_slice() {
                        return Err(Reply::error(
                            "WRONGPASS invalid username-password pair or user is disabled.",
                        ));
                    }
                    rest
                }
                [word, wanted, rest @ ..] if word.eq_ignore_ascii_case(b"setname") => {
                    name = Some(checked_name(wanted)?);
                    rest
                }
                [word, ..] => {
                    let word = String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned();
                    let text = format!("ERR Syntax error in HELLO option '{word}'");
                    return Err(Reply::Error(text.into()));
                }
            };
        }
        if let Some(name) = name {
            self.client.set_name(name);
        }
        self.protocol = protocol;
        let version = if protocol == Protocol::Resp3 { 3 } else { 2 };
        Ok(Reply::Map(vec![
            (Reply::text("server"), Reply::text("redis")),
            (Reply::text("version"), Reply::text(REDIS_VERSION)),
            (Reply::text("proto"), Reply::Integer(version)),
            (Reply::text("id"), Reply::Integer(self.client.id)),
            (Reply::text("mode"), Reply::text("standalone")),
            (Reply::text("role"), Reply::text("master")),
            (Reply::text("modules"), Reply::Array(Vec::new())),
        ]))
    }

    fn client(&self, arguments: &Arguments) -> Reply {
        let subcommand = arguments[1].to_ascii_lowercase();
        match (subcommand.as_slice(), &arguments[2..]) {
            (b"id", []) => Reply::Integer(self.client.id),
            (b"getname", []) => match self.client.name() {
                name if name.is_empty() => Reply::Null,
                name => Reply::Bulk(name),
            },
            (b"setname", [name]) => match checked_name(name) {
                Ok(name) => {
                    self.client.set_name(name);
                    Reply::OK
                }
                Err(error) => error,
            },
            (b"setinfo", [_, _]) => Reply::OK,
            // Nothing is evicted, whatever a client wants.
            (b"no-evict" | b"no-touch", [word]) => {
                let is_known =
                    [b"on".as_slice(), b"off"].iter().any(|w| word.eq_ignore_ascii_case(w));
                if is_known { Reply::OK } else { Reply::error("ERR syntax error") }
            }
            (b"info", []) => Reply::Verbatim(self.client.line() + "\n"),
            (b"list", filter) => self.client_list(filter),
            (
                b"id" | b"getname" | b"setname" | b"setinfo" | b"no-evict" | b"no-touch" | b"info",
                _,
            ) => {
                let name = String::from_utf8_lossy(&subcommand).into_owned();
                Reply::Error(
                    format!("ERR wrong number of arguments for 'client|{name}' command").into(),
                )
            }
            _ => unknown_subcommand(
                "CLIENT",
                &arguments[1],
                "CLIENT ID, INFO, LIST, GETNAME, SETNAME or SETINFO",
            ),
        }
    }

    fn client_list(&self, filter: &[Bytes]) -> Reply {
        match filter {
            [] => Reply::Verbatim(self.shared.client_lines(|_| true)),
            [word, kind] if word.eq_ignore_ascii_case(b"type") => {
                match kind.to_ascii_lowercase().as_slice() {
                    b"normal" => Reply::Verbatim(self.shared.client_lines(|_| true)),
                    b"master" | b"replica" | b"slave" | b"pubsub" => Reply::Verbatim(String::new()),
                    _ => {
                        let kind = String::from_utf8_lossy(&kind[..kind.len().min(128)]);
                        Reply::Error(format!("ERR Unknown client type '{kind}'").into())
                    }
                }
            }
            [word, ids @ ..] if word.eq_ignore_ascii_case(b"id") && !ids.is_empty() => {
                let ids: Option<BTreeSet<i64>> = ids.iter().map(|id| parse_integer(id)).collect();
                match ids {
                    Some(ids) => Reply::Verbatim(self.shared.client_lines(|id| ids.contains(&id))),
                    None => Reply::error("ERR Invalid client ID"),
                }
            }
            _ => Reply::error("ERR syntax error"),
        }
    }

    fn config(&self, patterns: &[Bytes]) -> Reply {
        let settings = [
            ("appendonly", "yes".to_owned()),
            ("appendfsync", "always".to_owned()),
            ("databases", "1".to_owned()),
            ("maxclients", self.shared.clients_max.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", crate::redis::protocol::parser::ARGUMENT_BYTES_MAX.to_string()),
            ("save", String::new()),
            ("timeout", "0".to_owned()),
        ];
        let wanted = settings.into_iter().filter(|(name, _)| {
            let matches =
                |pattern: &Bytes| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes());
            patterns.iter().any(matches)
        });
        Reply::Map(
            wanted.map(|(name, value)| (Reply::text(name), Reply::Bulk(value.into()))).collect(),
        )
    }
}

/// Names appear in CLIENT LIST, whose fields are separated by blanks.
fn checked_name(name: &Bytes) -> Result<Bytes, Reply> {
    const NAME_BYTES_MAX: usize = 256;
    if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Reply::error(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(name.clone())
}
