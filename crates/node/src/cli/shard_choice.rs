//! Which shard `quorate shard show` is asked for.

use crate::redis::protocol::slot::{slot_of, slot_start};
use crate::report::{ClusterReport, ShardReport};
use clap::Args;

/// The meta shard: it owns the cluster's directory and no client's key.
const META: u64 = 0;

/// A number or a key, one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct ShardChoice {
    /// The shard's number; 0 is the meta shard, which keeps the cluster's directory.
    #[arg(value_parser = number)]
    shard: Option<u64>,
    /// The shard that owns this key, as Redis clients name it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| {
        format!(
            "shards have numbers: `quorate shard list` shows them. For the shard of a key: quorate shard \
             show --key {text}"
        )
    })
}

impl ShardChoice {
    /// The shard's number, if it was given.
    pub(super) fn number(&self) -> Option<u64> {
        self.shard
    }

    /// The place of the shard among those of `status`.
    ///
    /// # Errors
    /// A sentence, if it is not there.
    pub(super) fn place_in(&self, status: &ClusterReport) -> Result<usize, String> {
        let place = status.shards.iter().position(|shard| self.is(shard));
        place.ok_or_else(|| match (&self.key, self.shard) {
            (Some(key), _) => format!(
                "node {} knows no shard that owns the key {key:?}; it may not have the cluster's map yet",
                status.asked
            ),
            (None, number) => format!(
                "node {} knows no shard {} among {}; `quorate shard list` shows them",
                status.asked,
                number.unwrap_or_default(),
                status.shards.len()
            ),
        })
    }

    fn is(&self, shard: &ShardReport) -> bool {
        let Some(key) = &self.key else {
            return self.shard == Some(shard.shard);
        };
        // Two hexadecimal digits a byte, all lower case: their order is that of the bytes.
        let slot = slot_start(slot_of(key.as_bytes()));
        let bytes = slot.iter().chain(key.as_bytes());
        let found: String = bytes.map(|byte| format!("{byte:02x}")).collect();
        let is_below_end = shard.end.as_ref().is_none_or(|end| found < *end);
        shard.shard != META && shard.start <= found && is_below_end
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use quorate::{Health, ShardState};

    use super::*;
    use crate::report::SCHEMA;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        choice: ShardChoice,
    }

    fn choice(words: &[&str]) -> Result<ShardChoice, String> {
        let line = Line::try_parse_from([&["show"], words].concat());
        line.map(|line| line.choice).map_err(|error| error.to_string())
    }

    fn status() -> ClusterReport {
        let shard = |shard, start: &str, end: Option<&str>| ShardReport {
            shard,
            start: start.to_owned(),
            end: end.map(str::to_owned),
            state: ShardState::Healthy,
            version: 1,
            membership: 1,
            term: 1,
            leader: Some(1),
            replicas: Vec::new(),
        };
        ClusterReport {
            schema: SCHEMA,
            cluster: String::new(),
            asked: 1,
            health: Health::Healthy,
            problems: Vec::new(),
            notes: Vec::new(),
            map_revision: 1,
            nodes: Vec::new(),
            // Slots [0, 8192) and [8192, 16384).
            shards: vec![shard(0, "", None), shard(4, "", Some("2000")), shard(7, "2000", None)],
        }
    }

    /// Goal: a shard is found by number and by key, and other input is answered with a way out.
    /// Method: keys whose slots Redis documents: `foo` 12182, `{tag}a` and `{tag}b` 8338,
    /// `123456789` 12739.
    #[test]
    fn shards_are_found_by_number_and_by_key() {
        let status = status();
        for (words, expected) in [
            (&["4"][..], Ok(4)),
            (&["0"], Ok(0)),
            (&["--key", "foo"], Ok(7)),
            (&["--key", "{tag}a"], Ok(7)),
            (&["--key", "bar"], Ok(4)),
            (&["5"], Err("no shard 5 among 3")),
        ] {
            let found = choice(words).expect("understood").place_in(&status);
            match expected {
                Ok(number) => assert_eq!(status.shards[found.expect("found")].shard, number),
                Err(told) => assert!(found.expect_err("not there").contains(told)),
            }
        }
        let nonsense = choice(&["abc"]).expect_err("no number");
        assert!(
            nonsense.contains("shard list") && nonsense.contains("show --key abc"),
            "{nonsense}"
        );
        assert!(choice(&[]).is_err() && choice(&["4", "--key", "a"]).is_err());
    }
}
