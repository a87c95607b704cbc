//! The keys that the file may hold, and which one a wrong key was meant to be.

/// A key, with a value that would be right.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) example: &'static str,
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

/// A table of the file.
#[derive(Debug)]
pub(super) struct Schema {
    /// The name in its header; empty for the keys above the first header.
    pub(super) header: &'static str,
    pub(super) keys: &'static [Key],
}

pub(super) const ROOT: Schema = Schema {
    header: "",
    keys: &[
        key("node", "1"),
        key("directory", "\"data/node-1\""),
        key("disk_floor_mib", "896"),
        key("log_kept_mib", "64"),
        key("certificates", ""),
        key("nodes", ""),
        key("bootstrap", ""),
        key("listen", ""),
    ],
};
pub(super) const CERTIFICATES: Schema = Schema {
    header: "[certificates]",
    keys: &[
        key("authority", "\"certs/authority.pem\""),
        key("certificate", "\"certs/node-1.pem\""),
        key("key", "\"certs/node-1.key\""),
    ],
};
pub(super) const NODES: Schema = Schema {
    header: "[[nodes]]",
    keys: &[
        key("id", "1"),
        key("address", "\"127.0.0.1:7101\""),
        key("redis", "\"127.0.0.1:7001\""),
        key("admin", "\"127.0.0.1:8001\""),
    ],
};
pub(super) const BOOTSTRAP: Schema = Schema {
    header: "[bootstrap]",
    keys: &[key("shards", "64"), key("copies", "3"), key("nodes", "[1, 2, 3]")],
};
pub(super) const LISTEN: Schema = Schema {
    header: "[listen]",
    keys: &[
        key("address", "\"0.0.0.0:7101\""),
        key("redis", "\"0.0.0.0:7001\""),
        key("admin", "\"0.0.0.0:8001\""),
    ],
};

const SCHEMAS: [&Schema; 5] = [&ROOT, &CERTIFICATES, &NODES, &BOOTSTRAP, &LISTEN];

/// What an unknown key was meant to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// Another key of the same table: a slip of the keyboard.
    Nearby(&'static str),
    /// The same key of other tables, named by their headers: TOML gives every key to the header
    /// above it.
    Elsewhere(Vec<&'static str>),
    /// No idea.
    Nothing,
}

/// Finds what `unknown`, found in the table of `schema`, was meant to be.
pub(super) fn meant(schema: &Schema, unknown: &str) -> Meant {
    let near = schema
        .keys
        .iter()
        .map(|key| (distance(unknown, key.name), key.name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(unknown.len()) / 3);
    if let Some((_, name)) = near {
        return Meant::Nearby(name);
    }
    let holds = |schema: &&&Schema| schema.keys.iter().any(|key| key.name == unknown);
    let elsewhere: Vec<_> = SCHEMAS.iter().filter(holds).map(|schema| schema.header).collect();
    if elsewhere.is_empty() { Meant::Nothing } else { Meant::Elsewhere(elsewhere) }
}

/// How many letters have to be put in, left out or changed to make one word the other; upper and lower
/// case are alike.
fn distance(one: &str, other: &str) -> usize {
    strsim::levenshtein(&one.to_lowercase(), &other.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("adress", "address", 1),
            ("Redis", "redis", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn wrong_keys_are_understood() {
        assert_eq!(meant(&NODES, "adress"), Meant::Nearby("address"));
        assert_eq!(meant(&ROOT, "bootsrap"), Meant::Nearby("bootstrap"));
        assert_eq!(meant(&CERTIFICATES, "directory"), Meant::Elsewhere(vec![""]));
        assert_eq!(meant(&ROOT, "redis"), Meant::Elsewhere(vec!["[[nodes]]", "[listen]"]));
        assert_eq!(meant(&ROOT, "colour"), Meant::Nothing);
    }
}
