//! The binary `quorate-sim`: runs seeds of the simulated world.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use quorate_sim::marks::Marks;
use quorate_sim::{Finished, Report, World, WorldConfig};

/// Failures that are printed in full; the others are listed by their seeds.
const FAILURES_SHOWN: usize = 3;
/// How many seeds run between two lines of progress.
const SEEDS_PER_SIGN: u64 = 500;

/// Runs seeds of the simulated world.
#[derive(Parser)]
enum Command {
    /// One seed, told in full.
    Seed {
        /// Its number.
        seed: u64,
    },
    /// Many seeds, on all cores.
    Many {
        /// How many.
        count: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
    /// Hunts deliberate bugs; they are in builds with the feature `mutants`.
    Mutants {
        /// Those whose name contains this.
        #[arg(default_value = "")]
        name: String,
    },
}

fn main() -> ExitCode {
    match Command::parse() {
        Command::Seed { seed } => run_one(seed),
        Command::Many { count, first } => run_many(first, count),
        Command::Mutants { name } => run_mutants(&name),
    }
}

/// Runs one seed; returns its outcome or the text of its failure. A kernel that meets a broken
/// invariant panics, which counts as a failure like any other.
fn run(seed: u64) -> Result<Finished, String> {
    let world = AssertUnwindSafe(|| World::new(WorldConfig::new(seed)).run());
    match catch_unwind(world) {
        Ok(Ok(finished)) => Ok(finished),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("");
            Err(format!("seed {seed} panicked: {text}\nreplay: just sim {seed}\n"))
        }
    }
}

fn run_one(seed: u64) -> ExitCode {
    println!("{:?}", World::new(WorldConfig::new(seed)).profile());
    match run(seed) {
        Ok(finished) => {
            println!("{}", finished.report);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// The sum of the outcomes of all seeds.
#[derive(Default)]
struct Totals {
    done: u64,
    report: Report,
    marks: Marks,
    failures: Vec<(u64, String)>,
    /// Seeds in which too little happened.
    idle: Vec<u64>,
}

fn run_many(first: u64, count: u64) -> ExitCode {
    let (next, totals) = (AtomicU64::new(first), Mutex::new(Totals::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    // The default hook would print every panic at once, mixed with other output.
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let end = run(seed);
                    let mut totals = totals.lock().expect("nobody panics with it");
                    match end {
                        Ok(finished) => {
                            totals.report += finished.report;
                            totals.marks.merge(&finished.marks);
                            if !finished.report.is_worth_its_time() {
                                totals.idle.push(seed);
                            }
                        }
                        Err(failure) => {
                            eprintln!("{}", failure.lines().next().unwrap_or_default());
                            totals.failures.push((seed, failure));
                        }
                    }
                    totals.done += 1;
                    if totals.done.is_multiple_of(SEEDS_PER_SIGN) {
                        eprintln!("{} of {count}, {} failed", totals.done, totals.failures.len());
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().expect("all threads are done");
    let spent = begun.elapsed();
    println!("{}", totals.report);
    println!("rare paths\n{}", totals.marks);
    println!("{:.1} s on {threads} threads", spent.as_secs_f64());
    judge(totals)
}

fn judge(mut totals: Totals) -> ExitCode {
    totals.failures.sort();
    totals.idle.sort_unstable();
    for (_, failure) in totals.failures.iter().take(FAILURES_SHOWN) {
        println!("{failure}");
    }
    for (_, failure) in &totals.failures {
        println!("{}", failure.lines().next().unwrap_or_default());
    }
    if !totals.idle.is_empty() {
        println!("seeds in which too little happened: {:?}", totals.idle);
    }
    let unreached: Vec<&str> = totals.marks.unreached().map(|mark| mark.name()).collect();
    if !unreached.is_empty() {
        println!("never reached: {}", unreached.join("; "));
    }
    let is_sound = totals.failures.is_empty() && totals.idle.is_empty() && unreached.is_empty();
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(not(feature = "mutants"))]
fn run_mutants(_: &str) -> ExitCode {
    eprintln!("built without deliberate bugs: cargo run -p quorate-sim --features mutants");
    ExitCode::from(2)
}

/// Hunts every mutant whose name contains `name`, on all cores, and prints the table.
#[cfg(feature = "mutants")]
fn run_mutants(name: &str) -> ExitCode {
    use quorate_sim::mutants::{SEEDS_MAX, Verdict, hunt};
    use quorate_types::Mutant;

    let wanted: Vec<Mutant> =
        Mutant::ALL.iter().copied().filter(|mutant| mutant.name().contains(name)).collect();
    let (next, verdicts) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    std::panic::set_hook(Box::new(|_| {}));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let take = || usize::try_from(next.fetch_add(1, Ordering::Relaxed)).ok();
                while let Some(mutant) = take().and_then(|place| wanted.get(place)) {
                    let verdict = hunt(*mutant, SEEDS_MAX);
                    verdicts.lock().expect("nobody panics with it").push(verdict);
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().expect("all threads are done");
    verdicts.sort_by_key(|verdict| verdict.mutant);
    println!("{}", Verdict::header());
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    let bad = verdicts.iter().filter(|verdict| !verdict.is_good()).count();
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} mutants, {bad} not as they should be; {seconds:.1} s", verdicts.len());
    if bad == 0 && !verdicts.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
