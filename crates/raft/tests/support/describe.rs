//! What the transcripts say, in words.

use quorate_raft::{Body, Member, Membership, Message, Role, RoleState};
use quorate_types::Index;

use crate::support::Site;

pub(crate) fn status_line(id: u64, site: &Site) -> String {
    let kernel = &site.kernel;
    let runs: Vec<String> = site.disk.runs.iter().map(|run| format!("{run:?}")).collect();
    let role = describe_role(id, &kernel.role());
    format!("  {id} {role}, commit {}, disk {}", kernel.commit(), runs.join(" "))
}

pub(crate) fn describe_role(id: u64, state: &RoleState) -> String {
    let term = state.term;
    match (state.role, state.leader) {
        (Role::Leader, _) if state.serving => format!("leads term {term} and serves"),
        (Role::Leader, _) => format!("leads term {term}"),
        (Role::Candidate, _) => format!("is a candidate in term {term}"),
        (Role::PreCandidate, _) => format!("asks whether it would win, in term {term}"),
        (Role::Follower, Some((leader, _))) => {
            assert_ne!(leader.0, id, "nobody follows itself");
            format!("follows {leader} in term {term}")
        }
        (Role::Follower, None) => format!("follows nobody in term {term}"),
    }
}

/// `voters 1 2 3`, `voters 1 2 4 and 1 2 3` in joint consensus, `..., learners 5`.
pub(crate) fn describe_members(membership: &Membership) -> String {
    let list = |members: &[Member]| {
        members.iter().map(|member| format!(" {}", member.replica)).collect::<String>()
    };
    let mut text = format!("voters{}", list(&membership.voters));
    if membership.is_joint() {
        text += &format!(" and{}", list(&membership.outgoing));
    }
    if !membership.learners.is_empty() {
        text += &format!(", learners{}", list(&membership.learners));
    }
    text
}

pub(crate) fn describe(message: &Message) -> String {
    let Message { from, to, term, body } = message;
    format!("{from}->{to} term {term} {}", describe_body(body))
}

fn describe_body(body: &Body) -> String {
    let index = |index: &Option<Index>| index.map_or("none".to_owned(), |index| index.to_string());
    match body {
        Body::VoteRequest { pre, last, transfer } => {
            let name = if *pre { "PreVote" } else { "Vote" };
            let order = transfer
                .map_or(String::new(), |t| format!(" by order of {} in term {}", t.leader, t.term));
            format!("{name} last {last}{order}")
        }
        Body::VoteReply { pre, granted, leader_alive } => {
            let name = if *pre { "PreVoteReply" } else { "VoteReply" };
            let answer = if *granted { "granted" } else { "refused" };
            let reason = if *leader_alive { ", a leader is alive" } else { "" };
            format!("{name} {answer}{reason}")
        }
        Body::Append { previous, runs, commit } => {
            format!("Append after {previous} {runs:?} commit {commit}")
        }
        Body::Accepted { matched } => format!("Accepted {matched}"),
        Body::Rejected { previous, hint } => format!("Rejected {previous}, has {hint}"),
        Body::Heartbeat { commit, round } => format!("Heartbeat commit {commit} round {round}"),
        Body::HeartbeatReply { round } => format!("HeartbeatReply round {round}"),
        Body::ReadIndex { context } => format!("ReadIndex {}", context % (1 << 40)),
        Body::ReadIndexReply { context, index: at } => {
            format!("ReadIndexReply {} {}", context % (1 << 40), index(at))
        }
        Body::TimeoutNow => "TimeoutNow".to_owned(),
    }
}
