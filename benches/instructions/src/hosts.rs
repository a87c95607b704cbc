//! Three hosts with the same shards, instant disks and a network that loses nothing.

use bytes::Bytes;
use quorate_host::{Event, Host, HostConfig, ReplicaInit, Ticket, Turn};
use quorate_machine::KvCommand;
use quorate_types::{
    Duration, Incarnation, Index, Monotonic, NodeId, ReplicaId, ShardId, WallMillis,
};

use crate::PAYLOAD;
use crate::group::restored;

/// Shards of each host.
pub(crate) const SHARDS: u64 = 64;
const DESCRIPTOR_VERSION: u64 = 1;
/// Longer than any election timeout.
const ELECTION_WAIT: Duration = Duration::from_secs(10);

/// The first host leads every shard: only its timeouts are handled.
pub(crate) struct Hosts {
    now: Monotonic,
    hosts: Vec<Host>,
    tickets: u64,
    /// A turn of the first host that has not been carried out yet.
    pub(crate) turn: Option<Turn>,
}

impl Hosts {
    pub(crate) fn new() -> Hosts {
        let now = Monotonic(0);
        let host = |id| {
            let mut host = Host::new(HostConfig::new(NodeId(id), Incarnation(1), id));
            for shard in (1..=SHARDS).map(ShardId) {
                host.add(now, init(shard, ReplicaId(id)));
            }
            host
        };
        let hosts = (1..=3).map(host).collect();
        let mut hosts = Hosts { now: now + ELECTION_WAIT, hosts, tickets: 0, turn: None };
        // Timers are set when a turn is taken.
        hosts.settle();
        hosts.hosts[0].handle_timeouts(hosts.now);
        hosts.settle();
        let serves = |shard| hosts.hosts[0].view(shard).is_some_and(|view| view.role.serving);
        assert!((1..=SHARDS).map(ShardId).all(serves), "nobody stands against it");
        hosts
    }

    /// One write for each shard.
    pub(crate) fn writes(&mut self) -> Vec<Event> {
        let put = KvCommand::Put { key: Bytes::from("key"), value: Bytes::from(&PAYLOAD[..]) };
        let command = Bytes::from(put.encode());
        let write = |shard| Event::Write {
            shard,
            ticket: Ticket(self.tickets + shard.0),
            descriptor_version: DESCRIPTOR_VERSION,
            session: None,
            command: command.clone(),
            progress: false,
        };
        let writes = (1..=SHARDS).map(ShardId).map(write).collect();
        self.tickets += SHARDS;
        writes
    }

    /// The first host takes in these events, and then takes its turn.
    pub(crate) fn take_turn(&mut self, events: Vec<Event>) {
        for event in events {
            self.hosts[0].handle(self.now, WallMillis(0), event);
        }
        self.turn = Some(self.hosts[0].take_turn(self.now));
    }

    /// Carries out the first host's turn and returns the events that result: its own sync, and the
    /// second host's acknowledgements.
    pub(crate) fn returns(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        self.carry_out_own(&mut events);
        while let Some(turn) = self.busy_turn(1) {
            self.carry_out(1, turn, &mut events);
        }
        events
    }

    /// Runs until no host has anything to do.
    pub(crate) fn settle(&mut self) {
        let mut events = Vec::new();
        self.carry_out_own(&mut events);
        loop {
            for event in events.drain(..) {
                self.hosts[0].handle(self.now, WallMillis(0), event);
            }
            let turns: Vec<_> = (0..3).filter_map(|at| Some((at, self.busy_turn(at)?))).collect();
            if turns.is_empty() {
                return;
            }
            for (at, turn) in turns {
                self.carry_out(at, turn, &mut events);
            }
        }
    }

    fn busy_turn(&mut self, at: usize) -> Option<Turn> {
        Some(self.hosts[at].take_turn(self.now)).filter(|turn| !turn.is_empty())
    }

    fn carry_out_own(&mut self, events: &mut Vec<Event>) {
        if let Some(turn) = self.turn.take() {
            self.carry_out(0, turn, events);
        }
    }

    /// Does what a turn of the host at `at` asks for, and gathers the events for the first host.
    fn carry_out(&mut self, at: usize, turn: Turn, events: &mut Vec<Event>) {
        assert!(turn.answers.is_empty(), "nothing is refused or read: {:?}", turn.answers);
        assert!(turn.fetches.is_empty(), "everything is in memory");
        let from = NodeId(at as u64 + 1);
        let persisted = turn.write.map(|(turn, _)| (from, Event::Persisted { turn }));
        let applied = turn.applies.into_iter().map(|apply| {
            let index: Index = apply.committed.range.end.previous();
            (from, Event::Applied { shard: apply.shard, replica: apply.replica, index })
        });
        let sent = turn.send.into_iter().flat_map(|(to, messages)| {
            let event = move |(shard, message)| (to, Event::Message { from, shard, message });
            messages.into_iter().map(event)
        });
        for (to, event) in persisted.into_iter().chain(applied).chain(sent) {
            if to == NodeId(1) {
                events.push(event);
            } else {
                let place = usize::try_from(to.0 - 1).expect("three nodes");
                self.hosts[place].handle(self.now, WallMillis(0), event);
            }
        }
    }
}

fn init(shard: ShardId, replica: ReplicaId) -> ReplicaInit {
    ReplicaInit { shard, replica, descriptor_version: DESCRIPTOR_VERSION, restored: restored() }
}
