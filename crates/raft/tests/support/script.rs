//! A group driven by commands, which tells in text what it does: the language of the transcripts.
//!
//! Nothing happens by itself: time stands still until `wait`, messages lie in the network until
//! `deliver`. Disks write at once unless they are told to `hold`. See `tests/transcripts/README.md`.

#[path = "script_host.rs"]
mod host;
#[path = "script_network.rs"]
mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use quorate_raft::{
    ChangeError, Config, EntryKind, HardState, Install, Kernel, Membership, Message, Preference,
    Ready, Role, RunDraft,
};
use quorate_types::{Duration, Index, Monotonic, ReplicaId, Term};

use crate::describe::{describe, describe_members, describe_role, status_line};
use crate::support::{BASE, Disk, Site, commands, member};
use host::Snapshot;
use network::Loss;

/// The group, its network, and the text so far.
#[derive(Default)]
pub(crate) struct Script {
    sites: BTreeMap<u64, Site>,
    holding: BTreeSet<u64>,
    isolated: BTreeSet<u64>,
    /// One-way links that lose everything.
    cut: BTreeSet<(u64, u64)>,
    loss: Loss,
    network: Vec<Message>,
    saved: BTreeMap<String, Message>,
    snapshots: BTreeMap<String, Snapshot>,
    /// Copies of disks.
    copies: BTreeMap<String, Disk>,
    /// The memberships told last.
    memberships: BTreeMap<u64, Membership>,
    founders: Membership,
    out: String,
}

/// No command here has that much to tell: more is two replicas that answer each other forever.
const OUTPUT_BYTES_MAX: usize = 100_000;

type Words<'a> = &'a [&'a str];

impl Script {
    /// Carries one command out and tells what came of it.
    pub(crate) fn run(&mut self, command: &str) -> String {
        let words: Vec<&str> = command.split_whitespace().collect();
        let rest = &words[1..];
        match words[0] {
            "new" => self.new_group(rest),
            "load" => self.load(rest),
            "elect" => self.elect(number(rest[0])),
            "campaign" => self.campaign(number(rest[0])),
            "pass" => self.pass(rest),
            "beat" => self.beat(rest[0], number(rest[1])),
            "wait" => self.wait(rest),
            "propose" => self.propose(number(rest[0]), &rest[1..]),
            "read" => self.read(number(rest[0])),
            "purge" => self.purge(number(rest[0]), number(rest[1]), option(rest, "kept_from")),
            "snapshot" => self.take_snapshot(number(rest[0]), rest[1]),
            "install" => self.install(rest[0]),
            "report" => self.report(rest[0], rest[1]),
            "resign" => self.step_down(number(rest[0])),
            "join" => rest.iter().for_each(|id| self.join(number(id))),
            "change" => self.change(number(rest[0]), &rest[1..]),
            "transfer" => self.transfer(number(rest[0]), number(rest[1])),
            "deliver" => self.deliver(rest.first().copied()),
            "drop" => self.drop_messages(rest.first().copied()),
            "save" => self.save(rest[0], rest[1]),
            "send" => self.send_saved(rest),
            "isolate" => drop(self.isolated.insert(number(rest[0]))),
            "cut" => self.cut.extend(rest.iter().map(|link| ends(link))),
            "lossy" => self.loss.percent = number(rest[0]),
            "heal" => self.heal(),
            "bound" => self.site(number(rest[0])).kernel.handle_bound(),
            "unbound" => self.with_kernel(number(rest[0]), Kernel::handle_unbound),
            "lost" => self.with_kernel(number(rest[0]), Kernel::handle_leader_lost),
            "attends" => self.attends(rest[0], rest[1]),
            "lease" => self.lease(number(rest[0])),
            "silence" => self.silence(number(rest[0]), number(rest[1])),
            "hold" => drop(self.holding.insert(number(rest[0]))),
            "persist" => self.persist_one(number(rest[0])),
            "release" => self.release(number(rest[0])),
            "crash" => self.crash(number(rest[0])),
            "copy" => self.copy(number(rest[0]), rest[1]),
            "rollback" => self.roll_back(number(rest[0]), rest[1]),
            "evict" => self.evict(number(rest[0])),
            "status" => self.status(),
            other => panic!("unknown command {other}"),
        }
        std::mem::take(&mut self.out)
    }

    fn say(&mut self, line: &str) {
        assert!(self.out.len() < OUTPUT_BYTES_MAX, "a command without end: {}", &self.out[..2_000]);
        writeln!(self.out, "{line}").expect("strings take everything");
    }

    /// `new 3 [learners=1] [window=2] [never=3]`: voters 1 to 3, then learners, all with empty logs.
    fn new_group(&mut self, words: Words) {
        let voters = number(words[0]);
        let learners = option(words, "learners").unwrap_or(0);
        let membership = Membership {
            learners: (voters + 1..=voters + learners).map(member).collect(),
            ..Membership::of_voters((1..=voters).map(member))
        };
        self.founders = membership.clone();
        for id in 1..=voters + learners {
            let mut config = Config::new(ReplicaId(id), id, 0);
            config.election_timeout = Duration::from_millis(1_000);
            config.heartbeat = Duration::from_millis(100);
            config.transfer_timeout = Duration::from_millis(1_000);
            config.append_bytes_max = option(words, "append").unwrap_or(1 << 20) as usize;
            let window_bytes = option(words, "window_bytes").unwrap_or(8 << 20);
            config.window_bytes_max = window_bytes as usize;
            config.window_messages_max = option(words, "window").unwrap_or(256) as usize;
            config.kept_entries_max = option(words, "kept").unwrap_or(1_000);
            config.promotion_lag_entries_max = option(words, "lag").unwrap_or(0);
            let prefers = |name| option(words, name) == Some(id);
            config.preference = match (prefers("reluctant"), prefers("never")) {
                (true, _) => Preference::Reluctant,
                (_, true) => Preference::Never,
                _ => Preference::Normal,
            };
            let disk = Disk::new(membership.clone());
            self.sites.insert(id, Site::new(config, disk, BASE.index, Monotonic(0)));
            self.memberships.insert(id, membership.clone());
        }
    }

    /// `join 4`: a replica on a new node, which holds the base state and nothing else. No member
    /// knows of it yet.
    fn join(&mut self, id: u64) {
        let first = self.sites.values().next().expect("a group");
        let config = Config { replica: ReplicaId(id), seed: id, ..first.config.clone() };
        let disk = Disk::new(self.founders.clone());
        self.sites.insert(id, Site::new(config, disk, BASE.index, first.now));
        self.memberships.insert(id, self.founders.clone());
    }

    /// `change 1 voters=1,2 learners=4 [expecting=1,2,3]`: to these members, if the voters in force
    /// are those expected, and no learners; without `expecting`, whatever is in force.
    fn change(&mut self, id: u64, words: Words) {
        let list = |name: &str| {
            let value = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            let ids = |text: &str| text.split(',').map(|id| member(number(id))).collect::<Vec<_>>();
            value.map(ids)
        };
        let members = |name| list(name).unwrap_or_default();
        let target = Membership {
            learners: members("learners"),
            ..Membership::of_voters(members("voters"))
        };
        let site = self.site(id);
        let in_force = site.kernel.membership().clone();
        let expected = list("expecting").map_or(in_force, Membership::of_voters);
        match site.kernel.change_membership(site.now, &expected, &target) {
            Ok(first) => self.say(&format!("  {id} takes it at {first}")),
            Err(ChangeError::Stale { in_force }) => {
                self.say(&format!("  {id} refuses: in force are {}", describe_members(&in_force)));
            }
            Err(error) => self.say(&format!("  {id} refuses: {error}")),
        }
        self.settle(id);
    }

    /// `load 2 1 1 3 [term=4] [commit=3] [learners=2]`: replica 2 starts with entries of these
    /// terms behind the base; with `learners` it knows its last replicas as such.
    fn load(&mut self, words: Words) {
        let site = self.sites.get_mut(&number(words[0])).expect("a replica");
        let terms: Vec<u64> = words[1..].iter().filter_map(|word| word.parse().ok()).collect();
        site.disk.runs.clear();
        for (position, term) in terms.iter().enumerate() {
            let mut draft = RunDraft::new();
            draft.push(EntryKind::Command, &[b"x"]);
            site.disk.runs.push(draft.seal(Term(*term), BASE.index.plus(1 + position as u64)));
        }
        let newest = terms.iter().max().copied().unwrap_or(1);
        let term = Term(option(words, "term").unwrap_or(newest));
        let committed = Index(option(words, "commit").unwrap_or(1));
        site.disk.hard_state = HardState { term, vote: None, committed };
        if let Some(learners) = option(words, "learners") {
            let voters = &mut site.disk.membership.voters;
            let learners = voters.split_off(voters.len() - learners as usize);
            site.disk.membership.learners = learners;
        }
        site.restart(0, BASE.index);
    }

    /// A whole election, of which only the outcome is told.
    fn elect(&mut self, id: u64) {
        self.campaign(id);
        self.deliver(None);
        self.out.clear();
        self.status();
    }

    /// Advances one replica's clock until its election timer has run out.
    fn campaign(&mut self, id: u64) {
        let site = self.site(id);
        assert_ne!(site.kernel.role().role, Role::Leader, "leaders do not campaign");
        // The timers of its reads may run out before.
        loop {
            site.now = site.kernel.poll_timeout();
            site.kernel.handle_timeout(site.now);
            if site.kernel.role().role != Role::Follower {
                break;
            }
        }
        self.settle(id);
    }

    /// `wait 2 500`: replica 2's clock alone; `wait 500`: everybody's.
    fn wait(&mut self, words: Words) {
        let (ids, millis) = match words {
            [id, millis] => (vec![number(id)], number(millis)),
            _ => (self.sites.keys().copied().collect(), number(words[0])),
        };
        for id in ids {
            let until = self.site(id).now + Duration::from_millis(millis);
            while self.site(id).kernel.poll_timeout() <= until {
                let site = self.site(id);
                site.now = site.now.max(site.kernel.poll_timeout());
                site.kernel.handle_timeout(site.now);
                self.settle(id);
            }
            self.site(id).now = until;
        }
    }

    /// `pass [2] 600`: waits in steps of 100 ms, everything is delivered, and only changes of roles,
    /// ended reads and applied entries are told.
    fn pass(&mut self, words: Words) {
        let (last, ids) = words.split_last().expect("a time");
        for _ in 0..number(last) / 100 {
            self.wait(&[ids, &["100"]].concat());
            self.deliver(None);
        }
        let is_told = |line: &&str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            line.starts_with("  ")
                && !["sends", "writes", "synced"].contains(&words[0])
                && !["writes", "synced"].contains(&words[1])
        };
        let told: Vec<&str> = self.out.lines().filter(is_told).collect();
        self.out = told.iter().map(|line| format!("{line}\n")).collect();
    }

    fn propose(&mut self, id: u64, payloads: Words) {
        let payloads: Vec<&[u8]> = payloads.iter().map(|text| text.as_bytes()).collect();
        let site = self.site(id);
        let result = site.kernel.propose(site.now, commands(&payloads));
        match result {
            Ok(first) => self.say(&format!("  {id} takes it at {first}")),
            Err((error, _)) => self.say(&format!("  {id} refuses: {error}")),
        }
        self.settle(id);
    }

    fn read(&mut self, id: u64) {
        let site = self.site(id);
        match site.kernel.read(site.now) {
            Ok(context) => self.say(&format!("  {id} begins read {}", context % (1 << 40))),
            Err(error) => self.say(&format!("  {id} refuses: {error}")),
        }
        self.settle(id);
    }

    fn transfer(&mut self, id: u64, to: u64) {
        let site = self.site(id);
        if let Err(error) = site.kernel.transfer_leader(site.now, ReplicaId(to)) {
            self.say(&format!("  {id} refuses: {error}"));
        }
        self.settle(id);
    }

    fn step_down(&mut self, id: u64) {
        let site = self.site(id);
        site.kernel.step_down(site.now);
        self.settle(id);
    }

    fn persist_one(&mut self, id: u64) {
        let flight = self.site(id).persist();
        self.say(&format!("  {id} synced {:?}", flight.write.number));
        flight.held.into_iter().for_each(|message| self.leave(message));
        self.settle(id);
    }

    fn release(&mut self, id: u64) {
        self.holding.remove(&id);
        self.settle(id);
    }

    fn crash(&mut self, id: u64) {
        let lost: Vec<String> = self
            .site(id)
            .flights
            .iter()
            .map(|flight| format!("{:?}", flight.write.number))
            .collect();
        self.site(id).restart(0, BASE.index);
        let lost = if lost.is_empty() { "nothing".to_owned() } else { lost.join(", ") };
        self.say(&format!("  {id} crashed, lost {lost}, and starts again"));
        self.settle(id);
    }

    /// `copy 2 old`: keeps what is durable at replica 2.
    fn copy(&mut self, id: u64, name: &str) {
        let disk = self.site(id).disk.clone();
        self.copies.insert(name.to_owned(), disk);
    }

    /// `rollback 2 old`: crashes, and starts again on that copy.
    fn roll_back(&mut self, id: u64, name: &str) {
        let older = self.copies[name].clone();
        self.say(&format!(
            "  {id} crashed, and starts on an older disk that ends at {}",
            older.last()
        ));
        self.site(id).roll_back(older);
        self.settle(id);
    }

    fn evict(&mut self, id: u64) {
        let site = self.site(id);
        site.kernel.evict_below(Index(u64::MAX));
        let cached_bytes = site.kernel.cached_bytes();
        self.say(&format!("  {id} holds {cached_bytes} bytes in memory"));
    }

    fn status(&mut self) {
        let lines: Vec<String> =
            self.sites.iter().map(|(id, site)| status_line(*id, site)).collect();
        lines.iter().for_each(|line| self.say(line));
    }

    fn site(&mut self, id: u64) -> &mut Site {
        self.sites.get_mut(&id).unwrap_or_else(|| panic!("there is no replica {id}"))
    }

    /// Carries out what the kernel wants until it wants nothing.
    fn settle(&mut self, id: u64) {
        loop {
            let ready = self.site(id).take_ready();
            if !ready.is_empty() {
                self.tell(id, ready);
            } else if self.site(id).flights.is_empty() || self.holding.contains(&id) {
                return;
            } else {
                self.persist_one(id);
            }
        }
    }

    fn tell(&mut self, id: u64, ready: Ready) {
        let membership = self.site(id).kernel.membership().clone();
        if self.memberships.get(&id) != Some(&membership) {
            self.say(&format!("  {id} knows {}", describe_members(&membership)));
            self.memberships.insert(id, membership);
        }
        if let Some(role) = ready.role {
            self.say(&format!("  {id} {}", describe_role(id, &role)));
        }
        ready.send_now.into_iter().for_each(|(_, message)| self.leave(message));
        if let Some(write) = ready.write {
            let mut parts = Vec::new();
            if let Some(HardState { term, vote, committed }) = write.hard_state {
                let vote = vote.map_or("nobody".to_owned(), |vote| vote.to_string());
                parts.push(format!("term {term} vote {vote} commit {committed}"));
            }
            if let Some(Install { base, keeps_log, .. }) = &write.install {
                let rest = if *keeps_log { "keeping the rest" } else { "with nothing else" };
                parts.push(format!("begins behind {base} {rest}"));
            }
            parts.extend(write.truncate_from.map(|from| format!("cut from {from}")));
            parts.extend(write.runs.iter().map(|run| format!("{run:?}")));
            self.say(&format!("  {id} writes {:?}: {}", write.number, parts.join(", ")));
        }
        ready.send_after_sync.into_iter().for_each(|(_, message)| self.leave(message));
        for read in ready.reads {
            let context = read.context % (1 << 40);
            let end = read.index.map_or("fails".to_owned(), |index| format!("is good at {index}"));
            self.say(&format!("  {id} read {context} {end}"));
        }
        if let Some(committed) = ready.committed {
            let range = committed.range;
            self.say(&format!("  {id} applies [{}..{}]", range.start, range.end.previous()));
            self.site(id).kernel.handle_applied(range.end.previous());
        }
        if let Some(loss) = ready.loss {
            self.say(&format!("  {id} has ended: {loss}"));
        }
        for request in ready.snapshots {
            let (to, at_least) = (request.to, request.at_least);
            self.say(&format!("  {id} asks to send {to} a snapshot through {at_least} or later"));
        }
        for fetch in ready.fetches {
            let range = &fetch.range;
            let text = format!("{:?} [{}..{}]", fetch.reader, range.start, range.end.previous());
            self.say(&format!("  {id} reads back for {text}"));
            self.site(id).serve(&fetch);
        }
    }

    fn leave(&mut self, message: Message) {
        self.say(&format!("  sends {}", describe(&message)));
        self.network.push(message);
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

/// Of a link like `1->2`.
fn ends(link: &str) -> (u64, u64) {
    let (from, to) = link.split_once("->").expect("a link like 1->2");
    (number(from), number(to))
}

fn option(words: Words, name: &str) -> Option<u64> {
    let value = |word: &&str| word.strip_prefix(name)?.strip_prefix('=').map(number);
    words.iter().find_map(value)
}
