//! Renders events of the timeline as text.

use super::{
    Event, Gist, InstallStep, Kind, LogId, Membership, Role, RoleState, ShardId, StandingCause,
};
use std::fmt::Write as _;

impl Event {
    /// One line: time, place, and what happened.
    pub(super) fn render(&self, shard: Option<ShardId>, out: &mut String) {
        let mut place = String::new();
        if let Some(node) = self.node {
            place += &format!("n{node} ");
        }
        if let Some(shard) = shard {
            place += &format!("s{shard} ");
        }
        if let Some(replica) = self.replica {
            place += &format!("r{replica} ");
        }
        let _ = write!(out, "{:>12}  {place:<9} {}", self.at, self.kind.text());
    }
}

impl Kind {
    fn text(&self) -> String {
        match self {
            Kind::Started(incarnation) => format!("starts, incarnation {incarnation}"),
            Kind::Stopped(why) => format!("stops: {why}"),
            Kind::Added { last, applied, term } => {
                format!("is taken in: term {term}, log through {last}, applied {applied}")
            }
            Kind::Removed(why) => format!("is removed: {why}"),
            Kind::TombstoneRefused => "is refused: it has a tombstone".to_owned(),
            Kind::Role(role) => role_text(role),
            Kind::Message { is_arrival, other, term, gist } => {
                format!("{} n{other}  term {term}: {}", arrow(*is_arrival), gist.text())
            }
            Kind::Lost { to } => format!("-x n{to}  a message is lost"),
            Kind::Control { is_arrival, other, what, term } => {
                format!("{} n{other}  term {term}: {what}", arrow(*is_arrival))
            }
            Kind::Disk { is_durable, cut, last, term } => disk_text(
                if *is_durable { "durable:" } else { "writes:" },
                cut.map(|index| index.0),
                *last,
                term.map(|term| term.0),
            ),
            Kind::Commit(commit) => format!("commits through {commit}"),
            Kind::Applied(first, last) if first == last => format!("applies {first}"),
            Kind::Applied(first, last) => format!("applies {first} to {last}"),
            Kind::Installed { base, keeps_log: true } => {
                format!("begins behind a snapshot at {base}, the log beyond stays")
            }
            Kind::Installed { base, .. } => format!("begins anew behind a snapshot at {base}"),
            Kind::Install(base, step) => match step {
                InstallStep::Paused => format!("pauses for the snapshot at {base}"),
                InstallStep::Adopted => format!("adopts the state of the snapshot at {base}"),
                InstallStep::Reported => format!("reports the state at {base} as applied"),
                InstallStep::OldDeleted => format!("deletes the state before {base}"),
            },
            Kind::Flushed(applied) => format!("has flushed through {applied}"),
            Kind::Note(note) => (*note).to_owned(),
            Kind::Purged(base) => format!("gives up its log through {base}"),
            Kind::SnapshotSent { to, base } => format!("-> n{to}  snapshot at {base}"),
            Kind::SnapshotFailed { to } => format!("-x n{to}  a snapshot fails"),
            Kind::Standing { peer, epoch, cause } => standing_text(*cause, peer.0, *epoch),
            Kind::Lease(term) => format!("holds the lease of term {term}"),
            Kind::Quiesced(true) => "is quiesced".to_owned(),
            Kind::Quiesced(false) => "is awake".to_owned(),
            Kind::Acknowledged(id) => format!("a client has its answer: {id} is written"),
            Kind::ReadServed { by_lease: true } => "answers a read by its lease".to_owned(),
            Kind::ReadServed { .. } => "answers a confirmed read".to_owned(),
            Kind::Fault { kind, detail } if detail.is_empty() => format!("FAULT {}", kind.name()),
            Kind::Fault { kind, detail } => format!("FAULT {}: {detail}", kind.name()),
            Kind::FaultEnded(kind) => format!("fault over: {}", kind.name()),
            Kind::ChangeBegun(target) => format!("a change begins, to {}", members(target)),
            Kind::ChangeDone(now) => format!("membership is now {}", members(now)),
            Kind::TransferBegun { to } => format!("hands leadership over to n{to}"),
            Kind::Probed { kind, is_ok } => {
                format!("a {kind:?} after the heal {}", if *is_ok { "succeeds" } else { "FAILS" })
            }
            Kind::Healed => "EVERYTHING HEALS".to_owned(),
        }
    }
}

impl Gist {
    fn text(self) -> String {
        match self {
            Gist::VoteRequest { pre: true, last, .. } => format!("pre-vote request, last {last}"),
            Gist::VoteRequest { last, is_ordered: true, .. } => {
                format!("vote request at the leader's order, last {last}")
            }
            Gist::VoteRequest { last, .. } => format!("vote request, last {last}"),
            Gist::VoteReply { pre, granted, leader_alive } => {
                let what = if pre { "pre-vote" } else { "vote" };
                match (granted, leader_alive) {
                    (true, _) => format!("{what} given"),
                    (false, true) => format!("{what} refused, a leader is alive"),
                    (false, false) => format!("{what} refused"),
                }
            }
            Gist::Append { previous, last, commit } if previous == last => {
                format!("probe at {previous}, commit {commit}")
            }
            Gist::Append { previous, last, commit } => {
                format!("append after {previous} through {last}, commit {commit}")
            }
            Gist::Accepted(matched) => format!("accepted through {matched}"),
            Gist::Rejected { previous, hint } => format!("no entry {previous}, try {hint}"),
            Gist::ReadIndex(context) => format!("read index? ({context})"),
            Gist::ReadIndexReply(context, Some(index)) => format!("read at {index} ({context})"),
            Gist::ReadIndexReply(context, None) => format!("no read index ({context})"),
            Gist::TimeoutNow => "campaign now".to_owned(),
        }
    }
}

fn arrow(is_arrival: bool) -> &'static str {
    if is_arrival { "<-" } else { "->" }
}

fn role_text(role: &RoleState) -> String {
    let term = role.term;
    match (role.role, role.leader) {
        (Role::Leader, _) if role.serving => format!("serves as leader of term {term}"),
        (Role::Leader, _) => format!("becomes leader of term {term}"),
        (Role::Candidate, _) => format!("campaigns in term {term}"),
        (Role::PreCandidate, _) => format!("asks whether it would win, term {term}"),
        (Role::Follower, Some((leader, node))) => {
            format!("follows r{leader} on n{node} in term {term}")
        }
        (Role::Follower, None) => format!("waits for a leader in term {term}"),
    }
}

fn disk_text(verb: &str, cut: Option<u64>, last: Option<LogId>, term: Option<u64>) -> String {
    let mut text = verb.to_owned();
    if let Some(term) = term {
        let _ = write!(text, " term {term}");
    }
    if let Some(cut) = cut {
        let _ = write!(text, " cut from {cut}");
    }
    if let Some(last) = last {
        let _ = write!(text, " entries through {last}");
    }
    text
}

fn standing_text(cause: StandingCause, peer: u64, epoch: u64) -> String {
    match cause {
        StandingCause::Given => format!("supports n{peer}, epoch {epoch}"),
        StandingCause::Withdrawn => format!("withdraws from n{peer}, next epoch {epoch}"),
        StandingCause::Restarted => format!("hears that n{peer} has restarted, epoch {epoch}"),
        StandingCause::EpochRaised => format!("is asked by n{peer} in the later epoch {epoch}"),
    }
}

fn members(membership: &Membership) -> String {
    let list = |members: &[quorate_raft::Member]| {
        let names = members.iter().map(|m| format!("r{}@n{}", m.replica, m.node));
        names.collect::<Vec<_>>().join(" ")
    };
    let mut text = format!("voters {}", list(&membership.voters));
    if membership.is_joint() {
        let _ = write!(text, "; leaving {}", list(&membership.outgoing));
    }
    if !membership.learners.is_empty() {
        let _ = write!(text, "; learners {}", list(&membership.learners));
    }
    text
}
