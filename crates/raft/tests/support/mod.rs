//! A replica with a disk of its own, as the tests here drive it. The disk holds what completed
//! writes left, and nothing else: a crash loses the rest.

// Every test binary uses a part of this.
#![allow(dead_code, unreachable_pub)]

use std::collections::VecDeque;
use std::ops::Range;

use quorate_raft::{
    Config, EntryKind, Fetch, HardState, Install, InstallError, Kernel, Member, Membership,
    Message, Ready, Restored, Role, Run, RunDraft, Write,
};
use quorate_types::{Index, LogId, Monotonic, NodeId, ReplicaId, Term};

/// The base of every log here.
pub const BASE: LogId = LogId::new(Term(1), Index(1));

/// The member with this number; its node has the same one.
pub fn member(id: u64) -> Member {
    Member { replica: ReplicaId(id), node: NodeId(id) }
}

/// One run of commands.
pub fn commands(payloads: &[&[u8]]) -> RunDraft {
    let mut draft = RunDraft::new();
    payloads.iter().for_each(|payload| draft.push(EntryKind::Command, &[payload]));
    draft
}

/// What survives a crash.
#[derive(Clone)]
pub struct Disk {
    pub base: LogId,
    /// In force at the base.
    pub membership: Membership,
    pub hard_state: HardState,
    pub runs: Vec<Run>,
}

impl Disk {
    pub fn new(membership: Membership) -> Disk {
        Disk {
            base: BASE,
            membership,
            hard_state: HardState { term: BASE.term, ..HardState::default() },
            runs: Vec::new(),
        }
    }

    pub fn last(&self) -> LogId {
        self.runs.last().map_or(self.base, Run::last_id)
    }

    pub fn term_at(&self, index: Index) -> Option<Term> {
        let holds = |run: &&Run| run.range().contains(&index);
        let term = self.runs.iter().find(holds).map(Run::term);
        if index == self.base.index { Some(self.base.term) } else { term }
    }

    /// What a log store does with a write, and with the install that came with it: as one.
    pub fn write(&mut self, write: &Write) {
        if let Some(Install { base, membership, keeps_log }) = &write.install {
            if *keeps_log {
                self.purge(*base);
            } else {
                self.runs.clear();
            }
            self.base = *base;
            self.membership = membership.clone();
        }
        if let Some(hard_state) = write.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the term went back");
            self.hard_state = hard_state;
        }
        if let Some(from) = write.truncate_from {
            self.runs.retain(|run| run.first() < from);
            if let Some(run) = self.runs.pop() {
                self.runs.push(run.cut(run.first(), run.range().end.min(from)));
            }
        }
        for run in &write.runs {
            assert_eq!(run.first(), self.last().index.next(), "writes leave no gap");
            self.runs.push(run.clone());
        }
    }

    /// Drops everything up to and with `base`; the log may end before it.
    pub fn purge(&mut self, base: LogId) {
        assert!(base.index >= self.base.index, "the base went back");
        self.membership = self.membership_at(base.index);
        self.base = base;
        self.runs.retain(|run| run.last() > base.index);
        if let Some(run) = self.runs.first_mut() {
            *run = run.cut(run.first().max(base.index.next()), run.range().end);
        }
    }

    /// In force at `index`, as far as this disk knows.
    pub fn membership_at(&self, index: Index) -> Membership {
        let logged = self.memberships().into_iter().rev().find(|(at, _)| *at <= index);
        logged.map_or(self.membership.clone(), |(_, membership)| membership)
    }

    pub fn read(&self, range: &Range<Index>, bytes_max: usize) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut bytes = 0;
        for run in self.runs.iter().filter(|run| run.last() >= range.start) {
            if run.first() >= range.end || bytes > bytes_max {
                break;
            }
            bytes += run.len_bytes();
            runs.push(run.cut(run.first().max(range.start), run.range().end.min(range.end)));
        }
        runs
    }

    /// Membership entries beyond the base.
    pub fn memberships(&self) -> Vec<(Index, Membership)> {
        let entries = self.runs.iter().filter(|run| run.has_membership()).flat_map(Run::entries);
        entries
            .filter(|entry| entry.kind == EntryKind::Membership)
            .map(|entry| (entry.id.index, Membership::decode(entry.payload).expect("sound")))
            .collect()
    }

    pub fn restored(&self, applied: Index) -> Restored {
        let mut terms: Vec<(Index, Term)> = Vec::new();
        for run in &self.runs {
            if terms.last().map(|(_, term)| *term) != Some(run.term()) {
                terms.push((run.first(), run.term()));
            }
        }
        Restored {
            hard_state: self.hard_state,
            base: self.base,
            base_membership: self.membership.clone(),
            terms,
            memberships: self.memberships(),
            last: self.last(),
            applied,
        }
    }
}

/// A write under way, and what leaves when it is durable.
pub struct Flight {
    pub write: Write,
    pub held: Vec<Message>,
}

/// A replica, its disk, and the host's part between them (RULE 2).
pub struct Site {
    pub config: Config,
    pub kernel: Kernel,
    pub disk: Disk,
    pub flights: VecDeque<Flight>,
    pub applied: Index,
    /// What a crash falls back to while an install is not durable.
    pub applied_before: Option<Index>,
    pub now: Monotonic,
}

impl Site {
    pub fn new(config: Config, disk: Disk, applied: Index, now: Monotonic) -> Site {
        let kernel = Kernel::new(config.clone(), disk.restored(applied), now);
        let flights = VecDeque::new();
        Site { config, kernel, disk, flights, applied, applied_before: None, now }
    }

    /// Elects the only voter and completes its writes; what it commits is handed out, and not applied.
    pub fn elect(&mut self) {
        self.now = self.kernel.poll_timeout();
        self.kernel.handle_timeout(self.now);
        while !self.take_ready().is_empty() {
            if !self.flights.is_empty() {
                self.persist();
            }
        }
        assert_eq!(self.kernel.role().role, Role::Leader);
    }

    /// Takes the next `Ready`. Its write is under way, what waits for a write is held with it; what
    /// remains in `send_now` and `send_after_sync` leaves at once.
    pub fn take_ready(&mut self) -> Ready {
        let mut ready = self.kernel.take_ready();
        if let Some(write) = ready.write.clone() {
            self.flights.push_back(Flight { write, held: Vec::new() });
        }
        if let Some(newest) = self.flights.back_mut() {
            newest.held.extend(ready.send_after_sync.drain(..).map(|(_, message)| message));
        }
        if let Some(committed) = &ready.committed {
            assert_eq!(committed.range.start, self.applied.next(), "applied in order, once");
            let mut end = committed.range.start;
            for run in &committed.runs {
                assert_eq!(run.first(), end);
                end = run.range().end;
            }
            assert_eq!(committed.range.end, end, "the runs hold exactly the range");
            assert!(end.previous() <= self.disk.last().index, "RULE 4: applied before durable");
            self.applied = end.previous();
        }
        ready
    }

    pub fn serve(&mut self, fetch: &Fetch) {
        let runs = self.disk.read(&fetch.range, fetch.bytes_max);
        self.kernel.handle_fetched(fetch.reader, runs);
    }

    /// Completes the oldest write; gives what it held back.
    pub fn persist(&mut self) -> Flight {
        let flight = self.flights.pop_front().expect("a write is under way");
        self.disk.write(&flight.write);
        if flight.write.install.is_some() {
            self.applied_before = None;
        }
        self.kernel.handle_persisted(flight.write.number);
        flight
    }

    /// The state here, and what has to be known of it; `None` while it is not durable itself.
    pub fn snapshot(&self) -> Option<(LogId, Membership)> {
        let term = self.disk.term_at(self.applied)?;
        let membership = self.disk.membership_at(self.applied);
        self.applied_before.is_none().then_some((LogId::new(term, self.applied), membership))
    }

    /// Takes the state of a snapshot over.
    ///
    /// # Errors
    /// What the kernel says, or nothing if another one is under way.
    pub fn install(
        &mut self,
        sent_in: Term,
        base: LogId,
        membership: Membership,
    ) -> Result<(), Option<InstallError>> {
        // One at a time, as an engine does it.
        if self.applied_before.is_some() {
            return Err(None);
        }
        self.kernel.install(self.now, sent_in, base, membership).map_err(Some)?;
        self.applied_before = Some(self.applied);
        self.applied = base.index;
        Ok(())
    }

    /// Lets the kernel give up its log up to `to`, as far as it can; entries below `kept_from` are
    /// kept for no follower.
    pub fn purge(&mut self, to: Index, kept_from: Index) {
        // An install under way will do that, and more.
        if self.applied_before.is_none() {
            let base = self.kernel.purge(to, kept_from);
            self.disk.purge(base);
        }
    }

    /// A crash, then a start on an older copy of the disk (RULE 5 is about what that forgot).
    pub fn roll_back(&mut self, older: Disk) {
        self.flights.clear();
        self.applied_before = None;
        self.disk = older;
        self.restart(0, BASE.index);
    }

    /// A crash after the first `survivors` writes under way reached the disk unreported, then a
    /// start with a state machine that kept everything up to `applied`.
    pub fn restart(&mut self, survivors: usize, applied: Index) {
        for flight in self.flights.drain(..).take(survivors) {
            self.disk.write(&flight.write);
            if flight.write.install.is_some() {
                self.applied_before = None;
            }
        }
        let applied = applied.min(self.applied_before.unwrap_or(applied)).max(self.disk.base.index);
        self.config.read_context_first += 1 << 40;
        self.config.seed = self.config.seed.wrapping_add(101);
        let config = self.config.clone();
        *self = Site::new(config, self.disk.clone(), applied, self.now);
    }
}
