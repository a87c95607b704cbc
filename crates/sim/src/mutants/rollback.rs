//! A drill: a node restarts from an older copy of its stores while the leader stays. It runs one
//! group of three kernels: messages are reordered and duplicated, disks lag, and the other follower
//! crashes without losing what is durable.
//!
//! It is separate from the worlds, because a copy makes its replica break promises before that can
//! be detected, and every other property would report a bug. Here a copy can only lose
//! acknowledgements: nobody campaigns.

use std::collections::VecDeque;

use quorate_raft::{
    Body, Config, EntryKind, HardState, Kernel, Member, Membership, Message, Restored, Role, Run,
    RunDraft, Write,
};
use quorate_types::{
    Duration, Index, LogId, Monotonic, Mutation, NodeId, ReplicaId, SplitMix64, Term, limits,
};

const BASE: LogId = LogId::new(Term(1), Index(1));
/// Histories, each of its own seed.
const HISTORIES: u64 = 300;
/// Steps of one history.
const STEPS: u64 = 400;
/// Heartbeats after which a leader's longest timeout has passed several times.
const BEATS_AT_THE_END: usize = 200;
/// Longer than any history: the leader never steps down, and no follower is given up.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1_000_000);
/// Replica numbers, from 0.
const LEADER: usize = 0;
const ROLLED_BACK: usize = 1;

#[derive(Clone)]
struct Disk {
    hard_state: HardState,
    runs: Vec<Run>,
}

impl Disk {
    fn last(&self) -> LogId {
        self.runs.last().map_or(BASE, Run::last_id)
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let run = self.runs.iter().find(|run| run.range().contains(&index));
        if index == BASE.index { Some(BASE.term) } else { run.map(Run::term) }
    }

    fn write(&mut self, write: &Write) {
        self.hard_state = write.hard_state.unwrap_or(self.hard_state);
        if let Some(from) = write.truncate_from {
            self.runs.retain(|run| run.first() < from);
            if let Some(run) = self.runs.pop() {
                self.runs.push(run.cut(run.first(), run.range().end.min(from)));
            }
        }
        self.runs.extend(write.runs.iter().cloned());
    }
}

struct Site {
    kernel: Kernel,
    disk: Disk,
    /// Writes under way, each with the messages that wait for it.
    flights: VecDeque<(Write, Vec<Message>)>,
    /// The highest acknowledgement that ever left for the leader of the last term.
    acknowledged: Index,
    /// Whether a message left after the kernel had said that its service is over.
    spoke_after_end: bool,
}

struct Group {
    random: SplitMix64,
    mutation: Mutation,
    now: Monotonic,
    sites: Vec<Site>,
    network: Vec<Message>,
}

fn members() -> Membership {
    Membership::of_voters((1..=3).map(|id| Member { replica: ReplicaId(id), node: NodeId(id) }))
}

fn start(place: usize, disk: &Disk, mutation: Mutation, now: Monotonic) -> Kernel {
    let mut config = Config::new(ReplicaId(place as u64 + 1), 7, 0);
    config.election_timeout = ELECTION_TIMEOUT;
    config.mutation = mutation;
    let mut terms: Vec<(Index, Term)> = Vec::new();
    for run in &disk.runs {
        if terms.last().is_none_or(|(_, term)| *term != run.term()) {
            terms.push((run.first(), run.term()));
        }
    }
    let restored = Restored {
        hard_state: disk.hard_state,
        base: BASE,
        base_membership: members(),
        terms,
        memberships: Vec::new(),
        last: disk.last(),
        applied: BASE.index,
    };
    Kernel::new(config, restored, now)
}

impl Group {
    /// Replica 1 leads. The one that will be rolled back begins with a tail that nobody else has.
    fn new(seed: u64, mutation: Mutation) -> Group {
        let mut random = SplitMix64::new(seed);
        let now = Monotonic(0);
        let disk = |entries: u64, term: u64| {
            let hard_state = HardState { term: Term(term), vote: None, committed: BASE.index };
            let runs = (0..entries).map(|n| entry(Term(term), BASE.index.plus(n + 1))).collect();
            Disk { hard_state, runs }
        };
        let disks = [disk(2, 3), disk(random.below(9), 2), disk(0, 1)];
        let site = |(place, disk): (usize, Disk)| Site {
            kernel: start(place, &disk, mutation, now),
            disk,
            flights: VecDeque::new(),
            acknowledged: Index(0),
            spoke_after_end: false,
        };
        let sites = disks.into_iter().enumerate().map(site).collect();
        let mut group = Group { random, mutation, now, sites, network: Vec::new() };
        group.now = group.sites[LEADER].kernel.poll_timeout();
        let now = group.now;
        group.sites[LEADER].kernel.handle_timeout(now);
        group.take(LEADER);
        group
    }

    /// Carries out a kernel's outputs until it has none.
    fn take(&mut self, place: usize) {
        let site = &mut self.sites[place];
        loop {
            let had_ended = site.kernel.has_ended();
            let ready = site.kernel.take_ready();
            if ready.is_empty() {
                return;
            }
            let mut leaving: Vec<Message> = ready.send_now.into_iter().map(|(_, m)| m).collect();
            let held = ready.send_after_sync.into_iter().map(|(_, m)| m);
            if let Some(write) = ready.write {
                site.flights.push_back((write, held.collect()));
            } else if let Some((_, waiting)) = site.flights.back_mut() {
                waiting.extend(held);
            } else {
                leaving.extend(held);
            }
            if ready.loss.is_some() {
                // As in the host, messages that wait for a sync are no longer sent.
                site.flights.iter_mut().for_each(|(_, waiting)| waiting.clear());
            }
            site.spoke_after_end |= had_ended && !leaving.is_empty();
            for fetch in ready.fetches {
                let runs = site.disk.runs.iter().filter(|run| run.last() >= fetch.range.start);
                let runs = runs.filter(|run| run.first() < fetch.range.end).cloned();
                site.kernel.handle_fetched(fetch.reader, runs.collect());
            }
            leaving.into_iter().for_each(|message| {
                site.note(&message);
                self.network.push(message);
            });
        }
    }

    fn sync(&mut self, place: usize) {
        let site = &mut self.sites[place];
        let Some((write, waiting)) = site.flights.pop_front() else { return };
        site.disk.write(&write);
        site.kernel.handle_persisted(write.number);
        for message in waiting {
            site.note(&message);
            self.network.push(message);
        }
        self.take(place);
    }

    /// Delivers a random message; sometimes it stays, and arrives once more.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let place = self.random.place(self.network.len());
        let message = if self.random.chance(150) {
            self.network[place].clone()
        } else {
            self.network.swap_remove(place)
        };
        self.arrive(message);
    }

    fn arrive(&mut self, message: Message) {
        let to = usize::try_from(message.to.0 - 1).expect("three replicas");
        self.sites[to].kernel.handle_message(self.now, message);
        self.take(to);
    }

    fn beat(&mut self) {
        self.now = self.now + limits::HEARTBEAT;
        self.sites[LEADER].kernel.handle_timeout(self.now);
        self.take(LEADER);
    }

    fn propose(&mut self) {
        let mut draft = RunDraft::new();
        draft.push(EntryKind::Command, &[b"x"]);
        // A proposal is refused before the election is over, and nothing depends on it.
        drop(self.sites[LEADER].kernel.propose(self.now, draft));
        self.take(LEADER);
    }

    /// Crashes a replica, and starts it from `disk`.
    fn restart(&mut self, place: usize, disk: Disk) {
        let (now, mutation) = (self.now, self.mutation);
        let site = &mut self.sites[place];
        site.kernel = start(place, &disk, mutation, now);
        site.flights.clear();
        site.disk = disk;
        self.take(place);
    }

    fn happen(&mut self) {
        match self.random.below(100) {
            0..12 => self.propose(),
            12..17 => self.beat(),
            17..40 => {
                let place = self.random.place(self.sites.len());
                self.sync(place);
            }
            40..42 => {
                let disk = self.sites[2].disk.clone();
                self.restart(2, disk);
            }
            _ => self.deliver(),
        }
    }

    /// Delivers every message and syncs every write.
    fn settle(&mut self) {
        for beat in 0..BEATS_AT_THE_END {
            if beat % 8 == 0 {
                self.propose();
            }
            self.beat();
            loop {
                (0..self.sites.len()).for_each(|place| {
                    while !self.sites[place].flights.is_empty() {
                        self.sync(place);
                    }
                });
                let Some(message) = self.network.pop() else { break };
                self.arrive(message);
            }
        }
    }
}

impl Site {
    fn note(&mut self, message: &Message) {
        if let Body::Accepted { matched } = message.body {
            self.acknowledged = self.acknowledged.max(matched);
        }
    }

    /// Whether the durable log equals the leader's through `end`.
    fn equals(&self, leader: &Site, end: Index) -> bool {
        // The leader's own disk may lag behind what it has sent.
        let same = |index| self.disk.term_at(index) == leader.kernel.term_at(index);
        (BASE.index.0..=end.0).all(|index| same(Index(index)))
    }
}

fn entry(term: Term, index: Index) -> Run {
    let mut draft = RunDraft::new();
    draft.push(EntryKind::Command, &[b"old"]);
    draft.seal(term, index)
}

/// Runs one history. Returns whether the copy had lost anything, or what went wrong.
fn history(seed: u64, mutation: Mutation) -> Result<bool, String> {
    let mut group = Group::new(seed, mutation);
    let copied_at = group.random.below(STEPS);
    let restored_at = copied_at + group.random.below(STEPS - copied_at);
    let mut copy = group.sites[ROLLED_BACK].disk.clone();
    let mut has_lost = false;
    for step in 0..STEPS {
        group.happen();
        if step == copied_at {
            copy = group.sites[ROLLED_BACK].disk.clone();
        }
        if step == restored_at {
            let (own, leader) = (&group.sites[ROLLED_BACK], &group.sites[LEADER]);
            let acknowledged = own.acknowledged;
            let is_newer =
                acknowledged > Index(0) && copy.hard_state.term < leader.kernel.role().term;
            group.restart(ROLLED_BACK, copy.clone());
            let (own, leader) = (&group.sites[ROLLED_BACK], &group.sites[LEADER]);
            has_lost = is_newer || !own.equals(leader, acknowledged);
        }
    }
    group.settle();
    let leader = &group.sites[LEADER];
    assert_eq!(leader.kernel.role().role, Role::Leader, "nobody else campaigns");
    let end = leader.kernel.last().index;
    for place in [ROLLED_BACK, 2] {
        let (site, id) = (&group.sites[place], place + 1);
        let (has_ended, holds_all) = (site.kernel.has_ended(), site.equals(leader, end));
        let may_end = place == ROLLED_BACK && has_lost;
        if site.spoke_after_end {
            return Err(format!("history {seed}: replica {id} speaks after its end"));
        }
        if has_ended && !may_end {
            return Err(format!("history {seed}: replica {id} ends and had lost nothing"));
        }
        if !has_ended && !holds_all {
            let last = site.kernel.last();
            return Err(format!(
                "history {seed}: replica {id} goes on with a log that ends at {last}; the leader's \
                 ends at {end:?}, and has {:?} of it acknowledged",
                site.acknowledged
            ));
        }
    }
    Ok(has_lost)
}

/// A replica that has lost what it had acknowledged is detected, ends, and sends nothing more; no
/// other replica ends.
pub(super) fn rolled_back_ends(mutation: Mutation) -> Result<(), String> {
    let mut lost = 0;
    for seed in 1..=HISTORIES {
        lost += u64::from(history(seed, mutation)?);
    }
    assert!(lost > HISTORIES / 4, "only {lost} of {HISTORIES} copies had lost anything");
    assert!(lost < HISTORIES - HISTORIES / 20, "{lost} of {HISTORIES} copies had lost something");
    Ok(())
}
