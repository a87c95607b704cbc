//! The Redis commands that do not exist here, and what a client is told instead.

use super::table;

/// What a client is told about some of them; the names are in lower case.
const SENTENCES: &[(&[&str], &str)] = &[
    (
        &["multi"],
        "transactions are not built yet: nothing runs until EXEC or DISCARD; MSET writes several keys",
    ),
    (&["watch", "unwatch"], "transactions are not built yet, and nothing can be watched"),
    (
        &["eval", "eval_ro", "evalsha", "evalsha_ro", "script", "fcall", "fcall_ro", "function"],
        "there are no scripts: INCRBY adds in one step, other logic belongs to the client",
    ),
    (
        &[
            "subscribe",
            "psubscribe",
            "ssubscribe",
            "unsubscribe",
            "punsubscribe",
            "publish",
            "pubsub",
        ],
        "there are no channels: nothing is published to subscribers",
    ),
    (
        &["cluster", "asking", "readonly", "readwrite"],
        "Redis Cluster mode is not spoken: connect without it, any node serves any key",
    ),
    (&["keys", "randomkey"], "SCAN 0 MATCH pattern lists keys step by step, from any node"),
    (&["type"], "every value is a string"),
    (
        &[
            "expire",
            "pexpire",
            "expireat",
            "pexpireat",
            "ttl",
            "pttl",
            "persist",
            "setex",
            "psetex",
        ],
        "keys do not expire yet",
    ),
    (
        &["setnx", "getset", "getdel", "getex"],
        "SET, GET and DEL are there, and take no options yet",
    ),
    (&["unlink"], "DEL removes keys, and gives their memory back later as well"),
    (&["flushall", "flushdb"], "SCAN lists keys and DEL removes them"),
    (
        &["auth", "acl"],
        "there are no users and no passwords yet: keep the port in a private network",
    ),
    (
        &["save", "bgsave", "bgrewriteaof", "lastsave"],
        "every write is synced before it is answered",
    ),
];

/// What to tell a client about an absent command, given its name in lower case.
pub(super) fn remark(name: &[u8]) -> String {
    let known = SENTENCES.iter().find(|(names, _)| names.iter().any(|n| n.as_bytes() == name));
    match known {
        Some((_, sentence)) => (*sentence).to_owned(),
        None => {
            let names: Vec<String> =
                table::COMMANDS.iter().map(|entry| entry.name.to_ascii_uppercase()).collect();
            format!("here are {}", names.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no command that exists is said to be absent, and names are found as they are compared.
    #[test]
    fn what_is_absent_is_not_in_the_table() {
        for (names, sentence) in SENTENCES {
            for name in *names {
                assert!(table::find(name.as_bytes()).is_none(), "{name}");
                assert_eq!(*name, name.to_ascii_lowercase());
                assert_eq!(remark(name.as_bytes()), *sentence);
            }
        }
        let rest = remark(b"lpush");
        assert!(rest.starts_with("here are CLIENT COMMAND ") && rest.ends_with(" SET"), "{rest}");
    }
}
