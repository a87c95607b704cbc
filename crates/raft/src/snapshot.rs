//! Snapshots for followers that need purged entries, the new base of a replica that installed one,
//! and the purge of entries that nobody needs (Raft paper, section 7; thesis 5).
//!
//! The kernel moves no state. It tells its host which follower needs a snapshot, pauses that
//! follower, and is told the outcome. On the receiving side it is told that the state is there, and
//! restarts its log.

use quorate_types::{Index, LogId, Monotonic, Mutant, ReplicaId, Term};

use crate::errors::InstallError;
use crate::kernel::Kernel;
use crate::membership::Membership;
use crate::progress::{Pace, Progress};
use crate::ready::{Install, Reader, Role, SnapshotOutcome, SnapshotRequest};

impl Kernel {
    /// Restarts the log after a snapshot: the state through `base`, with the membership in force
    /// there, is complete in the data store, and nothing older is being applied. Term, vote and
    /// write numbers stay (RULE 13). Entries after `base` stay if the log holds `base`; otherwise
    /// the whole log is dropped. What has to be written comes as [`Ready::install`](crate::Ready),
    /// and nothing is acknowledged before that is durable. After a crash before then, the snapshot
    /// counts as never installed.
    ///
    /// Its sender was in `term`, which becomes the own term if that is older: an acknowledgement of
    /// `base` may not go to the leader of an older term, whose log can differ there.
    ///
    /// # Errors
    /// [`InstallError`]; nothing happened.
    pub fn install(
        &mut self,
        now: Monotonic,
        term: Term,
        base: LogId,
        membership: Membership,
    ) -> Result<(), InstallError> {
        self.now = self.now.max(now);
        if self.has_ended() {
            return Err(InstallError::NoReplica);
        }
        if term < self.term {
            return Err(InstallError::Superseded { sent_in: term, term: self.term });
        }
        if !self.is_credible(term) || base.term > term {
            return Err(InstallError::Unsound { what: "its terms" });
        }
        if base.index <= self.commit {
            return Err(InstallError::Obsolete { base, commit: self.commit });
        }
        if self.role == Role::Leader {
            return Err(InstallError::Leading);
        }
        if let Some(what) = membership.fault() {
            return Err(InstallError::Unsound { what });
        }
        // A candidate has asked for votes with another log, and by another membership.
        let term = if self.breaks(Mutant::InstallKeepsTerm) { self.term } else { term };
        if term > self.term || self.role != Role::Follower {
            self.become_follower(term, None);
        }
        let mutated = self.breaks(Mutant::InstallKeepsLog) && self.log.last().index > base.index;
        let mut keeps_log = self.log.holds(base) || mutated;
        let verified = self.accepted.filter(|_| keeps_log).map_or(base.index, |(_, index)| index);
        if keeps_log {
            self.log.purge(base.index);
        } else {
            self.log.reset(base, membership.clone());
        }
        // It may have become a voter by this.
        self.draw_election_deadline();
        self.commit = base.index;
        self.apply.reset_after_snapshot(base.index, self.fetching.contains(&Reader::Apply));
        self.accepted = self.leader.map(|leader| (leader, verified.max(base.index)));
        // Its sender led the term that is the own one now.
        self.acknowledgements.match_through(base.index);
        self.hard_state_is_dirty = true;
        // What an earlier one dropped, and nothing has written since, is not there to be kept.
        keeps_log &= self.install.as_ref().is_none_or(|earlier| earlier.keeps_log);
        self.install = Some(Install { base, membership, keeps_log });
        Ok(())
    }

    /// The first index that the log has to keep: everything below is applied here, and held by the
    /// followers or about to come to them in a snapshot. A follower that is silent, or lacks more
    /// than `kept_entries_max`, is not waited for: it gets a snapshot. Nothing is kept below
    /// `kept_from` for any follower.
    #[must_use]
    pub fn log_needed_from(&self, kept_from: Index) -> Index {
        let applied = self.apply.applied().next();
        let Some(leading) = &self.leading else { return applied };
        let bound = self.log.last().index.0.saturating_sub(self.config.kept_entries_max);
        let is_silent =
            |f: &Progress| self.now.since(f.last_contact) >= self.config.election_timeout;
        let needed = |follower: &Progress| match follower.pace {
            Pace::Snapshot { .. } if self.breaks(Mutant::PurgePastTransfer) => None,
            Pace::Snapshot { at_least } => Some(at_least.next()),
            _ if follower.left_at.is_some() || is_silent(follower) => None,
            // Not known yet where it matches: the next answer will tell.
            Pace::Probe { .. } if follower.matched < self.log.base().index => {
                Some(self.log.base().index.next())
            }
            Pace::Probe { .. } | Pace::Replicate => Some(follower.matched.next()),
        };
        let bound = Index(bound);
        // A snapshot that is being sent would be of no use without the entries after it.
        let needed = |follower: &Progress| match follower.pace {
            Pace::Snapshot { .. } => needed(follower),
            Pace::Probe { .. } | Pace::Replicate => Some(needed(follower)?.max(bound)),
        };
        let needed = leading.followers.iter().filter_map(needed).min().unwrap_or(applied);
        needed.max(kept_from).max(self.log.base().index.next()).min(applied)
    }

    /// Gives up the entries up to and with `to`, or as many of them as are not needed here
    /// ([`Kernel::log_needed_from`]); the host says up to where the applied state is durable (RULE
    /// 10), and from where on entries are kept at most. Returns the new base, up to which the log
    /// store may purge.
    pub fn purge(&mut self, to: Index, kept_from: Index) -> LogId {
        let mutated = self.breaks(Mutant::PurgeUnapplied);
        let to =
            if mutated { self.commit } else { to.min(self.log_needed_from(kept_from).previous()) };
        if to > self.log.base().index {
            self.log.purge(to);
            let followers = self.leading.iter_mut().flat_map(|leading| &mut leading.followers);
            followers.for_each(|follower| follower.begin_behind(to));
        }
        self.log.base()
    }

    /// The entry before the first of the log.
    #[must_use]
    pub fn base(&self) -> LogId {
        self.log.base()
    }

    /// The membership in force there.
    #[must_use]
    pub fn base_membership(&self) -> &Membership {
        self.log.base_membership()
    }

    pub(crate) fn ask_for_snapshot(&mut self, to: ReplicaId, at_least: Index) {
        let follower = self.leading.as_mut().and_then(|leading| leading.follower_mut(to));
        let follower = follower.expect("asked for a follower");
        follower.await_snapshot(at_least);
        // One that is removed is given up with the next `Ready`.
        if follower.left_at.is_none() {
            let node = follower.member.node;
            self.snapshots.push(SnapshotRequest { to, node, at_least });
        }
    }

    /// Takes the outcome of the snapshot for `replica` that a [`SnapshotRequest`] asked for. A
    /// replica that does not lead any more ignores it.
    pub fn handle_snapshot_report(&mut self, replica: ReplicaId, outcome: SnapshotOutcome) {
        let (base, last) = (self.log.base().index, self.log.last().index);
        let Some(leading) = &mut self.leading else { return };
        let Some(follower) = leading.follower_mut(replica) else { return };
        // Its acknowledgement may have come before.
        if !follower.needs_snapshot() {
            return;
        }
        match outcome {
            SnapshotOutcome::Installed(id) => {
                follower.snapshot_installed(id.index.max(base).min(last).next());
            }
            SnapshotOutcome::Failed => follower.snapshot_failed(),
        }
    }
}
