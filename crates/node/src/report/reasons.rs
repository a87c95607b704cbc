//! Words for why a node is not up, and for what will end its service.

use quorate::{DiskLow, NodeId, Reason, ShardId, WallMillis, Warning, utc};

/// Why a node is in its state, as the asked node knows it.
pub(super) fn reason(reason: &Reason) -> String {
    match reason {
        Reason::Founding { missing } => {
            format!("waits to meet {} before it serves", nodes(missing))
        }
        Reason::DiskStalled => "its log's disk finishes nothing: look at the disk".to_owned(),
        Reason::ApplyStalled => {
            "its state machine finishes nothing: look at what it is doing".to_owned()
        }
        Reason::DiskLow(low) => disk_low(*low),
        Reason::Fatal(told) | Reason::NotAdmitted(told) | Reason::Disconnected(told) => {
            told.clone()
        }
        Reason::NotConnectedYet => "not connected yet".to_owned(),
        Reason::AddressUnknown => "its address is not known here".to_owned(),
        Reason::NoAnswer { within } => format!(
            "no answer within {} s, though the connection stands: it hangs, or died just now",
            within.as_secs_f64()
        ),
        Reason::UnreadableAnswer(error) => format!("its answer: {error}"),
        Reason::OtherAnswer(answer) => format!("it answered {answer}"),
        Reason::Stopping => "this node is stopping".to_owned(),
        // The engine may add reasons.
        other => format!("{other:?}"),
    }
}

/// As [`reason`], as a node other than the asked one knows it.
pub(super) fn reason_elsewhere(told: &Reason) -> String {
    match told {
        Reason::AddressUnknown => "its address is not known there".to_owned(),
        other => reason(other),
    }
}

fn disk_low(low: DiskLow) -> String {
    format!("its disk has {low}: free some, or give it a larger disk; it goes on by itself")
}

/// What an operator should do before it is too late.
pub(super) fn warning(warning: &Warning) -> String {
    const RENEW: &str = "renew it with `quorate cert node --renew` (or the authority's, if that ends first, with \
         `quorate cert init --renew`) and put the files in place: a running node takes them";
    match warning {
        Warning::DiskNearlyFull { free_bytes, bytes } => format!(
            "its disk has {} of {} MiB left, and the first write that finds no room ends its service: \
             free some, or give it a larger disk",
            free_bytes >> 20,
            bytes >> 20
        ),
        Warning::DiskLow(low) => format!("it takes no writes: {}", disk_low(*low)),
        Warning::DescriptorsNearlyUsed { used, max } => format!(
            "its process has {used} of {max} files and sockets open, and one more than that ends its \
             service: close clients, and raise the limit before its next start, with \
             `ulimit -Hn` as root, or LimitNOFILE= in its systemd unit"
        ),
        Warning::CertificateExpired { at_ms } => format!(
            "its certificate expired on {}, so it can connect to nobody: {RENEW}",
            utc(WallMillis(*at_ms))
        ),
        Warning::CertificateExpires { at_ms } => {
            format!("its certificate expires on {}: {RENEW}", utc(WallMillis(*at_ms)))
        }
        Warning::OfOwner(text) => text.clone(),
        other => format!("{other:?}"),
    }
}

pub(super) fn nodes(nodes: &[NodeId]) -> String {
    name("node", &nodes.iter().map(|node| node.0).collect::<Vec<_>>())
}

pub(super) fn shards(shards: &[ShardId]) -> String {
    match shards {
        [ShardId(0)] => "the meta shard".to_owned(),
        shards => name("shard", &shards.iter().map(|shard| shard.0).collect::<Vec<_>>()),
    }
}

/// Names a few by number, and many by their count.
fn name(what: &str, numbers: &[u64]) -> String {
    match numbers {
        [one] => format!("{what} {one}"),
        few if few.len() <= 8 => {
            let numbers: Vec<String> = few.iter().map(ToString::to_string).collect();
            format!("{what}s {}", numbers.join(", "))
        }
        many => format!("{} {what}s ({} to {})", many.len(), many[0], many[many.len() - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each warning has its figures or its date, and what to do.
    #[test]
    fn warnings_have_figures_and_a_remedy() {
        const DAY_MS: u64 = 86_400_000;
        for (found, figures, remedy) in [
            (
                Warning::DescriptorsNearlyUsed { used: 900, max: 1_000 },
                "900 of 1000",
                "LimitNOFILE=",
            ),
            (
                Warning::DiskNearlyFull { free_bytes: 5 << 20, bytes: 1 << 30 },
                "5 of 1024 MiB",
                "free some",
            ),
            (
                Warning::DiskLow(DiskLow { free_bytes: 5 << 20, needed_bytes: 960 << 20 }),
                "takes no writes: its disk has 5 MiB left, and needs 960 MiB",
                "free some",
            ),
            (
                Warning::CertificateExpires { at_ms: 730 * DAY_MS },
                "expires on 1972-01-01",
                "cert node --renew",
            ),
            (
                Warning::CertificateExpires { at_ms: 9 * DAY_MS },
                "expires on 1970-01-10",
                "cert node --renew",
            ),
            (
                Warning::CertificateExpired { at_ms: 730 * DAY_MS },
                "expired on 1972-01-01",
                "cert node --renew",
            ),
            (Warning::OfOwner("second".to_owned()), "second", ""),
        ] {
            let told = warning(&found);
            assert!(told.contains(figures) && told.contains(remedy), "{told}");
        }
    }
}
