//! What one connection knows about itself, and the commands that are answered from it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::command::{Local, describe_commands, unknown_subcommand};
use super::glob;
use super::parser::{Arguments, parse_integer};
use super::reply::{Protocol, Reply};
use super::server::{Client, Shared};

/// The Redis version that clients may expect the commands here to behave like.
const REDIS_VERSION: &str = "7.0.15";

/// One connection's state.
pub(super) struct Session {
    pub(super) protocol: Protocol,
    client: Arc<Client>,
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, client: Arc<Client>) -> Session {
        Session { protocol: Protocol::default(), client, shared }
    }

    /// Answers a command that needs no engine. The protocol changes before the answer is written,
    /// as in Redis.
    pub(super) fn answer(&mut self, local: Local) -> Reply {
        match local {
            Local::Answer(reply) => reply,
            Local::Describe(arguments) => describe_commands(&arguments),
            Local::Hello(arguments) => self.hello(&arguments).unwrap_or_else(|error| error),
            Local::Info(sections) => Reply::Verbatim(self.info(&sections)),
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
                    // The one user there is has no password: like Redis, take any.
                    if !user.eq_ignore_ascii_case(b"default") {
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
                _ => return Err(Reply::error("ERR Syntax error in HELLO option")),
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
            (b"setinfo", [_, _]) | (b"no-evict" | b"no-touch", [_]) => Reply::OK,
            (b"info", []) => Reply::Verbatim(self.client.line() + "\n"),
            (b"list", _) => Reply::Verbatim(self.shared.client_lines()),
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

    fn config(&self, patterns: &[Bytes]) -> Reply {
        let settings = [
            ("appendonly", "yes".to_owned()),
            ("appendfsync", "always".to_owned()),
            ("databases", "1".to_owned()),
            ("maxclients", self.shared.clients_max.to_string()),
            ("maxmemory", "0".to_owned()),
            ("maxmemory-policy", "noeviction".to_owned()),
            ("proto-max-bulk-len", super::parser::ARGUMENT_BYTES_MAX.to_string()),
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

    fn info(&self, sections: &[Bytes]) -> String {
        let shared = &self.shared;
        let statistics = &shared.statistics;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let all = [
            (
                "Server",
                format!(
                    "redis_version:{REDIS_VERSION}\r\nquorate_version:{}\r\n\
                     redis_mode:standalone\r\nprocess_id:{}\r\ntcp_port:{}\r\n\
                     uptime_in_seconds:{}\r\n",
                    env!("CARGO_PKG_VERSION"),
                    std::process::id(),
                    shared.address.port(),
                    shared.started.elapsed().as_secs(),
                ),
            ),
            (
                "Clients",
                format!(
                    "connected_clients:{}\r\nmaxclients:{}\r\n",
                    shared.clients_now(),
                    shared.clients_max
                ),
            ),
            (
                "Stats",
                format!(
                    "total_connections_received:{}\r\ntotal_commands_processed:{}\r\n\
                     rejected_connections:{}\r\n",
                    load(&statistics.connections),
                    load(&statistics.commands),
                    load(&statistics.connections_refused),
                ),
            ),
            ("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()),
            ("Cluster", "cluster_enabled:0\r\n".to_owned()),
            ("Quorate", format!("node:{}\r\n", shared.engine.node())),
        ];
        let everything = |name: &Bytes| {
            [b"all".as_slice(), b"default", b"everything"]
                .iter()
                .any(|word| name.eq_ignore_ascii_case(word))
        };
        let every = sections.is_empty() || sections.iter().any(everything);
        let shown = all.into_iter().filter(|(title, _)| {
            every || sections.iter().any(|name| name.eq_ignore_ascii_case(title.as_bytes()))
        });
        shown.map(|(title, body)| format!("# {title}\r\n{body}")).collect::<Vec<_>>().join("\r\n")
    }
}

/// Names appear in CLIENT LIST, whose fields are set apart by blanks.
fn checked_name(name: &Bytes) -> Result<Bytes, Reply> {
    const NAME_BYTES_MAX: usize = 256;
    if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Reply::error(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ));
    }
    Ok(name.clone())
}
