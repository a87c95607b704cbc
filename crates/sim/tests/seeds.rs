//! Goal: no seed breaks a property, every seed does enough to prove something, and one seed gives one
//! history. Method: whole worlds of a minute of faults each, on all cores, then two worlds twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_sim::{Report, World, WorldConfig};

/// Sixty in CI; `QUORATE_SEEDS` asks for more.
fn seeds() -> u64 {
    let asked = std::env::var("QUORATE_SEEDS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(60)
}

fn run(seed: u64) -> Report {
    let world = World::new(WorldConfig::new(seed));
    world.run().unwrap_or_else(|failure| panic!("{failure}")).report
}

#[test]
fn no_seed_breaks_a_property() {
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds() {
                        return;
                    }
                    let report = run(seed);
                    assert!(report.is_worth_its_time(), "seed {seed}: {report}");
                    *total.lock().expect("no seed failed") += report;
                }
            });
        }
    });
    println!("{}", total.into_inner().expect("no seed failed"));
}

#[test]
fn one_seed_gives_one_history() {
    for seed in [3, 42] {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(3).history, run(42).history);
}
