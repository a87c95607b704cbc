//! Goal: a hundred seeded histories of faults break no property, and the check can fail.
//! Method: the hosts of three nodes in the simulated world; then the same with promises that leave
//! before the sync, which must lose an acknowledged write in some of them.

use quorate_sim::{Report, World, WorldConfig};

/// A hundred in CI; `QUORATE_SEEDS` asks for more.
fn seeds() -> std::ops::Range<u64> {
    let asked = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    0..asked.unwrap_or(100)
}

#[test]
fn a_hundred_seeds_break_no_property() {
    let mut total = Report::default();
    for seed in seeds() {
        let report = World::new(WorldConfig::new(seed)).run().unwrap_or_else(|violation| {
            panic!("{violation}");
        });
        total.acknowledged += report.acknowledged;
        total.unknown += report.unknown;
        total.reads += report.reads;
        total.crashes += report.crashes;
        total.elections += report.elections;
        total.lost += report.lost;
    }
    println!("{total:?}");
    // A world in which nothing happens proves nothing.
    assert!(total.acknowledged > 10_000 && total.reads > 1_000, "{total:?}");
    assert!(total.crashes > 100 && total.elections > 500 && total.lost > 10_000, "{total:?}");
}

#[test]
fn promises_before_the_sync_are_caught() {
    let caught = (0..100).filter(|seed| {
        let config = WorldConfig { acknowledge_before_sync: true, ..WorldConfig::new(*seed) };
        // A lost promise may show as a violated property or as a kernel that meets its own
        // past: both are what the check is for.
        let run = std::panic::catch_unwind(|| World::new(config).run());
        !matches!(run, Ok(Ok(_)))
    });
    let caught = caught.count();
    println!("caught in {caught} of 100 seeds");
    assert!(caught > 0, "an acknowledgement before the sync must be found");
}

#[test]
fn one_seed_gives_one_history() {
    let asked = std::env::var("QUORATE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = asked.unwrap_or(42);
    let history = || World::new(WorldConfig::new(seed)).run().expect("no violation");
    assert_eq!(history(), history());
}
