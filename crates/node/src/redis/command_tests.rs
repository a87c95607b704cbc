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
        ("FOO a b", "ERR unknown command 'FOO', with args beginning with: 'a' 'b' "),
        ("foo", "ERR unknown command 'foo', with args beginning with: "),
        ("set a", "ERR wrong number of arguments for 'set' command"),
        ("GET", "ERR wrong number of arguments for 'get' command"),
        ("mset a 1 b", "ERR wrong number of arguments for 'mset' command"),
        ("ping a b", "ERR wrong number of arguments for 'ping' command"),
        ("set a 1 EX 5", "ERR syntax error"),
        ("set a 1 NX", "ERR syntax error"),
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
            let mut out = super::super::output::Output::default();
            reply.write(super::super::reply::Protocol::Resp2, &mut out);
            prop_assert_eq!(out.to_vec().iter().filter(|&&byte| byte == b'\n').count(), 1);
        }
    }
}
