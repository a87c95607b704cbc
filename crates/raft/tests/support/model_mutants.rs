//! Goal: each rule of the kernel is needed, and the model would notice its loss. Method: one rule at a
//! time is broken, and seeds are run until a check or an assertion of the kernel fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quorate_types::{Mutant, Mutation};

/// Those that a group of kernels alone can show.
const MUTANTS: [Mutant; 18] = [
    Mutant::VoteBeforeSync,
    Mutant::VoteForgotten,
    Mutant::UnsyncedOwnVote,
    Mutant::AcceptedAtOnce,
    Mutant::OlderWriteVouches,
    Mutant::ApplyUnsynced,
    Mutant::CommitOldTerms,
    Mutant::CommitUnverified,
    Mutant::VoteByIndex,
    Mutant::ReadBeforeOwnTerm,
    Mutant::ReadByMinority,
    Mutant::JointByOneMajority,
    Mutant::QuorumOfOldMembership,
    Mutant::InstallKeepsLog,
    Mutant::LateAppendTruncates,
    Mutant::JointStays,
    Mutant::TransferForever,
    Mutant::PurgeUnapplied,
];

const SEEDS: u64 = 300;

#[test]
fn every_mutant_is_caught() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let seeds = std::env::var("MODEL_SEEDS").map_or(SEEDS, |text| text.parse().expect("a number"));
    let table = MUTANTS.map(|mutant| {
        let caught = (0..seeds).find_map(|seed| {
            let mutation = Mutation::of(mutant);
            let outcome = catch_unwind(AssertUnwindSafe(|| crate::run(seed, mutation)));
            outcome.err().map(|panic| (seed, message(panic.as_ref())))
        });
        (mutant, caught)
    });
    std::panic::set_hook(hook);
    for (mutant, caught) in &table {
        match caught {
            Some((seed, what)) => println!("{mutant:?}: seed {seed}: {what}"),
            None => println!("{mutant:?}: not caught within {seeds} seeds"),
        }
    }
    assert!(table.iter().all(|(_, caught)| caught.is_some()), "some rule is not needed: see above");
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
