//! Goal: the properties can fail, and do where a rule is broken. Method: one mutant of each floor that
//! a world has, in a few seeds; `quorate-sim mutants` runs them all.
#![cfg(feature = "mutants")]

use quorate_sim::mutants::hunt;
use quorate_types::Mutant;

#[test]
fn mutants_are_caught_and_sound_code_is_not() {
    let sample = [
        Mutant::VoteBeforeSync,
        Mutant::CommitOldTerms,
        Mutant::WindowUnbounded,
        Mutant::ReadContextReused,
        Mutant::VoteRequestUnbinds,
        Mutant::QuiescedTooSoon,
        Mutant::DiskLies,
    ];
    for mutant in sample {
        let verdict = hunt(mutant, 10);
        assert!(verdict.is_good(), "{verdict}");
    }
}
