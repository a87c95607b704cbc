//! Goal: a cluster of processes keeps every promise while its nodes are killed, paused, stopped and
//! started again; refuses by name, with a remedy, whatever is wrong with one of them; and tells an
//! operator its state.
//!
//! Method: the program itself in processes on loopback, Redis clients that record what they were
//! told, and a checker that looks for one order of all of it. Figures are printed (with
//! `--nocapture`) and bounded generously, because the machine may be busy.
//!
//! `QUORATE_CHAOS_SECONDS` makes the tests with kills last about so long each; without it they are
//! short enough for a CI of two cores. `QUORATE_SEED` repeats the choices of a run, though never
//! its timing.

mod addresses;
mod apart;
mod command_line;
mod endless;
mod foreign;
mod full_disks;
mod kills;
mod linearizable;
mod logging;
mod low_disk;
mod operations;
mod outage;
mod pause;
mod refused;
mod rejoin;
mod snapshot;
mod stop;

use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use quorate_tests::process::ProcessSpec;
use quorate_types::SplitMix64;

/// The program `quorate`, as Cargo has built it for these tests.
const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate_process");

/// Three nodes.
const CLUSTER: ProcessSpec = ProcessSpec { program: PROGRAM, shards: 16, has_guest: false };

/// Writers of a load: some for each node.
const WRITERS: usize = 9;

/// One cluster at a time: three nodes keep two cores busy, and figures are taken. A file lock,
/// because some runners give each test its own process.
fn turn() -> File {
    let file = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("process.lock"))
        .expect("Cargo made the directory");
    file.lock().expect("a file of our own can be locked");
    file
}

/// How long a test with kills lasts.
fn chaos(unless_set: Duration) -> Duration {
    environment("QUORATE_CHAOS_SECONDS").map_or(unless_set, Duration::from_secs)
}

/// Choices of victims and moments; the seed is printed.
fn random() -> SplitMix64 {
    let seed = environment("QUORATE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.expect("it is after 1970").subsec_nanos().into()
    });
    println!("QUORATE_SEED={seed}");
    SplitMix64::new(seed)
}

fn environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is not a number")))
}
