//! A few nodes with hosts and liveness, on one clock, with a network delay of one millisecond and
//! disks that write at once.

use std::collections::{BTreeMap, BTreeSet};

use quorate_host::{
    Answer, Event, Host, HostConfig, ReplicaInit, ShardFetch, ShardView, Ticket, Turn,
};
use quorate_liveness::{
    AuditList, Control, Datagram, LivenessConfig, LivenessEvent, NodeLiveness, RequesterEvent,
};
use quorate_raft::{ChangeError, Message};
use quorate_types::{
    ClusterId, Incarnation, LogId, Monotonic, NodeId, ReplicaId, ShardId, WallMillis, limits,
};

use crate::disk::Disk;

const MILLI: u64 = 1_000_000;

enum Parcel {
    Raft(ShardId, Message),
    Control(ShardId, Control),
    Datagram(Datagram),
    OfLeader(AuditList),
    OfBound(AuditList),
}

pub(crate) struct Site {
    pub(crate) host: Host,
    pub(crate) live: NodeLiveness,
}

#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) now: u64,
    pub(crate) sites: BTreeMap<NodeId, Site>,
    disks: BTreeMap<(NodeId, ShardId), Disk>,
    network: Vec<(u64, NodeId, NodeId, Parcel)>,
    /// Nodes that neither send nor receive.
    pub(crate) cut: BTreeSet<NodeId>,
    /// Releases are lost.
    pub(crate) loses_releases: bool,
    /// Requests to bind are lost.
    pub(crate) loses_bind_requests: bool,
    /// Messages of Raft to this node are lost.
    pub(crate) deaf: Option<NodeId>,
    pub(crate) answers: Vec<(Ticket, Answer)>,
    pub(crate) changes: Vec<Result<LogId, ChangeError>>,
    /// Messages of Raft and about bindings that were sent.
    pub(crate) sent: Vec<(NodeId, NodeId, ShardId)>,
    shards: u64,
    nodes: u64,
}

impl Cluster {
    pub(crate) fn new(nodes: u64, shards: u64) -> Cluster {
        let mut cluster = Cluster { shards, nodes, ..Cluster::default() };
        for node in 1..=nodes {
            cluster.start(NodeId(node), 1);
        }
        cluster
    }

    /// Starts a node in the given life, with the logs of its earlier lives.
    pub(crate) fn start(&mut self, node: NodeId, incarnation: u64) {
        let now = Monotonic(self.now);
        let peers = (1..=self.nodes).map(NodeId).filter(|peer| *peer != node).collect();
        let incarnation = Incarnation(incarnation);
        let longest_durable = match incarnation.0 {
            1 => std::time::Duration::ZERO,
            _ => limits::SUPPORT,
        };
        let (cluster, support) = (ClusterId(7), limits::SUPPORT);
        let config = LivenessConfig { cluster, incarnation, support, longest_durable, peers };
        let live = NodeLiveness::new(now, &config);
        let standings = Some(live.standings().clone());
        let mut host =
            Host::new(HostConfig { standings, ..HostConfig::new(node, incarnation, node.0) });
        for shard in (1..=self.shards).map(ShardId) {
            let disk = self.disks.entry((node, shard)).or_insert_with(Disk::new);
            let restored = disk.restored(self.nodes);
            let replica = ReplicaId(node.0);
            host.add(now, ReplicaInit { shard, replica, descriptor_version: 1, restored });
        }
        self.sites.insert(node, Site { host, live });
    }

    pub(crate) fn run(&mut self, millis: u64) {
        for _ in 0..millis {
            self.now += MILLI;
            let now = self.now;
            let parcels = std::mem::take(&mut self.network);
            let (due, later) = parcels.into_iter().partition(|(at, ..)| *at <= now);
            self.network = later;
            for (_, from, to, parcel) in due {
                self.deliver(from, to, parcel);
            }
            for node in self.sites.keys().copied().collect::<Vec<_>>() {
                self.tick(node);
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, parcel: Parcel) {
        let is_lost = match parcel {
            Parcel::Control(_, Control::Release { .. }) => self.loses_releases,
            Parcel::Control(_, Control::BindRequest(_)) => self.loses_bind_requests,
            Parcel::Raft(..) => self.deaf == Some(to),
            _ => false,
        };
        if self.cut.contains(&from) || self.cut.contains(&to) || is_lost {
            return;
        }
        if let Parcel::Raft(shard, _) | Parcel::Control(shard, _) = &parcel {
            self.sent.push((from, to, *shard));
        }
        self.network.push((self.now + MILLI, from, to, parcel));
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, parcel: Parcel) {
        let now = Monotonic(self.now);
        let Some(site) = self.sites.get_mut(&to) else { return };
        match parcel {
            Parcel::Raft(shard, message) => {
                self.tell(to, Event::Message { from, shard, message });
            }
            Parcel::Control(shard, control) => {
                self.tell(to, Event::Control { from, shard, control });
            }
            Parcel::Datagram(datagram) => {
                let answer = site.live.handle_datagram(now, from, &datagram);
                if let Some(answer) = answer {
                    self.send(to, from, Parcel::Datagram(Datagram::Answer(answer)));
                }
                self.carry_liveness(to);
            }
            Parcel::OfLeader(list) => {
                let (woken, back) = site.live.handle_list_of_leader(from, &list);
                self.send(to, from, Parcel::OfBound(back));
                for shard in woken {
                    self.tell(to, Event::Differs { shard, peer: from });
                }
            }
            Parcel::OfBound(list) => {
                for shard in site.live.handle_list_of_bound(from, &list) {
                    self.tell(to, Event::Differs { shard, peer: from });
                }
            }
        }
    }

    /// Tells a node's host what happened in its liveness, and the support that it holds.
    fn carry_liveness(&mut self, node: NodeId) {
        let site = self.sites.get_mut(&node).expect("a site");
        if let Some(longest) = site.live.take_persist_longest() {
            site.live.handle_longest_persisted(longest);
        }
        let mut lists = Vec::new();
        let mut events = Vec::new();
        for event in site.live.take_events() {
            match event {
                LivenessEvent::Standing(change) => events.push(Event::Standing(change)),
                LivenessEvent::Differs { node: peer, list } => lists.push((peer, list)),
                LivenessEvent::Requester(RequesterEvent::Lost { node }) => {
                    events.push(Event::Support { node, held: None });
                }
                LivenessEvent::Requester(_) => {}
            }
        }
        for peer in (1..=self.nodes).map(NodeId).filter(|peer| *peer != node) {
            if let Some(held) = site.live.held(peer) {
                events.push(Event::Support { node: peer, held: Some(held) });
            }
        }
        events.into_iter().for_each(|event| self.tell(node, event));
        for (peer, list) in lists {
            self.send(node, peer, Parcel::OfLeader(list));
        }
    }

    pub(crate) fn tell(&mut self, node: NodeId, event: Event) {
        let now = Monotonic(self.now);
        if let Some(site) = self.sites.get_mut(&node) {
            site.host.handle(now, WallMillis(0), event);
            self.take(node);
        }
    }

    fn tick(&mut self, node: NodeId) {
        let now = Monotonic(self.now);
        let site = self.sites.get_mut(&node).expect("a site");
        if site.live.poll_timeout() <= now {
            for (to, datagram) in site.live.handle_timeout(now) {
                self.send(node, to, Parcel::Datagram(datagram));
            }
            self.carry_liveness(node);
        }
        let site = self.sites.get_mut(&node).expect("a site");
        if site.host.poll_timeout().is_some_and(|at| at <= now) {
            site.host.handle_timeouts(now);
            self.take(node);
        }
    }

    fn take(&mut self, node: NodeId) {
        let now = Monotonic(self.now);
        loop {
            let site = self.sites.get_mut(&node).expect("a site");
            let turn: Turn = site.host.take_turn(now);
            if turn.is_empty() {
                return;
            }
            let wall = WallMillis(0);
            if let Some((turn, writes)) = turn.write {
                for written in &writes {
                    let place = (node, written.shard);
                    let disk = self.disks.get_mut(&place).expect("made at the start");
                    disk.write(&written.write);
                }
                site.host.handle(now, wall, Event::Persisted { turn });
            }
            for apply in turn.applies {
                let (shard, replica) = (apply.shard, apply.replica);
                let index = apply.committed.range.end.previous();
                self.disks.get_mut(&(node, shard)).expect("made at the start").applied = index;
                site.host.handle(now, wall, Event::Applied { shard, replica, index });
            }
            for ShardFetch { shard, replica, reader, range, .. } in turn.fetches {
                let runs = self.disks[&(node, shard)].read(&range);
                site.host.handle(now, wall, Event::Fetched { shard, replica, reader, runs });
            }
            let notes = turn.notes.into_iter();
            let noted: Vec<_> = notes.filter_map(|note| site.live.handle_note(note)).collect();
            self.answers.extend(turn.answers);
            self.changes.extend(turn.changes.into_iter().map(|(_, change)| change));
            for (to, messages) in turn.send {
                for (shard, message) in messages {
                    self.send(node, to, Parcel::Raft(shard, message));
                }
            }
            for (to, shard, control) in turn.control.into_iter().chain(noted) {
                self.send(node, to, Parcel::Control(shard, control));
            }
        }
    }

    pub(crate) fn view(&self, node: NodeId, shard: ShardId) -> ShardView {
        self.sites[&node].host.view(shard).expect("hosted everywhere")
    }

    /// The node that leads `shard` and serves, among those that are not cut off.
    pub(crate) fn leader(&self, shard: ShardId) -> Option<NodeId> {
        let leads = |node: &NodeId| self.view(*node, shard).role.serving;
        self.sites.keys().copied().filter(|node| !self.cut.contains(node)).find(leads)
    }

    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (1..=self.shards).map(ShardId)
    }
}
