//! Keeps the last events of each shard and each node, to be read like a protocol's trace.
//!
//! Events are kept as a few numbers in rings and become text only when a property has failed.

use std::collections::{BTreeMap, VecDeque};

use quorate_liveness::{Control, StandingCause};
use quorate_raft::{Body, Membership, Message, Role, RoleState, Run, Write};
use quorate_types::{Incarnation, Index, LogId, NodeId, ReplicaId, ShardId, Term};

use crate::observation::{FaultKind, InstallStep, Observation, ProbeKind, SimTime};

/// Events kept per shard, and per node: enough to see a few elections.
const RING_EVENTS_MAX: usize = 512;

/// What happened, in as few numbers as possible.
#[derive(Clone, Debug)]
enum Kind {
    Started(Incarnation),
    Stopped(&'static str),
    Added {
        last: LogId,
        applied: Index,
        term: Term,
    },
    Removed(&'static str),
    TombstoneRefused,
    Role(RoleState),
    Message {
        is_arrival: bool,
        other: NodeId,
        term: Term,
        gist: Gist,
    },
    Lost {
        to: NodeId,
    },
    Control {
        is_arrival: bool,
        other: NodeId,
        what: &'static str,
        term: Term,
    },
    Disk {
        is_durable: bool,
        cut: Option<Index>,
        last: Option<LogId>,
        term: Option<Term>,
    },
    Commit(Index),
    Applied(Index, Index),
    Installed {
        base: LogId,
        keeps_log: bool,
    },
    Purged(LogId),
    Install(LogId, InstallStep),
    Flushed(Index),
    /// Something that one sentence tells.
    Note(&'static str),
    SnapshotSent {
        to: NodeId,
        base: LogId,
    },
    SnapshotFailed {
        to: NodeId,
    },
    Standing {
        peer: NodeId,
        epoch: u64,
        cause: StandingCause,
    },
    Lease(Term),
    Quiesced(bool),
    Acknowledged(LogId),
    ReadServed {
        by_lease: bool,
    },
    /// Boxed: texts are rare, and most events are small.
    Fault {
        kind: FaultKind,
        detail: Box<str>,
    },
    FaultEnded(FaultKind),
    ChangeBegun(Box<Membership>),
    ChangeDone(Box<Membership>),
    TransferBegun {
        to: NodeId,
    },
    Probed {
        kind: ProbeKind,
        is_ok: bool,
    },
    Healed,
}

/// A message without its payload.
#[derive(Clone, Copy, Debug)]
enum Gist {
    VoteRequest { pre: bool, last: LogId, is_ordered: bool },
    VoteReply { pre: bool, granted: bool, leader_alive: bool },
    Append { previous: LogId, last: LogId, commit: Index },
    Accepted(Index),
    Rejected { previous: LogId, hint: LogId },
    ReadIndex(u64),
    ReadIndexReply(u64, Option<Index>),
    TimeoutNow,
}

#[derive(Clone, Debug)]
struct Event {
    at: SimTime,
    /// Orders events of the same time across the rings.
    number: u64,
    node: Option<NodeId>,
    replica: Option<ReplicaId>,
    kind: Kind,
}

type Ring = VecDeque<Event>;

/// The last events of each shard and each node, in rings.
#[derive(Default)]
pub struct Timeline {
    number_last: u64,
    shards: BTreeMap<ShardId, Ring>,
    /// Events of nodes; of the whole world under `None`.
    nodes: BTreeMap<Option<NodeId>, Ring>,
    /// The last lease holder seen: repeated samples of the same holder are left out.
    leases: BTreeMap<ShardId, (NodeId, Term)>,
}

impl Timeline {
    /// A timeline that has observed nothing yet.
    #[must_use]
    pub fn new() -> Timeline {
        Timeline::default()
    }

    /// Records an observation; call it in the order of time. Heartbeats and memory samples are left
    /// out: they would push out more important events.
    pub fn observe(&mut self, at: SimTime, observation: &Observation<'_>) {
        if let Observation::Leases { shard, holders } = *observation {
            for (node, replica, term) in holders {
                if self.leases.insert(shard, (*node, *term)) != Some((*node, *term)) {
                    let event = self.event(at, Some(*node), Some(*replica), Kind::Lease(*term));
                    push(self.shards.entry(shard).or_default(), event);
                }
            }
        } else if let Some((shard, node, replica, kind)) = shard_event(observation) {
            let event = self.event(at, node, replica, kind);
            push(self.shards.entry(shard).or_default(), event);
        } else if let Some((node, kind)) = node_event(observation) {
            let event = self.event(at, node, None, kind);
            push(self.nodes.entry(node).or_default(), event);
        }
    }

    /// The last `events_max` events of `shard` and of all nodes, oldest first, one per line;
    /// without a shard, only those of the nodes.
    #[must_use]
    pub fn render(&self, shard: Option<ShardId>, events_max: usize) -> String {
        let ring = shard.and_then(|shard| self.shards.get(&shard));
        let of_shard = ring.into_iter().flatten().map(|event| (shard, event));
        let of_nodes = self.nodes.values().flatten().map(|event| (None, event));
        let mut events: Vec<_> = of_shard.chain(of_nodes).collect();
        events.sort_by_key(|(_, event)| event.number);
        let mut text = String::new();
        for (shard, event) in events.split_off(events.len().saturating_sub(events_max)) {
            event.render(shard, &mut text);
            text.push('\n');
        }
        text
    }

    fn event(
        &mut self,
        at: SimTime,
        node: Option<NodeId>,
        replica: Option<ReplicaId>,
        kind: Kind,
    ) -> Event {
        self.number_last += 1;
        Event { at, number: self.number_last, node, replica, kind }
    }
}

fn push(ring: &mut Ring, event: Event) {
    if ring.len() == RING_EVENTS_MAX {
        ring.pop_front();
    }
    ring.push_back(event);
}

type ShardEvent = (ShardId, Option<NodeId>, Option<ReplicaId>, Kind);

/// What a replica does.
fn shard_event(observation: &Observation<'_>) -> Option<ShardEvent> {
    let of = |node: NodeId, shard, replica, kind| Some((shard, Some(node), Some(replica), kind));
    match *observation {
        Observation::ReplicaAdded { node, shard, replica, restored } => {
            let (last, applied) = (restored.last, restored.applied);
            of(node, shard, replica, Kind::Added { last, applied, term: restored.hard_state.term })
        }
        Observation::LossFound { node, shard, replica, .. } => {
            of(node, shard, replica, Kind::Removed("it lost what it had acknowledged"))
        }
        Observation::ReplicaRemoved { node, shard, replica, why } => {
            of(node, shard, replica, Kind::Removed(why))
        }
        Observation::TombstoneRefused { node, shard, replica } => {
            of(node, shard, replica, Kind::TombstoneRefused)
        }
        Observation::Role { node, shard, replica, role } => {
            of(node, shard, replica, Kind::Role(role))
        }
        Observation::Written { node, shard, replica, write } => {
            of(node, shard, replica, disk(false, write))
        }
        Observation::Durable { node, shard, replica, write } => {
            of(node, shard, replica, disk(true, write))
        }
        Observation::Commit { node, shard, replica, commit } => {
            of(node, shard, replica, Kind::Commit(commit))
        }
        Observation::Applied { node, shard, replica, committed } => {
            let range = &committed.range;
            of(node, shard, replica, Kind::Applied(range.start, range.end.previous()))
        }
        Observation::Installed { node, shard, replica, base, keeps_log, .. } => {
            of(node, shard, replica, Kind::Installed { base, keeps_log })
        }
        Observation::ReplicaEnded { node, shard, replica } => {
            of(node, shard, replica, Kind::Note("its end is durable"))
        }
        Observation::EndLost { node, shard, replica } => {
            of(node, shard, replica, Kind::Note("its end is lost in the crash"))
        }
        Observation::BirthLost { node, shard, replica } => {
            of(node, shard, replica, Kind::Note("its birth is lost in the crash"))
        }
        Observation::LateReport { node, shard, replica } => {
            of(node, shard, replica, Kind::Note("work is reported that was under way for it"))
        }
        Observation::PartSkipped { node, shard, replica } => {
            of(node, shard, replica, Kind::Note("a part of a turn is skipped"))
        }
        Observation::Install { node, shard, replica, base, step } => {
            of(node, shard, replica, Kind::Install(base, step))
        }
        Observation::Flushed { node, shard, replica, applied } => {
            of(node, shard, replica, Kind::Flushed(applied))
        }
        Observation::Purged { node, shard, replica, base, .. } => {
            of(node, shard, replica, Kind::Purged(base))
        }
        Observation::Quiesced { node, shard, replica, is_quiesced } => {
            of(node, shard, replica, Kind::Quiesced(is_quiesced))
        }
        _ => traffic(observation).or_else(|| request(observation)),
    }
}

/// What one node sends to another.
fn traffic(observation: &Observation<'_>) -> Option<ShardEvent> {
    let of = |node: NodeId, shard, replica, kind| Some((shard, Some(node), Some(replica), kind));
    let at = |node: NodeId, shard, kind| Some((shard, Some(node), None, kind));
    match *observation {
        Observation::Sent { from, to, shard, message } => {
            of(from, shard, message.from, message_kind(false, to, message)?)
        }
        Observation::Delivered { from, to, shard, message } => {
            of(to, shard, message.to, message_kind(true, from, message)?)
        }
        Observation::Lost { from, to, shard } => at(from, shard, Kind::Lost { to }),
        Observation::ControlSent { from, to, shard, control } => {
            at(from, shard, control_kind(false, to, control))
        }
        Observation::ControlDelivered { from, to, shard, control } => {
            at(to, shard, control_kind(true, from, control))
        }
        Observation::SnapshotSent { from, to, shard, base, .. } => {
            at(from, shard, Kind::SnapshotSent { to, base })
        }
        Observation::SnapshotEnded { from, to, shard, is_installed: false, .. } => {
            at(from, shard, Kind::SnapshotFailed { to })
        }
        Observation::SnapshotEnded { from, shard, .. } => {
            at(from, shard, Kind::Note("its snapshot is installed"))
        }
        Observation::SnapshotWaits { from, shard, .. } => {
            at(from, shard, Kind::Note("a snapshot waits until fewer are sent"))
        }
        Observation::SnapshotResumed { from, shard, .. } => {
            at(from, shard, Kind::Note("an interrupted snapshot goes on"))
        }
        Observation::SnapshotGivenUp { node, shard } => {
            at(node, shard, Kind::Note("gives a snapshot up that does not arrive"))
        }
        Observation::SnapshotReplaced { node, shard } => {
            at(node, shard, Kind::Note("takes a later leader's snapshot instead"))
        }
        Observation::ParkedDropped { node, shard, .. } => {
            at(node, shard, Kind::Note("drops parked ranges that a snapshot holds"))
        }
        _ => None,
    }
}

/// Requests of callers and operators, and their outcomes.
fn request(observation: &Observation<'_>) -> Option<ShardEvent> {
    let at = |node: NodeId, shard, kind| Some((shard, Some(node), None, kind));
    match *observation {
        Observation::Acknowledged { shard, id, .. } => {
            Some((shard, None, None, Kind::Acknowledged(id)))
        }
        Observation::ReadServed { node, shard, by_lease } => {
            at(node, shard, Kind::ReadServed { by_lease })
        }
        Observation::ChangeBegun { shard, target } => {
            Some((shard, None, None, Kind::ChangeBegun(Box::new(target.clone()))))
        }
        Observation::ChangeDone { shard, membership } => {
            Some((shard, None, None, Kind::ChangeDone(Box::new(membership.clone()))))
        }
        Observation::TransferBegun { shard, from, to } => {
            at(from, shard, Kind::TransferBegun { to })
        }
        Observation::Probed { node, shard, kind, is_ok } => {
            at(node, shard, Kind::Probed { kind, is_ok })
        }
        _ => None,
    }
}

fn node_event(observation: &Observation<'_>) -> Option<(Option<NodeId>, Kind)> {
    match *observation {
        Observation::NodeStarted { node, incarnation } => {
            Some((Some(node), Kind::Started(incarnation)))
        }
        Observation::NodeStopped { node, why } => Some((Some(node), Kind::Stopped(why))),
        Observation::WalDamageFound { node, .. } => {
            Some((Some(node), Kind::Note("finds its write-ahead log damaged")))
        }
        Observation::Standing { node, change } => {
            let (peer, epoch, cause) = (change.node, change.standing.lowest.0, change.cause);
            Some((Some(node), Kind::Standing { peer, epoch, cause }))
        }
        Observation::Fault { kind, node, detail } => {
            Some((node, Kind::Fault { kind, detail: detail.into() }))
        }
        Observation::FaultEnded { kind, node } => Some((node, Kind::FaultEnded(kind))),
        Observation::Healed => Some((None, Kind::Healed)),
        _ => None,
    }
}

fn message_kind(is_arrival: bool, other: NodeId, message: &Message) -> Option<Kind> {
    let gist = match &message.body {
        Body::Heartbeat { .. } | Body::HeartbeatReply { .. } => return None,
        Body::VoteRequest { pre, last, transfer } => {
            Gist::VoteRequest { pre: *pre, last: *last, is_ordered: transfer.is_some() }
        }
        Body::VoteReply { pre, granted, leader_alive } => {
            Gist::VoteReply { pre: *pre, granted: *granted, leader_alive: *leader_alive }
        }
        Body::Append { previous, runs, commit } => {
            let last = runs.last().map_or(*previous, Run::last_id);
            Gist::Append { previous: *previous, last, commit: *commit }
        }
        Body::Accepted { matched } => Gist::Accepted(*matched),
        Body::Rejected { previous, hint } => Gist::Rejected { previous: *previous, hint: *hint },
        Body::ReadIndex { context } => Gist::ReadIndex(*context),
        Body::ReadIndexReply { context, index } => Gist::ReadIndexReply(*context, *index),
        Body::TimeoutNow => Gist::TimeoutNow,
    };
    Some(Kind::Message { is_arrival, other, term: message.term, gist })
}

fn control_kind(is_arrival: bool, other: NodeId, control: &Control) -> Kind {
    let (what, term) = match control {
        Control::BindRequest(request) => ("bind request", request.term),
        Control::Bound { binding, .. } => ("bound", binding.term),
        Control::Release { term, .. } => ("release", *term),
        Control::Query { term, .. } => ("query", *term),
    };
    Kind::Control { is_arrival, other, what, term }
}

fn disk(is_durable: bool, write: &Write) -> Kind {
    let term = write.hard_state.map(|state| state.term);
    Kind::Disk {
        is_durable,
        cut: write.truncate_from,
        last: write.runs.last().map(Run::last_id),
        term,
    }
}

#[path = "timeline_text.rs"]
mod text;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::why;

    /// Goal: a trace reads like one. Method: a few events, and the text in full.
    #[test]
    fn the_last_events_are_told_in_order() {
        let mut timeline = Timeline::new();
        let (node, shard, replica) = (NodeId(2), ShardId(4), ReplicaId(7));
        let mut see = |millis, observation| {
            timeline.observe(SimTime::from_millis(millis), &observation);
        };
        see(1, Observation::Healed);
        let (term, leader) = (Term(5), Some((replica, node)));
        let role = RoleState { role: Role::Leader, term, leader, serving: false };
        see(12_345, Observation::Role { node, shard, replica, role });
        let last = LogId::new(Term(4), Index(9));
        let body = Body::VoteRequest { pre: false, last, transfer: None };
        let message = &Message { from: replica, to: ReplicaId(1), term, body };
        see(12_346, Observation::Sent { from: node, to: NodeId(1), shard, message });
        see(12_347, Observation::NodeStopped { node: NodeId(1), why: why::CRASHED });
        see(12_348, Observation::Commit { node, shard: ShardId(5), replica, commit: Index(3) });
        let text = timeline.render(Some(shard), 3);
        let expected = "    12.345 s  n2 s4 r7  becomes leader of term 5
    12.346 s  n2 s4 r7  -> n1  term 5: vote request, last 4/9
    12.347 s  n1        stops: crashed
";
        assert_eq!(text, expected, "\n{text}");
        assert_eq!(timeline.render(None, 9).lines().count(), 2);
    }

    #[test]
    fn a_ring_forgets_the_oldest() {
        let mut timeline = Timeline::new();
        let (node, shard, replica) = (NodeId(2), ShardId(4), ReplicaId(7));
        for commit in 1..=2_000 {
            let commit = Index(commit);
            timeline.observe(SimTime(0), &Observation::Commit { node, shard, replica, commit });
        }
        let text = timeline.render(Some(shard), usize::MAX);
        assert_eq!(text.lines().count(), RING_EVENTS_MAX);
        assert!(text.ends_with("commits through 2000\n"), "{text}");
    }
}
