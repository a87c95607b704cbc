//! Deliberate bugs that test the properties: a property that nothing can break proves nothing, and
//! a rule is not needed if nothing detects its removal.
//!
//! For each [`Mutant`], seeds are run in worlds of a shape that makes its situation likely, until a
//! property or an assertion of the code fails. Then the same worlds are run without the bug, and
//! must pass. A situation that no world can produce is drilled with a single kernel, or with one
//! group.

mod drills;
mod rollback;
mod shapes;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_types::{Mutant, Mutation};

use crate::world::{Profile, World, WorldConfig};

/// The most seeds that are run for one mutant.
pub const SEEDS_MAX: u64 = 60;

/// Where a mutant has to be detected.
enum Arena {
    /// Worlds of this shape.
    World(fn(&mut Profile)),
    /// One situation, made by hand: what is checked, and how.
    Drill(&'static str, fn(Mutation) -> Result<(), String>),
}

fn arena_of(mutant: Mutant) -> Arena {
    use Mutant as M;
    Arena::World(match mutant {
        M::InstallKeepsTerm => {
            return Arena::Drill("install_takes_term", drills::install_takes_term);
        }
        M::RollbackUnseen => {
            return Arena::Drill("rolled_back_ends", rollback::rolled_back_ends);
        }
        M::DeadTailReturns => {
            return Arena::Drill("stored_as_written", drills::cut_tail_is_gone);
        }
        M::KeepsLogIgnored => {
            return Arena::Drill("stored_as_written", drills::install_keeps_runs);
        }
        M::WindowUnbounded => return Arena::Drill("window_bounded", drills::window_bounded),
        M::CallerByIndex | M::DemotedSaysNo | M::CommitUnverified | M::CommitOldTerms => {
            shapes::cut_off
        }
        M::ReadBeforeOwnTerm | M::VoteByIndex | M::LateAppendTruncates => shapes::cut_off,
        M::ReadByMinority => shapes::astray,
        M::ReadContextReused => shapes::restless,
        M::JointByOneMajority | M::QuorumOfOldMembership => shapes::changing,
        M::ForeignAcknowledgement => shapes::succeeding,
        M::PredecessorsReports => shapes::inherited,
        M::ParkedRangeApplied => shapes::backlogged,
        M::JointStays | M::DestroyedWithoutProof => shapes::changing,
        M::InstallKeepsLog => shapes::purging,
        M::InstallBeforeData => shapes::changing,
        M::VoteRequestUnbinds | M::ActOnLapse | M::EpochKept | M::NoSilence => shapes::leased,
        M::IncarnationIgnored | M::LeaseAfterTimeoutNow => shapes::leased,
        M::NoDriftMargin | M::LeaseBeforeOwnTerm => shapes::leased,
        M::OldRequestUnbinds => shapes::doubled,
        M::QuiescedTooSoon => shapes::lossy,
        M::AuditOff => shapes::deaf,
        M::FailedSyncIgnored => shapes::failing,
        M::DamageIsTheEnd => shapes::flipping,
        _ => shapes::any,
    })
}

/// A failure: of a seed, or of a drill, which is seed 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The seed.
    pub seed: u64,
    /// The name of the property, or `assertion` for one of the code itself.
    pub by: String,
    /// What did not hold.
    pub what: String,
}

/// The outcome of the hunt for a mutant.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The mutant.
    pub mutant: Mutant,
    /// The failure that caught it, if any.
    pub caught: Option<Caught>,
    /// Seeds that were run.
    pub seeds: u64,
    /// The first failure without the bug. It must be `None`, or nothing is proved.
    pub false_alarm: Option<Caught>,
}

impl Verdict {
    /// True if the bug was caught, and nothing fails without it.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.caught.is_some() && self.false_alarm.is_none()
    }

    /// The first line of the table.
    #[must_use]
    pub fn header() -> String {
        format!("{:<24} {:<21} {:>5} {:>6}  rule", "mutant", "caught by", "seed", "seeds")
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, rule) = (self.mutant.name(), self.mutant.rule());
        let (by, seed) = match &self.caught {
            Some(Caught { seed: 0, by, .. }) => (by.as_str(), "drill".to_owned()),
            Some(Caught { seed, by, .. }) => (by.as_str(), seed.to_string()),
            None => ("NOT CAUGHT", String::new()),
        };
        write!(f, "{name:<24} {by:<21} {seed:>5} {:>6}  {rule}", self.seeds)?;
        match &self.false_alarm {
            Some(Caught { seed, by, what }) => {
                write!(f, "\n  fails WITHOUT the bug in seed {seed}: {by}: {what}")
            }
            None => Ok(()),
        }
    }
}

/// Searches for a failure that reveals `mutant`, in `seeds_max` seeds at most.
#[must_use]
pub fn hunt(mutant: Mutant, seeds_max: u64) -> Verdict {
    let seeds = match arena_of(mutant) {
        Arena::World(_) => 1..=seeds_max,
        Arena::Drill(..) => 0..=0,
    };
    let caught = seeds.clone().find_map(|seed| attempt(mutant, seed, Mutation::of(mutant)));
    let last = caught.as_ref().map_or(*seeds.end(), |caught| caught.seed);
    let run = *seeds.start()..=last;
    let count = last - seeds.start() + 1;
    let false_alarm = run.into_iter().find_map(|seed| attempt(mutant, seed, Mutation::NONE));
    Verdict { mutant, caught, seeds: count, false_alarm }
}

/// Runs one seed in the arena of `mutant`, with the bug or without; returns what failed.
#[must_use]
pub fn attempt(mutant: Mutant, seed: u64, mutation: Mutation) -> Option<Caught> {
    let failed = |by: &str, what: String| Caught { seed, by: by.to_owned(), what };
    let run = || match arena_of(mutant) {
        Arena::Drill(name, drill) => drill(mutation).map_err(|what| failed(name, what)),
        Arena::World(shape) => {
            let config = WorldConfig { shape, mutation, ..WorldConfig::new(seed) };
            let broken = World::new(config).run().map_err(|failure| failure.broken.clone());
            broken.map(|_| ()).map_err(|broken| failed(broken.property, broken.what))
        }
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(end) => end.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
            Some(failed("assertion", text.to_owned()))
        }
    }
}
