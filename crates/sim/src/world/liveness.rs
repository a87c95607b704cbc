//! The heartbeat thread of a node: it drives the node's liveness and tells the worker.

use quorate_host::Event;
use quorate_liveness::{AuditList, Datagram, LivenessEvent, LivenessNote, Unfit, Verdict};
use quorate_types::limits;

use super::World;
use super::log_disk::DiskTurn;
use super::network::LANE_CONTROL;
use super::node::{Node, node_id, number_of};
use super::profile::Clocks;
use super::schedule::{Freight, Happening};
use super::units::MILLI;
use crate::observation::{Observation, SimTime};

impl World {
    /// The heartbeat thread's timer is due.
    pub(crate) fn handle_heartbeat_timer(&mut self, node: usize) {
        if self.now < self.nodes[node].heartbeat_at {
            return;
        }
        self.nodes[node].heartbeat_at = u64::MAX;
        let unfit = self.unfit(node);
        let now = self.nodes[node].read(self.now);
        let process = self.nodes[node].process.as_mut();
        let Some(liveness) = process.and_then(|process| process.liveness.as_mut()) else { return };
        liveness.handle_fitness(unfit);
        let datagrams = liveness.handle_timeout(now);
        // Changes of standing are shown before the support given after them.
        self.after_liveness(node);
        for (to, datagram) in datagrams {
            self.send_datagram(node, number_of(to), datagram);
        }
    }

    /// Why the node must not lead, if there is a reason.
    fn unfit(&self, node: usize) -> Option<Unfit> {
        let Node { clock, disk, hung_since, hung_until, .. } = &self.nodes[node];
        let now = clock.read(self.now);
        let lasts = |since: u64| now.since(clock.read(since));
        if disk.syncing > 0 && lasts(disk.sync_began) > limits::DISK_STALL {
            return Some(Unfit::DiskStalled);
        }
        let hangs = self.now < *hung_until && lasts(*hung_since) > limits::STALL;
        hangs.then_some(Unfit::WorkerStalled)
    }

    fn send_datagram(&mut self, from: usize, to: usize, datagram: Datagram) {
        let is_calm = self.is_healed;
        let times = self.network.send_datagram(&mut self.random, self.now, (from, to), is_calm);
        for at in times {
            let datagram = Box::new(datagram);
            self.schedule.at(at, Happening::Datagram { from, to, datagram });
        }
    }

    /// A datagram arrives.
    pub(crate) fn handle_datagram(&mut self, from: usize, to: usize, datagram: &Datagram) {
        let now = self.nodes[to].read(self.now);
        let process = self.nodes[to].process.as_mut();
        let Some(liveness) = process.and_then(|process| process.liveness.as_mut()) else { return };
        let answer = liveness.handle_datagram(now, node_id(from), datagram);
        let until = liveness.supported_until(node_id(from));
        self.after_liveness(to);
        let Some(answer) = answer else { return };
        // A promise by a clock beyond the margin means nothing in true time.
        if self.profile.clocks == Clocks::WithinMargin
            && answer.verdict == Verdict::Supported
            && let Some(until) = until
        {
            let (supporter, requester) = (node_id(to), node_id(from));
            let until = SimTime(self.nodes[to].clock.when(until));
            let epoch = answer.epoch;
            self.observe(Observation::Supported { supporter, requester, epoch, until });
        }
        self.send_datagram(to, from, Datagram::Answer(answer));
    }

    /// Passes what the liveness wants done to disk, worker and peers.
    fn after_liveness(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let peers = self.nodes.len();
        let process = self.nodes[node].process.as_mut().expect("it has just run");
        let liveness = process.liveness.as_mut().expect("it has just run");
        let longest = liveness.take_persist_longest();
        let events = liveness.take_events();
        let mut news = Vec::new();
        for peer in 0..peers {
            let held = liveness.held(node_id(peer));
            if process.held[peer] != held {
                process.held[peer] = held;
                news.push(Event::Support { node: node_id(peer), held });
            }
        }
        let timeout = liveness.poll_timeout();
        for event in events {
            match event {
                LivenessEvent::Standing(change) => {
                    self.observe(Observation::Standing { node: id, change: &change });
                    self.tell_later(node, Event::Standing(change));
                }
                // The worker decides by the support held.
                LivenessEvent::Requester(_) => {}
                LivenessEvent::Differs { node: peer, list } => {
                    self.send(node, number_of(peer), LANE_CONTROL, Freight::Audit(true, list));
                }
            }
        }
        for event in news {
            self.tell_later(node, event);
        }
        if let Some(longest) = longest {
            self.submit(node, DiskTurn::Longest(longest));
        }
        let Node { clock, heartbeat_at, .. } = &mut self.nodes[node];
        // Fitness is looked at as often as heartbeats are sent.
        let at = clock.when(timeout).clamp(self.now + 1, self.now + 100 * MILLI);
        if at < *heartbeat_at {
            *heartbeat_at = at;
            self.schedule.at(at, Happening::Heartbeat { node });
        }
    }

    /// Sends news from the heartbeat thread to the worker, whose copy lags by the time it takes.
    fn tell_later(&mut self, node: usize, event: Event) {
        let at = self.now + self.random.below(self.profile.news_lag);
        let Node { news_at, life, .. } = &mut self.nodes[node];
        *news_at = at.max(*news_at);
        let (at, life, event) = (*news_at, *life, Box::new(event));
        self.schedule.at(at, Happening::News { node, life, event });
    }

    /// News from the heartbeat thread reaches the worker.
    pub(crate) fn handle_news(&mut self, node: usize, life: u64, event: Event) {
        if self.nodes[node].life == life {
            self.post(node, event);
            self.step(node);
        }
    }

    /// A host has a note about a binding for the liveness.
    pub(crate) fn handle_note(&mut self, node: usize, note: LivenessNote) {
        let from = self.nodes[node].id;
        let process = self.nodes[node].process.as_mut().expect("it took a turn");
        let Some(liveness) = process.liveness.as_mut() else { return };
        if let Some((to, shard, control)) = liveness.handle_note(note) {
            self.observe(Observation::ControlSent { from, to, shard, control: &control });
            self.send(node, number_of(to), LANE_CONTROL, Freight::Control(shard, control));
        }
    }

    /// An audit list arrives.
    pub(crate) fn handle_audit(
        &mut self,
        from: usize,
        to: usize,
        is_of_leader: bool,
        list: &AuditList,
    ) {
        let peer = node_id(from);
        let process = self.nodes[to].process.as_mut().expect("only the living hear");
        let Some(liveness) = process.liveness.as_mut() else { return };
        let shards = if is_of_leader {
            let (shards, back) = liveness.handle_list_of_leader(peer, list);
            self.send(to, from, LANE_CONTROL, Freight::Audit(false, back));
            shards
        } else {
            liveness.handle_list_of_bound(peer, list)
        };
        for shard in shards {
            self.tell(to, Event::Differs { shard, peer });
        }
        self.step(to);
    }
}
