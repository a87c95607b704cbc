//! Shapes and errors of commands, by tables.

use proptest::prelude::*;

use super::*;

fn parse_line(line: &str) -> Result<Command, Reply> {
    let words = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes()));
    parse(words.collect(), &mut KeyMaker::default())
}

fn key(text: &str) -> Bytes {
    KeyMaker::default().engine_key(text.as_bytes())
}

#[test]
fn errors_are_those_of_redis_to_the_letter() {
    let table = [
        ("set a", "ERR wrong number of arguments for 'set' command"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("mset a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("ping a b", "ERR wrong number of arguments for 'ping' command"),
        ("set a 1 ex 5", "ERR syntax error, EX and other options of SET are not supported yet"),
        ("set a 1 NX", "ERR syntax error, NX and other options of SET are not supported yet"),
        ("set a 1 nonsense", "ERR syntax error"),
        ("incrby a x", "ERR value is not an integer or out of range"),
        ("decrby a -9223372036854775808", "ERR decrement would overflow"),
        ("scan x", "ERR invalid cursor"),
        ("scan 16384", "ERR invalid cursor"),
        ("scan -1", "ERR invalid cursor"),
        ("scan 0 count", "ERR syntax error"),
        ("scan 0 count 0", "ERR syntax error"),
        ("scan 0 count x", "ERR value is not an integer or out of range"),
        ("scan 0 nonsense 1", "ERR syntax error"),
        ("config get", "ERR wrong number of arguments for 'config|get' command"),
        ("config set a b", "ERR unknown subcommand 'set' of CONFIG. Try CONFIG GET."),
    ];
    for (line, expected) in table {
        assert_eq!(parse_line(line), Err(Reply::Error(expected.into())), "{line}");
    }
}

/// Goal: an error text begins with the words of Redis that clients look for, trailing blank
/// included, and then says what exists here. Method: a table.
#[test]
fn unknown_commands_say_what_is_here() {
    let table = [
        ("FOO a b", "FOO", "'a' 'b' ", "(here are CLIENT COMMAND CONFIG DBSIZE DECR "),
        ("foo", "foo", "", "(here are CLIENT "),
        ("KEYS *", "KEYS", "'*' ", "(SCAN 0 MATCH pattern lists keys"),
        ("eval x 0", "eval", "'x' '0' ", "(there are no scripts"),
        ("SUBSCRIBE c", "SUBSCRIBE", "'c' ", "(there are no channels"),
        ("cluster slots", "cluster", "'slots' ", "(Redis Cluster mode is not spoken"),
        ("WATCH k", "WATCH", "'k' ", "(transactions are not built yet"),
    ];
    for (line, name, shown, remark) in table {
        let Err(Reply::Error(text)) = parse_line(line) else { panic!("{line} is known") };
        let redis = format!("ERR unknown command '{name}', with args beginning with: {shown}");
        let rest = text.strip_prefix(&redis).expect("the prefix of Redis");
        assert!(rest.starts_with(remark) && rest.ends_with(')'), "{text}");
    }
}

/// Goal: COMMAND LIST names the commands that match its filter, as in Redis 7.0. Method: a table.
#[test]
fn command_list_takes_its_filters() {
    let names = |line: &str| {
        let words: Vec<Bytes> =
            line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        match describe_commands(&words) {
            Reply::Array(names) => names
                .into_iter()
                .map(|name| match name {
                    Reply::Bulk(name) => String::from_utf8_lossy(&name).into_owned(),
                    other => panic!("{other:?}"),
                })
                .collect::<Vec<_>>()
                .join(" "),
            Reply::Error(text) => text.into_owned(),
            other => panic!("{other:?}"),
        }
    };
    let table = [
        ("command list filterby module x", ""),
        ("command list FILTERBY pattern GE*", "get"),
        ("command list filterby aclcat STRING", "decr decrby get incr incrby mget mset set"),
        ("command list filterby aclcat nonsense", ""),
        ("command list filterby aclcat", "ERR syntax error"),
        ("command list filterby nonsense x", "ERR syntax error"),
        ("command list x", "ERR syntax error"),
    ];
    for (line, expected) in table {
        assert_eq!(names(line), expected, "{line}");
    }
    assert_eq!(names("command list").split(' ').count(), table::COMMANDS.len());
}

#[test]
fn commands_have_their_shapes() {
    let write = |write| Ok(Command::Write(write));
    let table = [
        ("GET a", Ok(Command::Get(key("a")))),
        ("set a 1", write(SingleWrite::Set { key: key("a"), value: Bytes::from("1") })),
        ("incr a", write(SingleWrite::Add { key: key("a"), by: 1 })),
        ("decrby a 3", write(SingleWrite::Add { key: key("a"), by: -3 })),
        ("del a", write(SingleWrite::Delete { key: key("a") })),
        ("del a b", Ok(Command::DeleteMany(vec![key("a"), key("b")]))),
        ("mset a 1", Ok(Command::SetMany(vec![(key("a"), Bytes::from("1"))]))),
        ("select 0", Ok(Command::Local(Local::Answer(Reply::OK)))),
        ("ping x", Ok(Command::Local(Local::Answer(Reply::text("x"))))),
        (
            "command docs get",
            Ok(Command::Local(Local::Describe(
                ["command", "docs", "get"].into_iter().map(Bytes::from).collect(),
            ))),
        ),
        (
            "scan 7 COUNT 1000000 match a* TYPE hash",
            Ok(Command::Scan(Scan {
                slot: 7,
                count: SCAN_COUNT_MAX,
                pattern: Some(Bytes::from("a*")),
                strings: false,
            })),
        ),
    ];
    for (line, expected) in table {
        assert_eq!(parse_line(line), expected, "{line}");
    }
}

proptest! {
    /// Goal: no arguments panic, and no error text can break out of its line.
    #[test]
    fn no_arguments_panic(
        name in proptest::sample::select(table::COMMANDS.iter().map(|e| e.name).collect::<Vec<_>>()),
        known in any::<bool>(),
        words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 1..6),
    ) {
        let mut arguments: Arguments = words.into_iter().map(Bytes::from).collect();
        if known {
            arguments[0] = Bytes::from(name);
        }
        if let Err(reply) = parse(arguments, &mut KeyMaker::default()) {
            let mut out = crate::redis::protocol::output::Output::default();
            reply.write(crate::redis::protocol::reply::Protocol::Resp2, &mut out);
            prop_assert_eq!(out.to_vec().iter().filter(|&&byte| byte == b'\n').count(), 1);
        }
    }
}
