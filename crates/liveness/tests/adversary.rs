//! Goal: the rules of node liveness hold against an adversary, and each of them is needed.
//!
//! Method: three or five nodes with clocks that drift, and two shards on all of them, run the
//! product's support, bindings, leases, audit and index around a small Raft with whole logs. The
//! adversary loses, delays, doubles and reorders messages, cuts links one way, lets streams hang
//! while datagrams pass, pauses and restarts processes, makes threads late, loses releases, declares
//! nodes unfit and quarantines replicas; leaders transfer. After a minute it stops.
//!
//! Checked in every millisecond: no two leases of one shard overlap, not even those of paused
//! processes; no lease lacks a committed entry; no lease counts a node that votes or grants a
//! pre-vote; what a requester counts on ends before what its supporter promised; no support is
//! shortened; a term has one leader, which has what is committed. After the heal every shard has a
//! lease again within a bound. Then each rule is broken, and some check has to notice it.
//!
//! `QUORATE_SEEDS=40000` runs more seeds of the first test; `QUORATE_MUTANT_SEEDS` of the second.

#[path = "adversary/checks.rs"]
mod checks;
#[path = "adversary/faults.rs"]
mod faults;
#[path = "adversary/node.rs"]
mod node;
#[path = "adversary/replicas.rs"]
mod replicas;
#[path = "adversary/rules.rs"]
mod rules;
#[path = "adversary/threads.rs"]
mod threads;
#[path = "adversary/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use rules::Broken;
use world::{Counts, World};

/// Longest time without a lease after all faults have ended. A lost release is found by the audit:
/// a bucket's turn comes every 6.4 s, and a lag counts as a difference in its third.
const HEAL_MS_MAX: u64 = 30_000;

fn run(seed: u64, broken: Broken) -> Counts {
    let mut world = World::new(seed, broken);
    world.run(60_000, |_| false);
    world.heal();
    let healed_at_ms = world.now_ms;
    world.run(HEAL_MS_MAX, World::is_led);
    assert!(world.is_led(), "no lease {HEAL_MS_MAX} ms after the heal");
    world.counts.healed_ms_max = world.now_ms - healed_at_ms;
    world.counts
}

fn seeds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number of seeds"))
}

#[test]
fn no_rule_fails_against_the_adversary() {
    let seeds = seeds("QUORATE_SEEDS", 60);
    let mut total = Counts::default();
    for seed in 1..=seeds {
        let counts = catch_unwind(AssertUnwindSafe(|| run(seed, Broken::Nothing)));
        let counts = counts.unwrap_or_else(|_| panic!("seed {seed} fails"));
        total.add(&counts);
    }
    println!("{seeds} seeds: {total:?}");
    assert!(total.reads > 100 * seeds && total.elections > seeds && total.audits > 0);
}

/// Goal: every rule is needed. Method: one at a time is broken; by default the search starts where
/// the breach was found before, and with `QUORATE_MUTANT_SEEDS` at seed 1, to print the table.
#[test]
fn every_broken_rule_is_caught() {
    let searched = std::env::var("QUORATE_MUTANT_SEEDS").is_ok();
    let seeds = seeds("QUORATE_MUTANT_SEEDS", 100);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let table = rules::ALL.map(|(broken, known)| {
        let first = if searched { 1 } else { known };
        let caught = (first..first + seeds).find_map(|seed| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, broken)));
            outcome.err().map(|panic| (seed, message(panic.as_ref())))
        });
        (broken, caught)
    });
    std::panic::set_hook(hook);
    for (broken, caught) in &table {
        match caught {
            Some((seed, what)) => println!("{broken:?}: caught at seed {seed}: {what}"),
            None => println!("{broken:?}: not caught within {seeds} seeds"),
        }
    }
    assert!(table.iter().all(|(_, caught)| caught.is_some()), "some rule is not needed: see above");
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
