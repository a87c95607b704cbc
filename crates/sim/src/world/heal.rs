//! The end of the faults, and of the world: everything works again, and every node must notice.

use quorate_host::{Answer, Event, Ticket};
use quorate_types::ShardId;

use super::clients::Caller;
use super::node::{Node, node_id, number_of};
use super::units::SECOND;
use super::workload::{Ask, Moment, Outcome};
use super::{Clocks, World};
use crate::linearizability::ClientId;
use crate::observation::{Observation, ProbeKind};

/// How long clients continue after the heal.
pub(crate) const BOUND: u64 = 10 * SECOND;
/// How long clients then send nothing, so that shards quiesce.
pub(crate) const REST: u64 = 5 * SECOND;
/// The same where shards are idle: the audit takes three rounds of 6.4 s to find a difference, and
/// the shard that it frees must elect a leader.
pub(crate) const REST_IDLE: u64 = 25 * SECOND;
/// Extra seconds in which a shard that was just woken may quiesce.
pub(crate) const LOOKS_MORE: u64 = 3;
/// How long a probe may take.
pub(crate) const PROBE_TIMEOUT: u64 = SECOND;
/// The lowest client id of probes.
const PROBE_CLIENT: u64 = 1_000;

/// A request after the heal, sent to the leader that one node names.
pub(crate) struct Probe {
    node: usize,
    shard: ShardId,
    kind: ProbeKind,
    operation: u64,
    is_ok: bool,
}

/// All probes.
#[derive(Default)]
pub(crate) struct Probes(Vec<Probe>);

impl Probes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl World {
    /// Ends all faults: from now on nothing fails.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        self.network.heal();
        let is_within = self.profile.clocks == Clocks::WithinMargin;
        for node in 0..self.nodes.len() {
            let Node { clock, disk, paused_until, hung_until, .. } = &mut self.nodes[node];
            (*paused_until, *hung_until) = (self.now, self.now);
            (disk.stalled_until, disk.slow_until, disk.fails_next) = (0, 0, false);
            disk.scrub();
            if !is_within {
                clock.set_rate(self.now, 0);
            }
        }
        self.observe(Observation::Healed);
        for node in 0..self.nodes.len() {
            self.start(node);
            self.wake(node);
        }
    }

    /// Makes clients send no more requests.
    pub(crate) fn rest(&mut self) {
        self.is_resting = true;
    }

    /// After the bound of liveness: sends a write and a read to the leader that each node names.
    pub(crate) fn probe(&mut self) {
        if self.profile.has_liveness {
            self.sample_quiesced(true);
        }
        for shard in self.shards.clone() {
            for node in 0..self.nodes.len() {
                let process = self.nodes[node].process.as_ref();
                let Some(view) = process.and_then(|process| process.host.view(shard)) else {
                    continue;
                };
                // A replica that is not admitted has no leader to name.
                if self.operator.in_force(shard).members().all(|m| m.node != node_id(node)) {
                    continue;
                }
                let leader = view.role.leader.map(|(_, leader)| number_of(leader));
                for kind in [ProbeKind::Write, ProbeKind::Read] {
                    self.begin_probe(node, shard, kind, leader);
                }
            }
        }
    }

    fn begin_probe(&mut self, node: usize, shard: ShardId, kind: ProbeKind, leader: Option<usize>) {
        let probe = self.probes.0.len();
        let operation = self.operations_last + 1;
        self.probes.0.push(Probe { node, shard, kind, operation, is_ok: false });
        let Some(leader) = leader else { return };
        let Some(ask) = self.ask_for_probe(probe) else { return };
        self.tickets_last += 1;
        let (ticket, asked) = (Ticket(self.tickets_last), self.now);
        let Some(process) = &mut self.nodes[leader].process else { return };
        process.callers.insert(ticket, Caller::Probe { probe, asked });
        let event = match ask {
            Ask::Read => Event::Read { shard, ticket, descriptor_version: 1 },
            Ask::Write(command) => Event::Write {
                shard,
                ticket,
                descriptor_version: 1,
                session: None,
                command,
                progress: false,
            },
        };
        self.tell(leader, event);
        self.step(leader);
    }

    /// Lets the workload make a request of the probe's kind.
    fn ask_for_probe(&mut self, probe: usize) -> Option<Ask> {
        for _ in 0..100 {
            self.operations_last += 1;
            let number = self.operations_last;
            let (client, shard) =
                (ClientId(PROBE_CLIENT + probe as u64), self.probes.0[probe].shard);
            let moment = Moment {
                now: self.now,
                random: &mut self.random,
                history: self.watch.properties.history_mut(),
            };
            let ask = self.workload.ask(moment, client, shard, number);
            if (ask == Ask::Read) == (self.probes.0[probe].kind == ProbeKind::Read) {
                self.probes.0[probe].operation = number;
                return Some(ask);
            }
            self.end_workload_request(shard, number, Outcome::DidNotHappen);
        }
        None
    }

    fn end_workload_request(&mut self, shard: ShardId, number: u64, outcome: Outcome<'_>) {
        let moment = Moment {
            now: self.now,
            random: &mut self.random,
            history: self.watch.properties.history_mut(),
        };
        if let Err(what) = self.workload.answer(moment, number, outcome) {
            self.fail("workload", Some(shard), what);
        }
    }

    /// A probe's write was applied.
    pub(crate) fn end_probe(&mut self, probe: usize, reply: &bytes::Bytes) {
        let Probe { shard, operation, .. } = self.probes.0[probe];
        self.probes.0[probe].is_ok = true;
        self.end_workload_request(shard, operation, Outcome::Written(reply));
    }

    /// A probe was answered by other means than an applied entry.
    pub(crate) fn probe_answered(
        &mut self,
        node: usize,
        probe: usize,
        asked: u64,
        answer: &Answer,
    ) {
        let Probe { shard, operation, .. } = self.probes.0[probe];
        match answer {
            Answer::ReadAt(_) => {
                self.probes.0[probe].is_ok = true;
                let (by_lease, id) = (asked == self.now, self.nodes[node].id);
                self.observe(Observation::ReadServed { node: id, shard, by_lease });
                let Node { process, data, .. } = &mut self.nodes[node];
                let live = process.as_ref().and_then(|process| process.replicas.get(&shard));
                let Some(space) = live.map(|live| live.space) else { return };
                let moment = Moment {
                    now: self.now,
                    random: &mut self.random,
                    history: self.watch.properties.history_mut(),
                };
                let outcome = Outcome::Read(data.space(space));
                if let Err(what) = self.workload.answer(moment, operation, outcome) {
                    self.fail("workload", Some(shard), what);
                }
            }
            Answer::OutcomeUnknown => {}
            _ => self.end_workload_request(shard, operation, Outcome::DidNotHappen),
        }
    }

    /// Shows the final data of every replica.
    fn show_data(&mut self) {
        let mut seen = Vec::new();
        for Node { id, process, data, .. } in &mut self.nodes {
            for (shard, live) in process.iter().flat_map(|process| &process.replicas) {
                let space = data.space(live.space);
                seen.push((*id, *shard, space.record.applied.index, space.digest()));
            }
        }
        for (node, shard, applied, digest) in seen {
            self.observe(Observation::DataSeen { node, shard, applied, digest });
        }
    }

    /// Makes the last checks.
    pub(crate) fn end(&mut self) {
        for probe in std::mem::take(&mut self.probes.0) {
            let Probe { node, shard, kind, is_ok, .. } = probe;
            let node = self.nodes[node].id;
            self.observe(Observation::Probed { node, shard, kind, is_ok });
        }
        self.show_data();
        self.watch.end(self.now, &self.nodes);
        if let Err(what) = self.workload.end() {
            self.fail("workload", None, what);
        }
    }
}
