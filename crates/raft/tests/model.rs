//! Goal: no history of losses, delays, duplicates, partitions, slow disks, crashes and changes of the
//! membership breaks consensus, and after it the group works again. Method: whole groups in virtual
//! time, a few hundred seeds; every promise is checked against the disks at the moment it leaves.
//! `MODEL_SEEDS=20000` asks for more.

#[path = "support/model_checks.rs"]
mod checks;
#[cfg(feature = "mutants")]
#[path = "support/model_mutants.rs"]
mod mutants;
mod support;

use std::collections::{BTreeMap, HashMap};

use quorate_raft::{Config, Membership, Message, Preference, Role, SnapshotOutcome};
use quorate_types::{Index, LogId, Monotonic, Mutation, ReplicaId, SplitMix64, Term};
use support::{BASE, Disk, Site, commands, member};

const SEEDS: u64 = 300;
const STEP_MS: u64 = 5;
const CHAOS_MS: u64 = 15_000;
const CALM_MS: u64 = 15_000;

/// Applied entries that the data store of a site forgets in a crash, at most.
const APPLIES_LOST_MAX: u64 = 3;

struct World {
    dice: SplitMix64,
    mutation: Mutation,
    now_ms: u64,
    /// In force at the base.
    founders: Membership,
    /// Site `n` hosts replica `n + 1`, forever: also after its removal.
    sites: Vec<Site>,
    /// How fast each site's clock runs, in percent: consensus must not rest on clocks.
    rates: Vec<u64>,
    /// Down until then.
    down: Vec<u64>,
    /// When each site's oldest write completes.
    sync_at: Vec<u64>,
    network: Vec<(u64, Message)>,
    /// One-way links that lose everything.
    cut: Vec<(ReplicaId, ReplicaId)>,
    calm: bool,
    leaders: BTreeMap<Term, ReplicaId>,
    /// What was committed, by index from the base on: term and payload.
    committed: Vec<(Term, Vec<u8>)>,
    /// Highest commit index that any replica reached, and the term of the leader that did.
    watermark: Index,
    watermark_term: Term,
    /// Who got each vote that left.
    votes: HashMap<(Term, ReplicaId), ReplicaId>,
    changes: Changes,
    /// On their way: when they end, and what arrives, if anything does.
    snapshots: Vec<Transfer>,
    /// Watermark when each read began.
    reads: HashMap<(ReplicaId, u64), Index>,
    reads_confirmed: usize,
    proposed: u64,
    proposals_committed: usize,
}

struct Transfer {
    ends_ms: u64,
    from: ReplicaId,
    to: ReplicaId,
    sent_in: Term,
    state: Option<(LogId, Membership)>,
}

/// How often what happened to the membership: the histories must not be idle.
#[derive(Debug, Default)]
struct Changes {
    begun: usize,
    joint_committed: usize,
    finished_by_another: usize,
    departed: usize,
    crashed_in_joint: usize,
    purged: usize,
    installed_keeping: usize,
    installed_anew: usize,
    crashed_in_install: usize,
}

impl Changes {
    fn add(&mut self, more: &Changes) {
        self.begun += more.begun;
        self.joint_committed += more.joint_committed;
        self.finished_by_another += more.finished_by_another;
        self.departed += more.departed;
        self.crashed_in_joint += more.crashed_in_joint;
        self.purged += more.purged;
        self.installed_keeping += more.installed_keeping;
        self.installed_anew += more.installed_anew;
        self.crashed_in_install += more.crashed_in_install;
    }

    fn are_idle(&self) -> bool {
        [
            self.begun,
            self.joint_committed,
            self.finished_by_another,
            self.departed,
            self.crashed_in_joint,
            self.purged,
            self.installed_keeping,
            self.installed_anew,
            self.crashed_in_install,
        ]
        .contains(&0)
    }
}

impl World {
    fn new(seed: u64, mutation: Mutation) -> World {
        let mut dice = SplitMix64::new(seed);
        let ids = |range: std::ops::RangeInclusive<u64>| range.map(member).collect::<Vec<_>>();
        let founders = match dice.below(5) {
            0 => Membership::of_voters(ids(1..=2)),
            1 => Membership { learners: ids(4..=4), ..Membership::of_voters(ids(1..=3)) },
            2 => Membership { outgoing: ids(3..=5), ..Membership::of_voters(ids(1..=3)) },
            3 => Membership::of_voters(ids(1..=5)),
            _ => Membership::of_voters(ids(1..=3)),
        };
        let count = founders.members().count();
        let mut world = World {
            dice,
            mutation,
            now_ms: 0,
            founders,
            sites: Vec::new(),
            rates: Vec::new(),
            down: Vec::new(),
            sync_at: Vec::new(),
            network: Vec::new(),
            cut: Vec::new(),
            calm: false,
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            watermark: BASE.index,
            watermark_term: BASE.term,
            votes: HashMap::new(),
            changes: Changes::default(),
            snapshots: Vec::new(),
            reads: HashMap::new(),
            reads_confirmed: 0,
            proposed: 0,
            proposals_committed: 0,
        };
        (0..count).for_each(|_| world.add_site(seed));
        world
    }

    /// The next replica, on a node of its own, with the base state and no log.
    fn add_site(&mut self, seed: u64) {
        let id = ReplicaId(1 + self.sites.len() as u64);
        let mut config = Config::new(id, seed * 31 + id.0, id.0 << 60);
        config.mutation = self.mutation;
        config.window_messages_max = 1 + self.dice.below(8) as usize;
        config.window_bytes_max = 2_000;
        config.append_bytes_max = 300;
        config.apply_bytes_max = 500;
        config.uncommitted_bytes_max = 4_000;
        config.kept_entries_max = 5 + self.dice.below(60);
        config.promotion_lag_entries_max = self.dice.below(20);
        config.preference = match self.dice.below(8) {
            0 => Preference::Reluctant,
            // Not a founder: a group in which nobody may lead has no way on.
            1 if id.0 > 5 => Preference::Never,
            _ => Preference::Normal,
        };
        let rate = 30 + self.dice.below(170);
        let now = Monotonic::from_millis(self.now_ms * rate / 100);
        self.sites.push(Site::new(config, Disk::new(self.founders.clone()), BASE.index, now));
        self.rates.push(rate);
        self.down.push(0);
        self.sync_at.push(0);
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        if !self.calm {
            self.break_things();
        }
        for at in 0..self.sites.len() {
            if self.down[at] > self.now_ms {
                continue;
            }
            self.sites[at].now = Monotonic::from_millis(self.now_ms * self.rates[at] / 100);
            let now = self.sites[at].now;
            if self.sites[at].kernel.poll_timeout() <= now {
                self.sites[at].kernel.handle_timeout(now);
            }
            self.use_site(at);
            if !self.sites[at].flights.is_empty() && self.sync_at[at] <= self.now_ms {
                let flight = self.sites[at].persist();
                self.check_commit(at);
                self.sync_at[at] = self.now_ms + self.sync_ms();
                flight.held.into_iter().for_each(|message| self.send(message));
            }
            self.settle(at);
        }
        self.deliver();
        self.end_snapshots();
    }

    /// Any part of the writes under way reached the disk, and some of what was applied is forgotten.
    fn crash(&mut self, at: usize) {
        let site = &self.sites[at];
        self.changes.crashed_in_joint += usize::from(site.kernel.membership().is_joint());
        self.changes.crashed_in_install += usize::from(site.applied_before.is_some());
        let survivors = self.dice.below(site.flights.len() as u64 + 1) as usize;
        let lost = self.dice.below(APPLIES_LOST_MAX + 1);
        let applied = Index(site.applied.0.saturating_sub(lost));
        self.sites[at].restart(survivors, applied);
        self.down[at] = self.now_ms + self.dice.below(3_000);
    }

    fn sync_ms(&mut self) -> u64 {
        if self.dice.chance(20) && !self.calm { 400 } else { self.dice.below(20) }
    }

    fn break_things(&mut self) {
        let count = self.sites.len() as u64;
        if self.dice.chance(4) {
            let at = self.dice.below(count) as usize;
            self.crash(at);
        }
        if self.dice.chance(5) {
            let (from, to) = (1 + self.dice.below(count), 1 + self.dice.below(count));
            self.cut.push((ReplicaId(from), ReplicaId(to)));
            if self.dice.chance(500) {
                self.cut.push((ReplicaId(to), ReplicaId(from)));
            }
        }
        if self.dice.chance(3) {
            // A leader, if there is one: cut off it does not know yet that others elect.
            let leads = |site: &&Site| site.kernel.role().role == Role::Leader;
            let drawn = ReplicaId(1 + self.dice.below(count));
            let alone = self.sites.iter().find(leads).map_or(drawn, |site| site.config.replica);
            for other in (1..=count).map(ReplicaId).filter(|other| *other != alone) {
                self.cut.extend([(alone, other), (other, alone)]);
            }
        }
        if self.dice.chance(2) {
            self.cut.clear();
        }
    }

    /// What callers do.
    fn use_site(&mut self, at: usize) {
        let now = self.sites[at].now;
        let id = self.sites[at].config.replica;
        if self.dice.chance(100) {
            self.proposed += 1;
            let text = format!("{}-{}", id, self.proposed);
            let payloads = vec![text.as_bytes(); 1 + self.dice.below(4) as usize];
            let proposed = self.sites[at].kernel.propose(now, commands(&payloads));
            assert!(proposed.is_err() || self.sites[at].kernel.role().role == Role::Leader);
        }
        if self.dice.chance(50)
            && let Ok(context) = self.sites[at].kernel.read(now)
        {
            let clash = self.reads.insert((id, context), self.watermark);
            assert_eq!(clash, None, "contexts are never reused");
        }
        if self.dice.chance(3) && !self.calm {
            let to = ReplicaId(1 + self.dice.below(5));
            let begun = self.sites[at].kernel.transfer_leader(now, to);
            assert!(begun.is_err() || self.sites[at].kernel.membership().is_voter(to));
        }
        if self.dice.chance(1) && !self.calm {
            self.sites[at].kernel.step_down(now);
            let role = self.sites[at].kernel.role();
            assert_eq!(role.role, Role::Follower);
            assert_ne!(role.leader.map(|(leader, _)| leader), Some(id));
        }
        if self.dice.chance(8) && !self.calm {
            self.change_membership(at);
        }
        if self.dice.chance(50) {
            let applied = self.sites[at].applied;
            self.sites[at].kernel.evict_below(applied);
        }
        if self.dice.chance(20) {
            let (base, applied) = (self.sites[at].kernel.base(), self.sites[at].applied);
            self.sites[at].purge(Index(applied.0.saturating_sub(APPLIES_LOST_MAX)), Index(0));
            self.changes.purged += usize::from(self.sites[at].kernel.base() > base);
        }
        if self.dice.chance(3) {
            // Nobody needs it; what holds its base keeps what it has behind it.
            let to = ReplicaId(1 + self.dice.below(self.sites.len() as u64));
            self.send_snapshot(at, to, Index(0));
        }
    }

    fn send_snapshot(&mut self, at: usize, to: ReplicaId, at_least: Index) {
        let from = self.sites[at].config.replica;
        let state = self.sites[at].snapshot().filter(|(base, _)| base.index >= at_least);
        let is_lost = self.dice.chance(300) && !self.calm;
        let ends_ms = self.now_ms + self.dice.below(1_000);
        let sent_in = self.sites[at].kernel.role().term;
        self.snapshots.push(Transfer {
            ends_ms,
            from,
            to,
            sent_in,
            state: state.filter(|_| !is_lost),
        });
    }

    fn end_snapshots(&mut self) {
        let now_ms = self.now_ms;
        let (ended, under_way) =
            std::mem::take(&mut self.snapshots).into_iter().partition(|t| t.ends_ms <= now_ms);
        self.snapshots = under_way;
        let ended: Vec<Transfer> = ended;
        for Transfer { from, to, sent_in, state, .. } in ended {
            let (source, target) = (from.0 as usize - 1, to.0 as usize - 1);
            let is_up = |at: usize| self.down[at] <= now_ms;
            let reaches = is_up(target) && !self.cut.contains(&(from, to));
            let (is_source_up, mut outcome) = (is_up(source), SnapshotOutcome::Failed);
            if let Some((base, membership)) = state.filter(|_| reaches) {
                let last = self.sites[target].kernel.last();
                if self.sites[target].install(sent_in, base, membership).is_ok() {
                    outcome = SnapshotOutcome::Installed(base);
                    let keeps_log = self.sites[target].kernel.last() == last && last > base;
                    self.changes.installed_keeping += usize::from(keeps_log);
                    self.changes.installed_anew += usize::from(!keeps_log);
                    self.settle(target);
                    if self.dice.chance(100) && !self.calm {
                        self.crash(target);
                    }
                }
            }
            if is_source_up {
                self.sites[source].kernel.handle_snapshot_report(to, outcome);
            }
        }
    }

    /// Any change that a caller might ask for, sensible or not.
    fn change_membership(&mut self, at: usize) {
        let kernel = &self.sites[at].kernel;
        let (own, in_force) = (self.sites[at].config.replica, kernel.membership().clone());
        let mut target = in_force.settled();
        for _ in 0..1 + self.dice.below(3) {
            match self.dice.below(6) {
                0 | 1 if self.sites.len() < 9 => {
                    let id = 1 + self.sites.len() as u64;
                    target.learners.retain(|learner| learner.replica.0 < id);
                    target.learners.push(member(id));
                }
                2 | 3 => target.voters.append(&mut target.learners),
                4 => self.take_out(&mut target, own),
                _ => {
                    let drawn = self.dice.below(self.sites.len() as u64) + 1;
                    self.take_out(&mut target, ReplicaId(drawn));
                }
            }
        }
        let now = self.sites[at].now;
        let first_new = ReplicaId(1 + self.sites.len() as u64);
        let result = self.sites[at].kernel.change_membership(now, &in_force, &target);
        if result.is_ok() {
            assert_eq!(self.sites[at].kernel.role().role, Role::Leader);
            assert!(!in_force.is_joint(), "two changes at once");
            self.changes.begun += 1;
            if target.learners.iter().any(|learner| learner.replica == first_new) {
                self.add_site(first_new.0 + now.0);
            }
        }
    }

    /// Removes a member, or demotes it.
    fn take_out(&mut self, target: &mut Membership, replica: ReplicaId) {
        let was_voter = target.is_voter(replica);
        target.voters.retain(|voter| voter.replica != replica);
        target.learners.retain(|learner| learner.replica != replica);
        if was_voter && self.dice.chance(300) {
            target.learners.push(member(replica.0));
        }
    }

    /// Carries out what a kernel wants until it wants nothing.
    fn settle(&mut self, at: usize) {
        let id = self.sites[at].config.replica;
        loop {
            let was_idle = self.sites[at].flights.is_empty();
            let ready = self.sites[at].take_ready();
            assert_eq!(ready.loss, None, "every disk here keeps what was synced");
            self.check_commit(at);
            if ready.is_empty() {
                if self.dice.chance(20) {
                    self.check_membership(at);
                }
                return;
            }
            if was_idle && ready.write.is_some() {
                self.sync_at[at] = self.now_ms + self.sync_ms();
            }
            for (_, message) in ready.send_now.into_iter().chain(ready.send_after_sync) {
                self.send(message);
            }
            for run in ready.committed.iter().flat_map(|committed| &committed.runs) {
                for entry in run.entries() {
                    self.check_entry(id, entry.id, entry.kind, entry.payload);
                }
            }
            for read in ready.reads {
                let began = self.reads.remove(&(id, read.context)).expect("ends once");
                if let Some(index) = read.index {
                    assert!(index >= began, "stale read: {index:?}, committed was {began:?}");
                    self.reads_confirmed += 1;
                }
            }
            for fetch in &ready.fetches {
                self.sites[at].serve(fetch);
            }
            for request in &ready.snapshots {
                self.send_snapshot(at, request.to, request.at_least);
            }
            let applied = self.sites[at].applied;
            self.sites[at].kernel.handle_applied(applied);
            if let Some(role) = ready.role
                && role.role == Role::Leader
            {
                self.check_leader(at, role.term);
            }
        }
    }

    fn send(&mut self, message: Message) {
        self.check_promise(&message);
        let lost = self.cut.contains(&(message.from, message.to)) || self.dice.chance(50);
        if lost && !self.calm {
            return;
        }
        if self.dice.chance(50) && !self.calm {
            let late = self.now_ms + self.dice.below(3_000);
            self.network.push((late, message.clone()));
        }
        let arrives = self.now_ms + self.dice.below(30);
        self.network.push((arrives, message));
    }

    fn deliver(&mut self) {
        let now_ms = self.now_ms;
        let (due, later) =
            std::mem::take(&mut self.network).into_iter().partition(|m| m.0 <= now_ms);
        self.network = later;
        let due: Vec<(u64, Message)> = due;
        for (_, message) in due {
            let at = message.to.0 as usize - 1;
            if self.down[at] <= now_ms {
                let now = self.sites[at].now;
                if self.sites[at].kernel.membership().node_of(message.from).is_none() {
                    let node = member(message.from.0).node;
                    self.sites[at].kernel.handle_address(message.from, node);
                }
                self.sites[at].kernel.handle_message(now, message);
                self.check_commit(at);
                // Some messages share a turn, some do not.
                if self.dice.chance(500) {
                    self.settle(at);
                }
            }
        }
    }
}

/// A whole history, and what was committed when the chaos ended.
fn run(seed: u64, mutation: Mutation) -> (World, usize) {
    let mut world = World::new(seed, mutation);
    while world.now_ms < CHAOS_MS {
        world.step();
    }
    let before = world.proposals_committed;
    world.calm = true;
    world.cut.clear();
    while world.now_ms < CHAOS_MS + CALM_MS {
        world.step();
    }
    world.check_calm(seed, before);
    (world, before)
}

#[test]
fn random_histories_keep_every_promise() {
    let number = |name| std::env::var(name).ok().map(|s| s.parse::<u64>().expect("a number"));
    let only = number("MODEL_SEED");
    let seeds = number("MODEL_SEEDS").unwrap_or(SEEDS);
    let mut reads_confirmed = 0;
    let mut committed_in_chaos = 0;
    let mut changes = Changes::default();
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        println!("seed {seed}: repeat it alone with MODEL_SEED={seed}");
        let (world, before) = run(seed, Mutation::NONE);
        committed_in_chaos += before;
        reads_confirmed += world.reads_confirmed;
        changes.add(&world.changes);
    }
    println!("{changes:?}");
    println!("{committed_in_chaos} commands committed in chaos, {reads_confirmed} reads confirmed");
    // One seed alone may cut its group off from beginning to end.
    let is_idle = reads_confirmed == 0 || committed_in_chaos == 0 || changes.are_idle();
    assert!(only.is_some() || !is_idle, "the histories are idle");
}
