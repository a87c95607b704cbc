//! The rules that the driver can break, one at a time.

/// A rule of the product code that the driver can bypass. None of this is in the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// All rules hold.
    Nothing,
    /// Replicas act when support has lapsed, without waiting for the withdrawal.
    ActOnLapse,
    /// A withdrawal unbinds, but the next support is given and held under the same epoch.
    EpochKept,
    /// Votes and campaigns right after a start.
    NoSilence,
    /// Silence for as long as the support asked for now, not the longest ever given.
    SilenceTooShort,
    /// The longest support is given before it is durable.
    LongestNotDurable,
    /// A node speaks in the same incarnation after a restart.
    IncarnationKept,
    /// An old vote request of the leader unbinds.
    OldVoteUnbinds,
    /// A vote request of a higher term, from any node, unbinds.
    VoteUnbinds,
    /// The lease continues after TimeoutNow.
    LeaseAfterTimeoutNow,
    /// Nodes that support count for a lease although their replicas are not bound.
    UnboundCounts,
    /// Support held counts from the receipt of the answer.
    ReceiveTime,
    /// Support held counts for all of d, without the drift margin.
    NoDriftMargin,
    /// The lease serves reads before an entry of the own term is committed.
    NoOwnTermCommit,
    /// What the audit finds is ignored.
    NoAudit,
}

/// Every rule that can be broken, and the first seed known to catch it, at which a short run
/// starts.
pub(crate) const ALL: [(Broken, u64); 14] = [
    (Broken::ActOnLapse, 820),
    (Broken::EpochKept, 64),
    (Broken::NoSilence, 9),
    (Broken::SilenceTooShort, 55),
    (Broken::LongestNotDurable, 210),
    (Broken::IncarnationKept, 3),
    (Broken::OldVoteUnbinds, 31),
    (Broken::VoteUnbinds, 10),
    (Broken::LeaseAfterTimeoutNow, 1),
    (Broken::UnboundCounts, 5),
    (Broken::ReceiveTime, 1),
    (Broken::NoDriftMargin, 1),
    (Broken::NoOwnTermCommit, 1),
    (Broken::NoAudit, 18),
];
