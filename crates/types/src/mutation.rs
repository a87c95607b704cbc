//! Deliberate bugs, which prove that the simulator's properties can fail.
//!
//! Each [`Mutant`] breaks one rule in one place. The place asks the [`Mutation`] that its
//! configuration carries, and without the crate feature `mutants` the answer is a constant, so that
//! the broken branch is not compiled. There are no globals: a simulated cluster that is broken and
//! one that is sound can run side by side. Neither the engine nor the binary enables the feature.
//!
//! ```
//! use quorate_types::{Mutant, Mutation};
//! assert!(!Mutation::NONE.is(Mutant::VoteBeforeSync));
//! ```

/// Lists the mutants once: the documentation says what is broken; the texts say which rule or known
/// bug of another project that is, and which property is expected to fail.
macro_rules! mutants {
    ($($(#[$broken:meta])* $name:ident: $rule:literal, $property:literal;)*) => {
        /// A rule that can be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mutant {
            $($(#[$broken])* #[doc = ""]
              #[doc = concat!("Breaks: ", $rule, ". Expected to fail: `", $property, "`.")]
              $name,)*
        }

        impl Mutant {
            /// Every mutant.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),*];

            /// Its name, as in this enum.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Mutant::$name => stringify!($name)),* }
            }

            /// The rule that it breaks, in a few words.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self { $(Mutant::$name => $rule),* }
            }

            /// The property that is expected to fail; `assertion` where the code itself stops.
            #[must_use]
            pub const fn property(self) -> &'static str {
                match self { $(Mutant::$name => $property),* }
            }
        }
    };
}

mutants! {
    /// A granted vote leaves at once, before it is durable.
    VoteBeforeSync: "a vote is synced before the reply (pitfall 6)", "sync_before_promise";
    /// The hard state is written without the vote: a restart forgets it.
    VoteForgotten: "a vote is durable (pitfall 6)", "sync_before_promise";
    /// A candidate asks for votes, and counts its own, before its own is durable.
    UnsyncedOwnVote: "a candidate counts its own vote once it is durable (RULE 2)", "sync_before_promise";
    /// A retransmission is acknowledged at once, while its first write is still under way.
    AcceptedAtOnce: "an acknowledgement waits for every write so far (RULE 2, pitfall 27)", "sync_before_promise";
    /// The completion of a write vouches for everything that has been written since.
    OlderWriteVouches: "a completion vouches for its own write only (RULE 2)", "commit_advances";
    /// A committed entry is applied before it is durable here.
    ApplyUnsynced: "apply at most min(commit, own durable) (RULE 4)", "state_machine_safety";
    /// Entries of older terms are committed by counting replicas.
    CommitOldTerms: "only own-term entries are committed by counting (pitfall 3, figure 8)", "commit_advances";
    /// A follower takes min(leader's commit, own last) as committed, verified or not.
    CommitUnverified: "commit only a verified prefix (pitfall 2)", "state_machine_safety";
    /// Votes and pre-votes compare the last index and not its term.
    VoteByIndex: "votes compare term and index (pitfalls 1 and 9)", "leader_completeness";
    /// A leader confirms reads before an entry of its own term is committed.
    ReadBeforeOwnTerm: "no read index before the own-term entry commits (pitfall 18)", "reads_linearizable";
    /// A read is confirmed by (n - 1) / 2 voters: of three, by the leader alone.
    ReadByMinority: "a read round needs a majority (pitfall 4)", "reads_linearizable";
    /// Read contexts begin at 0 after each start of a node.
    ReadContextReused: "read contexts are never reused (pitfall 18)", "read_contexts";
    /// In joint consensus the majority of the incoming voters decides alone.
    JointByOneMajority: "joint consensus needs both majorities", "commit_advances";
    /// Quorums are counted in the membership before the one in force.
    QuorumOfOldMembership: "quorums come from the newest logged membership (pitfall 5)", "commit_advances";
    /// A snapshot from a leader of a later term is installed in the follower's own, older term.
    InstallKeepsTerm: "an install takes its sender's term (RULE 13)", "install_takes_term";
    /// An install keeps a log that does not hold the snapshot's last entry.
    InstallKeepsLog: "an install drops a log that does not hold its base (RULE 13)", "alive_after_heal";
    /// A late append cuts off what came after it.
    LateAppendTruncates: "only a conflict truncates (pitfall 8)", "leader_completeness";
    /// What an earlier replica on a node acknowledged counts for its present replica.
    ForeignAcknowledgement: "messages carry replica ids, which are never reused (RULE 3, pitfall 28)", "alive_after_heal";
    /// A caller is answered by the entry committed at its index, of whatever term.
    CallerByIndex: "a caller waits for term and index (pitfall 7)", "workload";
    /// A caller that waits at a demoted leader is told that nothing happened.
    DemotedSaysNo: "outcome unknown is not no (pitfall 10)", "reads_linearizable";
    /// No leader leaves joint consensus by itself.
    JointStays: "joint consensus is left by every leader (pitfall 16)", "alive_after_heal";
    /// A transfer of leadership has no deadline.
    TransferForever: "a transfer has a deadline (pitfall 17)", "alive_after_heal";
    /// A follower continues although it lacks entries that its leader knows it acknowledged.
    RollbackUnseen: "a log that lost what it acknowledged ends its replica (RULE 5)", "rolled_back_ends";
    /// A leader quiesces although a follower may not know what is committed.
    QuiescedTooSoon: "quiesced once the commit index is acknowledged (node liveness)", "quiesced_when_done";
    /// Appends to a follower are sent without bound.
    WindowUnbounded: "the window is bounded in messages and bytes", "window_bounded";
    /// The log is purged up to the commit index, applied or not.
    PurgeUnapplied: "the log is purged below the durable applied record only (RULE 10)", "state_machine_safety";
    /// A leader purges entries behind which a follower continues that gets a snapshot now.
    PurgePastTransfer: "a purge never outruns a transfer, within a bound", "purge_waits";
    /// Reports about a replica that is gone are taken for its successor's.
    PredecessorsReports: "what was under way for a replica never reaches its successor (RULE 3)", "assertion";

    /// Any vote request of a higher term ends a binding.
    VoteRequestUnbinds: "a bound replica grants no vote (node liveness)", "lease_upheld";
    /// An old vote request of the leader itself ends a binding.
    OldRequestUnbinds: "a request of the bound term or below proves nothing (node liveness)", "lease_upheld";
    /// Replicas act when support has lapsed, and the node continues to give it.
    ActOnLapse: "replicas act on withdrawal, never on lapse (node liveness)", "lease_upheld";
    /// A withdrawn epoch is given again.
    EpochKept: "a withdrawal ends its epoch forever (node liveness)", "lease_upheld";
    /// A node votes and campaigns right after its start.
    NoSilence: "silence after a start (pitfall 14)", "lease_upheld";
    /// A binding counts with the support of another instance of its node.
    IncarnationIgnored: "bindings name incarnations (node liveness, pitfall 24)", "lease_upheld";
    /// A leader that told another to campaign keeps its lease, and its term if the campaign failed.
    LeaseAfterTimeoutNow: "no lease after TimeoutNow (RULE 6, pitfall 31)", "lease_upheld";
    /// Support that is held counts for the whole time that was asked for.
    NoDriftMargin: "support held ends a margin early (node liveness)", "support_kept";
    /// A lease serves reads before an entry of its own term is committed.
    LeaseBeforeOwnTerm: "no lease before the own-term entry commits (node liveness)", "reads_linearizable";
    /// A difference that the audit finds is ignored.
    AuditOff: "a lost release sticks nothing (node liveness)", "alive_after_heal";

    /// A turn counts as durable as soon as the disk has taken it.
    DiskLies: "promises leave after the sync (RULE 2)", "sync_before_promise";
    /// A failed sync is taken as a success.
    FailedSyncIgnored: "the first failed sync latches (RULE 8, pitfall 22)", "sync_before_promise";
    /// Damage in the middle of a log is taken as its end, and the replica continues.
    DamageIsTheEnd: "possible loss ends a replica id (RULE 5, pitfall 23)", "assertion";
    /// Damage of the whole write-ahead log is taken as its end, and every replica of the node continues.
    WalDamageIgnored: "no promise after amnesia: possible loss ends every replica of a node (RULES 5 and 9)", "sync_before_promise";
    /// The log is purged as far as is applied, flushed or not.
    PurgeUnpersisted: "the applied index that bounds a purge is the persisted one (RULE 10)", "purge_persisted";
    /// A part of a turn whose replica has ended is written all the same.
    SkippedPartWritten: "what is written for an ended replica is skipped (RULE 3)", "ended_stay_silent";
    /// An install drops every run of the log, also those that the kernel keeps.
    KeepsLogIgnored: "an install keeps the runs beyond its base (RULE 13)", "stored_as_written";
    /// The tail that is cut off a run stays on the disk, and comes back once nothing hides it.
    DeadTailReturns: "an overwrite inside a run rewrites its head (RULE 7, pitfall 33)", "stored_as_written";
    /// A replica that meta does not name is destroyed.
    DestroyedWithoutProof: "a replica is destroyed on proof only (RULE 15, pitfall 35)", "alive_after_heal";
    /// The log part of an install is written before its data is durable.
    InstallBeforeData: "an install writes data, then log (RULE 13)", "assertion";
    /// The state of a snapshot is in force before the log that names it is durable.
    AdoptBeforeSync: "an install is durable before its state is in force (RULE 13)", "install_order";
    /// The state before a snapshot is deleted before the log that names the new one is durable.
    OldSpaceDeletedEarly: "the old state goes last (RULE 13)", "install_order";
    /// The base of a snapshot is reported as applied before its state is in force.
    AppliedBeforeAdopted: "a base is applied once its state is in force (RULE 13)", "install_order";
    /// Ranges that were parked during an install are applied on top of the snapshot's state.
    ParkedRangeApplied: "what lies below an installed base is not applied (RULE 13)", "state_machine_safety";
}

/// Which rule is broken, if any. It has zero bytes without the feature.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mutation {
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl Mutation {
    /// Every rule holds.
    pub const NONE: Mutation = Mutation {
        #[cfg(feature = "mutants")]
        mutant: None,
    };

    /// This one is broken.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub const fn of(mutant: Mutant) -> Mutation {
        Mutation { mutant: Some(mutant) }
    }

    /// True if `mutant` is the rule that is broken.
    #[inline]
    #[must_use]
    pub const fn is(self, mutant: Mutant) -> bool {
        #[cfg(feature = "mutants")]
        return matches!(self.mutant, Some(own) if own as u8 == mutant as u8);
        #[cfg(not(feature = "mutants"))]
        {
            let _ = mutant;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "mutants"))]
    #[test]
    fn without_the_feature_a_mutation_is_nothing() {
        assert_eq!(size_of::<Mutation>(), 0);
        assert!(Mutant::ALL.iter().all(|mutant| !Mutation::NONE.is(*mutant)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn a_mutation_is_one_mutant() {
        for mutant in Mutant::ALL {
            let is = |other: &&Mutant| Mutation::of(*mutant).is(**other);
            assert_eq!(Mutant::ALL.iter().filter(is).collect::<Vec<_>>(), [mutant]);
            assert!(!Mutation::NONE.is(*mutant));
        }
    }
}
